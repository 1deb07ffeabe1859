"""Sources of users: SQL over an Airflow connection, files, or an Arrow object, each as a stream of record batches.

Every source knows its columns before its first batch, holds only a few batches in memory, reads on a thread of its own
so that the caller stays free to handle signals, and can be cancelled from any thread.
"""

from __future__ import annotations

from airflow_provider_fbca.warehouse.arrow import open_arrow
from airflow_provider_fbca.warehouse.context import call_with_context
from airflow_provider_fbca.warehouse.files import open_uri, state_of_uri
from airflow_provider_fbca.warehouse.source import UserSource
from airflow_provider_fbca.warehouse.sql import open_sql

__all__ = ["UserSource", "call_with_context", "open_arrow", "open_sql", "open_uri", "state_of_uri"]
