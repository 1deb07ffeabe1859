"""From an operator's source of users to a snapshot of distinct hashed rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.exceptions import OptionsError
from airflow_provider_fbca.identity import ATTRIBUTES, Preparer, resolve_mapping
from airflow_provider_fbca.ledger import SnapshotWriter
from airflow_provider_fbca.operators.rejects import RejectsReport
from airflow_provider_fbca.operators.rim import without_values
from airflow_provider_fbca.warehouse import call_with_context, open_arrow, open_sql, open_uri
from airflow_provider_fbca.warehouse.registry import AUTO, check_route_name
from airflow_provider_fbca.warehouse.source import checked_timeout

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping
    from datetime import timedelta

    import pyarrow as pa
    from airflow.sdk import Context

    from airflow_provider_fbca.identity import PrepareReport
    from airflow_provider_fbca.ledger import Snapshot, WorkDir
    from airflow_provider_fbca.operators.progress import Log
    from airflow_provider_fbca.operators.rejects import RejectsPlace
    from airflow_provider_fbca.warehouse import UserSource

_ONE_OF = "Give one of: sql with sql_conn_id, users_uri, users_callable."


@dataclass(frozen=True, repr=False)
class Source:
    """Where an operator's users come from: exactly one of three.

    :param sql: one query, with ``sql_conn_id`` and, optionally, what else :func:`open_sql` takes.
    :param users_uri: an object-storage URI of Parquet, Arrow IPC or CSV.
    :param users_callable: returns an Arrow object; called in ``execute`` with the context keys that it names.
    """

    sql: str | None
    sql_conn_id: str | None
    parameters: Sequence[Any] | Mapping[str, Any] | None
    session_sql: str | Sequence[str]
    sql_hook_params: dict[str, Any] | None
    sql_route: str
    statement_timeout: float | timedelta | None
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
        self._check_sql_options()

    def _check_sql_options(self) -> None:
        given = {
            "parameters": self.parameters,
            "session_sql": self.session_sql,
            "statement_timeout": self.statement_timeout is not None,
            "sql_route": self.sql_route != AUTO,
        }
        useless = [name for name, value in given.items() if value]
        if useless and self.sql is None:
            raise OptionsError(
                f"The task has {' and '.join(useless)}, but no sql.",
                remedy="Give sql with sql_conn_id, or leave them out.",
            )
        checked_timeout(self.statement_timeout)
        check_route_name(self.sql_route)
        statements = [self.session_sql] if isinstance(self.session_sql, str) else self.session_sql
        if not isinstance(statements, Sequence) or not all(isinstance(each, str) for each in statements):
            raise OptionsError("session_sql is no statement.", remedy="Give a text, or a list of them, one each.")

    def open(self, context: Context, *, stopped: threading.Event) -> UserSource:
        """Open the source; the query starts here.

        :param context: of the task.
        :param stopped: set where the task is told to stop.
        :raises SourceError: where it cannot be opened.
        """
        if self.sql is not None and self.sql_conn_id:
            return open_sql(
                self.sql,
                sql_conn_id=self.sql_conn_id,
                parameters=self.parameters,
                session_sql=self.session_sql,
                sql_hook_params=self.sql_hook_params,
                sql_route=self.sql_route,
                statement_timeout=self.statement_timeout,
                stopped=stopped,
            )
        if self.users_uri is not None:
            return open_uri(self.users_uri, stopped=stopped)
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
    :param limited_data_use: of every row; True, or the place. False where columns say it, or nothing does.
    :param removal: whether the rows are to be removed, so that nothing matters but who they are.
    """

    columns: Mapping[str, str | Sequence[str]] | None
    default_country: str | None
    transliterate: bool
    hashed: Mapping[str, bool] | None
    limited_data_use: bool | Mapping[str, int] = False
    removal: bool = False

    def preparer_for(self, names: Sequence[str], *, value_based: bool, log: Log) -> Preparer:
        """Map columns to keys, tell the log, and return what prepares their batches.

        :raises MappingError: where the columns do not make a usable identifier.
        """
        mapping = resolve_mapping(names, self.columns)
        if self.removal:
            mapping = mapping.without(ATTRIBUTES)
        log.info("Columns: %s", "; ".join(mapping.describe()))
        preparer = Preparer(
            mapping,
            default_country=self.default_country,
            transliterate=self.transliterate,
            hashed=self.hashed,
            value_based=value_based and not self.removal,
            limited_data_use=False if self.removal else self.limited_data_use,
        )
        for key in mapping.keys:
            if key not in preparer.schema.names:
                log.info("%s is not sent, since the audience is not value-based.", key)
        return preparer


def read_users(
    source: UserSource,
    preparation: Preparation,
    workdir: WorkDir,
    *,
    value_based: bool,
    rejects: RejectsPlace | None,
    log: Log,
) -> tuple[Snapshot, PrepareReport]:
    """Read a source to its end, one batch at a time, and write the prepared rows to a file.

    :param source: opened; closed when this returns.
    :param workdir: where the files are written.
    :param value_based: whether the audience is.
    :param rejects: where the report of rejects goes, if anywhere; it is there when this returns.
    :returns: the rows, repeated ones included, and what became of the cells.
    """
    with source:
        log.info("Source: %s, %s columns.", source.route, len(source.names))
        preparer = preparation.preparer_for(source.names, value_based=value_based, log=log)
        with ExitStack() as files:
            writer = files.enter_context(SnapshotWriter(workdir.file("users.parquet"), preparer.schema))
            report = None
            if rejects:
                report = files.enter_context(RejectsReport(rejects, source.names, workdir.file("rejects.parquet")))
            for batch in source.batches():
                writer.write(_prepared(preparer, batch, report))
            snapshot = writer.finish()
            for line in preparer.report.lines():
                log.info("%s", line)
            if rejects and report:
                report.finish()
                log.info("Report of rejects: %s lines in %s.", f"{report.lines:,}", rejects.uri)
    return snapshot, preparer.report


def _prepared(preparer: Preparer, batch: pa.RecordBatch, report: RejectsReport | None) -> pa.RecordBatch:
    if report is None:
        return preparer.prepare(batch)
    first_row = preparer.report.rows_in
    prepared, rejects = preparer.prepare_with_rejects(batch)
    report.write(rejects, batch, first_row=first_row)
    return prepared
