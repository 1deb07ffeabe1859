"""Users from SQL over an Airflow connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_provider_fbca.exceptions import FbcaError, OptionsError, SourceError
from airflow_provider_fbca.warehouse.pump import PumpedSource
from airflow_provider_fbca.warehouse.registry import route_for
from airflow_provider_fbca.warehouse.source import BATCH_ROWS, Query, checked_batch_rows
from airflow_provider_fbca.warehouse.statement import single_statement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_fbca.warehouse.source import UserSource

_REMEDY = "The database's own words are withheld, as they may quote people's data: run the query by hand to see them."


def open_sql(
    sql: str,
    *,
    sql_conn_id: str,
    parameters: Sequence[Any] | Mapping[str, Any] | None = None,
    sql_hook_params: dict[str, Any] | None = None,
    batch_rows: int = BATCH_ROWS,
) -> UserSource:
    """Run one query and stream its rows. Nothing is ever committed.

    Returns as soon as the database is reached; ``names`` and ``batches`` wait for the query, which ``cancel`` ends.

    :param sql: one statement; a closing semicolon and comments are fine.
    :param sql_conn_id: the Airflow connection, of any type whose hook is of a SQL database.
    :param parameters: values for the driver to bind, in its own style.
    :param sql_hook_params: arguments for the hook, as the operators of common-sql take them.
    :param batch_rows: most rows of a batch.
    :return: the source; close it, or use it in a ``with`` block.
    :raises OptionsError: the hook does not take ``sql_hook_params``, or ``batch_rows`` is below 1.
    :raises SourceError: there is no such connection, its hook is of no database, it cannot be reached, or ``sql`` is
        not one statement.
    """
    origin = f"connection {sql_conn_id!r}"
    query = Query(
        sql=single_statement(sql, origin=origin),
        parameters=parameters,
        conn_id=sql_conn_id,
        batch_rows=checked_batch_rows(batch_rows),
    )
    hook = _hook(sql_conn_id, sql_hook_params)
    return PumpedSource(route_for(hook, query).reader(hook, query), remedy=_REMEDY)


def _hook(conn_id: str, hook_params: dict[str, Any] | None) -> Any:
    """Give the connection's hook, as the operators of common-sql do."""
    failure: FbcaError
    try:
        connection: Any = BaseHook.get_connection(conn_id)
    except Exception as error:  # noqa: BLE001  secrets backends raise what they like; raised anew below, without context
        failure = SourceError(
            f"Airflow gave no connection {conn_id!r} ({type(error).__qualname__}).",
            remedy="Define it, or correct sql_conn_id.",
            permanent=type(error).__name__ == "AirflowNotFoundException",
        )
    else:
        try:
            return connection.get_hook(hook_params=hook_params)
        except TypeError:
            failure = OptionsError(
                f"The hook of connection {conn_id!r}, of type {connection.conn_type!r}, does not take sql_hook_params "
                f"{', '.join(hook_params or {}) or 'as Airflow gives them'}.",
            )
        except Exception as error:  # noqa: BLE001  a hook may raise anything when made; raised anew below
            failure = SourceError(
                f"Connection {conn_id!r} of type {connection.conn_type!r} has no usable hook "
                f"({type(error).__qualname__}).",
                remedy="Install the Airflow provider of that connection type.",
                permanent=True,
            )
    raise failure
