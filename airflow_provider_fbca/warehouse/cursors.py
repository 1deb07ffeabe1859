"""How each DB-API driver gives a cursor that does not read the whole result, and how its queries are cancelled."""

from __future__ import annotations

import contextlib
import logging
import math
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.warehouse import postgres_session
from airflow_provider_fbca.warehouse.declared import DeclaredCursor, RedshiftCursor
from airflow_provider_fbca.warehouse.mysql import (
    mysql_connector_cursor,
    mysqlclient_cursor,
    pymysql_cursor,
    session_of,
)
from airflow_provider_fbca.warehouse.session import run, run_session_sql

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_fbca.warehouse.mysql import Session
    from airflow_provider_fbca.warehouse.source import Query

log = logging.getLogger(__name__)

_CURSOR_NAME = "fbca_users"

# Pragmas of SQLite whose argument is the name of what they describe; that of all others is a setting.
_SQLITE_DESCRIPTIONS = {
    *("table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list"),
}

# What drivers offer to end a call on another thread, best first; the last resort closes the connection.
_CANCELS = (
    ("cursor", "adbc_cancel"),
    ("connection", "cancel_safe"),
    ("connection", "cancel"),
    ("connection", "interrupt"),
    ("cursor", "cancel"),
    ("connection", "close"),
)


@dataclass(frozen=True, slots=True)
class Driver:
    """What has to be known of a DB-API driver.

    :param label: the driver and its cursor, for logs.
    :param packages: modules in which its connection class lives.
    :param open_cursor: makes a cursor that reads as it goes, once what the query's session needs was set: its own
        ``session_sql``, a timeout, and read-only mode.
    :param rolls_back: whether to roll back before closing. MySQL's drivers would first read the rest of the result.
    :param session_of: tells the session to kill a query by, where the driver itself cannot cancel one.
    :param outlives_connection: True where closing the connection leaves its query running, or first reads the rest.
    :param names_late: True where a cursor knows its columns only once rows were fetched.
    :param is_bounded: False where the driver reads the whole result whatever one does.
    """

    label: str
    packages: tuple[str, ...]
    open_cursor: Callable[[Any, Query], Any]
    rolls_back: bool = True
    session_of: Callable[[Any], Session] | None = None
    is_bounded: bool = True
    names_late: bool = False
    outlives_connection: bool = False


def driver_of(connection: object) -> Driver:
    """Tell the driver of an open connection by the modules of its classes; subclasses are of their base's driver.

    :param connection: what the hook's ``get_conn`` gave.
    :return: the driver; for an unknown one, what DB-API promises.
    """
    modules = [kind.__module__ for kind in type(connection).__mro__]
    for driver in _DRIVERS:
        if any(module == name or module.startswith(f"{name}.") for module in modules for name in driver.packages):
            return driver
    package = type(connection).__module__.partition(".")[0]
    return Driver(f"{package} cursor", (package,), _plain_cursor)


def cancel_query(connection: Any, cursor: Any) -> None:
    """End the call that blocks on another thread, in the best way that the driver has.

    :param connection: the open connection.
    :param cursor: its cursor, None before there is one.
    """
    owners = {"connection": connection, "cursor": cursor}
    for owner, method in _CANCELS:
        cancel = getattr(owners[owner], method, None)
        if callable(cancel):
            cancel()
            return


def _plain_cursor(connection: Any, query: Query) -> Any:
    run_session_sql(connection, query)
    return connection.cursor()


def _psycopg2_cursor(connection: Any, query: Query) -> Any:
    postgres_session.keep_texts(connection)
    plain = postgres_session.begin(connection, query)
    if not postgres_session.is_postgres(connection):
        return DeclaredCursor(plain)
    return connection.cursor(_CURSOR_NAME, cursor_factory=type(plain))


def _psycopg_cursor(connection: Any, query: Query) -> Any:
    postgres_session.keep_texts(connection)
    plain = postgres_session.begin(connection, query)
    if not postgres_session.is_postgres(connection):
        return DeclaredCursor(plain)
    return connection.cursor(_CURSOR_NAME, row_factory=postgres_session.tuples())


def _sqlite_cursor(connection: Any, query: Query) -> Any:
    run_session_sql(connection, query)
    run(connection, "PRAGMA query_only = ON")
    connection.set_authorizer(_without_other_files)
    return connection.cursor()


def _without_other_files(action: int, name: str | None, argument: str | None, *_: str | None) -> int:
    """Refuse what writes files in spite of ``query_only``: other databases, also those of VACUUM INTO, and settings."""
    is_setting = action == sqlite3.SQLITE_PRAGMA and argument is not None and name not in _SQLITE_DESCRIPTIONS
    return sqlite3.SQLITE_DENY if is_setting or action == sqlite3.SQLITE_ATTACH else sqlite3.SQLITE_OK


def _trino_cursor(connection: Any, query: Query) -> Any:
    run_session_sql(connection, query)
    if query.timeout is not None:
        run(connection, f"SET SESSION query_max_run_time = '{math.ceil(query.timeout * 1000)}ms'")
    return connection.cursor()


_DRIVERS = (
    Driver("psycopg2 named cursor", ("psycopg2",), _psycopg2_cursor, names_late=True),
    Driver("psycopg named cursor", ("psycopg",), _psycopg_cursor),
    Driver("mysqlclient SSCursor", ("MySQLdb",), mysqlclient_cursor, rolls_back=False, session_of=session_of),
    Driver("pymysql SSCursor", ("pymysql",), pymysql_cursor, rolls_back=False, session_of=session_of),
    Driver(
        "mysql-connector unbuffered cursor",
        ("mysql.connector",),
        mysql_connector_cursor,
        rolls_back=False,
        session_of=session_of,
        outlives_connection=True,
    ),
    Driver("sqlite3 cursor", ("sqlite3",), _sqlite_cursor),
    Driver("trino cursor", ("trino",), _trino_cursor, names_late=True, outlives_connection=True),
    Driver("prestodb cursor", ("prestodb",), _trino_cursor, names_late=True, outlives_connection=True),
    Driver("pymssql cursor", ("pymssql",), _plain_cursor, is_bounded=False),
    Driver("redshift_connector declared cursor", ("redshift_connector",), RedshiftCursor),
    Driver("BigQuery cursor", ("google.cloud.bigquery",), _plain_cursor),
)


def roll_back(connection: Any, origin: str) -> None:
    """Roll back, as far as the driver has transactions; closing the connection does the rest.

    :param connection: the open connection.
    :param origin: its name for the log.
    """
    try:
        connection.rollback()
    except Exception as error:  # noqa: BLE001  a broken connection, or a driver without transactions: close follows
        log.debug("Rolling back on %s was refused (%s).", origin, type(error).__qualname__)


def set_arraysize(cursor: Any, rows: int) -> None:
    """Ask the driver to fetch this many rows at a time, where it lets one."""
    with contextlib.suppress(AttributeError):
        cursor.arraysize = rows
