"""Which route reads which hook. Hooks are matched by the dotted names of their classes: no provider is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.exceptions import OptionsError
from airflow_provider_fbca.warehouse.adbc import AdbcReader
from airflow_provider_fbca.warehouse.bigquery import BigQueryReader
from airflow_provider_fbca.warehouse.clickhouse import ClickHouseReader
from airflow_provider_fbca.warehouse.databricks import DatabricksReader
from airflow_provider_fbca.warehouse.dbapi import DbApiReader
from airflow_provider_fbca.warehouse.duck import DuckReader
from airflow_provider_fbca.warehouse.postgres import CopyReader, can_copy
from airflow_provider_fbca.warehouse.redshift import RedshiftReader
from airflow_provider_fbca.warehouse.snowflake import SnowflakeReader, gives_arrow
from airflow_provider_fbca.warehouse.source import BATCH_ROWS, TUPLE_BATCH_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_fbca.warehouse.source import Query, Reader

#: The option's value that leaves the choice to the hook and the query.
AUTO = "auto"


def _always(hook: Any, query: Query) -> bool:  # noqa: ARG001  the signature is the route's
    return True


@dataclass(frozen=True, slots=True)
class Route:
    """One way to read a query.

    :param name: what it is called, in logs and as the option that forces it.
    :param hooks: dotted names of the hook classes that it reads; subclasses of them are read too.
    :param reader: makes the reader.
    :param accepts: tells whether it can read this very query; where not, the next route is asked.
    :param batch_rows: most rows of its batches, unless the caller says.
    """

    name: str
    hooks: tuple[str, ...]
    reader: Callable[[Any, Query], Reader]
    accepts: Callable[[Any, Query], bool] = _always
    batch_rows: int = BATCH_ROWS


DBAPI = Route("dbapi", ("airflow.providers.common.sql.hooks.sql.DbApiHook",), DbApiReader, batch_rows=TUPLE_BATCH_ROWS)

#: Asked in this order for each class of the hook, from the class itself up to its roots.
ROUTES: tuple[Route, ...] = (
    Route("adbc", ("airflow.providers.apache.arrow.hooks.adbc.AdbcHook",), AdbcReader),
    Route("bigquery", ("airflow.providers.google.cloud.hooks.bigquery.BigQueryHook",), BigQueryReader),
    Route("clickhouse", ("airflow.providers.clickhousedb.hooks.clickhouse.ClickHouseHook",), ClickHouseReader),
    Route("databricks", ("airflow.providers.databricks.hooks.databricks_sql.DatabricksSqlHook",), DatabricksReader),
    Route(
        "duckdb",
        ("airflow.providers.duckdb.hooks.duckdb.DuckDBHook", "duckdb_provider.hooks.duckdb_hook.DuckDBHook"),
        DuckReader,
    ),
    Route("postgres-copy", ("airflow.providers.postgres.hooks.postgres.PostgresHook",), CopyReader, can_copy),
    Route(
        "redshift",
        ("airflow.providers.amazon.aws.hooks.redshift_sql.RedshiftSQLHook",),
        RedshiftReader,
        batch_rows=TUPLE_BATCH_ROWS,
    ),
    Route("snowflake", ("airflow.providers.snowflake.hooks.snowflake.SnowflakeHook",), SnowflakeReader, gives_arrow),
    DBAPI,
)


def route_for(hook: Any, query: Query, name: str = AUTO) -> Route:
    """Choose the route of a query, once and before its first row: rows already sent could not be taken back.

    :param hook: the hook of the connection.
    :param query: what will be run.
    :param name: of a route, to have that one and no other; ``auto`` for the one nearest to the hook's own class that
        takes the query. A hook that no route names is tried as a DB-API one, whose reader says so if it is none.
    :raises OptionsError: there is no route of that name, or it cannot read this hook or query.
    """
    if name != AUTO:
        return _forced(name, hook, query)
    for route in _routes_of(hook):
        if route.accepts(hook, query):
            return route
    return DBAPI


def check_route_name(name: str) -> None:
    """Check a name of a route, before there is a hook that it might read.

    :raises OptionsError: no route has it.
    """
    names = dict.fromkeys([AUTO, *(route.name for route in ROUTES)])
    if name not in names:
        raise OptionsError(f"sql_route is {name!r}, and there is none.", remedy=f"Give one of: {', '.join(names)}.")


def _forced(name: str, hook: Any, query: Query) -> Route:
    able = [route for route in [*_routes_of(hook), DBAPI] if route.accepts(hook, query)]
    for route in able:
        if route.name == name:
            return route
    names = dict.fromkeys([AUTO, *(route.name for route in able)])
    raise OptionsError(
        f"sql_route is {name!r}, which cannot read this query of {query.origin}.",
        remedy=f"Give one of: {', '.join(names)}.",
    )


def _routes_of(hook: Any) -> Iterator[Route]:
    for kind in type(hook).__mro__:
        dotted = f"{kind.__module__}.{kind.__qualname__}"
        yield from (route for route in ROUTES if dotted in route.hooks)
