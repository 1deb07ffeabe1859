"""A snapshot: one Parquet file of distinct hashed rows, with an id each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_fbca.exceptions import LedgerError
from airflow_provider_fbca.ledger.rowid import ROW_ID, row_ids

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

#: Name of the column with the row's id; no key of Meta's is in lower case.
ROW_ID_COLUMN = "row_id"
#: Rows of a row group: what a reader holds in memory at least.
_GROUP_ROWS = 50_000
_READ_CHUNK = 4 * 2**20


@dataclass(frozen=True)
class Snapshot:
    """A snapshot on local disk.

    :param path: of the Parquet file.
    :param schema: its columns without the row id, named by identifier key.
    :param rows: how many it holds.
    """

    path: Path
    schema: pa.Schema
    rows: int

    @classmethod
    def read(cls, path: Path) -> Self:
        """Open a snapshot file.

        :raises LedgerError: where it is not a whole Parquet file of this format.
        """
        failure = ""
        try:
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow.remove_metadata()
                rows = file.metadata.num_rows
        except Exception as error:  # noqa: BLE001 - damaged bytes make Arrow raise anything, UnicodeDecodeError for one
            failure = type(error).__name__
        if failure or schema.names[:1] != [ROW_ID_COLUMN]:
            raise LedgerError(
                f"The snapshot {path.name} of the ledger is not readable ({failure or 'no row ids'}).",
                remedy="Restore the file from a backup of the ledger's store.",
            )
        return cls(path, schema.remove(0), rows)

    def digest(self) -> str:
        """Return the SHA-256 of the file, as ``sha256:<hex>``."""
        return digest_of(self.path)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows in their stored order, a row group's worth in memory at a time.

        :param columns: to read; by default all of them, row ids included.
        """
        # Arrow would read ahead, and keep what it has read until the file is closed: all of it in the end.
        with pq.ParquetFile(self.path, pre_buffer=False) as file:
            # Some versions of Arrow fail on a file without a row group.
            yield from file.iter_batches(batch_size=_GROUP_ROWS, columns=columns) if self.rows else ()

    def last_rows(self, count: int) -> pa.Table:
        """Return the last rows in their stored order, without row ids.

        :param count: how many; all where there are fewer.
        """
        with pq.ParquetFile(self.path) as file:
            groups, found = file.num_row_groups, 0
            while groups and found < count:
                groups -= 1
                found += file.metadata.row_group(groups).num_rows
            rows = file.read_row_groups(range(groups, file.num_row_groups), columns=self.schema.names)
        return rows.slice(max(0, rows.num_rows - count))


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, as ``sha256:<hex>``."""
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ_CHUNK):
            whole.update(chunk)
    return f"sha256:{whole.hexdigest()}"


class SnapshotWriter:
    """Writes prepared users to a snapshot file as they come, duplicates included.

    :param path: must not exist yet.
    :param schema: columns named by key, without the row id.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._rows_schema = schema.remove_metadata()
        fields = [pa.field(ROW_ID_COLUMN, ROW_ID, nullable=False), *schema]
        self._schema = pa.schema(fields, metadata={"fbca.snapshot": "1"})
        path.touch(mode=0o600, exist_ok=False)
        # Digests do not compress and do not repeat: dictionaries and statistics would only cost time and leak extremes.
        self._file = pq.ParquetWriter(
            path,
            self._schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=False,
            write_statistics=False,
        )
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows.

        :param batch: of the writer's schema.
        """
        self.write_with_ids(batch.add_column(0, pa.field(ROW_ID_COLUMN, ROW_ID, nullable=False), row_ids(batch)))

    def write_with_ids(self, batch: pa.RecordBatch) -> None:
        """Append rows that carry their ids already, as they are read from another snapshot."""
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        self._rows += batch.num_rows
        if self._waiting_rows >= _GROUP_ROWS:
            self._flush()

    def finish(self) -> Snapshot:
        """Close the file and return it as a snapshot."""
        self._flush()
        self._file.close()
        return Snapshot(self._path, self._rows_schema, self._rows)

    def _flush(self) -> None:
        if self._waiting_rows:
            rows = pa.Table.from_batches(self._waiting).cast(self._schema)
            self._file.write_table(rows, row_group_size=_GROUP_ROWS)
        self._waiting, self._waiting_rows = [], 0
