"""What may be in each audience, why, and since when: from markers alone, no row is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.ledger import AudienceLedger, Inventory, unmarked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_fbca.ledger import Entry, LedgerFile
    from airflow_provider_fbca.ledger.store import StorePath

_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class EntryState:
    """One entry that is not retired.

    :param id: ``<sequence>-<token>``.
    :param kind: what it does; None where its marker cannot be read.
    :param strategy: of a refresh.
    :param state: ``settled``, ``open`` (a run died or is at work) or ``unreadable`` (its marker is lost or damaged).
    :param may_be_in: whether its rows may be in the audience; those of a removal are not.
    :param rows: how many it stands for; None where its marker cannot be read.
    :param opened_at: UTC, ISO 8601.
    :param settled_at: likewise; None while it is open.
    :param owner: who wrote it.
    :param sessions: how many sessions at Meta it has used.
    :param has_rows: whether its snapshot is there.
    :param size: bytes of its files.
    """

    id: str
    kind: str | None
    strategy: str | None
    state: str
    may_be_in: bool
    rows: int | None
    opened_at: str | None
    settled_at: str | None
    owner: dict[str, str | int]
    sessions: int
    has_rows: bool
    size: int


@dataclass(frozen=True)
class AudienceState:
    """What the ledger holds of one audience.

    :param audience_id: digits.
    :param uri: of its folder.
    :param ad_account_ids: that its entries name; one, unless something is wrong.
    :param entries: how many were ever opened.
    :param retired: how many of them later ones have taken the place of.
    :param outstanding: those that have not been retired.
    :param rows_at_most: rows that may be in the audience, a row counted once for each entry that has it; None where a
        marker cannot be read.
    :param since: when the oldest entry whose rows may be in was opened.
    :param accounts_for_all: whether nobody can be in the audience whom the ledger does not know (rule L11).
    :param missing: ids that markers name and that are not here.
    :param left_over: files of rows that nothing needs: of retired entries, and without a marker.
    :param temporary: files being written, or left by a killed writer.
    :param files: how many files the folder has.
    :param size: bytes of all of them.
    :param lease: who may write now, as the lease file tells; None where nobody does.
    """

    audience_id: str
    uri: str
    ad_account_ids: tuple[str, ...]
    entries: int
    retired: int
    outstanding: tuple[EntryState, ...]
    rows_at_most: int | None
    since: str | None
    accounts_for_all: bool | None
    missing: tuple[str, ...]
    left_over: tuple[str, ...]
    temporary: tuple[str, ...]
    files: int
    size: int
    lease: dict[str, Any] | None

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """Yield it for a person to read."""
        account = f" of ad account {', '.join(self.ad_account_ids)}" if self.ad_account_ids else ""
        yield f"Audience {self.audience_id}{account}"
        yield f"  folder      {self.uri} ({self.files:,} files, {_bytes(self.size)})"
        yield f"  may be in   {self._may_be_in()}"
        yield f"  history     {self.entries:,} entries, {self.retired:,} of them retired"
        for entry in self.outstanding:
            yield f"  entry       {_told(entry)}"
        if self.accounts_for_all is False:
            yield "  strangers   others may have filled it: a refresh needs `replace` once, or `fbca ledger adopt`"
        if self.missing:
            yield f"  missing     entries {', '.join(self.missing)}: restore them, or refresh once by `replace`"
        if self.left_over:
            yield f"  left over   {len(self.left_over):,} files of rows that nothing needs: see `fbca ledger repair`"
        if self.temporary:
            yield f"  temporary   {len(self.temporary):,} files that are being written, or left by a killed task"
        if self.lease:
            yield f"  writer      {', '.join(f'{name} {value}' for name, value in self.lease.items())}"

    def _may_be_in(self) -> str:
        if self.rows_at_most is None:
            return "not known: a marker cannot be read (`fbca ledger verify` tells which)"
        since = f", since {self.since}" if self.since else ""
        return f"at most {self.rows_at_most:,} rows{since}"


def state_of(root: StorePath, audience_id: str) -> AudienceState:
    """Tell what the ledger holds of an audience.

    :param root: folder of the whole ledger.
    :param audience_id: digits.
    :raises LedgerError: where the store cannot be read.
    """
    ledger, inventory = AudienceLedger(root, audience_id), Inventory(root, audience_id)
    history, files = ledger.history(), inventory.files()
    outstanding = history.outstanding
    exposure = [entry.opened for entry in history.exposure]
    opened = [entry.opened for entry in history.entries if entry.opened]
    retired = [file for file in files if file.holds_people and file.entry_id in history.retired]
    return AudienceState(
        audience_id=audience_id,
        uri=ledger.uri,
        ad_account_ids=tuple(sorted({marker.ad_account_id for marker in opened})),
        entries=len(history.entries),
        retired=len(history.entries) - len(outstanding),
        outstanding=tuple(_state(entry, files) for entry in outstanding),
        rows_at_most=None if None in exposure else sum(marker.rows for marker in exposure if marker),
        since=min((marker.opened_at for marker in exposure if marker), default=None),
        accounts_for_all=history.accounts_for_all,
        missing=tuple(sorted(history.missing)),
        left_over=tuple(file.name for file in (*retired, *unmarked(files))),
        temporary=tuple(file.name for file in files if file.is_temporary),
        files=len(files),
        size=sum(file.size for file in files),
        lease=_holder(inventory),
    )


def _holder(inventory: Inventory) -> dict[str, Any] | None:
    number, note = inventory.lease()
    if not number or (note and note.is_released):
        return None
    if note is None:
        return {"unreadable": number}
    return dict(note.owner) | {"taken_at": note.taken_at, "seconds": note.seconds}


def _state(entry: Entry, files: Sequence[LedgerFile]) -> EntryState:
    opened, own = entry.opened, [file for file in files if file.entry_id == entry.id]
    return EntryState(
        id=entry.id,
        kind=opened.kind if opened else None,
        strategy=opened.strategy if opened else None,
        state="settled" if opened and entry.settled else "open" if opened else "unreadable",
        may_be_in=entry.adds,
        rows=opened.rows if opened else None,
        opened_at=opened.opened_at if opened else None,
        settled_at=entry.settled.settled_at if entry.settled else None,
        owner=dict(opened.owner) if opened else {},
        sessions=sum(file.part.startswith("session-") for file in own),
        has_rows=entry.has_rows,
        size=sum(file.size for file in own),
    )


def _told(entry: EntryState) -> str:
    if entry.kind is None:
        return f"{entry.id}: its marker cannot be read; its rows count as sent"
    what = entry.kind + (f" by {entry.strategy}" if entry.strategy else "")
    rows = f"{entry.rows:,} rows{'' if entry.may_be_in else ' to remove'}"
    when = f"settled {entry.settled_at}" if entry.settled_at else f"not finished, opened {entry.opened_at}"
    owner = " ".join(f"{name}={value}" for name, value in entry.owner.items())
    gone = "" if entry.has_rows else "; ITS ROWS ARE MISSING"
    return f"{entry.id}: {what}, {rows}, {when}, by {owner}{gone}"


def _bytes(size: int) -> str:
    return f"{size / _MEGABYTE:,.1f} MB" if size >= _MEGABYTE else f"{size:,} bytes"
