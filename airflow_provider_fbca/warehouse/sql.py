"""Users from SQL over an Airflow connection."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.warehouse.connections import hook_of, what_installs
from airflow_provider_fbca.warehouse.pump import PumpedSource
from airflow_provider_fbca.warehouse.quiet import silence_drivers
from airflow_provider_fbca.warehouse.registry import AUTO, route_for
from airflow_provider_fbca.warehouse.source import Query, checked_batch_rows, checked_timeout
from airflow_provider_fbca.warehouse.statement import single_statement

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from airflow_provider_fbca.warehouse.source import UserSource

_REMEDY = "The database's own words are withheld, as they may quote people's data: run the query by hand to see them."


def open_sql(
    sql: str,
    *,
    sql_conn_id: str,
    parameters: Sequence[Any] | Mapping[str, Any] | None = None,
    session_sql: str | Sequence[str] = (),
    sql_hook_params: dict[str, Any] | None = None,
    sql_route: str = AUTO,
    statement_timeout: float | timedelta | None = None,
    batch_rows: int | None = None,
    stopped: threading.Event | None = None,
) -> UserSource:
    """Run one query and stream its rows. Nothing that it does is ever committed; what ``session_sql`` does may be.

    Returns as soon as the database is reached; ``names`` and ``batches`` wait for the query, which ``cancel`` ends.

    :param sql: one statement; a closing semicolon and comments are fine.
    :param sql_conn_id: the Airflow connection, of any type whose hook is of a SQL database.
    :param parameters: values for the driver to bind, in its own style.
    :param session_sql: statements to run before it in the same session, a time zone or a role, each one statement.
    :param sql_hook_params: arguments for the hook, as the operators of common-sql take them.
    :param sql_route: name of the route to take; ``auto`` for the best one.
    :param statement_timeout: most time, in seconds, from the query's start to its last row; None for as long as it
        takes.
    :param batch_rows: most rows of a batch; None for what suits the route.
    :param stopped: cancels the source once it is set, also while the database is being reached.
    :return: the source; close it, or use it in a ``with`` block.
    :raises OptionsError: the hook does not take ``sql_hook_params``, ``batch_rows`` is below 1, ``statement_timeout``
        is no time above 0, or the route does not exist or cannot read this query.
    :raises SourceError: there is no such connection, its hook is of no database, it cannot be reached, or ``sql`` or an
        item of ``session_sql`` is not one statement.
    """
    origin = f"connection {sql_conn_id!r}"
    timeout = checked_timeout(statement_timeout)
    before = [session_sql] if isinstance(session_sql, str) else session_sql
    query = Query(
        sql=single_statement(sql, origin=origin),
        parameters=parameters,
        conn_id=sql_conn_id,
        session_sql=tuple(single_statement(each, origin=f"{origin} (session_sql)") for each in before),
        timeout=timeout,
    )
    silence_drivers()
    hook = hook_of(sql_conn_id, sql_hook_params)
    route = route_for(hook, query, sql_route)
    rows = route.batch_rows if batch_rows is None else checked_batch_rows(batch_rows)
    reader = route.reader(hook, replace(query, batch_rows=rows))
    return PumpedSource(reader, remedy=_REMEDY, install=what_installs(hook), timeout=timeout, stopped=stopped)
