"""Distinct, union and difference of snapshots, by row id, in bounded memory.

Of each snapshot 24 bytes a row (id and position) are written to the task's private folder once, in 256 groups, and one
group of all snapshots is compared at a time. What is found are positions, and the rows themselves are then streamed
from their files in stored order. So the answer is deterministic, and what grows with the rows is a flag for each.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa

from airflow_provider_fbca.exceptions import LedgerError
from airflow_provider_fbca.ledger.buckets import Buckets
from airflow_provider_fbca.ledger.links import connected
from airflow_provider_fbca.ledger.rowid import NOT_IDENTITY, ROW_ID, whole_ids
from airflow_provider_fbca.ledger.snapshot import ROW_ID_COLUMN, Snapshot, SnapshotWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from airflow_provider_fbca.ledger.buckets import Bytes, Records
    from airflow_provider_fbca.ledger.workdir import WorkDir

_CHUNK_ROWS = 1_000_000
_PLACED = np.dtype([("id", "V16"), ("place", "<i8")])

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

    :param workdir: where scratch files and results are written.
    """

    def __init__(self, workdir: WorkDir) -> None:
        self._workdir = workdir
        self._indexes: dict[tuple[Path, bool], Buckets] = {}

    def distinct(self, snapshot: Snapshot, name: str) -> Snapshot:
        """Return a snapshot without its repeated rows; the first of equal rows stays.

        :param name: of the file to write; where nothing repeats, the snapshot itself is returned.
        """
        (kept,) = self._firsts((snapshot,))
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
        kept = (_all(snapshots[0]),) if len(snapshots) == 1 else self._firsts(snapshots)
        return FileRows(tuple(snapshots), kept, _identities(snapshots))

    def difference(self, before: Sequence[Snapshot], after: Snapshot) -> FileRows:
        """Return each row that any snapshot of ``before`` holds and ``after`` lacks, once, as identifiers only."""
        # Of equal rows the first counts, and none of before that comes after an equal one of after.
        _, *kept = self._firsts((after, *before))
        return FileRows(tuple(before), tuple(kept), _identities(before))

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
        _, missing = self._firsts((sure, users), left_out=doubtful, described=described)
        return missing

    def connected(self, removals: FileRows, users: Snapshot, combinations: Sequence[Sequence[str]]) -> Flags:
        """Tell which users share a person with a removed row, through however many others (rules S1, S3).

        :param removals: rows to remove, as :meth:`difference` gives them: what else their snapshots hold is among the
            users, so nobody is connected by it who is not by them.
        :param users: rows that are in, or come in: Meta promises no order, so they connect people as well.
        :param combinations: sets of keys that find a person.
        :returns: a flag per row of ``users``.
        """
        with self._told():
            return connected(removals.batches(), users, combinations, self._workdir)

    def _firsts(
        self, snapshots: Sequence[Snapshot], *, left_out: Flags | None = None, described: bool = False
    ) -> tuple[Flags, ...]:
        """Flag the rows of some snapshots, of equal ones the first only.

        :param left_out: for each row of the first snapshot whether to take it for not there.
        :param described: whether the cells beside the identifiers count.
        """
        kept = tuple(np.zeros(snapshot.rows, dtype=bool) for snapshot in snapshots)
        if not snapshots:
            return kept
        with self._told():
            indexes = [self._index(snapshot, described=described) for snapshot in snapshots]
            for bucket in sorted(set().union(*(index.filled for index in indexes))):
                parts = [index.read(bucket) for index in indexes]
                if left_out is not None:
                    parts[0] = parts[0][~left_out[parts[0]["place"]]]
                for flags, part, firsts in zip(kept, parts, _firsts_of(parts), strict=True):
                    flags[part["place"]] = firsts
        return kept

    def _index(self, snapshot: Snapshot, *, described: bool) -> Buckets:
        """Return the ids and places of a snapshot's rows, written by the first who asks."""
        key = snapshot.path, described
        if key not in self._indexes:
            records = _placed_ids(snapshot, described=described)
            self._indexes[key] = Buckets(self._workdir.new_file("ids"), _PLACED, records)
        return self._indexes[key]

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell of files that cannot be read or written, without what their errors quote."""
        failure = ""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            failure = type(error).__name__
        if failure:
            wrapped = LedgerError(
                f"The comparison of snapshots failed ({failure}).",
                remedy=f"See that {self._workdir.path.parent} has free space: about 100 bytes for each row compared.",
            )
            wrapped.permanent = False
            raise wrapped from None


def _placed_ids(snapshot: Snapshot, *, described: bool) -> Iterator[tuple[Records, Bytes]]:
    """Yield the ids and places of a snapshot's rows, and the ids' first bytes."""
    beside = [name for name in snapshot.schema.names if name in NOT_IDENTITY] if described else []
    start = 0
    for batch in snapshot.batches([ROW_ID_COLUMN, *beside]):
        ids = whole_ids(batch.column(ROW_ID_COLUMN), batch)
        records = np.empty(batch.num_rows, _PLACED)
        records["id"], records["place"] = ids, np.arange(start, start + batch.num_rows)
        yield records, ids.view(np.uint8)[::16]
        start += batch.num_rows


def _firsts_of(parts: Sequence[Records]) -> list[Flags]:
    """Flag the records of some parts, of those with equal ids the first only."""
    ids = np.concatenate([part["id"] for part in parts])
    cells = pa.FixedSizeBinaryArray.from_buffers(ROW_ID, len(ids), [None, pa.py_buffer(ids)])
    # A dictionary numbers its values as they appear, so each new number is a value's first row.
    numbers = cells.dictionary_encode().indices.to_numpy()
    firsts = np.diff(np.maximum.accumulate(numbers), prepend=-1) > 0
    return np.split(firsts, np.cumsum([len(part) for part in parts[:-1]]))


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
