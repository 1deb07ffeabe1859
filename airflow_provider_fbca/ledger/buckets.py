"""Records in a scratch file, grouped by one byte each, so that comparing them holds one group in memory at a time.

Equal records share their byte. With bytes that are evenly spread, as those of digests are, a group is a 256th part of
all: ten million records are compared forty thousand at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import Any

    Records = np.ndarray[tuple[int], np.dtype[Any]]
    Bytes = np.ndarray[tuple[int], np.dtype[np.uint8]]

#: Values of the byte.
BUCKETS = 256
#: Records that are sorted in memory before they are written.
_CHUNK = 250_000


class Buckets:
    """Writes records to a file, and reads those of one bucket back.

    :param path: must not exist yet.
    :param kind: of the records.
    :param parts: the records as they come, each part with the bucket of each of its records.
    """

    def __init__(self, path: Path, kind: np.dtype[Any], parts: Iterable[tuple[Records, Bytes]]) -> None:
        self._path = path
        self._kind = kind
        #: For each chunk where its buckets begin in the file, in records, and where the last one ends.
        self._edges: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
        path.touch(mode=0o600, exist_ok=False)
        written = 0
        with path.open("r+b", buffering=0) as file:
            for records, buckets in _chunks(parts):
                order = np.argsort(buckets, kind="stable")
                records[order].tofile(file)
                self._edges.append(written + np.searchsorted(buckets[order], np.arange(BUCKETS + 1)))
                written += len(records)

    @property
    def filled(self) -> set[int]:
        """The buckets that hold any record: few, where there are few records."""
        return {int(bucket) for edges in self._edges for bucket in np.flatnonzero(np.diff(edges))}

    def read(self, bucket: int) -> Records:
        """Return the records of a bucket, in the order in which they came."""
        with self._path.open("rb", buffering=0) as file:
            return np.concatenate([np.empty(0, self._kind), *self._pieces(file, bucket)])

    def close(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)

    def _pieces(self, file: Any, bucket: int) -> Iterator[Records]:
        for edges in self._edges:
            file.seek(int(edges[bucket]) * self._kind.itemsize)
            yield np.fromfile(file, self._kind, count=int(edges[bucket + 1] - edges[bucket]))


def _chunks(parts: Iterable[tuple[Records, Bytes]]) -> Iterator[tuple[Records, Bytes]]:
    """Join parts until they are worth sorting."""
    waiting: list[tuple[Records, Bytes]] = []
    for part in parts:
        waiting.append(part)
        if sum(len(records) for records, _ in waiting) >= _CHUNK:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[tuple[Records, Bytes]]) -> tuple[Records, Bytes]:
    records, buckets = zip(*parts, strict=True)
    return np.concatenate(records), np.concatenate(buckets)
