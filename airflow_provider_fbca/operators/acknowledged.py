"""Which rows of an entry Meta has acknowledged: ranges of positions, for each step of its plan (rule L10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Range = tuple[int, int]


class Acknowledged:
    """Ranges ``[first, end)`` of positions, which grow as batches are acknowledged, in whatever order.

    :param ranges: to begin with.
    """

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._ranges: list[Range] = []
        for first, end in ranges:
            self.add(first, end)

    @property
    def ranges(self) -> list[Range]:
        """The ranges, in order; none touches the next."""
        return list(self._ranges)

    def add(self, first: int, end: int) -> None:
        """Take in the positions of a batch."""
        apart = [each for each in self._ranges if each[1] < first or each[0] > end]
        touching = [each for each in self._ranges if each[1] >= first and each[0] <= end]
        merged = (min([first, *(each[0] for each in touching)]), max([end, *(each[1] for each in touching)]))
        self._ranges = sorted([*apart, merged]) if first < end else self._ranges

    def gaps(self, total: int) -> list[Range]:
        """Return the ranges of positions below a total that are not acknowledged."""
        found, last = [], 0
        for first, end in [*self._ranges, (total, total)]:
            if last < min(first, total):
                found.append((last, min(first, total)))
            last = max(last, end)
        return found


def places_in(gaps: Iterable[Range], first: int, end: int) -> Iterator[Range]:
    """Turn positions among the rows of some gaps into positions among all rows.

    :param gaps: ranges of positions among all rows, in order.
    :param first: of a range of positions among the rows that are in the gaps.
    :param end: of that range.
    """
    before = 0
    for gap_first, gap_end in gaps:
        size = gap_end - gap_first
        low, high = max(first - before, 0), min(end - before, size)
        if low < high:
            yield gap_first + low, gap_first + high
        before += size
