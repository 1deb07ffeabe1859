"""Triggers: waiting for Meta without a worker."""
