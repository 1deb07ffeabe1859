"""Carries a plan out, in the one order that is safe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_fbca.sync.plan import Plan
    from airflow_provider_fbca.sync.ports import Journal, Sender, Totals


@dataclass(frozen=True)
class Sent:
    """What came of a plan.

    :param removed: of the removals; None where there were none.
    :param added: of the additions; None where there were none.
    """

    removed: Totals | None
    added: Totals | None

    @property
    def requests(self) -> int:
        """How many requests carried rows."""
        return sum(half.requests for half in self._halves)

    @property
    def received(self) -> int:
        """How many rows Meta says it received, removals included."""
        return sum(half.received for half in self._halves)

    @property
    def invalid(self) -> int:
        """How many entries Meta calls malformed."""
        return sum(half.invalid for half in self._halves)

    @property
    def session_ids(self) -> tuple[int, ...]:
        """The sessions used, in order."""
        return tuple(session_id for half in self._halves for session_id in half.session_ids)

    @property
    def _halves(self) -> list[Totals]:
        return [half for half in (self.removed, self.added) if half]


def carry_out(plan: Plan, *, journal: Journal, sender: Sender) -> Sent:
    """Mark the entry open, remove, add, mark it settled (rules L2, L3, S1).

    An error leaves the entry open: its rows count as exposure from then on, and a later refresh removes them.

    :param plan: has passed its guards.
    :param journal: of the entry whose snapshot is stored already.
    :param sender: for the audience.
    """
    journal.open()
    removed = sender.remove(plan.removals.batches(), total=plan.removed) if plan.removals else None
    added = sender.add(plan.additions.batches(), total=plan.added) if plan.additions else None
    sent = Sent(removed, added)
    journal.settle(sent)
    return sent
