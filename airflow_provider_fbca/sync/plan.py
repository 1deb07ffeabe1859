"""From what may be in an audience and what should be, to what is removed and added."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from airflow_provider_fbca.exceptions import GuardError, StrangersError

if TYPE_CHECKING:
    from airflow_provider_fbca.sync.ports import Rows

Strategy = Literal["delta", "delete_insert", "replace"]

STRATEGIES: Final[tuple[Strategy, ...]] = ("delta", "delete_insert", "replace")


@dataclass(frozen=True)
class Fallback:
    """What to add around removals that Meta refuses since too few people would remain (rule S5).

    :param before: rows to add before they are tried again.
    :param after: rows to add after them, since they may take these out; None where there are none.
    """

    before: Rows
    after: Rows | None


@dataclass(frozen=True)
class Plan:
    """What will be sent: first every removal, then every addition (rule S1); or one list that replaces all.

    :param removals: rows to remove, as identifiers only; None where nothing is.
    :param additions: rows to add; None where nothing is.
    :param members: rows that the audience stands for once the plan is carried out.
    :param present: rows that may be in the audience now.
    :param leaving: rows that may be in it now and will not be afterwards.
    :param leaving_unfinished: how many of these only runs that did not finish had begun to add.
    :param replacement: rows that take the place of all; then there are no removals and no additions.
    :param fallback: what to do where Meta refuses the removals; None where that is an error.
    :param if_refused: what a person can do then.
    """

    removals: Rows | None
    additions: Rows | None
    members: int
    present: int
    leaving: int
    leaving_unfinished: int = 0
    replacement: Rows | None = None
    fallback: Fallback | None = None
    if_refused: str = "Add people first, or remove fewer."

    @property
    def removed(self) -> int:
        """How many rows will be sent as removals."""
        return self.removals.count if self.removals else 0

    @property
    def added(self) -> int:
        """How many rows will be sent as additions, or in place of all."""
        return sum(rows.count for rows in (self.additions, self.replacement) if rows)

    @property
    def keys(self) -> frozenset[str]:
        """The identifier keys of all rows that will be sent."""
        sent = (self.removals, self.additions, self.replacement)
        return frozenset(key for rows in sent if rows for key in rows.keys)

    def requests(self, batch_size: int) -> int:
        """Return how many requests the rows take, unless some are split for their size.

        :param batch_size: most rows of a request.
        """
        return sum(math.ceil(count / batch_size) for count in (self.removed, self.added))

    def digest(self) -> str:
        """Name exactly what will be sent, for a retry to see that it would do the same."""
        whole = hashlib.sha256()
        around = (self.fallback.before, self.fallback.after) if self.fallback else (None, None)
        for rows in (self.removals, self.additions, self.replacement, *around):
            whole.update((rows.digest() if rows else "-").encode())
        return whole.hexdigest()

    def describe(self) -> str:
        """Return the plan in one line of counts."""
        after = f"{self.present:,} may be in the audience now, {self.members:,} will be"
        if self.replacement:
            return f"replace all by {self.added:,} rows ({self.leaving:,} leave for good); {after}"
        return f"remove {self.removed:,} rows ({self.leaving:,} of them for good), then add {self.added:,}; {after}"


def plan_upload(users: Rows) -> Plan:
    """Add users; nothing is removed.

    :param users: distinct rows.
    """
    return Plan(None, _some(users), members=users.count, present=0, leaving=0)


def plan_removal(users: Rows) -> Plan:
    """Remove users; nothing is added.

    :param users: distinct rows, as identifiers only.
    """
    return Plan(_some(users), None, members=0, present=0, leaving=users.count)


def plan_delete_insert(users: Rows, *, exposure: Rows | None, leaving: int, leaving_unfinished: int = 0) -> Plan:
    """Make the audience equal to some users: remove all that may be in it, then add them all.

    Every row is added again after the last removal, so that nobody who shares an identifier with a removed row is
    missing at the end (rules S1 and S3).

    :param users: distinct rows that the audience shall hold.
    :param exposure: distinct rows that may be in it, as identifiers only; None where none can be.
    :param leaving: how many rows of the exposure are not among the users.
    :param leaving_unfinished: how many of these only runs that did not finish had begun to add.
    """
    present = exposure.count if exposure else 0
    removals = _some(exposure) if exposure else None
    return Plan(
        removals,
        _some(users),
        members=users.count,
        present=present,
        leaving=leaving,
        leaving_unfinished=leaving_unfinished,
        if_refused='Use strategy="delta", which adds the new people first where Meta refuses that, or "replace".',
    )


def plan_delta(
    users: Rows, *, removals: Rows | None, additions: Rows, again: Rows, present: int, leaving_unfinished: int = 0
) -> Plan:
    """Make the audience equal to some users by what changed: remove who leaves, then add who is not surely in.

    :param users: distinct rows that the audience shall hold.
    :param removals: distinct rows that may be in it and are not among the users, as identifiers only.
    :param additions: those of the users that are not surely in, and all of ``again``.
    :param again: those of the users that share a person with a removed row (rule S3).
    :param present: how many rows may be in it.
    :param leaving_unfinished: how many of the removals only runs that did not finish had begun to add.
    """
    leaving = _some(removals) if removals else None
    # Where all are due to be sent, they are sent after the removals, which may take people out by hidden links (S8).
    after = users if additions.count == users.count else again
    return Plan(
        leaving,
        _some(additions),
        members=users.count,
        present=present,
        leaving=leaving.count if leaving else 0,
        leaving_unfinished=leaving_unfinished,
        fallback=Fallback(users, _some(after)) if users.count else None,
        if_refused='Use strategy="replace", by which Meta changes all at once.',
    )


def plan_replace(users: Rows, *, present: int, leaving: int, leaving_unfinished: int = 0) -> Plan:
    """Make the audience equal to some users by one list that takes the place of all.

    :param users: distinct rows that the audience shall hold.
    :param present: how many rows may be in it, as far as is known.
    :param leaving: how many of them are not among the users.
    :param leaving_unfinished: how many of these only runs that did not finish had begun to add.
    :raises GuardError: without users: Meta takes no empty list.
    """
    if not users.count:
        raise GuardError(
            'strategy="replace" has nobody to replace the audience by, and Meta takes no empty list. Nothing was sent.',
            remedy='Empty it with strategy="delta" and allow_empty=True.',
        )
    return Plan(
        None,
        None,
        members=users.count,
        present=present,
        leaving=leaving,
        leaving_unfinished=leaving_unfinished,
        replacement=users,
    )


def refuse_strangers(audience_id: str, *, accounts_for_all: bool) -> None:
    """Refuse to refresh an audience that may hold people whom the ledger never sent (rule L11).

    :param audience_id: names the audience in the error.
    :param accounts_for_all: whether nobody can be in it whom the ledger does not know.
    :raises StrangersError: where somebody may be.
    """
    if not accounts_for_all:
        raise StrangersError(
            f"Audience {audience_id} had been filled before this ledger began: it may hold people whom the ledger does "
            "not know and a refresh could never remove.",
            remedy=(
                'Run this task once with strategy="replace", which clears all; or tell the ledger who is in with '
                "'fbca ledger adopt'; or point ledger_uri to the ledger that has the audience's history."
            ),
        )


def _some(rows: Rows) -> Rows | None:
    return rows if rows.count else None
