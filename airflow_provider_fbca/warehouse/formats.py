"""The formats of files: Parquet and Arrow IPC, told by how they begin, and CSV, told by its name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_fbca.exceptions import SourceError
from airflow_provider_fbca.warehouse.csv_file import CsvFile, is_csv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_fbca.warehouse.stores import StoreFile

log = logging.getLogger(__name__)

_PARQUET = b"PAR1"
_IPC_FILE = b"ARROW1"
# The continuation marker that begins each message of an IPC stream.
_IPC_STREAM = b"\xff\xff\xff\xff"
# The message that ends one.
_IPC_STREAM_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"

_READ_BYTES = 4 * 1024 * 1024
_LARGE_BATCH_BYTES = 256 * 1024 * 1024


class Content(Protocol):
    """What is in a file."""

    #: For logs.
    format: str
    #: The columns, in order.
    names: list[str]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Give the rows as they come, in batches of any size."""


def content_of(file: StoreFile, path: str, *, size: int | None, batch_rows: int) -> Content:
    """Tell the format of a file and begin to read it.

    :param file: open at its start.
    :param path: of the file, for its name and for messages.
    :param size: of the file, in bytes; None where the store does not tell.
    :param batch_rows: rows that a batch of Parquet is asked to have.
    :raises SourceError: it has none of the formats.
    """
    start = file.read(len(_IPC_FILE))
    file.seek(0)
    if start.startswith(_PARQUET):
        return _Parquet(file, batch_rows)
    if start.startswith(_IPC_FILE):
        return _IpcFile(file, path, size)
    if start.startswith(_IPC_STREAM):
        return _IpcStream(file, path)
    if is_csv(path):
        return CsvFile(file, path)
    raise SourceError(
        f"File {path} is neither Parquet nor Arrow IPC, nor CSV by its name.",
        remedy="Write the users as Parquet, Arrow IPC or CSV (.csv, .tsv, .csv.gz, .csv.zst), and keep other files out "
        "of the folder.",
        permanent=True,
    )


class _Parquet:
    format = "parquet"

    def __init__(self, file: StoreFile, batch_rows: int) -> None:
        # Read in pieces: otherwise whole column chunks stay in memory, ahead of their rows and after them.
        self._parquet = pq.ParquetFile(pa.PythonFile(file, mode="r"), pre_buffer=False, buffer_size=_READ_BYTES)
        self._batch_rows = batch_rows
        self.names: list[str] = self._parquet.schema_arrow.names

    def batches(self) -> Iterator[pa.RecordBatch]:
        return self._parquet.iter_batches(batch_size=self._batch_rows)  # type: ignore[no-any-return]


class _IpcFile:
    format = "arrow file"

    def __init__(self, file: StoreFile, path: str, size: int | None) -> None:
        self._ipc = pa.ipc.open_file(pa.PythonFile(file, mode="r"))
        self.names: list[str] = self._ipc.schema.names
        mean = (size or 0) // max(self._ipc.num_record_batches, 1)
        if mean > _LARGE_BATCH_BYTES:
            log.warning(
                "Arrow file %s has record batches of %s MiB, each of which has to fit into memory as a whole. "
                "Write it with smaller ones, or as Parquet.",
                path,
                f"{mean >> 20:,}",
            )

    def batches(self) -> Iterator[pa.RecordBatch]:
        for index in range(self._ipc.num_record_batches):
            yield self._ipc.get_batch(index)


class _IpcStream:
    format = "arrow stream"

    def __init__(self, file: StoreFile, path: str) -> None:
        self._file = file
        self._path = path
        self._ipc = pa.ipc.open_stream(pa.PythonFile(file, mode="r"))
        self.names: list[str] = self._ipc.schema.names

    def batches(self) -> Iterator[pa.RecordBatch]:
        yield from self._ipc
        # Arrow takes a file that was cut off between two batches for the whole one, and reads no second stream.
        after = self._file.tell()
        is_end = not self._file.read(1)
        self._file.seek(max(after - len(_IPC_STREAM_END), 0))
        if not is_end or self._file.read(len(_IPC_STREAM_END)) != _IPC_STREAM_END:
            raise SourceError(
                f"Arrow stream {self._path} {'was cut off' if is_end else 'goes on after its end'}.",
                remedy="Write each file as one stream, and close its writer.",
            )
