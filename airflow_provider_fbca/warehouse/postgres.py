"""Postgres' own route: COPY writes the rows as text, which Arrow reads faster than a driver makes Python values."""

from __future__ import annotations

import logging
import os
import socket
from codecs import BOM_UTF8
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv

from airflow_provider_fbca.exceptions import SourceError
from airflow_provider_fbca.warehouse.arrow import sliced
from airflow_provider_fbca.warehouse.cursors import cancel_query, roll_back
from airflow_provider_fbca.warehouse.postgres_columns import NULL, Form, count_backslashes, forms_of, made
from airflow_provider_fbca.warehouse.postgres_copy import CopyOut
from airflow_provider_fbca.warehouse.postgres_session import begin, is_postgres
from airflow_provider_fbca.warehouse.source import Query, checked_names
from airflow_provider_fbca.warehouse.statement import first_word

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

_QUERIES = {"SELECT", "WITH", "VALUES", "TABLE"}
_REDSHIFT_EXTRAS = ("redshift", "redshift-serverless")
_REDSHIFT_HOSTS = (".redshift.", ".redshift-serverless.")

# A line of its own keeps the bracket after the query out of a comment that ends it.
_COLUMNS = "SELECT * FROM ({query}\n) AS fbca_users LIMIT 0"
# The text format costs server and parser less than CSV: nothing is quoted, and what is escaped is rare.
_COPY = "COPY (SELECT {cells} FROM ({query}\n) AS fbca_users ({columns})) TO STDOUT (FORMAT text, ENCODING 'UTF8')"
_PARSE = pa.csv.ParseOptions(delimiter="\t", quote_char=False, escape_char=False, ignore_empty_lines=False)

# A cancel that comes just before the server runs the query is lost on it, so it is repeated.
_CANCELS = 5
_CANCEL_SECONDS = 0.2


class CopyReader:
    """Reads a query of Postgres by COPY, through the hook's own connection of psycopg 2 or 3.

    :param hook: a Postgres hook.
    :param query: what to run.
    """

    route = "postgres-copy"

    def __init__(self, hook: Any, query: Query) -> None:
        self.origin = query.origin
        self._hook = hook
        self._query = query
        self._connection: Any = None
        self._copy: CopyOut | None = None
        self._names: tuple[str, ...] = ()
        self._forms: tuple[Form, ...] = ()
        self._batches: Iterator[pa.RecordBatch] = iter(())

    def connect(self) -> None:
        """Connect."""
        self._connection = self._hook.get_conn()

    def start(self) -> tuple[str, ...]:
        """Ask for the query's columns and start to copy its rows.

        :return: the columns.
        :raises SourceError: the server knows no COPY, or the columns cannot be told apart.
        :raises UsersError: a column is of a type that has no one text.
        """
        if not is_postgres(self._connection):
            raise SourceError(
                f"The server of {self.origin} is no Postgres, and knows no COPY to a client.",
                remedy="Give sql_route='dbapi'.",
                permanent=True,
            )
        cursor = begin(self._connection, self._query)
        query = self._bound(cursor)
        cursor.execute(_COLUMNS.format(query=query))
        self._names = checked_names([str(column[0]) for column in cursor.description], self.origin)
        self._forms = forms_of(cursor, cursor.description)
        columns = [f"c{place}" for place in range(len(self._names))]
        cells = [form.sql.format(column) for form, column in zip(self._forms, columns, strict=True)]
        self._copy = CopyOut(cursor, _COPY.format(query=query, columns=", ".join(columns), cells=", ".join(cells)))
        self._batches = self._read_all(self._copy)
        return self._names

    def read(self) -> pa.RecordBatch | None:
        """Give the next batch, None after the last."""
        return next(self._batches, None)

    def cancel(self) -> None:
        """End a call that blocks on another thread, of the reader's or of COPY's own."""
        copy, connection = self._copy, self._connection
        if copy is not None:
            copy.stop()
        if connection is not None:
            cancel_query(connection, None)

    def close(self) -> None:
        """End the copying and close the connection, which rolls back."""
        self._batches = iter(())
        copy, self._copy = self._copy, None
        connection = self._connection
        if connection is None:
            return
        try:
            if copy is None or copy.is_over():
                roll_back(connection, self.origin)
            else:
                _end(copy, connection, self.origin)
        finally:
            self._connection = None
            connection.close()

    def _bound(self, cursor: Any) -> str:
        if not self._query.parameters:
            # Without parameters a percent sign is left alone.
            return self._query.sql
        bound: str | bytes = cursor.mogrify(self._query.sql, self._query.parameters)
        return bound if isinstance(bound, str) else bound.decode("utf-8")

    def _read_all(self, copy: CopyOut) -> Iterator[pa.RecordBatch]:
        while (portion := copy.read()) is not None:
            yield from sliced(self._batch_of(portion), self._query.batch_rows)

    def _batch_of(self, portion: bytearray) -> pa.RecordBatch:
        if portion.startswith(BOM_UTF8):
            # Arrow takes it for no text. The first cell begins with it.
            portion[:0] = BOM_UTF8
        backslashes = count_backslashes(portion)
        table = pa.csv.read_csv(
            pa.BufferReader(pa.py_buffer(portion)),
            # One block, so that no row can be longer than it.
            read_options=pa.csv.ReadOptions(column_names=self._names, block_size=len(portion) + 1),
            parse_options=_PARSE,
            convert_options=pa.csv.ConvertOptions(
                column_types={name: form.written for name, form in zip(self._names, self._forms, strict=True)},
                strings_can_be_null=backslashes > 0,
                null_values=[NULL],
                # Postgres has checked it, whatever the encoding of its database.
                check_utf8=False,
            ),
        )
        (batch,) = table.to_batches()
        # Each NULL has one backslash; any more are of escapes.
        escaped = backslashes > sum(column.null_count for column in batch.columns)
        columns = [made(each, form, escaped=escaped) for each, form in zip(batch.columns, self._forms, strict=True)]
        return pa.RecordBatch.from_arrays(columns, names=list(self._names))


def can_copy(hook: Any, query: Query) -> bool:
    """Tell whether COPY can read a query over a hook's connection, as far as that shows without connecting."""
    return first_word(query.sql) in _QUERIES and not _is_redshift(hook)


def _is_redshift(hook: Any) -> bool:
    try:
        connection = hook.connection
        extras = connection.extra_dejson
    except Exception as error:  # noqa: BLE001  what the matter is, connecting tells
        log.debug("The hook does not tell its connection (%s).", type(error).__qualname__)
        return False
    host = connection.host or ""
    return any(extras.get(name) for name in _REDSHIFT_EXTRAS) or any(part in host for part in _REDSHIFT_HOSTS)


def _end(copy: CopyOut, connection: Any, origin: str) -> None:
    """Make the thread of a COPY let go of its connection, whatever the server does."""
    copy.stop()
    for _ in range(_CANCELS):
        if copy.is_over(_CANCEL_SECONDS):
            return
        try:
            cancel_query(connection, None)
        except Exception as error:  # noqa: BLE001  a driver may refuse, or be done; it is tried again
            log.debug("Cancelling on %s was refused (%s).", origin, type(error).__qualname__)
    # The driver waits for a server that does not answer. Closing under it could crash the process; this wakes it up.
    with socket.socket(fileno=os.dup(connection.fileno())) as channel:
        channel.shutdown(socket.SHUT_RDWR)
    copy.is_over(_CANCELS * _CANCEL_SECONDS)
