"""Deletes what nothing needs. What a repair cannot do safely is left to a person, and said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_fbca.ledger import AudienceLedger, Inventory, unmarked
from airflow_provider_fbca.ledger_tools.writer import sole_writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_fbca.ledger import LedgerFile
    from airflow_provider_fbca.ledger.store import StorePath

#: A task that is just beginning has stored rows and not yet its marker; none takes that long.
_UNMARKED_AGE = timedelta(days=1)


@dataclass(frozen=True)
class Repair:
    """What can be deleted from one audience's folder.

    :param audience_id: digits.
    :param retired: files of rows of retired entries.
    :param never_sent: files of rows without a marker, older than a day.
    :param abandoned: temporary files of killed writers.
    """

    audience_id: str
    retired: tuple[LedgerFile, ...]
    never_sent: tuple[LedgerFile, ...]
    abandoned: tuple[LedgerFile, ...]

    @property
    def files(self) -> tuple[LedgerFile, ...]:
        """All of them."""
        return (*self.retired, *self.never_sent, *self.abandoned)

    def lines(self) -> Iterator[str]:
        """Yield what would be deleted and why, for a person."""
        reasons = (
            (self.retired, "rows of an entry that a later one has retired"),
            (self.never_sent, "rows without a marker, older than a day: never sent"),
            (self.abandoned, "half-written by a task that was killed"),
        )
        for files, reason in reasons:
            yield from (f"delete {self.audience_id}/{file.name} ({file.size:,} bytes): {reason}" for file in files)


def repair_of(root: StorePath, audience_id: str) -> Repair:
    """Look what a repair would delete.

    :param root: folder of the whole ledger.
    :param audience_id: digits.
    :raises LedgerError: where the store cannot be read.
    """
    inventory, retired = Inventory(root, audience_id), AudienceLedger(root, audience_id).history().retired
    # Listed after the history was read: what has no marker in an earlier listing may have one by now.
    files = inventory.files()
    before = datetime.now(UTC) - _UNMARKED_AGE
    return Repair(
        audience_id,
        retired=tuple(file for file in files if file.holds_people and file.entry_id in retired),
        never_sent=tuple(file for file in unmarked(files) if inventory.modified(file) < before),
        abandoned=inventory.abandoned(),
    )


def repair(root: StorePath, audience_id: str) -> Repair:
    """Delete what nothing needs, as the audience's one writer; looks again before.

    :returns: what was deleted.
    :raises LedgerError: where the store refuses; what was deleted until then stays so.
    """
    with sole_writer(AudienceLedger(root, audience_id), "repair") as lease:
        found = repair_of(root, audience_id)
        inventory = Inventory(root, audience_id)
        for file in found.files:
            lease.check()
            inventory.delete([file])
    return found
