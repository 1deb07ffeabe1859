"""The route of ADBC: any driver of it gives Arrow, by way of the hook of Airflow's Arrow provider."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from airflow_provider_fbca.exceptions import SourceError
from airflow_provider_fbca.warehouse.arrow import sliced
from airflow_provider_fbca.warehouse.source import Query, checked_names

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

# The vendors, as drivers name them, whose Arrow needs a word or a second look.
_POSTGRES = "PostgreSQL"
_REDSHIFT = "Redshift"
_SQLITE = "SQLite"

# Bytes of a batch: the driver's own default of 16 MB is slower, and takes half as much memory again.
_POSTGRES_BATCH_BYTES = 2_000_000
# SQLite's driver takes a column's type from the rows of its first batch, so that these should not be too few.
_SQLITE_BATCH_ROWS = 10_000
# How that driver writes a float into a column of texts, with all but seven digits gone.
_SQLITE_ROUNDED = r"^-?\d\.\d{6}e[+-]\d{2,3}$"


class AdbcReader:
    """Streams a query through an ADBC driver.

    :param hook: an ``AdbcHook``.
    :param query: what to run.
    """

    route = "adbc"

    def __init__(self, hook: Any, query: Query) -> None:
        self.origin = query.origin
        self._hook = hook
        self._query = query
        self._vendor = ""
        self._zone: str | None = None
        self._connection: Any = None
        self._cursor: Any = None
        self._stream: pa.RecordBatchReader | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())
        # A statement that is cancelled while it is closed on another thread may be freed under the driver's hands.
        self._letting_go = threading.Lock()

    def connect(self) -> None:
        """Connect and ask the driver whose database it is of."""
        self._connection = self._hook.get_conn()
        self._vendor = _vendor_of(self._connection, self.origin)
        self.route = f"adbc ({self._vendor})" if self._vendor else "adbc"

    def start(self) -> tuple[str, ...]:
        """Set the session up and run the query.

        :return: its columns.
        :raises SourceError: it gives no rows, its columns cannot be told apart, or this driver would read it whole.
        """
        self._refuse_what_is_not_bounded()
        self._cursor = self._connection.cursor(adbc_stmt_kwargs=_statement_options(self._vendor))
        for statement in (*self._query.session_sql, *_setup(self._vendor, self._query)):
            self._run_to_its_end(statement)
        if self._vendor == _POSTGRES:
            self._cursor.execute("SELECT current_setting('TimeZone')")
            (self._zone,) = self._cursor.fetchone()
        # Postgres' driver writes more SQL behind the query, which a comment at its end would swallow.
        sql = f"{self._query.sql}\n" if self._vendor == _POSTGRES else self._query.sql
        self._cursor.execute(sql, self._query.parameters or None)
        self._stream = _stream_of(self._cursor)
        names = self._stream.schema.names
        if not names:
            raise SourceError(f"The statement run on {self.origin} gives no rows.", permanent=True)
        self._check_zone(self._stream.schema)
        self._batches = (piece for batch in self._stream for piece in sliced(batch, self._query.batch_rows))
        return checked_names(names, self.origin)

    def read(self) -> pa.RecordBatch | None:
        """Give the next batch, None after the last.

        :raises SourceError: SQLite's driver meets a value of another type than its first rows had.
        """
        try:
            batch = next(self._batches, None)
        except OSError as error:
            if self._vendor != _SQLITE or "Type mismatch" not in str(error):
                raise
        else:
            if self._vendor == _SQLITE and batch is not None and _has_rounded_floats(batch):
                raise _mixed_types(self.origin)
            return _as_shown(batch, self._zone) if batch is not None and self._zone else batch
        raise _mixed_types(self.origin)

    def cancel(self) -> None:
        """Cancel the statement that runs."""
        with self._letting_go:
            if self._cursor is not None:
                self._cursor.adbc_cancel()

    def close(self) -> None:
        """Close stream, cursor and connection, which rolls back."""
        with self._letting_go:
            cursor, self._cursor = self._cursor, None
        connection, self._connection = self._connection, None
        stream, self._stream = self._stream, None
        self._batches = iter(())
        with contextlib.ExitStack() as last_first:
            for part in (connection, cursor, stream):
                if part is not None:
                    last_first.callback(part.close)

    def _run_to_its_end(self, statement: str) -> None:
        """Run a statement of the session: some drivers do the work only as its rows are fetched."""
        self._cursor.execute(statement)
        for _ in _stream_of(self._cursor):
            pass

    def _refuse_what_is_not_bounded(self) -> None:
        if self._vendor == _REDSHIFT:
            raise SourceError(
                f"The ADBC driver of {self.origin} reads a result of Redshift whole before its first row.",
                remedy="Give sql_conn_id a connection of type redshift.",
                permanent=True,
            )
        if self._vendor == _POSTGRES and self._query.parameters:
            raise SourceError(
                f"The ADBC driver of {self.origin} reads the result of a query with parameters whole before its first "
                "row.",
                remedy="Give sql_conn_id a connection of type postgres, or write the values into the query.",
                permanent=True,
            )

    def _check_zone(self, schema: pa.Schema) -> None:
        """Make sure that Arrow knows the session's time zone, where a column is shown in it."""
        if self._zone is None or not any(_is_zoned(field.type) for field in schema):
            return
        try:
            pc.local_timestamp(pa.array([0], pa.timestamp("s", self._zone)))
        except pa.ArrowException:
            pass
        else:
            return
        raise SourceError(
            f"The session of {self.origin} has a time zone that has no name, so the days of its timestamps are unsure.",
            remedy="Set one by name in session_sql: SET TIME ZONE 'Asia/Tokyo'.",
            permanent=True,
        )


def _vendor_of(connection: Any, origin: str) -> str:
    """Give the name of the database, empty where its driver does not tell."""
    try:
        return str(connection.adbc_get_info().get("vendor_name", ""))
    except connection.Error as error:
        log.debug("The ADBC driver of %s does not tell its vendor (%s).", origin, type(error).__qualname__)
        return ""


def _statement_options(vendor: str) -> dict[str, str] | None:
    if vendor == _POSTGRES:
        return {"adbc.postgresql.batch_size_hint_bytes": str(_POSTGRES_BATCH_BYTES)}
    if vendor == _SQLITE:
        return {"adbc.sqlite.query.batch_rows": str(_SQLITE_BATCH_ROWS)}
    return None


def _setup(vendor: str, query: Query) -> list[str]:
    """Give the statements that make a session read only and end its query in time, where there are such."""
    if vendor == _SQLITE:
        return ["PRAGMA query_only = ON"]
    if vendor != _POSTGRES:
        return []
    timeout = [] if query.timeout is None else [f"SET statement_timeout TO {math.ceil(query.timeout * 1000)}"]
    # The second holds where session_sql has ended the transaction.
    return [*timeout, "SET TRANSACTION READ ONLY", "SET default_transaction_read_only TO on"]


def _stream_of(cursor: Any) -> Any:
    """Give the stream of a cursor's result: the one whose errors have codes, where the driver manager has it."""
    reader = getattr(getattr(cursor, "_results", None), "reader", None)
    return cursor.fetch_record_batch() if reader is None else reader


def _is_zoned(kind: pa.DataType) -> bool:
    return pt.is_timestamp(kind) and kind.tz is not None


def _as_shown(batch: pa.RecordBatch, zone: str) -> pa.RecordBatch:
    """Show timestamps in the session's zone, as Postgres itself would: its driver gives all in UTC, a day off."""
    columns = [
        column.cast(pa.timestamp(column.type.unit, zone)) if _is_zoned(column.type) else _without_cents(column, field)
        for column, field in zip(batch.columns, batch.schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _without_cents(column: pa.Array, field: pa.Field) -> pa.Array:
    """Mark amounts of Postgres' type money as no number: the driver gives them in cents, whatever the currency has."""
    if (field.metadata or {}).get(b"POSTGRESQL:type") != b"money":
        return column
    return pa.ExtensionArray.from_storage(pa.opaque(column.type, "money", _POSTGRES), column)


def _has_rounded_floats(batch: pa.RecordBatch) -> bool:
    texts = (column for column in batch.columns if pt.is_string(column.type))
    return any(pc.any(pc.match_substring_regex(column, _SQLITE_ROUNDED)).as_py() for column in texts)


def _mixed_types(origin: str) -> SourceError:
    return SourceError(
        f"A column on {origin} holds values of several types, of which SQLite's ADBC driver makes one.",
        remedy="Give sql_conn_id a connection of type sqlite, which reads each value as it is.",
        permanent=True,
    )
