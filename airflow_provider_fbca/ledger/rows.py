"""Distinct, union and difference of snapshots, by row id, in bounded memory.

DuckDB compares 24 bytes a row (id and position) under a memory limit and spills to the task's private folder; what it
finds are positions, and the rows themselves are then streamed from their files in stored order. So the answer is
deterministic, and memory does not grow with the number of keys.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import duckdb
import numpy as np
import pyarrow as pa

from airflow_provider_fbca.exceptions import LedgerError
from airflow_provider_fbca.ledger.links import Linked, spread
from airflow_provider_fbca.ledger.rowid import NOT_IDENTITY, content_ids
from airflow_provider_fbca.ledger.snapshot import ROW_ID_COLUMN, Snapshot, SnapshotWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_provider_fbca.ledger.workdir import WorkDir

_MEMORY_LIMIT = "384MB"
#: Each thread needs a share of that memory for itself: with one for every core of a large machine it would not do.
_MOST_THREADS = 4
#: Places of different snapshots never meet: each may hold this many rows.
_PLACES = 2**40
_CHUNK_ROWS = 1_000_000

Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True)
class FileRows:
    """Some rows of some snapshots, to be streamed.

    :param snapshots: read in this order.
    :param kept: for each snapshot a flag per row, whether it is one of them.
    :param schema: the columns to give; one that a snapshot lacks is given as blanks.
    """

    snapshots: tuple[Snapshot, ...]
    kept: tuple[Flags, ...]
    schema: pa.Schema

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(int(np.count_nonzero(kept)) for kept in self.kept)

    @property
    def keys(self) -> tuple[str, ...]:
        """The identifier keys of the columns."""
        return tuple(self.schema.names)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows, columns named by key, without the row ids."""
        for snapshot, kept in zip(self.snapshots, self.kept, strict=True):
            for batch in _only(snapshot, kept):
                yield _aligned(batch, self.schema)

    def without(self, ranges: Sequence[tuple[int, int]]) -> Self:
        """Return these rows but those at some positions.

        :param ranges: of positions among these rows, from 0, each without its end.
        """
        left = tuple(flags.copy() for flags in self.kept)
        before = 0
        for flags in left:
            for start in range(0, len(flags), _CHUNK_ROWS):
                chunk = flags[start : start + _CHUNK_ROWS]
                places = np.flatnonzero(chunk)
                for first, end in ranges:
                    chunk[places[max(first - before, 0) : max(end - before, 0)]] = False
                before += len(places)
        return replace(self, kept=left)

    def digest(self) -> str:
        """Name exactly these rows, in this order, as long as their snapshots are the same."""
        whole = hashlib.sha256(repr(self.keys).encode())
        for flags in self.kept:
            whole.update(f"{len(flags)}:".encode() + np.packbits(flags).tobytes())
        return whole.hexdigest()

    def locate(self, positions: Iterable[int]) -> list[tuple[str, int]]:
        """Tell where rows stand in their snapshots.

        :param positions: among these rows, from 0.
        :returns: for each the name of its snapshot's file, and its number there, from 1.
        """
        wanted = list(positions)
        places: dict[int, tuple[str, int]] = {}
        start = 0
        for snapshot, kept in zip(self.snapshots, self.kept, strict=True):
            rows = np.flatnonzero(kept) if wanted else kept[:0]
            here = [position for position in wanted if start <= position < start + len(rows)]
            places |= {position: (snapshot.path.name, int(rows[position - start]) + 1) for position in here}
            start += len(rows)
        return [places[position] for position in wanted]


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
        (kept,) = self._first_of_each((snapshot,))
        if kept.all():
            return snapshot
        with SnapshotWriter(self._workdir.file(name), snapshot.schema) as writer:
            for batch in _only(snapshot, kept):
                writer.write_with_ids(batch)
            return writer.finish()

    def union(self, snapshots: Sequence[Snapshot]) -> FileRows:
        """Return each row that any of the snapshots holds, once, as identifiers only.

        :param snapshots: each without repeated rows.
        """
        kept = (_all(snapshots[0]),) if len(snapshots) == 1 else self._first_of_each(snapshots)
        return FileRows(tuple(snapshots), kept, _identities(snapshots))

    def difference(self, before: Sequence[Snapshot], after: Snapshot) -> FileRows:
        """Return each row that any snapshot of ``before`` holds and ``after`` lacks, once, as identifiers only."""
        return FileRows(tuple(before), self._first_of_each_but(before, after), _identities(before))

    def count_leaving(self, before: Sequence[Snapshot], after: Snapshot) -> int:
        """Count the rows that any snapshot of ``before`` holds and ``after`` does not."""
        return self.difference(before, after).count

    def all_of(self, snapshot: Snapshot) -> FileRows:
        """Return every row of one snapshot, with all its columns."""
        return FileRows((snapshot,), (_all(snapshot),), snapshot.schema)

    def identities_of(self, snapshot: Snapshot) -> FileRows:
        """Return every row of one snapshot, as identifiers only."""
        return self.union((snapshot,))

    def some_of(self, snapshot: Snapshot, kept: Flags) -> FileRows:
        """Return the flagged rows of one snapshot, with all its columns."""
        return FileRows((snapshot,), (kept,), snapshot.schema)

    def missing_in(self, users: Snapshot, sure: Snapshot, *, doubtful: Flags) -> Flags:
        """Tell which users are not surely in: absent, doubtful, or there with other cells beside the identifiers.

        :param users: distinct rows.
        :param sure: distinct rows that are in.
        :param doubtful: for each row of ``sure`` whether it does not count.
        :returns: a flag per row of ``users``.
        """
        described = not NOT_IDENTITY.isdisjoint({*users.schema.names, *sure.schema.names})
        with self._engine() as engine:
            _load_rows(engine, "users", users, _all(users), described=described)
            _load_rows(engine, "sure", sure, ~doubtful, described=described)
            found = engine.execute("SELECT place FROM users ANTI JOIN sure USING (id, content)").fetchnumpy()["place"]
        return _flags((users,), found)[0]

    def connected(self, removals: FileRows, users: Snapshot, combinations: Sequence[Sequence[str]]) -> Flags:
        """Tell which users share a person with a removed row, through however many others (rules S1, S3).

        :param removals: the rows to remove; the other rows of their snapshots connect people, too.
        :param users: rows that are in, or come in: Meta promises no order, so they connect people as well.
        :param combinations: sets of keys that find a person.
        :returns: a flag per row of ``users``.
        """
        snapshots = (*removals.snapshots, users)
        linked: list[Linked] = []
        try:
            for number, snapshot in enumerate(snapshots):
                linked.append(Linked(snapshot, combinations, self._workdir.file(f"names-{number}")))
            spread(linked, [each.seed(kept) for each, kept in zip(linked, removals.kept, strict=False)])
        finally:
            for each in linked:
                each.close()
        return linked[-1].reached

    def _first_of_each(self, snapshots: Sequence[Snapshot]) -> tuple[Flags, ...]:
        """Flag the rows of some snapshots, of equal ones the first only."""
        with self._engine() as engine:
            _load_ids(engine, "ids", snapshots)
            repeated = engine.execute(
                "SELECT ids.place FROM ids JOIN"
                " (SELECT id, min(place) AS place FROM ids GROUP BY id HAVING count(*) > 1) first USING (id)"
                " WHERE ids.place <> first.place"
            ).fetchnumpy()["place"]
        return tuple(~flags for flags in _flags(snapshots, repeated))

    def _first_of_each_but(self, snapshots: Sequence[Snapshot], unwanted: Snapshot) -> tuple[Flags, ...]:
        """Flag the rows of some snapshots that another one lacks, of equal ones the first only."""
        with self._engine() as engine:
            _load_ids(engine, "ids", snapshots)
            _load_ids(engine, "unwanted", (unwanted,))
            found = engine.execute(
                "SELECT min(place) AS place FROM ids"
                " WHERE NOT EXISTS (SELECT 1 FROM unwanted WHERE unwanted.id = ids.id) GROUP BY id"
            ).fetchnumpy()["place"]
        return _flags(snapshots, found)

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


def _load_rows(
    engine: duckdb.DuckDBPyConnection, table: str, snapshot: Snapshot, kept: Flags, *, described: bool
) -> None:
    """Load ids and positions of the flagged rows, with ids of their other cells where rows have any."""
    engine.execute(f"CREATE TABLE {table} (id BLOB, content BLOB, place BIGINT)")
    start = 0
    for batch in snapshot.batches():
        content = content_ids(batch) if described else pa.repeat(b"", batch.num_rows)
        places = pa.array(np.arange(start, start + batch.num_rows))
        rows = pa.table({"id": batch.column(ROW_ID_COLUMN), "content": content, "place": places})
        engine.register("part", rows.filter(pa.array(kept[start : start + batch.num_rows])))
        engine.execute(f"INSERT INTO {table} SELECT * FROM part")  # noqa: S608 - names of ours
        engine.unregister("part")
        start += batch.num_rows


def _flags(snapshots: Sequence[Snapshot], places: np.ndarray[tuple[int], np.dtype[np.int64]]) -> tuple[Flags, ...]:
    """Return a flag per row of each snapshot, set at some places."""
    flags = tuple(np.zeros(snapshot.rows, dtype=bool) for snapshot in snapshots)
    places = np.asarray(places, dtype=np.int64)
    for number, kept in enumerate(flags):
        start = _start(number)
        kept[places[(places >= start) & (places < start + _PLACES)] - start] = True
    return flags


def _identities(snapshots: Sequence[Snapshot]) -> pa.Schema:
    """Return every identifier column that any of the snapshots has."""
    fields = {field.name: field for each in snapshots for field in each.schema}
    return pa.schema(field for name, field in fields.items() if name not in NOT_IDENTITY)


def _all(snapshot: Snapshot) -> Flags:
    return np.ones(snapshot.rows, dtype=bool)


def _only(snapshot: Snapshot, kept: Flags) -> Iterator[pa.RecordBatch]:
    """Yield the flagged rows of a snapshot."""
    start = 0
    for batch in snapshot.batches():
        flags = kept[start : start + batch.num_rows]
        if flags.all():
            yield batch
        elif flags.any():
            yield batch.filter(pa.array(flags))
        start += batch.num_rows


def _aligned(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    present = set(batch.schema.names)
    columns = [
        batch.column(field.name) if field.name in present else pa.nulls(batch.num_rows, field.type) for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
