"""From the cells of rows to what connects them: numbers for identifiers, and one number for the row itself.

Numbers are Python's own 64-bit hashes. They differ from process to process, which is fine for a store that lives as
long as its process, and two of a hundred million meet with a chance of about one in four thousand.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

from airflow_provider_fbca.sandbox.schema import COMBINATIONS, IDENTITY_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def row_identifiers(columns: Mapping[str, Sequence[str]], row_count: int) -> list[list[int]]:
    """Return each row's identifiers, one number for each usable combination that it has filled.

    :param columns: key -> cells, ``""`` for unknown.
    :param row_count: number of rows.
    """
    found: list[list[int]] = [[] for _ in range(row_count)]
    for number, combination in enumerate(COMBINATIONS):
        if not all(key in columns for key in combination):
            continue
        cells = zip(*(columns[key] for key in combination), strict=True)
        for identifiers, values in zip(found, cells, strict=True):
            if all(values):
                identifiers.append(hash((number, values)) or 1)  # 0 marks an empty slot of the index
    return found


def row_fingerprints(columns: Mapping[str, Sequence[str]], row_count: int) -> list[int]:
    """Return a number for each row that any schema gives it if its filled cells are the same.

    :param columns: key -> cells of the identity keys, ``""`` for unknown.
    :param row_count: number of rows.
    """
    canonical: list[Iterable[str]] = [columns.get(key) or repeat("", row_count) for key in IDENTITY_KEYS]
    return [hash(cells) or 1 for cells in zip(*canonical, strict=True)]


class Aliases:
    """Links between identifiers that no row shows: one person's identifiers get one number."""

    def __init__(self) -> None:
        self._first: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._first)

    def of(self, identifier: int) -> int:
        """Return the number that stands for an identifier and for all that is linked to it."""
        while (linked := self._first.get(identifier, identifier)) != identifier:
            identifier = linked
        return identifier

    def apply(self, rows: Sequence[list[int]]) -> Sequence[list[int]]:
        """Return rows' identifiers with linked ones made equal."""
        if not self._first:
            return rows
        return [[self.of(identifier) for identifier in identifiers] for identifiers in rows]

    def link(self, one: int, other: int) -> tuple[int, int]:
        """Make two identifiers one person's.

        :returns: the number that stands for both from now on, and the one that did for the second until now.
        """
        kept, dropped = self.of(one), self.of(other)
        if kept != dropped:
            self._first[dropped] = kept
        return kept, dropped
