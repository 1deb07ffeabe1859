"""Users from any object that speaks Arrow: what a ``users_callable`` returns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_provider_fbca.exceptions import SourceError
from airflow_provider_fbca.warehouse.duck import is_relation, relation_stream
from airflow_provider_fbca.warehouse.pump import PumpedSource
from airflow_provider_fbca.warehouse.source import BATCH_ROWS, checked_batch_rows, checked_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_fbca.warehouse.source import UserSource

_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


def open_arrow(value: object, *, batch_rows: int = BATCH_ROWS) -> UserSource:
    """Stream the rows of an object that has ``__arrow_c_stream__`` or ``__arrow_c_array__``.

    That is a table, record batch or reader of pyarrow, a data frame of polars or pandas, a relation of DuckDB, and many
    more. A one-shot stream is read once, on a thread of the source.

    :param value: the object.
    :param batch_rows: most rows of a batch; larger ones are cut without a copy.
    :return: the source; close it, or use it in a ``with`` block.
    :raises OptionsError: ``batch_rows`` is below 1.
    :raises SourceError: the object does not speak Arrow.
    """
    if not hasattr(value, "__arrow_c_stream__") and not hasattr(value, "__arrow_c_array__"):
        kind = type(value)
        named = "None" if value is None else f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
        raise SourceError(
            f"The users were given as {named}, which is not Arrow data.",
            remedy="Return an object with __arrow_c_stream__: a pyarrow Table or RecordBatchReader, a polars or pandas "
            "DataFrame, or a DuckDB relation.",
            permanent=True,
        )
    reader = ArrowReader(value, checked_batch_rows(batch_rows))
    return PumpedSource(reader, remedy="Its own words are withheld, as they may quote people's data.")


def sliced(batch: pa.RecordBatch, rows: int) -> Iterator[pa.RecordBatch]:
    """Cut a batch into pieces of at most ``rows`` rows, without copying it."""
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


class ArrowReader:
    """Reads an Arrow object.

    :param value: an object with ``__arrow_c_stream__`` or ``__arrow_c_array__``.
    :param batch_rows: most rows of a batch.
    """

    route = "callable"

    def __init__(self, value: Any, batch_rows: int) -> None:
        kind = type(value)
        self.origin = f"the {kind.__module__}.{kind.__qualname__} given"
        self._value = value
        self._batch_rows = batch_rows
        self._stream: pa.RecordBatchReader | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._names: tuple[str, ...] = ()

    def connect(self) -> None:
        """Do nothing: the object is at hand."""

    def start(self) -> tuple[str, ...]:
        """Open the object's stream.

        :return: its columns, without the index that pandas adds.
        :raises SourceError: it is one column instead of a table, or its columns cannot be told apart.
        """
        self._stream = _stream_of(self._value, self._batch_rows)
        schema = self._stream.schema
        names = schema.names
        if schema.metadata and b"pandas" in schema.metadata:
            names = [name for name in names if not _PANDAS_INDEX.fullmatch(name)]
        self._names = checked_names(names, self.origin)
        self._batches = (piece for batch in self._stream for piece in sliced(batch, self._batch_rows))
        return self._names

    def read(self) -> pa.RecordBatch | None:
        """Give the next batch, None after the last."""
        batch = next(self._batches, None)
        if batch is not None and batch.num_columns != len(self._names):
            return batch.select(list(self._names))
        return batch

    def cancel(self) -> None:
        """Do nothing: Arrow's stream knows no cancel, so the batch being made is the last."""

    def close(self) -> None:
        """Let go of the object and its stream."""
        self._value = None
        self._batches = iter(())
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


def _stream_of(value: Any, batch_rows: int) -> pa.RecordBatchReader:
    if isinstance(value, pa.RecordBatchReader):
        return value
    if is_relation(value):
        return relation_stream(value, batch_rows)
    if hasattr(value, "__arrow_c_stream__"):
        return pa.RecordBatchReader.from_stream(value)
    batch = pa.record_batch(value)
    return pa.RecordBatchReader.from_batches(batch.schema, [batch])
