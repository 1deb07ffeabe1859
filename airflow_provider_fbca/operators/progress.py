"""A line now and then while batches are sent."""

from __future__ import annotations

import time
from typing import Protocol

_SECONDS_BETWEEN = 15.0


class Log(Protocol):
    """The part of a task's logger that is used here."""

    def info(self, event: str, *args: object) -> object:
        """Tell the reader of the task's log."""

    def warning(self, event: str, *args: object) -> object:
        """Tell what the reader should look at."""

    def debug(self, event: str, *args: object) -> object:
        """Tell someone who looks closer."""


class Progress:
    """Logs how far the sending of a plan is: at INFO every 15 seconds, at DEBUG every batch.

    :param log: of the task.
    :param total: rows to send in all, removals and additions.
    """

    def __init__(self, log: Log, total: int) -> None:
        self._log = log
        self._total = total
        self._sent = 0
        self._requests = 0
        self._began = self._told = time.monotonic()

    def batch(self, rows: int) -> None:
        """Count a batch that Meta has acknowledged; may be called from several threads in turn.

        :param rows: of the batch.
        """
        self._sent += rows
        self._requests += 1
        now = time.monotonic()
        line = "Sent %s of %s rows in %s requests, %s rows/s."
        facts = (f"{self._sent:,}", f"{self._total:,}", f"{self._requests:,}", f"{self._rate(now):,.0f}")
        if now - self._told >= _SECONDS_BETWEEN:
            self._told = now
            self._log.info(line, *facts)
        else:
            self._log.debug(line, *facts)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self._began

    def _rate(self, now: float) -> float:
        return self._sent / max(now - self._began, 1e-9)
