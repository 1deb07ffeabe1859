"""The file of the report of rejects: columns as they came, or as text where their type changes on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from airflow_provider_fbca.identity.cells import read_cells

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_GROUP_ROWS = 50_000


class RejectsFile:
    """A Parquet file whose columns keep the type of their first batch as long as it holds what comes.

    Batches of one source may differ: SQLite has numbers and text in one column, and each file of a folder its own
    types. Whole numbers may come in any width, and timestamps in any unit, that fit. Any other change makes a column
    text, from its first row on, written as cells are read for identifiers: a number of text read as one would lose its
    leading zeros.

    :param path: of the file; it must not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._schema: pa.Schema | None = None
        self._writer: pq.ParquetWriter | None = None

    @property
    def is_begun(self) -> bool:
        """Whether anything was written."""
        return self._schema is not None

    def write(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Write some batches, which have the columns of all before.

        :raises UsersError: a column that has to become text holds what has none.
        :raises pa.ArrowException: Parquet has no form for a column.
        """
        schema = self._schema or _with_texts(batches[0].schema)
        for batch in batches:
            schema = _widened(schema, batch)
        if self._writer is None:
            self._path.touch(mode=0o600, exist_ok=False)
            self._writer = _writer(self._path, schema)
        elif schema != self._schema:
            self._write_anew(schema)
        self._schema = schema
        rows = pa.Table.from_batches([_in(schema, batch) for batch in batches])
        self._writer.write_table(rows, row_group_size=_GROUP_ROWS)

    def close(self) -> None:
        """Finish the file. Calling it again does nothing."""
        if self._writer is not None:
            self._writer.close()

    def _write_anew(self, schema: pa.Schema) -> None:
        """Write the rows so far once more, and go on behind them: a column does so at most once."""
        self.close()
        beside = self._path.with_suffix(".text.parquet")
        beside.touch(mode=0o600, exist_ok=False)
        self._writer = _writer(beside, schema)
        with pq.ParquetFile(self._path) as written:
            for batch in written.iter_batches(_GROUP_ROWS):
                self._writer.write_batch(_in(schema, batch))
        beside.replace(self._path)


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, schema, compression="zstd")


def _with_texts(schema: pa.Schema) -> pa.Schema:
    """Take a database's own kind of text for text, and what has no value yet too, since it may turn out to be."""
    is_text = [pt.is_null(field.type) or _is_own_text(field.type) for field in schema]
    return pa.schema([_text(field) if text else field for field, text in zip(schema, is_text, strict=True)])


def _is_own_text(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.OpaqueType) and pt.is_string(kind.storage_type)


def _widened(schema: pa.Schema, batch: pa.RecordBatch) -> pa.Schema:
    fields = zip(schema, batch.columns, strict=True)
    return pa.schema([field if _converted(field, column) is not None else _text(field) for field, column in fields])


def _in(schema: pa.Schema, batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [_converted(field, column) for field, column in zip(schema, batch.columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _converted(field: pa.Field, column: pa.Array) -> pa.Array | None:
    """Give a column in the type of a field; None where that would lose something."""
    if pt.is_string(field.type):
        return read_cells(column, name=field.name, first_row=0).texts
    if column.type == field.type:
        return column
    if not pt.is_null(column.type) and not _is_alike(column.type, field.type):
        return None
    try:
        return column.cast(field.type)
    except pa.ArrowInvalid:
        return None


def _is_alike(one: pa.DataType, other: pa.DataType) -> bool:
    if pt.is_timestamp(one) and pt.is_timestamp(other):
        return bool(one.tz == other.tz)
    return bool(pt.is_integer(one) and pt.is_integer(other))


def _text(field: pa.Field) -> pa.Field:
    return pa.field(field.name, pa.string())
