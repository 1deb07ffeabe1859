"""Databricks' route: the SQL connector's own Arrow tables, of a statement that can be cancelled from its start."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_provider_fbca.exceptions import SourceError
from airflow_provider_fbca.warehouse.arrow import sliced
from airflow_provider_fbca.warehouse.polling import wait_while
from airflow_provider_fbca.warehouse.session import run, run_session_sql
from airflow_provider_fbca.warehouse.source import Query, checked_names

if TYPE_CHECKING:
    from collections.abc import Iterator


class DatabricksReader:
    """Streams a query of a Databricks SQL warehouse or cluster as Arrow batches.

    The statement is handed in to run by itself: the connector's plain ``execute`` waits for the first rows before it
    tells the statement's handle, and without the handle nobody can cancel it. Databricks has no read-only mode.

    :param hook: a Databricks SQL hook.
    :param query: what to run.
    """

    route = "databricks"

    def __init__(self, hook: Any, query: Query) -> None:
        self.origin = query.origin
        self._hook = hook
        self._query = query
        self._connection: Any = None
        self._cursor: Any = None
        self._running = False
        self._pieces: Iterator[pa.RecordBatch] = iter(())
        self._cancelled = threading.Event()

    def connect(self) -> None:
        """Open a session."""
        self._connection = self._hook.get_conn()

    def start(self) -> tuple[str, ...]:
        """Set the session up, run the query and wait until its result is there.

        :return: its columns.
        :raises SourceError: its columns cannot be told apart.
        """
        if self._query.timeout is not None:
            run(self._connection, f"SET STATEMENT_TIMEOUT = {math.ceil(self._query.timeout)}")
        run_session_sql(self._connection, self._query)
        cursor = self._connection.cursor()
        self._run(cursor)
        return checked_names([column[0] for column in cursor.description or ()], self.origin)

    def read(self) -> pa.RecordBatch | None:
        """Give the next batch, None after the last.

        :raises SourceError: the server does not send this result as Arrow.
        """
        while (piece := next(self._pieces, None)) is None:
            table = self._cursor.fetchmany_arrow(self._query.batch_rows)
            if not isinstance(table, pa.Table):
                raise SourceError(
                    f"The result of the statement on {self.origin} comes in columns of text, not as Arrow.",
                    remedy="Give sql_route='dbapi', which reads such results row by row.",
                    permanent=True,
                )
            if table.num_rows == 0:
                return None
            self._pieces = (piece for batch in table.to_batches() for piece in sliced(batch, self._query.batch_rows))
        return piece

    def cancel(self) -> None:
        """Cancel the statement, over a request of its own."""
        self._cancelled.set()
        if self._running:
            self._cursor.cancel()

    def close(self) -> None:
        """Cancel the statement if it still runs, and close the session, which closes its result."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            self.cancel()
        finally:
            connection.close()

    def _run(self, cursor: Any) -> None:
        self._cursor = cursor
        cursor.execute_async(self._query.sql, self._query.parameters or None)
        self._running = True
        wait_while(cursor.is_query_pending, cancelled=self._cancelled)
        cursor.get_async_execution_result()
        self._running = False
