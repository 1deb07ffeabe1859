"""Hooks: from an Airflow connection to Meta."""
