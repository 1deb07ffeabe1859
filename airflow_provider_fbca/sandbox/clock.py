"""The sandbox's clock: real time that a test can move, stop or set."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    """Seconds since 1970, ahead of the machine's clock by what :meth:`advance` added.

    :param start: stop the clock at this instant; without it the clock runs with the machine's.
    """

    def __init__(self, start: float | None = None) -> None:
        self._offset = 0.0
        self._stopped_at = start

    def now(self) -> float:
        """Return the present instant on this clock."""
        return time.time() + self._offset if self._stopped_at is None else self._stopped_at

    @contextmanager
    def at(self, instant: float) -> Iterator[None]:
        """Show an earlier instant, at which something happens that is only looked at now.

        :param instant: seconds since 1970.
        """
        before = self._offset, self._stopped_at
        self._stopped_at = instant
        try:
            yield
        finally:
            self._offset, self._stopped_at = before

    def advance(self, seconds: float) -> None:
        """Move forward.

        :param seconds: how far; a clock that goes back would undo what has happened, so never negative.
        :raises ValueError: for a negative number.
        """
        if seconds < 0:
            raise ValueError("The sandbox's clock only goes forward.")
        if self._stopped_at is None:
            self._offset += seconds
        else:
            self._stopped_at += seconds

    def set(self, instant: float) -> None:
        """Go to an instant.

        :param instant: seconds since 1970, not before the present.
        :raises ValueError: for an instant in the past.
        """
        self.advance(instant - self.now())

    def stop(self) -> None:
        """Stand still; :meth:`advance` and :meth:`set` still move it."""
        self._stopped_at = self.now()

    def run(self) -> None:
        """Run with the machine's clock again, from where it stands."""
        self._offset, self._stopped_at = self.now() - time.time(), None
