"""A compact map from 64-bit numbers to 32-bit row numbers, for hundreds of millions of entries.

A Python dict takes about a hundred bytes an entry, this takes 12 and the slack of its slots: open addressing in two
arrays, cut into shards so that growing one pauses the server for a moment only.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SHARD_BITS = 8
_SHARD_MASK = (1 << _SHARD_BITS) - 1
_FIRST_SLOTS = 8
_GROWTH = 1.5


class Index:
    """Number -> row; numbers are never 0.

    :param alive: says whether a row still counts; entries of rows that do not are dropped when a shard grows.
    """

    def __init__(self, alive: Callable[[int], bool]) -> None:
        self._shards = [_Shard(alive, _load_limit(i)) for i in range(_SHARD_MASK + 1)]

    def get(self, number: int) -> int | None:
        """Return the row of a number, None if there is none."""
        return self._shards[number & _SHARD_MASK].get(number)

    def claim(self, number: int, row: int) -> int:
        """Return the row of a number; if there is none it becomes ``row``."""
        return self._shards[number & _SHARD_MASK].claim(number, row)

    def put(self, number: int, row: int) -> None:
        """Make ``row`` the row of a number."""
        self._shards[number & _SHARD_MASK].put(number, row)


def _load_limit(shard: int) -> float:
    """Differ a little from shard to shard, so that they do not all grow in one request."""
    return 0.6 + 0.15 * shard / _SHARD_MASK


class _Shard:
    __slots__ = ("_alive", "_keys", "_limit", "_load", "_rows", "_size", "_used")

    def __init__(self, alive: Callable[[int], bool], load: float) -> None:
        self._alive = alive
        self._load = load
        self._allocate(_FIRST_SLOTS)

    def _allocate(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._limit = int(size * self._load)
        self._keys = array("q", bytes(8 * size))
        self._rows = array("I", bytes(4 * size))

    def get(self, number: int) -> int | None:
        keys, size = self._keys, self._size
        slot = (number >> _SHARD_BITS) % size
        while key := keys[slot]:
            if key == number:
                return self._rows[slot]
            slot = slot + 1 if slot + 1 < size else 0
        return None

    def claim(self, number: int, row: int) -> int:
        keys, size = self._keys, self._size
        slot = (number >> _SHARD_BITS) % size
        while key := keys[slot]:
            if key == number:
                return self._rows[slot]
            slot = slot + 1 if slot + 1 < size else 0
        self._fill(slot, number, row)
        return row

    def put(self, number: int, row: int) -> None:
        keys, size = self._keys, self._size
        slot = (number >> _SHARD_BITS) % size
        while key := keys[slot]:
            if key == number:
                self._rows[slot] = row
                return
            slot = slot + 1 if slot + 1 < size else 0
        self._fill(slot, number, row)

    def _fill(self, slot: int, number: int, row: int) -> None:
        self._keys[slot] = number
        self._rows[slot] = row
        self._used += 1
        if self._used > self._limit:
            self._rebuild()

    def _rebuild(self) -> None:
        alive = self._alive
        entries = zip(self._keys, self._rows, strict=True)
        kept = [(number, row) for number, row in entries if number and alive(row)]
        self._allocate(max(_FIRST_SLOTS, int(len(kept) / self._load * _GROWTH) + 1))
        for number, row in kept:
            self.put(number, row)
