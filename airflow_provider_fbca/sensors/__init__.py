"""Sensors: waiting for Meta."""
