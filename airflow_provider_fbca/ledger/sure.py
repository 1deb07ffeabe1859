"""Whether the rows of the newest entry are surely in the audience, so that a refresh need not send them (rule L6)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_fbca.ledger.entries import History
    from airflow_provider_fbca.ledger.markers import SettledMarker


def doubt_about(history: History, *, retention_days: int | None, resend_all_days: float, now: datetime) -> str:
    """Tell why no row is surely in the audience; empty where those of the newest entry are.

    :param history: of the audience, without the entry that is to be written.
    :param retention_days: of the audience now.
    :param resend_all_days: for how long a row counts after a refresh had sent them all: Meta may lose some without a
        word, and people join whom it did not know.
    :param now: with a time zone.
    """
    if not history.outstanding:
        return "nothing was sent before"
    *others, newest = history.outstanding
    if others or newest.id != history.entries[-1].id or not newest.opened or newest.opened.kind != "refresh":
        return "something else than a refresh was sent since the last one, or a run failed"
    if not newest.settled:
        return "the last refresh did not come to its end"
    if retention_days or newest.opened.retention_days:
        return "people drop out of this audience by its retention_days"
    return _doubt_about(newest.settled, resend_all_days, now)


def _doubt_about(settled: SettledMarker, resend_all_days: float, now: datetime) -> str:
    if settled.again is None:
        return "the last refresh does not tell whom its removals may have taken out"
    age = _age(settled.sent_all_at, now)
    if age is None or not timedelta() <= age < timedelta(days=resend_all_days):
        return "the last time that all were sent is too long ago"
    return ""


def _age(instant: str | None, now: datetime) -> timedelta | None:
    try:
        return now - datetime.fromisoformat(instant or "")
    except (ValueError, TypeError):
        return None
