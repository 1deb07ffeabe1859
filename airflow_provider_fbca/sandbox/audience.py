"""One custom audience: what it is, who is in it, and what happens to it as time goes by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_fbca.sandbox.batch import Batch
    from airflow_provider_fbca.sandbox.membership import Counter, Membership
    from airflow_provider_fbca.sandbox.sessions import Session

NORMAL, EXPIRING, FLAGGED, REPLACING, REPLACE_FAILED, EMPTY = 200, 100, 471, 414, 415, 410
# The audiences overview: what nobody used for two years is flagged, and deleted this much later.
_EXPIRY_SECONDS = 90 * 24 * 3600

_DESCRIPTIONS = {
    0: "Not available",
    EXPIRING: "Expiring: unused for two years",
    NORMAL: "Normal",
    400: "Warning",
    EMPTY: "No file uploaded",
    411: "Low match rate",
    412: "Many invalid entries in the last session",
    REPLACING: "Replace in progress",
    REPLACE_FAILED: "Replace error",
    441: "Still populating",
    450: "Stale",
    470: "The owning account is inactive",
    FLAGGED: "Flagged",
    500: "Error",
}


@dataclass
class Change:
    """An accepted addition or removal that is still to be applied.

    :param due: when, on the sandbox's clock.
    :param batch: its rows.
    :param removes: whether they go.
    """

    due: float
    batch: Batch
    removes: bool


@dataclass
class Replace:
    """A replace at work.

    :param session: brings the new rows.
    :param members: the new rows so far.
    :param seconds: how long Meta works once the session is closed.
    :param fails: whether it ends in status 415.
    :param shows_at: when the audience begins to know of it, in its status and by refusing changes.
    :param is_shown: whether it does.
    """

    session: Session
    members: Membership | Counter
    seconds: float
    fails: bool
    shows_at: float
    is_shown: bool = False

    @property
    def ends_at(self) -> float:
        """When it will be done, as far as is known: sooner if the last batch comes before the 90 minutes end."""
        return self.session.ends_at + self.seconds


@dataclass
class Audience:
    """A custom audience.

    :param audience_id: digits.
    :param account_id: the ad account that owns it, without ``act_``.
    :param details: the fields that clients set and read back.
    :param members: who is in.
    :param created_at: instant of its creation.
    :param updated_at: instant of the last change of its details.
    :param content_updated_at: instant of the last change of its members, None before the first.
    :param data_source: how it was first loaded; fixed from then on.
    :param forced_status: an operation status that a test set.
    :param forced_delivery: a delivery status that a test set.
    :param delete_at: when it will be deleted, where a test let it expire.
    :param is_huge: pretend 100 million members.
    :param unknown_calls: how many calls will still answer 803.
    :param origin_id: the seed of a lookalike, else None.
    :param shared_with: ad accounts that may use it -> permission.
    """

    audience_id: str
    account_id: str
    details: dict[str, Any]
    members: Membership | Counter
    created_at: float
    updated_at: float
    content_updated_at: float | None = None
    data_source: str | None = None
    forced_status: int | None = None
    forced_delivery: int | None = None
    delete_at: float | None = None
    is_huge: bool = False
    unknown_calls: int = 0
    origin_id: str | None = None
    shared_with: dict[str, str] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    replace: Replace | None = None
    replace_failed: bool = False

    def pretend(self, now: float, *, status: int | None, delivery: int | None, is_huge: bool) -> None:
        """Show what a test wants, and be true in what it leaves out.

        :param status: code of the operation status.
        :param delivery: code of the delivery status.
        :param is_huge: whether to pretend 100 million members.
        """
        self.forced_status, self.forced_delivery, self.is_huge = status, delivery, is_huge
        self.delete_at = now + _EXPIRY_SECONDS if status == EXPIRING else None

    @property
    def is_customer_list(self) -> bool:
        """Whether its subtype is CUSTOM."""
        return bool(self.details["subtype"] == "CUSTOM")

    @property
    def is_value_based(self) -> bool:
        """Whether its rows carry LOOKALIKE_VALUE."""
        return bool(self.details["is_value_based"])

    @property
    def status_code(self) -> int:
        """``operation_status.code`` (codes of the Custom Audience reference)."""
        if self.forced_status is not None:
            return self.forced_status
        if self.replace is not None and self.replace.is_shown:
            return REPLACING
        if self.replace_failed:
            return REPLACE_FAILED
        if self.is_customer_list and self.data_source is None and not self.members.rows:
            return EMPTY
        return NORMAL

    @property
    def operation_status(self) -> dict[str, Any]:
        """``operation_status`` as Graph shows it."""
        return {"code": self.status_code, "description": _DESCRIPTIONS.get(self.status_code, "Unknown")}

    def accept(self, change: Change, now: float) -> None:
        """Apply a change when it is due."""
        if change.due > now:
            self.changes.append(change)
        else:
            self._apply(change)

    def tick(self, now: float) -> None:
        """Let everything happen that is due, in the order of time."""
        while True:
            change = min(self.changes, key=lambda change: change.due, default=None)
            replace_ends = self.replace.ends_at if self.replace else float("inf")
            if change is not None and change.due <= min(now, replace_ends):
                self.changes.remove(change)
                self._apply(change)
            elif replace_ends <= now:
                self._finish_replace(replace_ends)
            else:
                break
        if self.replace:
            self.replace.is_shown = self.replace.shows_at <= now

    def is_replaced_by(self, session: Session) -> bool:
        """Say whether a session's replace is still at work."""
        return self.replace is not None and self.replace.session is session

    def close(self) -> None:
        """Give back what the members take."""
        self.members.close()
        if self.replace:
            self.replace.members.close()

    def _apply(self, change: Change) -> None:
        if change.removes:
            self.members.remove(self.members.matching(change.batch))
        else:
            self.members.add(change.batch)
        self.content_updated_at = change.due

    def _finish_replace(self, at: float) -> None:
        replace, self.replace = self.replace, None
        if replace is None:
            return
        self.replace_failed = replace.fails
        if replace.fails:
            replace.members.close()
            return
        self.members.close()
        self.members = replace.members
        self.content_updated_at = at
