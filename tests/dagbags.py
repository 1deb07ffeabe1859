"""Airflow's reader of DAG files, from where the running minor has it."""

from __future__ import annotations

try:
    from airflow.dag_processing.dagbag import DagBag
except ModuleNotFoundError:  # Airflow 3.1
    from airflow.models.dagbag import DagBag

__all__ = ["DagBag"]
