"""Distinct, union and difference of snapshots, by row id, in bounded memory.

DuckDB compares 24 bytes a row (id and position) under a memory limit and spills to the task's private folder; what it
finds are positions, and the rows themselves are then streamed from their files in stored order. So the answer is
deterministic, and memory does not grow with the number of keys.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa

from airflow_provider_fbca.exceptions import LedgerError
from airflow_provider_fbca.ledger.rowid import NOT_IDENTITY
from airflow_provider_fbca.ledger.snapshot import ROW_ID_COLUMN, Snapshot, SnapshotWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_provider_fbca.ledger.workdir import WorkDir

_MEMORY_LIMIT = "384MB"
#: Each thread needs a share of that memory for itself: with one for every core of a large machine it would not do.
_MOST_THREADS = 4
#: Places of different snapshots never meet: each may hold this many rows.
_PLACES = 2**40

Positions = np.ndarray[tuple[int], np.dtype[np.int64]]
_NONE: Positions = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class FileRows:
    """Some rows of some snapshots, to be streamed.

    :param snapshots: read in this order.
    :param dropped: for each snapshot the sorted positions of the rows to leave out.
    :param schema: the columns to give; one that a snapshot lacks is given as blanks.
    """

    snapshots: tuple[Snapshot, ...]
    dropped: tuple[Positions, ...]
    schema: pa.Schema

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(snapshot.rows for snapshot in self.snapshots) - sum(len(drop) for drop in self.dropped)

    @property
    def keys(self) -> tuple[str, ...]:
        """The identifier keys of the columns."""
        return tuple(self.schema.names)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows, columns named by key, without the row ids."""
        for snapshot, dropped in zip(self.snapshots, self.dropped, strict=True):
            for batch in _without(snapshot, dropped):
                yield _aligned(batch, self.schema)

    def locate(self, positions: Iterable[int]) -> list[tuple[str, int]]:
        """Tell where rows stand in their snapshots.

        :param positions: among these rows, from 0.
        :returns: for each the name of its snapshot's file, and its number there, from 1.
        """
        places = []
        for position in positions:
            left = position
            for snapshot, dropped in zip(self.snapshots, self.dropped, strict=True):
                kept = snapshot.rows - len(dropped)
                if left < kept:
                    # The n-th kept row comes after each dropped row before which there are at most n kept ones.
                    before = np.searchsorted(dropped - np.arange(len(dropped)), left, side="right")
                    places.append((snapshot.path.name, left + int(before) + 1))
                    break
                left -= kept
        return places


class RowSets:
    """Set operations on snapshots.

    :param workdir: where DuckDB may spill and results are written.
    """

    def __init__(self, workdir: WorkDir) -> None:
        self._workdir = workdir

    def distinct(self, snapshot: Snapshot, name: str) -> Snapshot:
        """Return a snapshot without its repeated rows; the first of equal rows stays.

        :param name: of the file to write; where nothing repeats, the snapshot itself is returned.
        """
        rows = self._first_of_each((snapshot,), snapshot.schema)
        if rows.count == snapshot.rows:
            return snapshot
        return self._written(rows, name)

    def union(self, snapshots: Sequence[Snapshot]) -> FileRows:
        """Return each row that any of the snapshots holds, once, as identifiers only.

        :param snapshots: each without repeated rows.
        """
        fields = {field.name: field for each in snapshots for field in each.schema}
        schema = pa.schema(field for name, field in fields.items() if name not in NOT_IDENTITY)
        if len(snapshots) == 1:
            return FileRows(tuple(snapshots), (_NONE,), schema)
        return self._first_of_each(tuple(snapshots), schema)

    def all_of(self, snapshot: Snapshot) -> FileRows:
        """Return every row of one snapshot, with all its columns."""
        return FileRows((snapshot,), (_NONE,), snapshot.schema)

    def identities_of(self, snapshot: Snapshot) -> FileRows:
        """Return every row of one snapshot, as identifiers only."""
        return self.union((snapshot,))

    def count_leaving(self, before: Sequence[Snapshot], after: Snapshot) -> int:
        """Count the rows that any snapshot of ``before`` holds and ``after`` does not."""
        if not before:
            return 0
        with self._engine() as engine:
            _load_ids(engine, "before", before)
            _load_ids(engine, "after", (after,))
            found = engine.execute(
                "SELECT count(DISTINCT id) FROM before"
                " WHERE NOT EXISTS (SELECT 1 FROM after WHERE after.id = before.id)"
            ).fetchone()
        return int(found[0]) if found else 0

    def _first_of_each(self, snapshots: tuple[Snapshot, ...], schema: pa.Schema) -> FileRows:
        dropped = []
        with self._engine() as engine:
            _load_ids(engine, "ids", snapshots)
            engine.execute(
                "CREATE TABLE kept AS SELECT id, min(place) AS place FROM ids GROUP BY id HAVING count(*) > 1"
            )
            for number in range(len(snapshots)):
                found = engine.execute(
                    "SELECT ids.place - ? AS position FROM ids JOIN kept USING (id)"
                    " WHERE ids.place <> kept.place AND ids.place >= ? AND ids.place < ? ORDER BY position",
                    [_start(number), _start(number), _start(number + 1)],
                ).fetchnumpy()
                dropped.append(np.asarray(found["position"], dtype=np.int64))
        return FileRows(snapshots, tuple(dropped), schema)

    def _written(self, rows: FileRows, name: str) -> Snapshot:
        (snapshot,), (dropped,) = rows.snapshots, rows.dropped
        with SnapshotWriter(self._workdir.file(name), snapshot.schema) as writer:
            for batch in _without(snapshot, dropped):
                writer.write_with_ids(batch)
            return writer.finish()

    @contextmanager
    def _engine(self) -> Iterator[duckdb.DuckDBPyConnection]:
        spill = self._workdir.file("spill")
        spill.mkdir(mode=0o700, exist_ok=True)
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": _MEMORY_LIMIT,
            "threads": min(_MOST_THREADS, os.cpu_count() or 1),
            "temp_directory": str(spill),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        failure = ""
        try:
            with duckdb.connect(":memory:", config=config) as engine:
                yield engine
        except duckdb.Error as error:
            failure = type(error).__name__
        if failure:
            wrapped = LedgerError(
                f"The comparison of snapshots failed ({failure}).",
                remedy=f"See that {self._workdir.path.parent} has free space: about 50 bytes for each row compared.",
            )
            wrapped.permanent = False
            raise wrapped from None


def _start(number: int) -> int:
    return number * _PLACES


def _load_ids(engine: duckdb.DuckDBPyConnection, table: str, snapshots: Sequence[Snapshot]) -> None:
    engine.execute(f"CREATE TABLE {table} (id BLOB, place BIGINT)")
    for number, snapshot in enumerate(snapshots):
        engine.execute(
            f"INSERT INTO {table} SELECT {ROW_ID_COLUMN}, file_row_number + ?"  # noqa: S608 - names of ours
            " FROM read_parquet(?, file_row_number = true)",
            [_start(number), str(snapshot.path)],
        )


def _without(snapshot: Snapshot, dropped: Positions) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a snapshot but those at some sorted positions."""
    start = 0
    for batch in snapshot.batches():
        low, high = np.searchsorted(dropped, [start, start + batch.num_rows])
        if low == high:
            yield batch
        else:
            kept = np.ones(batch.num_rows, dtype=bool)
            kept[dropped[low:high] - start] = False
            yield batch.filter(pa.array(kept))
        start += batch.num_rows


def _aligned(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    present = set(batch.schema.names)
    columns = [
        batch.column(field.name) if field.name in present else pa.nulls(batch.num_rows, field.type) for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
