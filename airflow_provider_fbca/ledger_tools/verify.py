"""Reads every file of a ledger and says which are not what was written. Nothing is skipped in silence."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.exceptions import LedgerError
from airflow_provider_fbca.ledger import (
    FORMAT,
    AudienceLedger,
    Inventory,
    OpenMarker,
    ProgressNote,
    SessionNote,
    SettledMarker,
    unmarked,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_provider_fbca.ledger import Entry, History, LedgerFile, WorkDir
    from airflow_provider_fbca.ledger.store import StorePath

_RESTORE = "restore it from a backup of the store; without one, refresh once with strategy='replace', which clears all"
_RESEND = "nothing: the next refresh sends all rows again"
_REPAIR = "`fbca ledger repair` deletes it"

_READERS: dict[str, Callable[[bytes], object | None]] = {
    "open.json": OpenMarker.from_json,
    "settled.json": SettledMarker.from_json,
    "session-": SessionNote.from_json,
    "progress-": ProgressNote.from_json,
}
_MEANING = {
    "open.json": f"its entry's rows count as sent; {_RESTORE}",
    "settled.json": "its entry counts as unfinished, and what it had retired as sent: the next refresh removes that",
    "session-": "nobody knows whether a replace is in the air: wait two hours before the next run",
    "progress-": "nothing: a retry begins anew",
}


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    :param audience_id: whose folder it is in.
    :param file: its name; of an entry that is not here, the entry's id.
    :param problem: in words.
    :param way_out: what to do.
    :param is_fault: whether the ledger is not whole; else it is merely told.
    """

    audience_id: str
    file: str
    problem: str
    way_out: str
    is_fault: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return asdict(self)

    def line(self) -> str:
        """Return it for a person to read."""
        return (
            f"{'FAULT' if self.is_fault else 'note '}  {self.audience_id}/{self.file}: {self.problem}. {self.way_out}"
        )


def findings_in(root: StorePath, audience_id: str, workdir: WorkDir) -> list[Finding]:
    """Read every file of an audience's folder.

    A task at work retires entries meanwhile; what is said of those is dropped.

    :param root: folder of the whole ledger.
    :param audience_id: digits.
    :param workdir: for one snapshot at a time.
    :returns: what is wrong, faults first.
    :raises LedgerError: where the store cannot be listed.
    """
    ledger, inventory = AudienceLedger(root, audience_id), Inventory(root, audience_id)
    history, files = ledger.history(), inventory.files()
    look = _Look(ledger, inventory, history, files, workdir)
    found = [*look.markers(), *look.missing(), *look.snapshots(), *look.left_overs(), *look.lease()]
    if any(each.is_fault for each in found):
        found = [each for each in found if look.still_holds(each)]
    return sorted(found, key=lambda each: (not each.is_fault, each.file))


@dataclass(frozen=True)
class _Look:
    """One audience's folder, as it was listed."""

    ledger: AudienceLedger
    inventory: Inventory
    history: History
    files: Sequence[LedgerFile]
    workdir: WorkDir

    def still_holds(self, finding: Finding) -> bool:
        """Tell whether a finding is more than the trace of a task at work, which retires entries and deletes files."""
        retired_since = self.ledger.history().retired - self.history.retired
        here = {file.name for file in self.inventory.files()}
        deleted_since = {file.name for file in self.files} - here
        return finding.file not in deleted_since and finding.file.partition(".")[0] not in retired_since

    def markers(self) -> Iterator[Finding]:
        """Read every marker and note, also those of retired entries: they say what was retired."""
        for file in self.files:
            kind = next((each for each in _READERS if file.part.startswith(each)), None)
            if kind is None:
                continue
            try:
                content = self.inventory.read([file])[file.name]
            except LedgerError:
                yield self._fault(file.name, "cannot be read from the store", "see that the store can be read")
                continue
            if _READERS[kind](content) is None:
                yield self._fault(file.name, _what_is_wrong_with(content), _MEANING[kind])
        for entry in self.history.outstanding:
            if f"{entry.id}.open.json" not in {file.name for file in self.files}:
                yield self._fault(f"{entry.id}.open.json", "is lost, though another marker of its entry is here",
                                  _MEANING["open.json"])  # fmt: skip

    def missing(self) -> Iterator[Finding]:
        """Name the entries that others name and that are not here."""
        for entry_id in sorted(self.history.missing):
            yield self._fault(entry_id, "is an entry that later ones were planned from, and it is not here", _RESTORE)

    def snapshots(self) -> Iterator[Finding]:
        """Read the rows of every entry that is not retired, to their end."""
        for entry in self.history.outstanding:
            yield from self._snapshot(entry)

    def left_overs(self) -> Iterator[Finding]:
        """Name what nothing needs, and what is not the ledger's."""
        for file in unmarked(self.files):
            yield self._note(file.name, "has no marker: it was never sent, or is just being written", _REPAIR)
        for file in self.files:
            if file.holds_people and file.entry_id in self.history.retired:
                yield self._note(file.name, "belongs to a retired entry", _REPAIR)
            elif file.is_temporary:
                yield self._note(file.name, "is being written, or was left half-written by a killed task", _REPAIR)
            elif not file.entry_id and not file.is_lease:
                yield self._note(file.name, "is no file of the ledger's", "see who put it there; it is ignored")

    def lease(self) -> Iterator[Finding]:
        """Read the note of who may write."""
        number, note = self.inventory.lease()
        if number and note is None:
            yield self._note(
                f"{number:010d}.lease.json", "cannot be understood", "the next task waits until it has expired"
            )

    def _snapshot(self, entry: Entry) -> Iterator[Finding]:
        name = f"{entry.id}.rows.parquet"
        size = next((file.size for file in self.files if file.name == name), None)
        if size is None:
            yield self._fault(name, "is missing", _RESTORE)
            return
        try:
            snapshot = self.ledger.fetch(entry, self.workdir)
        except LedgerError as error:
            yield self._fault(name, error.message.rstrip("."), _RESTORE)
            self.workdir.file(name).unlink(missing_ok=True)
            return
        try:
            rows = sum(batch.num_rows for batch in snapshot.batches())
        except Exception as error:  # noqa: BLE001 - damaged bytes make Arrow raise anything
            yield self._fault(name, f"cannot be read to its end ({type(error).__name__})", _RESTORE)
        else:
            yield from self._counts(entry, name, rows, tuple(snapshot.schema.names))
        finally:
            snapshot.path.unlink()
        yield from self._again(entry)

    def _counts(self, entry: Entry, name: str, rows: int, schema: tuple[str, ...]) -> Iterator[Finding]:
        if entry.opened is None:
            yield self._fault(name, f"can be read ({rows:,} rows), but no marker tells its digest", _RESTORE)
        elif rows != entry.opened.rows:
            yield self._fault(name, f"has {rows:,} rows, and its marker says {entry.opened.rows:,}", _RESTORE)
        elif schema != entry.opened.schema:
            yield self._fault(name, "has other columns than its marker says", _RESTORE)

    def _again(self, entry: Entry) -> Iterator[Finding]:
        name = f"{entry.id}.again.parquet"
        if not entry.settled or not entry.settled.again:
            return
        here = any(file.name == name for file in self.files)
        flags = self.ledger.fetch_again(entry, self.workdir)
        self.workdir.file(name).unlink(missing_ok=True)
        if flags is None:
            yield self._fault(name, "is not the file that was written" if here else "is missing", _RESEND)

    def _fault(self, file: str, problem: str, way_out: str) -> Finding:
        return Finding(self.inventory.uri.rpartition("/")[2], file, problem, way_out)

    def _note(self, file: str, problem: str, way_out: str) -> Finding:
        return Finding(self.inventory.uri.rpartition("/")[2], file, problem, way_out, is_fault=False)


def _what_is_wrong_with(content: bytes) -> str:
    if not content:
        return "is empty: it was only half written"
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return "is no JSON: it is damaged or only half written"
    if isinstance(found, dict) and found.get("format") != FORMAT:
        return f"has format {found.get('format')!r}, and this version reads {FORMAT}"
    return "lacks fields, or has some of another type"
