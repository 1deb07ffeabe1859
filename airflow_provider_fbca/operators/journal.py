"""Writes a plan down in the ledger: the ``open`` marker before it, the ``settled`` marker after it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_fbca.ledger import SettledMarker, utc_now

if TYPE_CHECKING:
    from airflow_provider_fbca.ledger import OpenEntry, OpenMarker
    from airflow_provider_fbca.operators.refresh import AddedAgain
    from airflow_provider_fbca.sync import Plan, Sent


@dataclass
class EntryJournal:
    """The journal of one ledger entry.

    :param entry: whose snapshot is stored already.
    :param marker: to open it with.
    :param plan: that is carried out, for the counts of the settled marker.
    :param supersedes: ids of the entries that are retired when it is settled.
    :param again: of a refresh, what the next one must know to tell who is surely in.
    :param settled_at: when it was settled, UTC, ISO 8601; empty before.
    """

    entry: OpenEntry
    marker: OpenMarker
    plan: Plan
    supersedes: tuple[str, ...]
    again: AddedAgain | None = None
    settled_at: str = field(default="", init=False)

    def open(self) -> None:
        """Write the ``open`` marker."""
        self.entry.open(self.marker)

    def settle(self, sent: Sent) -> None:
        """Write the ``settled`` marker.

        :param sent: what came of the plan.
        """
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
