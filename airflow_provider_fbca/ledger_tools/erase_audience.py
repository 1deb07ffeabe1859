"""Takes people out of one audience and its snapshots, so that nobody else is forgotten at any instant."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from airflow_provider_fbca.exceptions import LedgerError
from airflow_provider_fbca.ledger import FileRows, OpenMarker, RowSets, SettledMarker, utc_now
from airflow_provider_fbca.ledger_tools.search import copied, searchable
from airflow_provider_fbca.ledger_tools.writer import owner_of
from airflow_provider_fbca.operators.replaces import close_replaces_in_the_air

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_provider_fbca.hooks.audience import Audience
    from airflow_provider_fbca.hooks.custom_audience import FacebookCustomAudienceHook
    from airflow_provider_fbca.ledger import AudienceLedger, Entry, History, Lease, OpenEntry, Snapshot, WorkDir
    from airflow_provider_fbca.ledger.people import Flags
    from airflow_provider_fbca.ledger_tools.search import Search

log = logging.getLogger(__name__)

#: How far the clocks of two machines may be apart.
_SKEW_SECONDS = 300.0


@dataclass(frozen=True)
class AudienceErasure:
    """The erasure from one audience, by its one writer.

    :param hook: for the audience's ad account.
    :param audience: as Meta has it.
    :param ledger: of the audience.
    :param lease: that is held.
    :param workdir: for all of its snapshots.
    :param search: who is erased.
    :param remember: stores rows that tell more of these people than was known before.
    :param pause: waits some seconds.
    """

    hook: FacebookCustomAudienceHook
    audience: Audience
    ledger: AudienceLedger
    lease: Lease
    workdir: WorkDir
    search: Search
    remember: Callable[[Snapshot], None]
    pause: Callable[[float], None]

    def run(self) -> tuple[int, int, list[str]]:
        """Write down what stays, remove who goes, retire what was before.

        :returns: rows erased, requests to Meta, and why entries could not be read.
        """
        history = self._history()
        entries, snapshots, unreadable = self._read(history)
        flags = self.search.flags_of(snapshots)
        erased = sum(int(each.sum()) for each in flags)
        requests = self._send(history, entries, snapshots, flags) if erased else 0
        for snapshot in snapshots:
            snapshot.path.unlink()
        log.info("Audience %s: %s rows erased, %s requests.", self.audience.id, f"{erased:,}", f"{requests:,}")
        return erased, requests, unreadable

    def _history(self) -> History:
        """Read the ledger, once requests of tasks that had lost their lease can land no more (rule L8)."""
        flight, waited = self.hook.longest_flight, set[str]()
        while True:
            history = self.ledger.history()
            opened = {entry.id: entry.opened for entry in history.outstanding if entry.opened}
            left = {each for each, marker in opened.items() if marker.left_behind and _is_young(marker, flight)}
            if left <= waited:
                return history
            log.warning("A task that had lost its lease may have sent rows until just now; waiting %.0f s.", flight)
            self.pause(flight)
            waited |= left

    def _read(self, history: History) -> tuple[list[Entry], list[Snapshot], list[str]]:
        entries, snapshots, unreadable = [], [], []
        for entry in searchable(history):
            try:
                snapshots.append(self.ledger.fetch(entry, self.workdir))
                entries.append(entry)
            except LedgerError as error:
                self.workdir.file(f"{entry.id}.rows.parquet").unlink(missing_ok=True)
                unreadable.append(str(error))
        return entries, snapshots, unreadable

    def _send(self, history: History, entries: list[Entry], snapshots: list[Snapshot], flags: tuple[Flags, ...]) -> int:
        theirs = copied(_union(self.workdir, snapshots, flags), self.workdir, f"{self.audience.id}-erased.parquet")
        staying = copied(self._staying(entries, snapshots, flags), self.workdir, f"{self.audience.id}-stays.parquet")
        rows = RowSets(self.workdir).identities_of(theirs)
        extra = self.hook.payload_extra(rows.keys)
        self.remember(theirs)
        self.lease.check()
        entry = self.ledger.begin(staying)
        marker = self._marker(staying, entry, history)
        self.lease.check()
        entry.open(marker)
        with self._leaving_a_copy(marker, staying):
            sender = self.hook.sender(
                self.audience.id,
                new_session=lambda: entry.new_session("erase"),
                before_request=self.lease.check,
                payload_extra=extra,
                sleep=self.pause,
            )
            close_replaces_in_the_air(self.ledger, history.outstanding, sender, self.workdir, log=log, pause=self.pause)
            totals = sender.remove(rows.batches(), total=rows.count)
            sender.wait_out_flights()
            self.lease.check()
        counts = {"members": staying.rows, "removed": rows.count, "requests": totals.requests}
        entry.settle(SettledMarker(tuple(each.id for each in entries), utc_now(), counts))
        staying.path.unlink()
        return totals.requests

    @contextmanager
    def _leaving_a_copy(self, marker: OpenMarker, staying: Snapshot) -> Iterator[None]:
        """Tell the next writer where the lease was lost while removals were on their way (rule L8)."""
        try:
            yield
        except BaseException:
            if self.lease.lost:
                copy = self.ledger.begin(staying)
                copy.open(replace(marker, opened_at=utc_now(), left_behind=True))
            raise

    def _staying(self, entries: list[Entry], snapshots: list[Snapshot], flags: tuple[Flags, ...]) -> FileRows:
        """Return the rows that may be in the audience and are not theirs; rows of removals are not in it."""
        adds = [place for place, entry in enumerate(entries) if entry.adds]
        return _union(self.workdir, [snapshots[place] for place in adds], [~flags[place] for place in adds])

    def _marker(self, staying: Snapshot, entry: OpenEntry, history: History) -> OpenMarker:
        return OpenMarker(
            kind="erase",
            strategy=None,
            audience_id=self.audience.id,
            ad_account_id=self.audience.account_id,
            schema=tuple(staying.schema.names),
            rows=staying.rows,
            digest=entry.digest,
            reads=tuple(each.id for each in history.outstanding),
            audience_was_empty=self.audience.never_filled,
            retention_days=self.audience.retention_days,
            owner=owner_of("erase"),
            opened_at=utc_now(),
        )


def _union(workdir: WorkDir, snapshots: Sequence[Snapshot], flags: Sequence[Flags]) -> FileRows:
    """Return each flagged row once, as identifiers only; equal rows have equal flags."""
    if not snapshots:
        return FileRows((), (), pa.schema([]))
    rows = RowSets(workdir).union(snapshots)
    return replace(rows, kept=tuple(first & own for first, own in zip(rows.kept, flags, strict=True)))


def _is_young(marker: OpenMarker, flight: float) -> bool:
    """Tell whether a marker may have been written within the longest flight, by a clock that differs from ours."""
    try:
        age = datetime.now(UTC) - datetime.fromisoformat(marker.opened_at)
    except (ValueError, TypeError):
        return True
    return age.total_seconds() < flight + _SKEW_SECONDS
