"""Forgets who was sent to an audience, on purpose."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_fbca.exceptions import LedgerError
from airflow_provider_fbca.ledger import AudienceLedger, Inventory
from airflow_provider_fbca.ledger.retire import retire_all
from airflow_provider_fbca.ledger_tools.writer import owner_of, sole_writer

if TYPE_CHECKING:
    from airflow_provider_fbca.ledger import History, SessionNote, WorkDir
    from airflow_provider_fbca.ledger.store import StorePath

#: Meta applies a replace that nobody ends 90 minutes after its beginning; then it is no longer in the air.
_REPLACE_IS_OVER = timedelta(hours=2)


def forget(root: StorePath, audience_id: str, workdir: WorkDir) -> int:
    """Retire every entry of an audience and delete all rows.

    An entry of kind ``forget`` says so in one write; from then on a refresh refuses to take the audience for its own
    (rule L11) until a replace has cleared it. Nothing is sent to Meta.

    :param root: folder of the whole ledger.
    :param audience_id: digits.
    :returns: how many files of rows were deleted.
    :raises LedgerError: where there is nothing to forget, or a replace may still be in the air (rule S6).
    """
    ledger, inventory = AudienceLedger(root, audience_id), Inventory(root, audience_id)
    with sole_writer(ledger, "forget") as lease:
        history = ledger.history()
        if not history.entries and not any(file.holds_people for file in inventory.files()):
            raise LedgerError(f"The ledger has nothing of audience {audience_id}.", remedy="Correct the id.")
        _refuse_replace_in_the_air(ledger, history)
        retire_all(ledger, lease, workdir, kind="forget", owner=owner_of("forget"))
        kept = {each.id for each in ledger.history().outstanding}
        files = [file for file in inventory.files() if file.holds_people and file.entry_id not in kept]
        for file in (*files, *inventory.abandoned()):
            lease.check()
            inventory.delete([file])
    return len(files)


def _refuse_replace_in_the_air(ledger: AudienceLedger, history: History) -> None:
    """Refuse to forget a replace that Meta may yet apply: nobody would end it, and it would undo what comes next."""
    for entry in history.outstanding:
        began = [_noted_at(note) for note in ledger.sessions_of(entry.id) if note.replaces]
        if not entry.settled and began and datetime.now(UTC) - max(began) < _REPLACE_IS_OVER:
            raise LedgerError(
                f"Entry {entry.id} began to replace the audience at {max(began):%H:%M} UTC and did not finish: Meta "
                "may apply what it has until 90 minutes after that.",
                remedy=f"Try again after {max(began) + _REPLACE_IS_OVER:%H:%M} UTC, or run its task again.",
            )


def _noted_at(note: SessionNote) -> datetime:
    try:
        return datetime.fromisoformat(note.noted_at).astimezone(UTC)
    except (TypeError, ValueError):
        return datetime.now(UTC)
