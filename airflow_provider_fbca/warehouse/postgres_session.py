"""A transaction of Postgres or Redshift in which a query is read: what is set in it, and its plain cursor."""

from __future__ import annotations

import datetime as dt
import importlib
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_fbca.warehouse.source import Query

# Redshift says that it is 8.0, and knows neither COPY to a client nor most of the settings.
_OLDEST_POSTGRES = 90_000

# What texts look like, whatever server, database and role have set. Local: a pooler hands the session on.
_SETTINGS = """
    SET TRANSACTION READ ONLY;
    SET LOCAL DateStyle TO 'ISO';
    SET LOCAL IntervalStyle TO 'postgres';
    SET LOCAL extra_float_digits TO 3
"""
# What libpq calls the state of a connection without a transaction.
_NO_TRANSACTION = 0

# Types that drivers would make objects of, and whose text is what people mean.
_TEXT_TYPES = ("json", "jsonb", "inet", "cidr")


def is_postgres(connection: Any) -> bool:
    """Tell whether a connection of psycopg 2 or 3 is to a Postgres, and not to a Redshift."""
    return bool(connection.info.server_version >= _OLDEST_POSTGRES)


def begin(connection: Any, query: Query) -> Any:
    """Begin the transaction that a query is read in. It is never committed, and cannot write.

    :param connection: of psycopg 2 or 3.
    :param query: its ``session_sql`` is run, its ``timeout`` set.
    :return: a cursor of the driver's plain kind that binds parameters by itself, whatever the hook prefers.
    """
    if connection.autocommit:
        connection.autocommit = False
    if is_psycopg2(connection):
        if connection.encoding != "UTF8":
            connection.set_client_encoding("UTF8")
        cursor = connection.cursor(cursor_factory=importlib.import_module("psycopg2.extensions").cursor)
    else:
        cursor = importlib.import_module("psycopg").ClientCursor(connection, row_factory=tuples())
        if connection.info.encoding != "utf-8":
            cursor.execute("SET client_encoding TO 'UTF8'")
    if query.session_sql:
        _run_session_sql(connection, cursor, query)
    set_timeout(cursor, query)
    if is_postgres(connection):
        cursor.execute(_SETTINGS)
    return cursor


def _run_session_sql(connection: Any, cursor: Any, query: Query) -> None:
    """Run the user's own statements, after which there is a transaction and an encoding as before them."""
    for statement in query.session_sql:
        cursor.execute(statement)
    if is_psycopg2(connection) and connection.info.transaction_status == _NO_TRANSACTION:
        # The driver begins none after a COMMIT that it did not send: what follows would be neither bound nor read-only.
        cursor.execute("BEGIN")
    # Psycopg 2 goes on writing and reading UTF-8, whatever the statements made of it.
    cursor.execute("SET client_encoding TO 'UTF8'")


def set_timeout(cursor: Any, query: Query) -> None:
    """Let the server end each statement after the query's time, if it has one."""
    if query.timeout is not None:
        cursor.execute(f"SET statement_timeout TO {math.ceil(query.timeout * 1000)}")


def keep_texts(connection: Any) -> None:
    """Let this connection alone give documents, network addresses and zoned timestamps as the server writes them.

    Cursors made before that are not concerned.
    """
    if is_psycopg2(connection):
        extras = importlib.import_module("psycopg2.extras")
        extras.register_default_json(connection, loads=str)
        extras.register_default_jsonb(connection, loads=str)
        return
    loader = importlib.import_module("psycopg.types.string").TextLoader
    for name in _TEXT_TYPES:
        connection.adapters.register_loader(name, loader)
    connection.adapters.register_loader("timestamptz", _zoned_loader())


def _zoned_loader() -> type:
    """Give a loader of psycopg 3 that keeps the server's offset; its own takes zones unknown to Python for UTC."""

    class ZonedLoader(importlib.import_module("psycopg.adapt").Loader):  # type: ignore[misc]
        def load(self, data: Any) -> dt.datetime:
            return dt.datetime.fromisoformat(bytes(data).decode("ascii"))

    return ZonedLoader


def is_psycopg2(connection: Any) -> bool:
    """Tell a connection of psycopg 2 from one of psycopg 3."""
    return any(kind.__module__.startswith("psycopg2.") for kind in type(connection).__mro__)


def tuples() -> Any:
    """Give how psycopg 3 is told to make rows tuples, whatever the hook prefers."""
    return importlib.import_module("psycopg.rows").tuple_row
