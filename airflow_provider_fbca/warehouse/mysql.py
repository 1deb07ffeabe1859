"""MySQL and MariaDB: sessions that stream and cannot write, and how a second connection ends their query."""

from __future__ import annotations

import datetime as dt
import importlib
import logging
import math
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.warehouse.session import run, run_session_sql

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_fbca.warehouse.source import Query

log = logging.getLogger(__name__)

# Numbers of types in the protocol.
_TIMESTAMP, _DATE, _DATETIME, _BIT = 7, 10, 12, 16

# Seconds that the server waits for a client which takes no rows. Of itself it hangs up after one minute, and whoever
# sends users to Meta may have to wait for longer, until a rate limit has passed.
_WAIT_SECONDS = 24 * 60 * 60

# What a server says to a statement or variable that it does not have: some only speak MySQL's protocol.
_UNKNOWN = {1064, 1193, 1235}


@dataclass(frozen=True, slots=True)
class Session:
    """A session of a server, by which its query can be killed.

    :param server: the server's own name; an address may lead to another one each time.
    :param number: of the session, among those of its server.
    """

    server: object
    number: int


def session_of(connection: Any) -> Session:
    """Ask the server which of its sessions this is.

    :param connection: an open connection of any MySQL driver, with no query running.
    """
    ((number,),) = run(connection, "SELECT CONNECTION_ID()")
    try:
        ((server,),) = run(connection, "SELECT @@hostname")
    except Exception as error:
        if _number_of(error) not in _UNKNOWN:
            raise
        server = None
    return Session(server, int(number))


def kill_query(hook: Any, session: Session, origin: str) -> None:
    """End the query of a session through a second connection, since MySQL's protocol has no cancel.

    :param hook: makes the connection.
    :param session: whose query to end; harmless where it has none.
    :param origin: the connection's name for the log.
    """
    with closing(hook.get_conn()) as killer:
        if session_of(killer).server == session.server:
            run(killer, f"KILL QUERY {session.number}")
        else:
            # The same number may be someone else's session there.
            log.warning("Another server answered at %s than runs the query of users, which was not killed.", origin)


def mysqlclient_cursor(connection: Any, query: Query) -> Any:
    """Set up a session of mysqlclient and give a cursor that the server keeps the rows for."""
    cursors = importlib.import_module("MySQLdb.cursors")
    _set_up(connection, query, connection.set_character_set)
    connection.converter[_BIT] = _from_bits
    return connection.cursor(cursors.SSCursor)


def pymysql_cursor(connection: Any, query: Query) -> Any:
    """Set up a session of PyMySQL and give a cursor that the server keeps the rows for."""
    cursors = importlib.import_module("pymysql.cursors")
    _set_up(connection, query, connection.set_character_set)
    connection.decoders[_BIT] = _from_bits
    for number, kind in ((_DATE, dt.date), (_DATETIME, dt.datetime), (_TIMESTAMP, dt.datetime)):
        connection.decoders[number] = _or_none(connection.decoders[number], kind)
    return connection.cursor(cursors.SSCursor)


def mysql_connector_cursor(connection: Any, query: Query) -> Any:
    """Set up a session of MySQL Connector/Python and give a cursor that the server keeps the rows for."""
    _set_up(connection, query, connection.set_charset_collation)
    return connection.cursor(buffered=False)


def _set_up(connection: Any, query: Query, set_character_set: Callable[[str], object]) -> None:
    """Prepare a session; what its own statements wrote is committed when the read-only transaction begins."""
    _set(connection, f"SET SESSION net_write_timeout = {_WAIT_SECONDS}", query.origin)
    run_session_sql(connection, query)
    set_character_set("utf8mb4")
    if query.timeout is not None:
        _set(connection, _timeout(connection, query.timeout), query.origin)
    _set(connection, "SET SESSION TRANSACTION READ ONLY", query.origin)
    # The first holds from the next transaction on, and one may have begun.
    _set(connection, "START TRANSACTION READ ONLY", query.origin)


def _timeout(connection: Any, seconds: float) -> str:
    ((version,),) = run(connection, "SELECT VERSION()")
    if "mariadb" in str(version).lower():
        return f"SET SESSION max_statement_time = {seconds:f}"
    return f"SET SESSION max_execution_time = {math.ceil(seconds * 1000)}"


def _set(connection: Any, statement: str, origin: str) -> None:
    try:
        run(connection, statement)
    except Exception as error:
        if _number_of(error) not in _UNKNOWN:
            raise
        log.warning("The server of %s does not know %r; the query of users runs without.", origin, statement)


def _number_of(error: Exception) -> object:
    return getattr(error, "errno", None) or (error.args[0] if error.args else None)


def _from_bits(cell: bytes) -> int:
    return int.from_bytes(cell)


def _or_none(decode: Callable[[str], Any], kind: type) -> Callable[[str], Any]:
    """Give None for the zero dates of MySQL, as its other drivers do; this one hands out their text."""

    def date_or_none(text: str) -> Any:
        value = decode(text)
        return value if isinstance(value, kind) else None

    return date_or_none
