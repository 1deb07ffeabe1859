"""The ledger of one audience: its entries, what they add up to, and the writing of a new one.

An entry is a snapshot and its markers, named ``<sequence>-<token>``. The files of an audience lie flat in one folder,
so that one listing tells all:

    0000000007-9f2c41d0.rows.parquet       the rows (deleted when the entry is retired)
    0000000007-9f2c41d0.again.parquet      which of them share a person with a removed row (deleted likewise)
    0000000007-9f2c41d0.open.json          rows of it may be in the audience from here on
    0000000007-9f2c41d0.session-42.json    a session id, noted before its first use
    0000000007-9f2c41d0.progress-3.json    what was acknowledged so far, while it is under way
    0000000007-9f2c41d0.settled.json       all of it is done
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_fbca.exceptions import LedgerError
from airflow_provider_fbca.ledger.again import read_again
from airflow_provider_fbca.ledger.lease import Lease, boot_clock
from airflow_provider_fbca.ledger.markers import OpenMarker, ProgressNote, SessionNote, SettledMarker
from airflow_provider_fbca.ledger.snapshot import Snapshot, digest_of
from airflow_provider_fbca.ledger.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from airflow_provider_fbca.ledger.again import Flags
    from airflow_provider_fbca.ledger.lease import LeaseTerms
    from airflow_provider_fbca.ledger.markers import Kind
    from airflow_provider_fbca.ledger.store import StorePath
    from airflow_provider_fbca.ledger.workdir import WorkDir

_ROWS, _AGAIN, _OPEN, _SETTLED, _SESSION = "rows.parquet", "again.parquet", "open.json", "settled.json", "session-"
_PROGRESS = "progress-"
#: Files of an entry; whatever else lies in the folder (a note, what a sync tool left) is not the ledger's.
_FILE = re.compile(
    r"(?P<id>[0-9]{10,}-[0-9a-f]+)\.(?:(?:rows|again)\.parquet|open\.json|settled\.json|(?:session|progress)-[0-9]+\.json)"
)
_RESTORE = (
    "Restore the ledger's folder from a backup; if that is not possible, run a refresh once with "
    'strategy="replace", which clears all.'
)


@dataclass(frozen=True)
class Entry:
    """One entry that was opened.

    :param id: ``<sequence>-<token>``.
    :param opened: None where the marker is unreadable or lost, and another file tells that it had been there.
    :param settled: None where the entry is open, or its marker unreadable.
    :param has_rows: whether its snapshot is there.
    """

    id: str
    opened: OpenMarker | None
    settled: SettledMarker | None
    has_rows: bool

    @property
    def adds(self) -> bool:
        """Whether its rows may be in the audience; an unreadable marker is taken for an addition."""
        return self.opened is None or self.opened.kind != "remove"

    @property
    def digest(self) -> str | None:
        """What the snapshot file's digest must be, None where the marker cannot tell."""
        return self.opened.digest if self.opened else None


@dataclass(frozen=True)
class History:
    """All that the ledger knows of an audience at one moment.

    :param entries: every entry that was opened, in sequence.
    :param missing: ids that markers name and that have no marker here.
    """

    entries: tuple[Entry, ...]
    missing: frozenset[str]

    @property
    def retired(self) -> frozenset[str]:
        """Ids that a settled entry supersedes, whether their files are still here or not."""
        settled = (entry.settled for entry in self.entries if entry.settled)
        return frozenset(superseded for marker in settled for superseded in marker.supersedes)

    @property
    def outstanding(self) -> tuple[Entry, ...]:
        """Entries not retired, removals among them."""
        retired = self.retired
        return tuple(entry for entry in self.entries if entry.id not in retired)

    @property
    def exposure(self) -> tuple[Entry, ...]:
        """Entries whose rows may be in the audience (rule L4)."""
        return tuple(entry for entry in self.outstanding if entry.adds)

    @property
    def accounts_for_all(self) -> bool | None:
        """Whether nobody can be in the audience whom no entry knows (rule L11); None without an entry.

        So it is where the audience was empty when its first entry was opened, and from when a replace has cleared it or
        somebody has stated who is in; until somebody has the ledger forget it.
        """
        accounts = self.began_empty
        for opened in (entry.opened for entry in self.entries if entry.opened and entry.settled):
            if opened.kind == "forget":
                accounts = False
            elif opened.strategy == "replace" or opened.kind == "adopt":
                accounts = True
        return accounts

    def without(self, entry: Entry) -> History:
        """Return what the ledger would know without one entry: that of a task which goes on with it."""
        return History(tuple(each for each in self.entries if each.id != entry.id), self.missing)

    @property
    def began_empty(self) -> bool | None:
        """Whether the audience had never been filled when its first entry was opened; None without an entry.

        Writers that began at the same time share the first number, and the later of them saw what the other had sent.
        """
        if not self.entries:
            return None
        lowest = _sequence(self.entries[0].id)
        first = [entry.opened for entry in self.entries if _sequence(entry.id) == lowest]
        return any(marker.audience_was_empty for marker in first if marker)

    def unknown_of(self, ids: Sequence[str]) -> tuple[str, ...]:
        """Return those of some entry ids that this ledger has never heard of."""
        known = {entry.id for entry in self.entries} | self.retired
        return tuple(sorted(set(ids) - known))


class AudienceLedger:
    """The ledger of one audience.

    :param root: folder of the whole ledger, a path object with universal_pathlib's interface.
    :param audience_id: digits; names the folder below.
    """

    def __init__(self, root: StorePath, audience_id: str) -> None:
        self.audience_id = audience_id
        self._store = Store(root.joinpath(audience_id))

    @property
    def uri(self) -> str:
        """Address of the audience's folder."""
        return self._store.uri

    def lease(
        self,
        owner: Mapping[str, str | int],
        terms: LeaseTerms,
        *,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = boot_clock,
        key: str | None = None,
    ) -> Lease:
        """Return the right to write to this audience, to be entered (rule L8).

        :param owner: dag, task, run, map index and try; told to those who wait, so no secrets.
        :param terms: how long it holds.
        :param pause: waits some seconds between two looks at another's lease; what it raises ends the wait.
        :param clock: gives seconds, only ever runs forward, and runs on while the machine is suspended.
        :param key: to a lease that an earlier process of the same work has kept for this one.
        """
        return Lease(self._store, owner, terms, pause=pause, clock=clock, key=key)

    def history(self) -> History:
        """Read what the ledger knows.

        :raises LedgerError: where the store cannot be read.
        """
        files = self._files()
        markers = self._store.read([name for name in files if name.endswith((_OPEN, _SETTLED))])
        entries = tuple(
            Entry(
                id=entry_id,
                opened=OpenMarker.from_json(markers.get(_name(entry_id, _OPEN), b"")),
                settled=SettledMarker.from_json(markers.get(_name(entry_id, _SETTLED), b"")),
                has_rows=_name(entry_id, _ROWS) in files,
            )
            for entry_id in _marked(files)
        )
        return History(entries, _missing(entries))

    def sessions_of(self, entry_id: str) -> tuple[SessionNote, ...]:
        """Return the sessions that an entry's rows may have been sent in, in no useful order.

        :param entry_id: of the entry.
        :raises LedgerError: where the store cannot be read.
        """
        return self.sessions_of_each((entry_id,))[entry_id]

    def sessions_of_each(self, ids: Sequence[str]) -> dict[str, tuple[SessionNote, ...]]:
        """Return the sessions of some entries, as :meth:`sessions_of` does, from one listing of the folder.

        :param ids: of the entries, thousands where uploads go on for long without a refresh.
        :raises LedgerError: where the store cannot be read.
        """
        found: dict[str, list[SessionNote]] = {entry_id: [] for entry_id in ids}
        files = self._files()
        noted = [name for name, entry_id in files.items() if entry_id in found and f".{_SESSION}" in name]
        for name, content in self._store.read(noted).items():
            note = SessionNote.from_json(content)
            if note:
                found[files[name]].append(note)
        return {entry_id: tuple(notes) for entry_id, notes in found.items()}

    def progress_of(self, entry: Entry) -> ProgressNote | None:
        """Return the last note of what was acknowledged of an entry; None where nothing was noted.

        :raises LedgerError: where the store cannot be read.
        """
        noted = self._noted(entry.id, _PROGRESS)
        whole = ((_number(name), ProgressNote.from_json(content)) for name, content in noted.items())
        return max(((number, note) for number, note in whole if note), default=(0, None))[1]

    def go_on_with(self, entry: Entry) -> OpenEntry:
        """Take up an entry that an earlier try has opened and not settled."""
        assert entry.opened  # noqa: S101 - without its marker nobody knows what to go on with
        last = max((_number(name) for name in self._noted(entry.id, _PROGRESS)), default=0)
        return OpenEntry(
            self._store, entry.id, entry.opened.digest, again_digest=entry.opened.again_digest, progress=last
        )

    def fetch(self, entry: Entry, workdir: WorkDir) -> Snapshot:
        """Copy the snapshot of an entry into the task's folder and check it.

        :raises LedgerError: where it is missing, damaged or unreadable.
        """
        if not entry.has_rows:
            raise LedgerError(f"The snapshot of ledger entry {entry.id} is missing in {self.uri}.", remedy=_RESTORE)
        path = workdir.file(_name(entry.id, _ROWS))
        if not path.exists():
            self._store.fetch(path.name, path)
        if entry.digest not in (None, digest_of(path)):
            raise LedgerError(
                f"The snapshot of ledger entry {entry.id} in {self.uri} is not the file that was written.",
                remedy=_RESTORE,
            )
        return Snapshot.read(path)

    def fetch_again(self, entry: Entry, workdir: WorkDir) -> Flags | None:
        """Tell which rows of a settled refresh were added again (rule S3).

        :returns: a flag per row of its snapshot; None where that is not known: its marker does not say, or the file is
            missing or not the one that was written.
        :raises LedgerError: where the store cannot be read.
        """
        if not entry.opened or not entry.settled or entry.settled.again is None:
            return None
        if not entry.settled.again:
            return np.zeros(entry.opened.rows, dtype=bool)
        name = _name(entry.id, _AGAIN)
        if name not in self._files():
            return None
        path = workdir.file(name)
        self._store.fetch(name, path)
        if digest_of(path) != entry.settled.again_digest:
            return None
        return read_again(path, rows=entry.opened.rows, count=entry.settled.again)

    def begin(self, snapshot: Snapshot, again: Path | None = None) -> OpenEntry:
        """Store a snapshot under the next number, without a marker: as far as anyone knows it was never sent.

        :param snapshot: of distinct rows.
        :param again: the file that names those which share a person with a removed row, where there are any.
        """
        last = max((_sequence(entry_id) for entry_id in self._files().values()), default=0)
        entry_id = f"{last + 1:010d}-{secrets.token_hex(4)}"
        digest = snapshot.digest()
        self._store.put(_name(entry_id, _ROWS), snapshot.path)
        if again:
            self._store.put(_name(entry_id, _AGAIN), again)
        return OpenEntry(self._store, entry_id, digest, again_digest=digest_of(again) if again else None)

    def discard_rows(self, ids: Sequence[str]) -> None:
        """Delete the snapshots of retired entries; their markers stay as history (rule L12)."""
        present = self._files().keys()
        for name in sorted({_name(entry_id, ending) for entry_id in ids for ending in (_ROWS, _AGAIN)} & present):
            self._store.delete(name)

    def _noted(self, entry_id: str, kind: str) -> dict[str, bytes]:
        return self._store.read([name for name in self._files() if name.startswith(_name(entry_id, kind))])

    def _files(self) -> dict[str, str]:
        """Return the names of the ledger's files, each with the id of its entry."""
        matches = (_FILE.fullmatch(name) for name in self._store.names())
        return {match.string: match["id"] for match in matches if match}


class OpenEntry:
    """An entry that is being written by this task.

    :param entry_id: its id.
    :param digest: of its snapshot file.
    :param again_digest: of the file that names the rows added again, None without one.
    :param progress: number of its last progress note.
    """

    def __init__(
        self, store: Store, entry_id: str, digest: str, *, again_digest: str | None = None, progress: int = 0
    ) -> None:
        self._store = store
        self._progress = progress
        self.id = entry_id
        self.digest = digest
        self.again_digest = again_digest

    @property
    def uri(self) -> str:
        """Address of the snapshot."""
        return self._store.uri_of(_name(self.id, _ROWS))

    def open(self, marker: OpenMarker) -> None:
        """Write the ``open`` marker; only after this may a request be sent (rule L3)."""
        self._store.create(_name(self.id, _OPEN), marker.to_json())

    def new_session(self, kind: Kind, *, replaces: bool = False) -> int:
        """Choose a session id for Meta and note it before it is used.

        :param kind: of the entry.
        :param replaces: whether it will be a session of ``usersreplace``.
        :returns: a positive integer that JSON carries exactly everywhere (below 2**53).
        """
        session_id = secrets.randbelow(2**53 - 1) + 1
        self.note_session(SessionNote(session_id, kind, replaces, utc_now()))
        return session_id

    def note_session(self, note: SessionNote) -> None:
        """Note a session that requests of this entry carry."""
        self._store.create(_name(self.id, f"{_SESSION}{note.session_id}.json"), note.to_json())

    def note_progress(self, note: ProgressNote) -> None:
        """Note what was acknowledged so far, in place of the note before."""
        self._progress += 1
        self._store.create(_name(self.id, f"{_PROGRESS}{self._progress}.json"), note.to_json())
        if self._progress > 1:
            self._store.delete(_name(self.id, f"{_PROGRESS}{self._progress - 1}.json"))

    def settle(self, marker: SettledMarker) -> None:
        """Write the ``settled`` marker: one atomic write retires all that it supersedes (rule L2)."""
        self._store.create(_name(self.id, _SETTLED), marker.to_json())


def utc_now() -> str:
    """Return the time as the markers write it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _name(entry_id: str, ending: str) -> str:
    return f"{entry_id}.{ending}"


def _sequence(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])


def _number(name: str) -> int:
    """Return the number in the name of a note."""
    return int(name.rpartition("-")[2].removesuffix(".json"))


def _marked(files: Mapping[str, str]) -> list[str]:
    """Return the ids that have a marker of any kind, in sequence: rows without one were never sent."""
    marked = {entry_id for name, entry_id in files.items() if not name.endswith((_ROWS, _AGAIN))}
    return sorted(marked, key=lambda entry_id: (_sequence(entry_id), entry_id))


def _missing(entries: Sequence[Entry]) -> frozenset[str]:
    """Return the ids that markers name, that no entry here has and no settled one supersedes."""
    here = {entry.id for entry in entries}
    retired = {name for entry in entries if entry.settled for name in entry.settled.supersedes}
    named = {name for entry in entries if entry.opened for name in entry.opened.reads}
    return frozenset(named - here - retired)
