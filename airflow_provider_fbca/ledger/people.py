"""Who is meant by some rows: finds rows of the same people in snapshots, for an erasure.

A person is known by any usable combination of identifiers. Each combination of a row is a 64-bit name, as in ``links``;
a row is theirs where it carries a name that is known, and then its other names may be learnt, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_fbca.ledger.rowid import combination_ids

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from airflow_provider_fbca.ledger.snapshot import Snapshot

    Names = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]
    Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]


class People:
    """Some people, by the names of all combinations that are known of them.

    :param combinations: sets of keys that find a person.
    """

    def __init__(self, combinations: Sequence[Sequence[str]]) -> None:
        self._combinations = combinations
        self._known: Names = np.empty(0, dtype=np.uint64)

    @property
    def known(self) -> int:
        """How many combinations are known."""
        return len(self._known)

    def learn(self, snapshot: Snapshot) -> None:
        """Take every row of a snapshot for one of theirs."""
        for _, names in self._names(snapshot):
            self._add(names)

    def rows_in(self, snapshot: Snapshot) -> Flags:
        """Tell which rows of a snapshot carry a name that is known; a flag per row."""
        found: Flags = np.zeros(snapshot.rows, dtype=bool)
        for start, names in self._names(snapshot):
            found[start : start + len(names)] = self._meets(names)
        return found

    def connected_in(self, snapshot: Snapshot) -> Flags:
        """Tell which rows of a snapshot are theirs, also through other rows of it, and learn their names.

        :returns: a flag per row.
        """
        found: Flags = np.zeros(snapshot.rows, dtype=bool)
        before = -1
        while before != self.known:
            before = self.known
            for start, names in self._names(snapshot):
                met = self._meets(names)
                found[start : start + len(names)] = met
                self._add(names[met])
        return found

    def _names(self, snapshot: Snapshot) -> Iterator[tuple[int, Names]]:
        """Yield the position of each batch's first row and a line of names per row, 0 for none."""
        usable = [each for each in self._combinations if set(each) <= set(snapshot.schema.names)]
        start = 0
        for batch in snapshot.batches():
            yield start, _names_of(batch, usable)
            start += batch.num_rows

    def _meets(self, names: Names) -> Flags:
        if not len(self._known):
            return np.zeros(len(names), dtype=bool)
        places = np.minimum(np.searchsorted(self._known, names), len(self._known) - 1)
        met: Flags = (self._known[places] == names).any(axis=1)
        return met

    def _add(self, names: Names) -> None:
        fresh = names[names != 0]
        if len(fresh):
            self._known = np.union1d(self._known, fresh)


def _names_of(batch: pa.RecordBatch, combinations: Sequence[Sequence[str]]) -> Names:
    columns = [combination_ids(batch, each) for each in combinations]
    names: Names = np.stack(columns, axis=1) if columns else np.zeros((batch.num_rows, 1), dtype=np.uint64)
    return names
