"""Limits that a plan must keep, checked before anything is marked or sent (rule S7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_fbca.exceptions import GuardError, OptionsError

if TYPE_CHECKING:
    from airflow_provider_fbca.sync.plan import Plan

_NOTHING_SENT = "Nothing was sent."


@dataclass(frozen=True)
class Guards:
    """Limits of one task.

    :param min_rows: fewest usable rows that the source must give.
    :param empties: whether a source without a row would empty the audience, which ``min_rows=0`` alone does not allow.
    :param allow_empty: lets a source without a row pass, whatever ``min_rows`` says. Rows that all turn out unusable do
        not: they speak of a fault.
    :param max_removals: most rows that may leave for good; None for any number.
    :param max_removal_ratio: largest share (0 to 1) of the rows now in the audience that may leave for good; None for
        any.
    :param max_invalid_ratio: largest share (0 to 1) of the source's rows that may be unusable; None for any.
    :raises OptionsError: for an impossible limit.
    """

    min_rows: int = 1
    empties: bool = False
    allow_empty: bool = False
    max_removals: int | None = None
    max_removal_ratio: float | None = None
    max_invalid_ratio: float | None = None

    def __post_init__(self) -> None:
        for name in ("min_rows", "max_removals"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise OptionsError(f"{name} is {value}.", remedy="Give a number of rows, zero or more.")
        for name in ("max_removal_ratio", "max_invalid_ratio"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise OptionsError(f"{name} is {value}.", remedy="Give a share between 0 and 1.")

    def check_source(self, *, usable: int, read: int) -> None:
        """Check what the source gave.

        :param usable: rows that can be sent.
        :param read: rows that it gave in all.
        :raises GuardError: where there are too few, or too many are unusable.
        """
        if read and self.max_invalid_ratio is not None and (read - usable) / read > self.max_invalid_ratio:
            raise GuardError(
                f"{read - usable:,} of {read:,} rows cannot be used, more than "
                f"max_invalid_ratio={self.max_invalid_ratio} allows. {_NOTHING_SENT}",
                remedy="The log lists the reasons per key; correct the query or the mapping, or raise the limit.",
            )
        if usable < max(self.min_rows, int(self.empties)) and not (read == 0 and self.allow_empty):
            what = "gave no usable row" if usable == 0 else f"gave {usable:,} usable rows"
            raise GuardError(
                f"The source {what} (of {read:,} read) and min_rows={self.min_rows}. {_NOTHING_SENT}",
                remedy="Correct the query, or lower min_rows (for a refresh, allow_empty=True) if this is meant.",
            )

    def check_plan(self, plan: Plan) -> None:
        """Check how many people would leave for good.

        :raises GuardError: where it is more than allowed.
        """
        if self.max_removals is not None and plan.leaving > self.max_removals:
            raise GuardError(
                f"{plan.leaving:,} rows would leave the audience, more than max_removals={self.max_removals:,} allows."
                f"{_of_unfinished(plan)} {_NOTHING_SENT}",
                remedy="Look at the query; if it is right, raise max_removals for this run.",
            )
        share = plan.leaving / plan.present if plan.present else 0.0
        if self.max_removal_ratio is not None and share > self.max_removal_ratio:
            raise GuardError(
                f"{plan.leaving:,} of {plan.present:,} rows would leave the audience, more than "
                f"max_removal_ratio={self.max_removal_ratio} allows.{_of_unfinished(plan)} {_NOTHING_SENT}",
                remedy="Look at the query; if it is right, raise max_removal_ratio for this run.",
            )


def _of_unfinished(plan: Plan) -> str:
    """Say how many of those who would leave are there because a run died, which is no sign of a wrong query."""
    if not plan.leaving_unfinished:
        return ""
    return f" {plan.leaving_unfinished:,} of them were sent, if at all, by runs that did not finish."
