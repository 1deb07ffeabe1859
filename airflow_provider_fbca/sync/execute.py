"""Carries a plan out, in the one order that is safe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from airflow_provider_fbca.exceptions import GraphRemovalRefusedError

if TYPE_CHECKING:
    from airflow_provider_fbca.sync.plan import Fallback, Plan
    from airflow_provider_fbca.sync.ports import Journal, Rows, Sender, Totals


@dataclass(frozen=True)
class Part:
    """One sending of a plan's rows.

    :param done: what was done with them, in a word.
    :param rows: that were sent.
    :param totals: what came of it.
    """

    done: Literal["added", "removed"]
    rows: Rows
    totals: Totals


@dataclass(frozen=True)
class Sent:
    """What came of a plan.

    :param parts: its removals and additions, in the order in which they were sent; none without rows.
    """

    parts: tuple[Part, ...]

    @property
    def requests(self) -> int:
        """How many requests carried rows."""
        return sum(part.totals.requests for part in self.parts)

    @property
    def received(self) -> int:
        """How many rows Meta says it received, removals included."""
        return sum(part.totals.received for part in self.parts)

    @property
    def invalid(self) -> int:
        """How many entries Meta calls malformed."""
        return sum(part.totals.invalid for part in self.parts)

    @property
    def session_ids(self) -> tuple[int, ...]:
        """The sessions used, in order."""
        return tuple(session_id for part in self.parts for session_id in part.totals.session_ids)


def carry_out(plan: Plan, *, journal: Journal, sender: Sender) -> Sent:
    """Mark the entry open, remove, add, mark it settled (rules L2, L3, S1).

    An error leaves the entry open: its rows count as exposure from then on, and a later refresh removes them.

    :param plan: has passed its guards.
    :param journal: of the entry whose snapshot is stored already.
    :param sender: for the audience.
    :raises GraphRemovalRefusedError: where Meta refuses the removals, and also once the new people are in.
    """
    journal.open()
    sent = _send(plan, sender)
    journal.settle(sent)
    return sent


def _send(plan: Plan, sender: Sender) -> Sent:
    try:
        removed = _remove(plan.removals, sender)
    except GraphRemovalRefusedError as error:
        if plan.fallback is None:
            raise _explained(error, plan, error.acknowledged) from None
        gone = error.acknowledged
    else:
        return Sent((*removed, *_add(plan.additions, sender)))
    return _send_around(plan.fallback, plan, sender, gone)


def _send_around(fallback: Fallback, plan: Plan, sender: Sender, gone: int) -> Sent:
    """Add the new people, try the refused removals again, and add those whom these may have taken out (rule S5).

    :param gone: how many rows had been removed before Meta refused.
    """
    # What was removed in part may also have had batches without an answer.
    sender.wait_out_flights()
    first = _add(fallback.before, sender)
    try:
        removed = _remove(plan.removals, sender)
    except GraphRemovalRefusedError as error:
        raise _explained(error, plan, max(gone, error.acknowledged), added=fallback.before.count) from None
    return Sent((*first, *removed, *_add(fallback.after, sender)))


def _remove(rows: Rows | None, sender: Sender) -> tuple[Part, ...]:
    if not rows:
        return ()
    totals = sender.remove(rows.batches(), total=rows.count)
    # A removal that lands after the additions would take out people who were just added (rule L9).
    sender.wait_out_flights()
    return (Part("removed", rows, totals),)


def _add(rows: Rows | None, sender: Sender) -> tuple[Part, ...]:
    if not rows:
        return ()
    totals = sender.add(rows.batches(), total=rows.count)
    # An addition that lands after the next task's removals would bring people back (rule L9).
    sender.wait_out_flights()
    return (Part("added", rows, totals),)


def _explained(error: GraphRemovalRefusedError, plan: Plan, gone: int, added: int = 0) -> GraphRemovalRefusedError:
    """Return the error with what was done before and what to do now."""
    done = f"{gone:,} of {plan.removed:,} rows had been removed before that" + (
        f", and all {added:,} rows of the source were added" if added else ", and nothing was added"
    )
    return GraphRemovalRefusedError(
        f"Meta refused removals since too few people would remain in the audience; {done}",
        code=error.code,
        subcode=error.subcode,
        fbtrace_id=error.fbtrace_id,
        http_status=error.http_status,
        remedy=plan.if_refused,
    )
