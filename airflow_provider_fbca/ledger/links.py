"""Whom a removal takes out beside the rows that it names: everybody connected to them by identifiers (rules S1, S3).

Meta removes people. A person is known by any usable combination of identifiers, so a row that stays but shares one with
a removed row is out, and with it a row that shares another one with that, and so on. The combinations of each row are
written once, as 64-bit names, to a scratch file, and each step of the search is a scan of it. Hardly ever does a search
need more than a few; one that does goes on in an index, where a step costs no more than what it finds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_fbca.ledger.buckets import BUCKETS, Buckets
from airflow_provider_fbca.ledger.rowid import combination_ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

    from airflow_provider_fbca.ledger.buckets import Bytes, Records
    from airflow_provider_fbca.ledger.snapshot import Snapshot
    from airflow_provider_fbca.ledger.workdir import WorkDir

    Names = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]
    Places = np.ndarray[tuple[int], np.dtype[np.int64]]
    Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]

_SCAN_ROWS = 50_000
#: A table of flags by the lowest bits of a name tells nearly all strangers at a glance.
_SIEVE_BITS = 24
#: An index costs about as much as this many scans.
_MOST_SCANS = 8

_NAMED = np.dtype([("name", "<u8"), ("place", "<i8")])


def connected(
    seeds: Iterable[pa.RecordBatch], users: Snapshot, combinations: Sequence[Sequence[str]], workdir: WorkDir
) -> Flags:
    """Tell which rows of a snapshot are connected to some seeds, directly or through others of its rows.

    :param seeds: rows, columns named by key.
    :param users: the snapshot.
    :param combinations: sets of keys that find a person; those that the snapshot has no columns for are left out.
    :param workdir: for scratch files, which are gone when this returns.
    :returns: a flag per row.
    """
    usable = [each for each in combinations if set(each) <= set(users.schema.names)]
    if not usable or not users.rows:
        return np.zeros(users.rows, dtype=bool)
    search = _Search(users, usable, workdir)
    try:
        search.spread(_distinct([_names(batch, usable) for batch in seeds]))
    finally:
        search.close()
    return search.reached


class _Search:
    """The rows of one snapshot, searched for those that are connected to some names.

    :param users: the snapshot.
    :param combinations: those that it has columns for.
    :param workdir: for scratch files.
    """

    def __init__(self, users: Snapshot, combinations: Sequence[Sequence[str]], workdir: WorkDir) -> None:
        #: For each row whether it is connected.
        self.reached: Flags = np.zeros(users.rows, dtype=bool)
        self._workdir = workdir
        self._width = len(combinations)
        self._path = workdir.new_file("names")
        self._path.touch(mode=0o600, exist_ok=False)
        with self._path.open("r+b") as file:
            for batch in users.batches(sorted({key for each in combinations for key in each})):
                _names(batch, combinations).tofile(file)

    def close(self) -> None:
        """Remove the scratch file."""
        self._path.unlink(missing_ok=True)

    def spread(self, frontier: Names) -> None:
        """Mark every row that is connected to a name, through however many others.

        :param frontier: sorted names.
        """
        for _ in range(_MOST_SCANS):
            if not len(frontier):
                return
            frontier = self._scan(frontier)
        if len(frontier):
            self._follow(frontier)

    def _scan(self, frontier: Names) -> Names:
        """Mark the rows that carry a name of the frontier and return the names of those newly marked."""
        sieve = np.zeros(1 << _SIEVE_BITS, dtype=bool)
        sieve[_low_bits(frontier)] = True
        found = []
        for start, lines in self._parts():
            maybe = sieve[_low_bits(lines)] & (lines != 0)
            rows = np.flatnonzero(maybe.any(axis=1) & ~self.reached[start : start + len(lines)])
            hit = rows[_contains(frontier, lines[rows]).any(axis=1)]
            self.reached[start + hit] = True
            found.append(lines[hit])
        return _distinct(found)

    def _follow(self, frontier: Names) -> None:
        """Mark all that is still to be reached, by an index of the rows that are not."""
        index = _Index(self._unreached(), self._workdir)
        try:
            lines = np.memmap(self._path, np.uint64, "r").reshape(-1, self._width)
            while len(frontier):
                rows = index.rows_with(frontier)
                rows = np.unique(rows[~self.reached[rows]])
                self.reached[rows] = True
                frontier = _distinct([lines[rows]])
        finally:
            index.close()

    def _unreached(self) -> Iterator[tuple[Records, Bytes]]:
        """Yield the names of rows not reached, each with its row's place, and their highest bytes."""
        for start, lines in self._parts():
            rows, columns = np.nonzero((lines != 0) & ~self.reached[start : start + len(lines), None])
            records = np.empty(len(rows), _NAMED)
            records["name"], records["place"] = lines[rows, columns], start + rows
            yield records, (records["name"] >> np.uint64(56)).astype(np.uint8)

    def _parts(self) -> Iterator[tuple[int, Names]]:
        """Yield the scratch file in parts: the position of its first row, and a line of names per row."""
        with self._path.open("rb") as file:
            for start in range(0, len(self.reached), _SCAN_ROWS):
                rows = min(_SCAN_ROWS, len(self.reached) - start)
                yield start, np.fromfile(file, dtype=np.uint64, count=rows * self._width).reshape(rows, self._width)


class _Index:
    """Names in order on disk, each with the place of a row that carries it.

    :param parts: the names and places, with the names' highest bytes.
    :param workdir: for scratch files.
    """

    def __init__(self, parts: Iterable[tuple[Records, Bytes]], workdir: WorkDir) -> None:
        self._paths = [workdir.new_file("names") for _ in range(2)]
        buckets = Buckets(workdir.new_file("names"), _NAMED, parts)
        try:
            self._names, self._places = _sorted_by_name(buckets, *self._paths)
        finally:
            buckets.close()

    def close(self) -> None:
        """Remove the scratch files."""
        for path in self._paths:
            path.unlink(missing_ok=True)

    def rows_with(self, names: Names) -> Places:
        """Return the places of all rows that carry one of some names."""
        first = np.searchsorted(self._names, names, side="left")
        count = np.searchsorted(self._names, names, side="right") - first
        skipped = first - (np.cumsum(count) - count)
        found: Places = self._places[np.repeat(skipped, count) + np.arange(count.sum())]
        return found


def _sorted_by_name(buckets: Buckets, names_path: Path, places_path: Path) -> tuple[Names, Places]:
    """Write records in the order of their names: the names to one file, the places to another."""
    for path in (names_path, places_path):
        path.touch(mode=0o600, exist_ok=False)
    with names_path.open("r+b") as names, places_path.open("r+b") as places:
        for bucket in range(BUCKETS):
            records = buckets.read(bucket)
            records = records[np.argsort(records["name"])]
            records["name"].tofile(names)
            records["place"].tofile(places)
    if not names_path.stat().st_size:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    return np.memmap(names_path, np.uint64, "r"), np.memmap(places_path, np.int64, "r")


def _distinct(names: Sequence[Names]) -> Names:
    """Return the different names, sorted, without 0, which is none."""
    every: Names = np.concatenate([np.empty(0, dtype=np.uint64), *(each.ravel() for each in names)])
    every.sort()
    found: Names = every[np.diff(every, prepend=np.uint64(0)) != 0]
    return found


def _names(batch: pa.RecordBatch, combinations: Sequence[Sequence[str]]) -> Names:
    """Return a line of names per row; of combinations that the batch lacks columns for it has none."""
    present = set(batch.schema.names)
    lines: Names = np.zeros((batch.num_rows, len(combinations)), dtype=np.uint64)
    for column, keys in enumerate(combinations):
        if present.issuperset(keys):
            lines[:, column] = combination_ids(batch, keys)
    return lines


def _low_bits(names: Names) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]]:
    low: np.ndarray[tuple[int, ...], np.dtype[np.uint32]] = (names >> np.uint64(1)).astype(np.uint32)
    return low & np.uint32((1 << _SIEVE_BITS) - 1)


def _contains(frontier: Names, names: Names) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    places = np.searchsorted(frontier, names)
    found: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = frontier[np.minimum(places, len(frontier) - 1)] == names
    return found
