"""DuckDB's own route: its results are Arrow already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.exceptions import SourceError
from airflow_provider_fbca.warehouse.source import Query, checked_names

if TYPE_CHECKING:
    import pyarrow as pa

# The type of hashes as numbers, whose upper half DuckDB gives to Arrow as negative.
_UNSIGNED = "UHUGEINT"

# Statements that a transaction that cannot write lets through, since what they write is no table.
_FILE_WRITERS = {"COPY", "EXPORT"}


class DuckReader:
    """Streams a query of DuckDB, or MotherDuck, as Arrow batches in a transaction that cannot write.

    :param hook: a DuckDB hook.
    :param query: what to run.
    """

    route = "duckdb"

    def __init__(self, hook: Any, query: Query) -> None:
        self.origin = query.origin
        self._hook = hook
        self._query = query
        self._connection: Any = None
        self._stream: pa.RecordBatchReader | None = None

    def connect(self) -> None:
        """Open the database."""
        self._connection = self._hook.get_conn()

    def start(self) -> tuple[str, ...]:
        """Plan the query and start its stream.

        :return: its columns.
        :raises SourceError: the statement writes files or gives no rows, or its columns cannot be told apart.
        """
        self._refuse_to_write_files()
        for statement in self._query.session_sql:
            self._connection.execute(statement)
        self._connection.execute("BEGIN TRANSACTION READ ONLY")
        names, self._stream = self._run()
        return checked_names(names, self.origin)

    def read(self) -> pa.RecordBatch | None:
        """Give the next batch, None after the last."""
        return next(self._stream, None) if self._stream is not None else None

    def cancel(self) -> None:
        """Interrupt the query."""
        if self._connection is not None:
            self._connection.interrupt()

    def close(self) -> None:
        """Close stream and connection, which rolls back."""
        stream, self._stream = self._stream, None
        connection, self._connection = self._connection, None
        if stream is not None:
            stream.close()
        if connection is not None:
            connection.close()

    def _refuse_to_write_files(self) -> None:
        if any(each.type.name in _FILE_WRITERS for each in self._connection.extract_statements(self._query.sql)):
            raise SourceError(
                f"The statement for {self.origin} writes files, and only a query is run.",
                remedy="Write files in a task of its own.",
                permanent=True,
            )

    def _refuse_unsigned(self) -> None:
        wrong = [column[0] for column in self._connection.description or () if str(column[1]) == _UNSIGNED]
        if wrong:
            raise SourceError(
                f"Columns {', '.join(map(repr, wrong))} of {self.origin} are {_UNSIGNED}, of which this DuckDB makes "
                "negative numbers.",
                remedy="Cast them to VARCHAR in the query, or install DuckDB 2.",
                permanent=True,
            )

    def _run(self) -> tuple[list[str], pa.RecordBatchReader]:
        sql, parameters = self._query.sql, self._query.parameters or None
        if hasattr(self._connection, "fetch_record_batch"):
            # Before DuckDB 2, a relation with parameters is computed whole, and what ``execute`` gives streams.
            self._connection.execute(sql, parameters)
            names = [column[0] for column in self._connection.description or ()]
            self._refuse_unsigned()
            # The last of them give it DuckDB 2's name, and warn of the old one.
            read = getattr(self._connection, "to_arrow_reader", None) or self._connection.fetch_record_batch
            return names, read(self._query.batch_rows)
        # Since DuckDB 2, it is the other way round.
        relation = self._connection.sql(sql, params=parameters)
        if relation is None:
            raise SourceError(f"The statement run on {self.origin} gives no rows.", permanent=True)
        return relation.columns, relation_stream(relation, self._query.batch_rows)


def is_relation(value: object) -> bool:
    """Tell whether a value is a relation of DuckDB, without importing DuckDB."""
    return any(kind.__name__ == "DuckDBPyRelation" for kind in type(value).__mro__)


def relation_stream(relation: Any, batch_rows: int) -> pa.RecordBatchReader:
    """Stream the rows of a relation, under the name that the installed DuckDB has for it.

    :param relation: a ``DuckDBPyRelation``.
    :param batch_rows: most rows of a batch.
    """
    if _UNSIGNED in map(str, relation.types):
        columns = zip(map(_quoted, relation.columns), map(str, relation.types), strict=True)
        relation = relation.project(
            ", ".join(f"{name}::VARCHAR AS {name}" if kind == _UNSIGNED else name for name, kind in columns)
        )
    read = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    stream: pa.RecordBatchReader = read(batch_rows)
    return stream


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
