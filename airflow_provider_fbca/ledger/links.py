"""Whom a removal takes out beside the rows that it names: everybody connected to them by identifiers (rules S1, S3).

Meta removes people. A person is known by any usable combination of identifiers, so a row that stays but shares one with
a removed row is out, and with it a row that shares another one with that, and so on. The combinations of each row are
written once, as 64-bit names, to a scratch file; each step of the search is then a scan of that file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_fbca.ledger.rowid import combination_ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

    from airflow_provider_fbca.ledger.snapshot import Snapshot

    Names = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]
    Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]

_SCAN_ROWS = 1_000_000
#: A table of flags by the lowest bits of a name tells nearly all strangers at a glance.
_SIEVE_BITS = 24


class Linked:
    """The rows of one snapshot, searched for those that are connected to some seeds.

    :param snapshot: without repeated rows.
    :param combinations: sets of keys that find a person; those that the snapshot has no columns for are left out.
    :param path: of the scratch file to write.
    """

    def __init__(self, snapshot: Snapshot, combinations: Sequence[Sequence[str]], path: Path) -> None:
        usable = [each for each in combinations if set(each) <= set(snapshot.schema.names)]
        self._width = max(len(usable), 1)
        self._path = path
        #: For each row whether it is connected.
        self.reached: Flags = np.zeros(snapshot.rows, dtype=bool)
        path.touch(mode=0o600, exist_ok=False)
        with path.open("r+b") as file:
            for batch in snapshot.batches():
                _names(batch, usable).tofile(file)

    def close(self) -> None:
        """Remove the scratch file."""
        self._path.unlink(missing_ok=True)

    def seed(self, flags: Flags) -> Names:
        """Mark rows as reached and return the names that they carry.

        :param flags: for each row whether to mark it.
        """
        self.reached |= flags
        found = [part[flags[start : start + len(part)]].ravel() for start, part in self._parts()]
        return _distinct(found)

    def step(self, frontier: Names) -> Names:
        """Mark the rows that carry a name of the frontier and return the names of those newly marked.

        :param frontier: sorted, not empty.
        """
        sieve = np.zeros(1 << _SIEVE_BITS, dtype=bool)
        sieve[_low_bits(frontier)] = True
        found = []
        for start, part in self._parts():
            maybe = sieve[_low_bits(part)] & (part != 0)
            rows = np.flatnonzero(maybe.any(axis=1) & ~self.reached[start : start + len(part)])
            hit = rows[_contains(frontier, part[rows]).any(axis=1)]
            self.reached[start + hit] = True
            found.append(part[hit].ravel())
        return _distinct(found)

    def _parts(self) -> Iterator[tuple[int, Names]]:
        """Yield the scratch file in parts: the position of its first row, and a line of names per row."""
        with self._path.open("rb") as file:
            for start in range(0, len(self.reached), _SCAN_ROWS):
                rows = min(_SCAN_ROWS, len(self.reached) - start)
                yield start, np.fromfile(file, dtype=np.uint64, count=rows * self._width).reshape(rows, self._width)


def spread(linked: Sequence[Linked], seeds: Iterable[Names]) -> None:
    """Mark every row that is connected to a seed, through however many others.

    :param linked: the snapshots whose rows connect people.
    :param seeds: names that the search begins from.
    """
    frontier = known = _distinct(list(seeds))
    while len(frontier):
        found = _distinct([each.step(frontier) for each in linked])
        frontier = np.setdiff1d(found, known, assume_unique=True)
        known = np.union1d(known, frontier)


def _distinct(names: Sequence[Names]) -> Names:
    """Return the different names, sorted, without 0, which is none."""
    every: Names = np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *names]))
    found: Names = every[every != 0]
    return found


def _names(batch: pa.RecordBatch, combinations: Sequence[Sequence[str]]) -> Names:
    columns = [combination_ids(batch, each) for each in combinations]
    names: Names = np.stack(columns, axis=1) if columns else np.zeros((batch.num_rows, 1), dtype=np.uint64)
    return names


def _low_bits(names: Names) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return ((names >> np.uint64(1)) & np.uint64((1 << _SIEVE_BITS) - 1)).astype(np.int64)


def _contains(frontier: Names, names: Names) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    places = np.searchsorted(frontier, names)
    found: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = frontier[np.minimum(places, len(frontier) - 1)] == names
    return found
