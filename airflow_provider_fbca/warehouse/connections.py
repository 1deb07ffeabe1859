"""From the id of an Airflow connection to the hook of its database."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from airflow.sdk import BaseHook

from airflow_provider_fbca.exceptions import FbcaError, OptionsError, SourceError

#: Connection types that belong to another hook than the one for SQL: its class, and the argument for the id.
_SQL_HOOKS = {
    "databricks": ("airflow.providers.databricks.hooks.databricks_sql.DatabricksSqlHook", "databricks_conn_id"),
    "google_cloud_platform": ("airflow.providers.google.cloud.hooks.bigquery.BigQueryHook", "gcp_conn_id"),
}
#: What a hook is told where the user says nothing. BigQuery's would otherwise speak its legacy SQL.
_HOOK_PARAMS: dict[str, dict[str, Any]] = {
    "gcpbigquery": {"use_legacy_sql": False},
    "google_cloud_platform": {"use_legacy_sql": False},
}
#: Connection type -> the extra of this package that installs its Airflow provider.
_EXTRAS = {
    "adbc": "adbc",
    "clickhouse": "clickhouse",
    "databricks": "databricks",
    "duckdb": "duckdb",
    "gcpbigquery": "bigquery",
    "google_cloud_platform": "bigquery",
    "mysql": "mysql",
    "postgres": "postgres",
    "redshift": "redshift",
    "snowflake": "snowflake",
    "sqlite": "sqlite",
    "trino": "trino",
}


def hook_of(conn_id: str, hook_params: dict[str, Any] | None) -> Any:
    """Give the hook that runs SQL over a connection.

    :param conn_id: of the Airflow connection.
    :param hook_params: arguments for the hook, as the operators of common-sql take them.
    :raises OptionsError: the hook does not take ``hook_params``.
    :raises SourceError: there is no such connection, or no hook for its type is installed.
    """
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
            return _make(connection, conn_id, hook_params)
        except TypeError:
            failure = OptionsError(
                f"The hook of connection {conn_id!r}, of type {connection.conn_type!r}, does not take sql_hook_params "
                f"{', '.join(hook_params or {}) or 'as Airflow gives them'}.",
            )
        except Exception as error:  # noqa: BLE001  a hook may raise anything when made; raised anew below
            failure = SourceError(
                f"Connection {conn_id!r} of type {connection.conn_type!r} has no usable hook "
                f"({type(error).__qualname__}).",
                remedy=_remedy_of(connection.conn_type),
                permanent=True,
            )
    raise failure


def _make(connection: Any, conn_id: str, hook_params: dict[str, Any] | None) -> Any:
    params = {**_HOOK_PARAMS.get(connection.conn_type, {}), **(hook_params or {})}
    if connection.conn_type not in _SQL_HOOKS:
        return connection.get_hook(hook_params=params)
    dotted, id_argument = _SQL_HOOKS[connection.conn_type]
    module, _, name = dotted.rpartition(".")
    return getattr(import_module(module), name)(**{id_argument: conn_id}, **params)


def what_installs(hook: Any) -> str:
    """Say what to run where a hook lacks its driver.

    :param hook: as :func:`hook_of` gives it.
    """
    return _remedy_of(getattr(hook, "conn_type", ""))


def _remedy_of(conn_type: str) -> str:
    if conn_type in _EXTRAS:
        return f"Run: pip install 'airflow-provider-fbca[{_EXTRAS[conn_type]}]'"
    return "Install the Airflow provider of that connection type."
