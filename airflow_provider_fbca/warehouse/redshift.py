"""Redshift by its own driver, which keeps every row of a plain query in memory, and cannot cancel one."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.warehouse.dbapi import DbApiReader

if TYPE_CHECKING:
    from airflow_provider_fbca.warehouse.source import Query


class RedshiftReader(DbApiReader):
    """Reads a query of Redshift through ``redshift_connector``, by ``DECLARE`` and ``FETCH``.

    Nothing that a cursor is declared for can write, and the transaction is rolled back.

    :param hook: a Redshift hook.
    :param query: what to run.
    """

    def __init__(self, hook: Any, query: Query) -> None:
        super().__init__(hook, query)
        self._process: int | None = None

    def connect(self) -> None:
        """Connect."""
        super().connect()
        self.route = "redshift"

    def start(self) -> tuple[str, ...]:
        """Run the query.

        :return: its columns.
        :raises SourceError: its columns cannot be told apart.
        """
        cursor = self._connection.cursor()
        cursor.execute("SELECT pg_backend_pid()")
        self._process = int(cursor.fetchall()[0][0])
        return super().start()

    def cancel(self) -> None:
        """End a call that blocks on another thread, over a second connection."""
        if self._connection is None or self._process is None:
            return
        with closing(self._hook.get_conn()) as canceller:
            canceller.cursor().execute(f"SELECT pg_cancel_backend({self._process})")
