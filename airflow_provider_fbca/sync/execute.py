"""Carries a plan out, in the one order that is safe."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from airflow_provider_fbca.exceptions import GraphRemovalRefusedError, GraphRowsRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pyarrow as pa

    from airflow_provider_fbca.sync.plan import Fallback, Plan
    from airflow_provider_fbca.sync.ports import Journal, Rows, Sender, Totals

    class _Send(Protocol):
        def __call__(self, rows: Iterable[pa.RecordBatch], *, total: int) -> Totals: ...


#: The steps of a plan by the names that the journal keeps; those after ``add`` are of a refused removal (rule S5).
Step = Literal["replace", "remove", "add", "add_first", "remove_again", "add_again"]
Done = Literal["added", "removed"]


@dataclass(frozen=True)
class Part:
    """One sending of a plan's rows.

    :param done: what was done with them, in a word.
    :param rows: that were sent.
    :param totals: what came of it.
    """

    done: Done
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
    def seconds(self) -> float:
        """How long they took."""
        return sum(part.totals.seconds for part in self.parts)

    @property
    def session_ids(self) -> tuple[int, ...]:
        """The sessions used, in order."""
        return tuple(session_id for part in self.parts for session_id in part.totals.session_ids)


def carry_out(plan: Plan, *, journal: Journal, sender: Sender, clear_the_air: Callable[[], None]) -> Sent:
    """Mark the entry open, send what the plan says in its order, mark it settled (rules L2, L3, S1).

    An error leaves the entry open: its rows count as exposure from then on, and a later refresh removes them. What an
    earlier try of the entry has had acknowledged is not sent again (rule L10).

    :param plan: has passed its guards.
    :param journal: of the entry whose snapshot is stored already.
    :param sender: for the audience.
    :param clear_the_air: ends, before the first request, what earlier writers may have left at Meta (rule S6).
    :raises GraphRemovalRefusedError: where Meta refuses the removals, and also once the new people are in.
    """
    journal.open()
    clear_the_air()
    sent = Sent(_Carrying(plan, journal, sender).parts())
    journal.settle(sent)
    return sent


@dataclass(frozen=True)
class _Carrying:
    """A plan that is being carried out."""

    plan: Plan
    journal: Journal
    sender: Sender

    def parts(self) -> tuple[Part, ...]:
        plan = self.plan
        if plan.replacement:
            return self._replace(plan.replacement)
        if plan.fallback and self.journal.has_begun("add_first"):
            return self._around(plan.fallback, gone=0)
        try:
            removed = self._remove("remove", plan.removals)
        except GraphRemovalRefusedError as error:
            if plan.fallback is None:
                raise _explained(error, plan, error.acknowledged) from None
            gone = error.acknowledged
        else:
            return (*removed, *self._add("add", plan.additions))
        # What was removed in part may also have had batches without an answer.
        self.sender.wait_out_flights()
        return self._around(plan.fallback, gone=gone)

    def _around(self, fallback: Fallback, *, gone: int) -> tuple[Part, ...]:
        """Add the new people, try the refused removals again, and add those whom these may have taken out (rule S5).

        :param gone: how many rows had been removed before Meta refused.
        """
        first = self._add("add_first", fallback.before)
        try:
            removed = self._remove("remove_again", self.plan.removals)
        except GraphRemovalRefusedError as error:
            gone = max(gone, error.acknowledged)
            raise _explained(error, self.plan, gone, added=fallback.before.count) from None
        return (*first, *removed, *self._add("add_again", fallback.after))

    def _remove(self, step: Step, rows: Rows | None) -> tuple[Part, ...]:
        return self._send(step, "removed", self.sender.remove, rows)

    def _add(self, step: Step, rows: Rows | None) -> tuple[Part, ...]:
        return self._send(step, "added", self.sender.add, rows)

    def _send(self, step: Step, done: Done, send: _Send, rows: Rows | None) -> tuple[Part, ...]:
        left = self.journal.begin(step, rows) if rows else None
        if not left or not left.count:
            return ()
        with _looking_up(left):
            totals = send(left.batches(), total=left.count)
        # A removal that lands after additions would take out people who were just added, and an addition that lands
        # after the next removals would bring people back (rule L9).
        self.sender.wait_out_flights()
        return (Part(done, left, totals),)

    def _replace(self, rows: Rows) -> tuple[Part, ...]:
        """Hand over the whole list, always from its beginning (rule L10), and wait until Meta has applied it."""
        self.journal.begin("replace", rows)
        with _looking_up(rows):
            totals = self.sender.replace(rows.batches(), total=rows.count)
        self.sender.wait_until_replaced(totals.session_ids[-1])
        self.sender.wait_out_flights()
        return (Part("added", rows, totals),)


@contextmanager
def _looking_up(rows: Rows) -> Iterator[None]:
    """Let the error of refused rows tell where they are kept."""
    try:
        yield
    except GraphRowsRefusedError as error:
        error.places = tuple(rows.locate(error.rows))
        raise


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
