"""Statements that a session is set up with, before the query of users."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_fbca.warehouse.source import Query


def run(connection: Any, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement on a cursor of its own and read its rows to the end: some drivers allow nothing else before that.

    :param connection: an open DB-API connection.
    :param statement: what to run.
    :return: its rows, as tuples also where the connection's cursors give mappings; none where it gives none.
    """
    with closing(connection.cursor()) as cursor:
        cursor.execute(statement)
        rows = cursor.fetchall() if cursor.description else []
    return [tuple(row.values()) if isinstance(row, Mapping) else tuple(row) for row in rows]


def run_session_sql(connection: Any, query: Query) -> None:
    """Run what the user wants to be run in the query's session.

    :param connection: an open DB-API connection.
    :param query: the query, with its ``session_sql``.
    """
    for statement in query.session_sql:
        run(connection, statement)
