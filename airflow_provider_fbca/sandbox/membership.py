"""Who is in an audience: rows, joined to people by the identifiers that they share.

A person is a connected set of rows: two rows with one identifier in common are one person, and so are rows that a
hidden link joins. A removal takes out people: whoever matches any identifier of a removed row goes, with every row
of theirs, also those that share nothing with the removed row itself. That is why this can be a union-find that only
ever joins: whole people leave, so no set is ever split.
"""

from __future__ import annotations

from array import array
from itertools import compress, repeat
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.sandbox.index import Index
from airflow_provider_fbca.sandbox.rowfile import RowFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_fbca.sandbox.batch import Batch


class Membership:
    """The rows of one audience.

    A row that comes again is the same row; if it comes with another LOOKALIKE_VALUE or other data processing options,
    the newest hold.

    :param folder: where the rows' temporary file goes; the system's place by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.people = 0
        self.rows = 0
        self._folder = folder
        self._index = Index(self._is_alive)
        self._next_row = 0
        self._parents = array("I")
        self._row_counts = array("I")  # of a set, kept at its root
        self._left = bytearray()  # at a root: the person has left
        self._outdated = bytearray()  # the row came again with other attributes
        self._file = RowFile(folder)

    def add(self, batch: Batch) -> None:
        """Put rows in; those that are in already change nothing.

        :param batch: checked rows.
        """
        first_row = self._next_row
        self._make_room(batch.row_count)
        replaces = batch.has_attributes
        is_new = [
            self._add_row(fingerprint, identifiers, replaces=replaces)
            for fingerprint, identifiers in zip(batch.fingerprints, batch.identifiers, strict=True)
        ]
        added = sum(is_new)
        if added == len(is_new):
            columns = batch.columns
        else:
            columns = {key: list(compress(cells, is_new)) for key, cells in batch.columns.items()}
        if added:
            self._file.append(first_row, added, columns)

    def matching(self, batch: Batch) -> set[int]:
        """Return the people, as marks, who match any identifier of any of these rows."""
        roots = set()
        for identifiers in batch.identifiers:
            for identifier in identifiers:
                row = self._index.get(identifier)
                if row is not None and not self._left[root := self._find(row)]:
                    roots.add(root)
        return roots

    def remove(self, people: set[int]) -> None:
        """Take people out, with all of their rows.

        :param people: what :meth:`matching` found.
        """
        self._index.has_dead |= bool(people)
        for root in people:
            self._left[root] = 1
            self.people -= 1
            self.rows -= self._row_counts[root]

    def link(self, kept: int, dropped: int) -> None:
        """Join two identifiers' people: the first number stands for both from now on."""
        row = self._index.get(dropped)
        if row is None or self._left[self._find(row)]:
            return
        other = self._index.claim(kept, row)
        if self._left[self._find(other)]:
            self._index.put(kept, row)
        else:
            self._join(row, other)

    def members(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows that are in, a block at a time, each as key -> cell without the blank ones."""
        for first_row, columns in self._file.blocks():
            keys = tuple(columns)
            rows = zip(*columns.values(), strict=True)
            yield [
                {key: cell for key, cell in zip(keys, cells, strict=True) if cell != ""}
                for number, cells in enumerate(rows, first_row)
                if self._is_alive(number) and not self._outdated[number]
            ]

    def close(self) -> None:
        """Give the space of the rows back."""
        self._file.close()

    def _add_row(self, fingerprint: int, identifiers: list[int], *, replaces: bool) -> bool:
        """Return whether the row is to be stored, since it is new or its attributes are."""
        row = self._next_row
        before = self._index.claim(fingerprint, row)
        if before != row:
            root = self._find(before)
            if not self._left[root]:
                if not replaces:
                    return False
                self._outdated[before] = 1
                self._row_counts[root] -= 1
                self.rows -= 1
            self._index.put(fingerprint, row)
        self._next_row += 1
        self.people += 1
        self.rows += 1
        for identifier in identifiers:
            other = self._index.claim(identifier, row)
            if other == row:
                continue
            if self._left[self._find(other)]:
                self._index.put(identifier, row)
            else:
                self._join(row, other)
        return True

    def _make_room(self, row_count: int) -> None:
        """Let there be that many rows more, each a person of its own."""
        missing = max(0, self._next_row + row_count - len(self._parents))
        self._parents.extend(range(len(self._parents), len(self._parents) + missing))
        self._row_counts.extend(repeat(1, missing))
        self._left.extend(bytes(missing))
        self._outdated.extend(bytes(missing))

    def _find(self, row: int) -> int:
        parents = self._parents
        while (parent := parents[row]) != row:
            parents[row] = parents[parent]
            row = parent
        return row

    def _join(self, one: int, other: int) -> None:
        one, other = self._find(one), self._find(other)
        if one == other:
            return
        if self._row_counts[one] > self._row_counts[other]:
            one, other = other, one
        self._parents[one] = other
        self._row_counts[other] += self._row_counts[one]
        self.people -= 1

    def _is_alive(self, row: int) -> bool:
        return not self._left[self._find(row)]


class Counter:
    """Stands in for :class:`Membership` in benchmarks: counts rows and holds nobody."""

    def __init__(self) -> None:
        self.people = 0
        self.rows = 0

    def add(self, batch: Batch) -> None:
        """Count rows in."""
        self.rows += batch.row_count

    def matching(self, batch: Batch) -> set[int]:
        """Find nobody, as nobody is held."""
        del batch
        return set()

    def remove(self, people: set[int]) -> None:
        """Take nobody out."""

    def link(self, kept: int, dropped: int) -> None:
        """Join nobody."""

    def members(self) -> Iterator[list[dict[str, Any]]]:
        """Yield nobody."""
        return iter(())

    def close(self) -> None:
        """Give nothing back."""
