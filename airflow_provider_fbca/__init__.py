"""Keeps Meta custom audiences equal to a warehouse query."""

__version__ = "0.1.0"
