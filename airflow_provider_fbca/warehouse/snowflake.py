"""Snowflake's route: the chunks of a result as the connector makes Arrow of them, of a query that can be aborted."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_provider_fbca.exceptions import SourceError
from airflow_provider_fbca.warehouse.arrow import sliced
from airflow_provider_fbca.warehouse.cursors import roll_back
from airflow_provider_fbca.warehouse.polling import wait_while
from airflow_provider_fbca.warehouse.session import run, run_session_sql
from airflow_provider_fbca.warehouse.source import Query, checked_names
from airflow_provider_fbca.warehouse.statement import first_word

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

log = logging.getLogger(__name__)

_QUERY_TAG = "airflow-provider-fbca"
# A chunk of the result has some ten megabytes.
_CHUNKS_AHEAD = 2
# A wait is cut into pieces so that a cancel is seen meanwhile.
_WAIT_SECONDS = 0.2
# What the connector calls TIMESTAMP_TZ in a cursor's description.
_TIMESTAMP_TZ = 7


class SnowflakeReader:
    """Streams a query of Snowflake as Arrow batches.

    The query is handed in to run by itself: the connector's plain ``execute`` tells a query's id only when it is over,
    and without the id nobody can abort it. Snowflake has no read-only mode; what a statement changes is rolled back, as
    far as Snowflake rolls it back.

    :param hook: a Snowflake hook.
    :param query: what to run.
    """

    route = "snowflake"

    def __init__(self, hook: Any, query: Query) -> None:
        self.origin = query.origin
        self._hook = hook
        self._query = query
        self._connection: Any = None
        self._is_tagged = False
        self._running: str | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._pool = ThreadPoolExecutor(_CHUNKS_AHEAD, thread_name_prefix="fbca-snowflake")
        self._cancelled = threading.Event()

    def connect(self) -> None:
        """Log in, and have numbers with a scale come as decimals: as floats, long ids would lose digits."""
        self._connection = self._hook.get_conn()
        if type(self._connection).arrow_number_to_decimal.fset is None:
            # Version 4, whose setter has another name by mistake. Version 5 is told with each chunk.
            self._connection.arrow_number_to_decimal_setter = True
        # Looked up here: nobody else looks up connections of Airflow before this is over.
        self._is_tagged = self._has_own_tag()

    def start(self) -> tuple[str, ...]:
        """Set the session up, run the query and wait until its result is there.

        :return: its columns.
        :raises SourceError: its columns cannot be told apart, or its result is not Arrow.
        """
        self._set_up_session()
        cursor = self._connection.cursor()
        self._run(cursor)
        description: Sequence[Any] = cursor.description or ()
        names = checked_names([column[0] for column in description], self.origin)
        self._warn_of_lost_offsets(description)
        self._batches = self._pieces(cursor)
        return names

    def read(self) -> pa.RecordBatch | None:
        """Give the next batch, None after the last."""
        return next(self._batches, None)

    def cancel(self) -> None:
        """Abort the query, over a request of its own."""
        self._cancelled.set()
        connection, query_id = self._connection, self._running
        if connection is not None and query_id is not None:
            with closing(connection.cursor()) as cursor:
                cursor.abort_query(query_id)

    def close(self) -> None:
        """Abort the query if it still runs, roll back and log out."""
        self._batches = iter(())
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._connection is None:
            return
        try:
            self.cancel()
        finally:
            connection, self._connection = self._connection, None
            roll_back(connection, self.origin)
            connection.close()

    def _set_up_session(self) -> None:
        self._connection.autocommit(False)
        settings: dict[str, object] = {}
        if not self._is_tagged:
            settings["QUERY_TAG"] = f"'{_QUERY_TAG}'"
        if self._query.timeout is not None:
            settings["STATEMENT_TIMEOUT_IN_SECONDS"] = math.ceil(self._query.timeout)
        for name, value in settings.items():
            run(self._connection, f"ALTER SESSION SET {name} = {value}")
        run_session_sql(self._connection, self._query)

    def _has_own_tag(self) -> bool:
        extra = self._hook.get_connection(self._query.conn_id).extra_dejson
        given = self._hook.session_parameters or extra.get("session_parameters") or {}
        return any(name.upper() == "QUERY_TAG" for name in given)

    def _run(self, cursor: Any) -> None:
        if self._query.parameters:
            cursor.execute_async(self._query.sql, self._query.parameters)
        else:
            # Without parameters the connector leaves percent signs alone.
            cursor.execute_async(self._query.sql)
        self._running = cursor.sfqid
        wait_while(self._is_running, cancelled=self._cancelled)
        cursor.query_result(self._running)
        self._running = None

    def _is_running(self) -> bool:
        state = self._connection.get_query_status_throw_if_error(self._running)
        return bool(self._connection.is_still_running(state))

    def _pieces(self, cursor: Any) -> Iterator[pa.RecordBatch]:
        for chunk, table in self._fetched(deque(cursor.get_result_batches() or ())):
            rows = 0 if table is None else table.num_rows
            if chunk.rowcount > rows:
                # Seen with the connector's version 4: a part of a result arrived empty, and nothing said so.
                raise SourceError(
                    f"Snowflake gave {rows} rows of {chunk.rowcount} in a part of the result on {self.origin}.",
                    remedy="Run the task again.",
                )
            for batch in () if table is None else table.to_batches():
                yield from sliced(batch, self._query.batch_rows)

    def _fetched(self, chunks: deque[Any]) -> Iterator[tuple[Any, pa.Table | None]]:
        """Give each chunk with its table.

        Each is read by itself, since their schemas differ: whole numbers come in the narrowest width that holds those
        of the chunk. What the connector streams over all chunks is wrong for that in version 5.2, which reads them all
        in the width of the first.
        """
        ahead: deque[tuple[Any, Future[pa.Table | None]]] = deque()
        while chunks or ahead:
            while chunks and len(ahead) < _CHUNKS_AHEAD:
                chunk = chunks.popleft()
                ahead.append((chunk, self._pool.submit(self._fetch, chunk)))
            chunk, fetched = ahead.popleft()
            while not wait([fetched], timeout=_WAIT_SECONDS).done:
                if self._cancelled.is_set():
                    raise SourceError("The read was cancelled.")
            yield chunk, fetched.result()

    def _fetch(self, chunk: Any) -> pa.Table | None:
        whole_table = import_module("snowflake.connector.result_batch").IterUnit.TABLE_UNIT
        options = {"force_microsecond_precision": True, "number_to_decimal": True}
        tables = chunk.create_iter(connection=self._connection, iter_unit=whole_table, structure="arrow", **options)
        table = next(tables, None)
        if table is not None and not isinstance(table, pa.Table):
            raise SourceError(
                f"The result of the query on {self.origin} comes as JSON, not as Arrow.",
                remedy="Give sql_route='dbapi', which reads such results row by row.",
                permanent=True,
            )
        return table

    def _warn_of_lost_offsets(self, description: Sequence[Any]) -> None:
        """Tell of TIMESTAMP_TZ: the connector's Arrow keeps the instant and drops the offset of each value."""
        columns = [column[0] for column in description if column[1] == _TIMESTAMP_TZ]
        if columns:
            log.warning(
                "Columns %s of %s are TIMESTAMP_TZ, which come in the session's time zone. Where the date as written "
                "matters, cast them to DATE or TIMESTAMP_NTZ in the query.",
                ", ".join(columns),
                self.origin,
            )


def gives_arrow(hook: Any, query: Query) -> bool:  # noqa: ARG001  the signature is the route's
    """Tell whether the result of a query comes as Arrow: that of SHOW, DESCRIBE, LIST and CALL does not."""
    return first_word(query.sql) in {"SELECT", "WITH", "VALUES"}
