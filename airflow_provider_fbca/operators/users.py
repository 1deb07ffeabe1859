"""From an operator's source of users to a snapshot of distinct hashed rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.exceptions import OptionsError
from airflow_provider_fbca.identity import Preparer, resolve_mapping
from airflow_provider_fbca.ledger import SnapshotWriter
from airflow_provider_fbca.operators.rim import without_values
from airflow_provider_fbca.warehouse import call_with_context, open_arrow, open_sql, open_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from airflow.sdk import Context

    from airflow_provider_fbca.identity import PrepareReport
    from airflow_provider_fbca.ledger import Snapshot
    from airflow_provider_fbca.operators.progress import Log
    from airflow_provider_fbca.warehouse import UserSource

_ONE_OF = "Give one of: sql with sql_conn_id, users_uri, users_callable."


@dataclass(frozen=True)
class Source:
    """Where an operator's users come from: exactly one of three.

    :param sql: one query, with ``sql_conn_id`` and, optionally, ``parameters`` and ``sql_hook_params``.
    :param users_uri: an object-storage URI of Parquet or Arrow IPC.
    :param users_callable: returns an Arrow object; called in ``execute`` with the context keys that it names.
    """

    sql: str | None
    sql_conn_id: str | None
    parameters: Sequence[Any] | Mapping[str, Any] | None
    sql_hook_params: dict[str, Any] | None
    users_uri: str | None
    users_callable: Callable[..., Any] | None

    def check(self) -> None:
        """Check that one source is given, and whole.

        :raises OptionsError: names what is missing or too much.
        """
        given = [name for name in ("sql", "users_uri", "users_callable") if getattr(self, name) is not None]
        if len(given) != 1:
            told = " and ".join(given) if given else "none"
            raise OptionsError(f"The task needs one source of users and has {told}.", remedy=_ONE_OF)
        if self.sql is not None and not self.sql_conn_id:
            raise OptionsError("sql is given without sql_conn_id.", remedy="Name the connection that runs the query.")
        if self.users_callable is not None and not callable(self.users_callable):
            raise OptionsError("users_callable cannot be called.", remedy="Give the function itself, not its result.")

    def open(self, context: Context) -> UserSource:
        """Open the source; the query starts here.

        :param context: of the task.
        :raises SourceError: where it cannot be opened.
        """
        if self.sql is not None and self.sql_conn_id:
            return open_sql(
                self.sql,
                sql_conn_id=self.sql_conn_id,
                parameters=self.parameters,
                sql_hook_params=self.sql_hook_params,
            )
        if self.users_uri is not None:
            return open_uri(self.users_uri)
        if self.users_callable is None:
            raise OptionsError("The task has no source of users.", remedy=_ONE_OF)
        with without_values("users_callable"):
            users = call_with_context(self.users_callable, context)
        return open_arrow(users)


@dataclass(frozen=True)
class Preparation:
    """How rows become identifiers.

    :param columns: column -> key (or keys); None to go by the columns' names.
    :param default_country: of rows that name none.
    :param transliterate: spell names and cities in a-z.
    :param hashed: key -> whether its cells are digests already.
    """

    columns: Mapping[str, str | Sequence[str]] | None
    default_country: str | None
    transliterate: bool
    hashed: Mapping[str, bool] | None

    def preparer_for(self, names: Sequence[str], *, value_based: bool, log: Log) -> Preparer:
        """Map columns to keys, tell the log, and return what prepares their batches.

        :raises MappingError: where the columns do not make a usable identifier.
        """
        mapping = resolve_mapping(names, self.columns)
        log.info("Columns: %s", "; ".join(mapping.describe()))
        return Preparer(
            mapping,
            default_country=self.default_country,
            transliterate=self.transliterate,
            hashed=self.hashed,
            value_based=value_based,
        )


def read_users(
    source: UserSource, preparation: Preparation, path: Path, *, value_based: bool, log: Log
) -> tuple[Snapshot, PrepareReport]:
    """Read a source to its end, one batch at a time, and write the prepared rows to a file.

    :param source: opened; closed when this returns.
    :param path: of the file to write.
    :param value_based: whether every row needs a LOOKALIKE_VALUE.
    :returns: the rows, repeated ones included, and what became of the cells.
    """
    with source:
        log.info("Source: %s, %s columns.", source.route, len(source.names))
        preparer = preparation.preparer_for(source.names, value_based=value_based, log=log)
        with SnapshotWriter(path, preparer.schema) as writer:
            for batch in source.batches():
                writer.write(preparer.prepare(batch))
            snapshot = writer.finish()
    for line in preparer.report.lines():
        log.info("%s", line)
    return snapshot, preparer.report
