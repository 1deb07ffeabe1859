"""Keeps Python's cyclic garbage collector from looking through rows that a driver has just made."""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: New objects between two collections meanwhile, Python's own number being 700: some batches of rows, a few megabytes.
_NEW_OBJECTS = 200_000

_lock = threading.Lock()
#: The thresholds to put back, one for each thread that is inside; all but the first are those set here.
_found: list[tuple[int, int, int]] = []


@contextmanager
def rarely_collecting() -> Iterator[None]:
    """Let the collector run rarely while rows are fetched and converted, which is then about 1.5 times as fast.

    It is not turned off, since that would hold for all threads of the process, and one of them may need it. Threads may
    be inside at the same time: the last one to leave puts back what the first one found.
    """
    with _lock:
        _found.append(gc.get_threshold())
        usual, *older = _found[0]
        if 0 < usual < _NEW_OBJECTS:
            gc.set_threshold(_NEW_OBJECTS, *older)
    try:
        yield
    finally:
        with _lock:
            first = _found[0]
            _found.pop()
            if not _found:
                gc.set_threshold(*first)
