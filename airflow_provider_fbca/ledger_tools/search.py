"""Finds the rows of given people in every audience of a ledger, one snapshot at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_fbca.exceptions import LedgerError
from airflow_provider_fbca.ledger import AudienceLedger, Inventory, RowSets, SnapshotWriter, audience_ids, unmarked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_fbca.ledger import Entry, FileRows, History, LedgerFile, People, Snapshot, WorkDir
    from airflow_provider_fbca.ledger.people import Flags
    from airflow_provider_fbca.ledger.store import StorePath


@dataclass(frozen=True)
class Found:
    """What an audience's folder holds of given people.

    :param audience_id: digits.
    :param ad_account_id: that its newest readable marker names; None without one.
    :param rows: of theirs, over all entries that are not retired.
    :param left_overs: files of rows that nothing needs; whose they are, nobody looks.
    :param unreadable: why entries could not be searched.
    """

    audience_id: str
    ad_account_id: str | None
    rows: int
    left_overs: int
    unreadable: tuple[str, ...]

    @property
    def is_touched(self) -> bool:
        """Whether an erasure has something to do here."""
        return bool(self.rows or self.left_overs or self.unreadable)


class Search:
    """Looks through a ledger.

    :param root: folder of the whole ledger.
    :param workdir: for one audience's snapshots at a time, and for the rows found.
    :param people: who is looked for; learns what the rows found tell of them, where connected people are meant.
    :param connected: whether rows that share an identifier with a row found are theirs, too.
    """

    def __init__(self, root: StorePath, workdir: WorkDir, people: People, *, connected: bool) -> None:
        self._root = root
        self._workdir = workdir
        self._people = people
        self._connected = connected
        self._files = 0

    def everywhere(self) -> tuple[list[Found], list[Snapshot]]:
        """Look through every audience, again and again until nothing new is learnt.

        :returns: what each audience holds, and the rows found, in files of ours.
        """
        while True:
            before = self._people.known
            found, rows = [], []
            for audience_id in audience_ids(self._root):
                audience, its_rows = self._in_audience(audience_id)
                found.append(audience)
                rows += its_rows
            if self._people.known == before:
                return found, rows
            for each in rows:
                each.path.unlink()

    def flags_of(self, snapshots: Sequence[Snapshot]) -> tuple[Flags, ...]:
        """Tell which rows of some snapshots are theirs, also through one another's rows."""
        while True:
            before = self._people.known
            flags = tuple(self._flags_in(snapshot) for snapshot in snapshots)
            if self._people.known == before:
                return flags

    def _flags_in(self, snapshot: Snapshot) -> Flags:
        return self._people.connected_in(snapshot) if self._connected else self._people.rows_in(snapshot)

    def _in_audience(self, audience_id: str) -> tuple[Found, list[Snapshot]]:
        ledger = AudienceLedger(self._root, audience_id)
        history = ledger.history()
        count, rows, unreadable = 0, [], []
        for entry in searchable(history):
            try:
                snapshot = ledger.fetch(entry, self._workdir)
            except LedgerError as error:
                unreadable.append(error.message)
                self._workdir.file(f"{entry.id}.rows.parquet").unlink(missing_ok=True)
                continue
            flags = self._flags_in(snapshot)
            if flags.any():
                theirs = replace(RowSets(self._workdir).identities_of(snapshot), kept=(flags,))
                count += theirs.count
                self._files += 1
                rows.append(copied(theirs, self._workdir, f"found-{self._files}.parquet"))
            snapshot.path.unlink()
        left = left_overs(Inventory(self._root, audience_id), history)
        return Found(audience_id, account_of(history), count, len(left), tuple(unreadable)), rows


def searchable(history: History) -> tuple[Entry, ...]:
    """Return the entries whose rows are to be read: a removal that has lost its rows stands for nobody."""
    return tuple(entry for entry in history.outstanding if entry.adds or entry.has_rows)


def copied(rows: FileRows, workdir: WorkDir, name: str) -> Snapshot:
    """Write rows to a file of the task's folder."""
    with SnapshotWriter(workdir.file(name), rows.schema) as writer:
        for batch in rows.batches():
            writer.write(batch)
        return writer.finish()


def left_overs(inventory: Inventory, history: History) -> tuple[LedgerFile, ...]:
    """Return the files of rows that nothing needs: of retired entries, and without a marker."""
    files = inventory.files()
    retired = (file for file in files if file.holds_people and file.entry_id in history.retired)
    return (*retired, *unmarked(files))


def account_of(history: History) -> str | None:
    """Return the ad account that the newest readable marker names."""
    return next((entry.opened.ad_account_id for entry in reversed(history.entries) if entry.opened), None)
