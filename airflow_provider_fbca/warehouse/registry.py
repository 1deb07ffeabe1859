"""Which route reads which hook. Hooks are matched by the dotted names of their classes: no provider is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.warehouse.dbapi import DbApiReader
from airflow_provider_fbca.warehouse.duck import DuckReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_fbca.warehouse.source import Query, Reader


def _always(hook: Any, query: Query) -> bool:  # noqa: ARG001  the signature is the route's
    return True


@dataclass(frozen=True, slots=True)
class Route:
    """One way to read a query.

    :param name: what it is called.
    :param hooks: dotted names of the hook classes that it reads; subclasses of them are read too.
    :param reader: makes the reader.
    :param accepts: tells whether it can read this very query; where not, the next route is asked.
    """

    name: str
    hooks: tuple[str, ...]
    reader: Callable[[Any, Query], Reader]
    accepts: Callable[[Any, Query], bool] = _always


DBAPI = Route("dbapi", ("airflow.providers.common.sql.hooks.sql.DbApiHook",), DbApiReader)

#: Asked in this order for each class of the hook, from the class itself up to its roots.
ROUTES: tuple[Route, ...] = (
    Route(
        "duckdb",
        ("airflow.providers.duckdb.hooks.duckdb.DuckDBHook", "duckdb_provider.hooks.duckdb_hook.DuckDBHook"),
        DuckReader,
    ),
    DBAPI,
)


def route_for(hook: Any, query: Query) -> Route:
    """Choose the route of a query, once and before its first row: rows already sent could not be taken back.

    :param hook: the hook of the connection.
    :param query: what will be run.
    :return: the route nearest to the hook's own class. A hook that no route names is tried as a DB-API one, whose
        reader says so if it is none.
    """
    for kind in type(hook).__mro__:
        dotted = f"{kind.__module__}.{kind.__qualname__}"
        for route in ROUTES:
            if dotted in route.hooks and route.accepts(hook, query):
                return route
    return DBAPI
