"""Writes a plan down in the ledger: the ``open`` marker before it, progress during it, the ``settled`` marker after."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_fbca.ledger import ProgressNote, SettledMarker, utc_now
from airflow_provider_fbca.operators.acknowledged import Acknowledged, places_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_fbca.ledger import OpenEntry, OpenMarker
    from airflow_provider_fbca.operators.acknowledged import Range
    from airflow_provider_fbca.operators.refresh import AddedAgain
    from airflow_provider_fbca.sync import Plan, Rows, Sent, Step

#: Between two notes of progress: what a retry may have to send once more.
_NOTE_SECONDS = 30.0


@dataclass
class EntryJournal:
    """The journal of one ledger entry.

    :param entry: whose snapshot is stored already.
    :param marker: that opens it.
    :param plan: that is carried out, for the counts of the settled marker.
    :param supersedes: ids of the entries that are retired when it is settled.
    :param go_on: called before each write; what it raises prevents it.
    :param again: of a refresh, what the next one must know to tell who is surely in.
    :param progress: what earlier tries of the entry have had acknowledged; None where this is the first.
    :param is_open: whether the marker is in the ledger, so that rows may be on their way.
    :param settled_at: when it was settled, UTC, ISO 8601; empty before.
    """

    entry: OpenEntry
    marker: OpenMarker
    plan: Plan
    supersedes: tuple[str, ...]
    go_on: Callable[[], None]
    again: AddedAgain | None = None
    progress: ProgressNote | None = None
    is_open: bool = False
    settled_at: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self._steps = {step: Acknowledged(ranges) for step, ranges in (self._acknowledged_before()).items()}
        self._step = ""
        self._gaps: list[Range] = []
        self._noted = time.monotonic()

    def open(self) -> None:
        """Write the ``open`` marker, unless an earlier try did."""
        if not self.is_open:
            self.go_on()
            # From here on it may be there, also where the store answers with an error.
            self.is_open = True
            self.entry.open(self.marker)

    def begin(self, step: Step, rows: Rows) -> Rows:
        """Note that a step begins, and so what was acknowledged of those before it.

        A step is noted before its first request: were the end of the removals not known, a retry would repeat some of
        them after additions.

        :param rows: of the step.
        :returns: those that no earlier try has had acknowledged.
        """
        before = self._steps.setdefault(step, Acknowledged())
        self._step, self._gaps = step, before.gaps(rows.count)
        self._note()
        return _without(rows, before.ranges)

    def has_begun(self, step: Step) -> bool:
        """Tell whether an earlier try has come to a step."""
        return step in self._acknowledged_before()

    def acknowledge(self, first_row: int, rows: int) -> None:
        """Take in a batch that Meta has acknowledged, and note it before long.

        :param first_row: its position among the rows that :meth:`begin` gave.
        :param rows: how many it had.
        """
        for first, end in places_in(self._gaps, first_row, first_row + rows):
            self._steps[self._step].add(first, end)
        if time.monotonic() - self._noted > _NOTE_SECONDS:
            self._note()

    def leave(self) -> None:
        """Note, for a retry, what was acknowledged before an error."""
        if self.is_open and self._step:
            self._note()

    def settle(self, sent: Sent) -> None:
        """Write the ``settled`` marker.

        :param sent: what came of the plan.
        """
        self.go_on()
        self.settled_at = utc_now()
        totals = {
            "members": self.plan.members,
            "added": self.plan.added,
            "removed": self.plan.removed,
            "requests": sent.requests,
            "received": sent.received,
            "invalid": sent.invalid,
        }
        marker = SettledMarker(self.supersedes, self.settled_at, totals)
        if self.again:
            marker = replace(
                marker,
                again=int(self.again.rows.sum()),
                again_digest=self.entry.again_digest,
                # Counted from before the first of them was sent.
                sent_all_at=self.again.sent_all_at or self.marker.opened_at,
            )
        self.entry.settle(marker)

    def _acknowledged_before(self) -> dict[str, list[Range]]:
        return self.progress.acknowledged if self.progress else {}

    def _note(self) -> None:
        self.go_on()
        ranges = {step: acknowledged.ranges for step, acknowledged in self._steps.items()}
        self.entry.note_progress(ProgressNote(self._step, ranges, utc_now()))
        self._noted = time.monotonic()


def _without(rows: Rows, ranges: list[Range]) -> Rows:
    return rows.without(ranges) if ranges else rows
