"""From what may be in an audience and what should be, to what is removed and added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from airflow_provider_fbca.exceptions import StrangersError

if TYPE_CHECKING:
    from airflow_provider_fbca.sync.ports import Rows

Strategy = Literal["delete_insert"]

STRATEGIES: Final[tuple[Strategy, ...]] = ("delete_insert",)


@dataclass(frozen=True)
class Plan:
    """What will be sent: first every removal, then every addition (rule S1).

    :param removals: rows to remove, as identifiers only; None where nothing is.
    :param additions: rows to add; None where nothing is.
    :param members: rows that the audience stands for once the plan is carried out.
    :param present: rows that may be in the audience now.
    :param leaving: rows that may be in it now and will not be afterwards.
    :param leaving_unfinished: how many of these only runs that did not finish had begun to add.
    """

    removals: Rows | None
    additions: Rows | None
    members: int
    present: int
    leaving: int
    leaving_unfinished: int = 0

    @property
    def removed(self) -> int:
        """How many rows will be sent as removals."""
        return self.removals.count if self.removals else 0

    @property
    def added(self) -> int:
        """How many rows will be sent as additions."""
        return self.additions.count if self.additions else 0

    @property
    def keys(self) -> frozenset[str]:
        """The identifier keys of all rows that will be sent."""
        return frozenset(key for rows in (self.removals, self.additions) if rows for key in rows.keys)

    def describe(self) -> str:
        """Return the plan in one line of counts."""
        return (
            f"remove {self.removed:,} rows ({self.leaving:,} of them for good), then add {self.added:,}; "
            f"{self.present:,} may be in the audience now, {self.members:,} will be"
        )


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


def plan_refresh(users: Rows, *, exposure: Rows | None, leaving: int, leaving_unfinished: int = 0) -> Plan:
    """Make the audience equal to some users by ``delete_insert``: remove all that may be in it, then add them all.

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
    )


def refuse_strangers(audience_id: str, *, began_empty: bool) -> None:
    """Refuse to refresh an audience that may hold people whom the ledger never sent (rule L11).

    :param audience_id: names the audience in the error.
    :param began_empty: whether nothing had ever been uploaded when the ledger's first entry was opened.
    :raises StrangersError: where it had not been empty.
    """
    if not began_empty:
        raise StrangersError(
            f"Audience {audience_id} had been filled before this ledger began: it may hold people whom the ledger does "
            "not know and a refresh could never remove.",
            remedy=(
                "Refresh an audience that was created for it (FacebookCreateCustomAudienceOperator), or point "
                "ledger_uri to the ledger that has its history."
            ),
        )


def _some(rows: Rows) -> Rows | None:
    return rows if rows.count else None
