"""Operators: what people write in DAGs."""
