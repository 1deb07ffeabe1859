"""A compact map from 64-bit numbers to 32-bit row numbers, for a hundred million entries and more.

A Python dict takes about a hundred bytes an entry, this takes 12 and the slack of its slots: open addressing in two
arrays, cut into shards so that growing one pauses the server for a moment only.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SHARD_BITS = 8
_SHARDS = 1 << _SHARD_BITS
_FIRST_SLOTS = 8
# Small shards grow in bounds to save time, large ones in steps to save memory.
_GROWTH, _SMALL_GROWTH, _SMALL = 1.6, 4.0, 4096


class Index:
    """Number -> row; numbers are never 0.

    :param alive: says whether a row still counts; entries of rows that do not are dropped when a shard grows.
    """

    def __init__(self, alive: Callable[[int], bool]) -> None:
        self._alive = alive
        self._numbers = [array("q", bytes(8 * _FIRST_SLOTS)) for _ in range(_SHARDS)]
        self._rows = [array("I", bytes(4 * _FIRST_SLOTS)) for _ in range(_SHARDS)]
        self._room = [_FIRST_SLOTS // 2] * _SHARDS
        #: Whether rows may have ceased to count, so that growing is worth a look at each.
        self.has_dead = False

    def get(self, number: int) -> int | None:
        """Return the row of a number, None if there is none."""
        shard = number % _SHARDS
        slot = self._slot(shard, number)
        return self._rows[shard][slot] if self._numbers[shard][slot] else None

    def claim(self, number: int, row: int) -> int:
        """Return the row of a number; if there is none it becomes ``row``."""
        shard = number % _SHARDS
        # The body of _slot once more: this is the store's hottest spot.
        numbers = self._numbers[shard]
        size = len(numbers)
        slot = (number >> _SHARD_BITS) % size
        while found := numbers[slot]:
            if found == number:
                return self._rows[shard][slot]
            slot += 1
            if slot == size:
                slot = 0
        numbers[slot] = number
        self._rows[shard][slot] = row
        self._room[shard] -= 1
        if not self._room[shard]:
            self._grow(shard)
        return row

    def put(self, number: int, row: int) -> None:
        """Make ``row`` the row of a number."""
        if self.claim(number, row) != row:
            shard = number % _SHARDS
            self._rows[shard][self._slot(shard, number)] = row

    def _slot(self, shard: int, number: int) -> int:
        """Return where a number stands in its shard, or the free slot where it would."""
        numbers = self._numbers[shard]
        size = len(numbers)
        slot = (number >> _SHARD_BITS) % size
        while (found := numbers[slot]) and found != number:
            slot += 1
            if slot == size:
                slot = 0
        return slot

    def _grow(self, shard: int) -> None:
        """Move a shard's entries to more slots, leaving those of dead rows behind."""
        entries = zip(self._numbers[shard], self._rows[shard], strict=True)
        kept = [entry for entry in entries if entry[0]]
        if self.has_dead:
            kept = [entry for entry in kept if self._alive(entry[1])]
        # Shards differ a little in how full they get, so that they do not all grow in one request.
        load = 0.6 + 0.15 * shard / _SHARDS
        growth = _SMALL_GROWTH if len(kept) < _SMALL else _GROWTH
        size = max(_FIRST_SLOTS, int(len(kept) * growth / load))
        numbers, rows = array("q", bytes(8 * size)), array("I", bytes(4 * size))
        for number, row in kept:
            slot = (number >> _SHARD_BITS) % size
            while numbers[slot]:
                slot += 1
                if slot == size:
                    slot = 0
            numbers[slot] = number
            rows[slot] = row
        self._numbers[shard], self._rows[shard] = numbers, rows
        self._room[shard] = max(1, int(size * load) - len(kept))
