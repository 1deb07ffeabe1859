"""Ends the replaces that earlier writers left unfinished, so that none is applied after what comes now (rule S6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_fbca.exceptions import GraphBusyError, GraphError, GraphRequestError, LedgerError
from airflow_provider_fbca.graph.errors import REPLACE_BROKEN
from airflow_provider_fbca.graph.upload import REPLACE_MARGIN_SECONDS, REPLACE_SECONDS, ReplaceEnd, ReplaceState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pyarrow as pa

    from airflow_provider_fbca.graph.upload import UserUploader
    from airflow_provider_fbca.ledger import AudienceLedger, Entry, SessionNote, WorkDir
    from airflow_provider_fbca.operators.progress import Log

_MINUTE = 60.0


def close_replaces_in_the_air(
    ledger: AudienceLedger,
    entries: Iterable[Entry],
    uploader: UserUploader,
    workdir: WorkDir,
    *,
    log: Log,
    pause: Callable[[float], None],
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """End every replace that a writer has begun and may not have brought to its end; wait until Meta is done with it.

    To be called under the lease, between the ``open`` marker and the first request of any writer. That a replace was
    closed is never remembered: each writer does it again as long as the entry is not retired. Whatever such a replace
    has left in the audience are rows of its entry, which counts as exposure.

    Where a session takes no last batch, or its rows are lost, this waits until Meta has long closed it by itself.

    :param ledger: of the audience.
    :param entries: those not retired, the caller's own left out.
    :param uploader: of the audience.
    :param workdir: where snapshots are fetched to.
    :param log: told of what is ended, and each minute of a wait.
    :param pause: waits some seconds; what it raises ends the wait.
    :param now: the present instant, with its time zone.
    :raises GraphBusyError: Meta is still at work on a replace that should long be done.
    :raises GraphError: Meta cannot be reached, or lets nobody write.
    :raises LedgerError: the ledger cannot be read.
    """
    closed: dict[int, datetime] = {}
    unclosed: dict[int, datetime] = {}
    never_begun: set[int] = set()
    entries = tuple(entries)
    sessions = ledger.sessions_of_each([entry.id for entry in entries])
    for entry in entries:
        notes = [note for note in sessions[entry.id] if note.replaces]
        if not notes:
            continue
        log.info("Ledger entry %s may have a replace under way at Meta; ending it.", entry.id)
        last = _last_batch(ledger, entry, uploader.batch_size, workdir, log)
        for note in notes:
            state = _close(uploader, note, last, log) if last else None
            if state is ReplaceState.NEVER_BEGUN:
                never_begun.add(note.session_id)
            else:
                (closed if state else unclosed)[note.session_id] = _end_of(note, state, now())
    # A copy that a writer without its lease left behind has the sessions of another entry.
    left = {each: end for each, end in unclosed.items() if each not in never_begun and each not in closed}
    if closed:
        _wait_for_meta(uploader, tuple(closed), max([*closed.values(), *left.values()]) - now(), log)
    if left:
        _wait_for_the_clock(max(left.values()) - now(), log, pause)


@dataclass(frozen=True, repr=False)
class _LastBatch:
    """The last batch of a replace.

    :param rows: its rows.
    :param seq: its number; never 1, which would start the replace.
    :param total: rows of the whole replace.
    """

    rows: pa.RecordBatch
    seq: int
    total: int


def _last_batch(ledger: AudienceLedger, entry: Entry, batch_size: int, workdir: WorkDir, log: Log) -> _LastBatch | None:
    """Return the last batch of an entry's rows; None where they are lost, or there were none."""
    try:
        snapshot = ledger.fetch(entry, workdir)
    except LedgerError as error:
        if not error.permanent:
            raise
        log.warning("The last batch of the replace cannot be sent: %s", error)
        return None
    if not snapshot.rows:
        return None
    size = (entry.opened.batch_size if entry.opened else None) or batch_size
    batches = math.ceil(snapshot.rows / size)
    rows = snapshot.last_rows(snapshot.rows - (batches - 1) * size)
    return _LastBatch(rows.combine_chunks().to_batches()[0], max(2, batches), snapshot.rows)


def _close(uploader: UserUploader, note: SessionNote, last: _LastBatch, log: Log) -> ReplaceState | None:
    """End one session; None where Meta does not take its last batch."""
    try:
        state = uploader.close_replace(note.session_id, last.rows, batch_seq=last.seq, total=last.total)
    except GraphError as error:
        # Any other error is about the connection or the audience, and would stop what comes next, too.
        if not isinstance(error, GraphRequestError) and error.subcode != REPLACE_BROKEN:
            raise
        log.warning("The replace of session %s takes no last batch: %s", note.session_id, error)
        return None
    log.info("The replace of session %s: %s.", note.session_id, state.value)
    return state


def _end_of(note: SessionNote, state: ReplaceState | None, now: datetime) -> datetime:
    """Return the instant by which Meta has applied what a session brought, whatever became of it."""
    end = min(_noted_at(note) or now, now) + timedelta(seconds=REPLACE_SECONDS)
    if state in {ReplaceState.CLOSED, ReplaceState.BUSY}:
        # However old its note, it is applied from now on.
        return max(end, now + timedelta(seconds=REPLACE_MARGIN_SECONDS))
    return end


def _noted_at(note: SessionNote) -> datetime | None:
    try:
        noted_at = datetime.fromisoformat(note.noted_at)
    except (TypeError, ValueError):
        return None
    return noted_at if noted_at.tzinfo else noted_at.replace(tzinfo=UTC)


def _wait_for_meta(uploader: UserUploader, session_ids: tuple[int, ...], at_most: timedelta, log: Log) -> None:
    """Wait until Meta says that closed replaces are done, or that it gave them up."""
    end = uploader.watch_replaces(session_ids, at_most.total_seconds())
    if end is ReplaceEnd.WORKING:
        raise GraphBusyError(
            "Meta is still at work on the replace of an earlier run, which should be done by now.",
            remedy="Look at the audience in Ads Manager, and run the task again once it reads as ready.",
        )
    log.info(
        "%s",
        {
            ReplaceEnd.DONE: "Meta is done with the replaces of earlier runs.",
            ReplaceEnd.FAILED: "Meta gave up the replace of an earlier run.",
            ReplaceEnd.UNKNOWN: "By the clock, Meta is done with the replaces of earlier runs.",
        }[end],
    )


def _wait_for_the_clock(duration: timedelta, log: Log, pause: Callable[[float], None]) -> None:
    """Wait until Meta has closed by itself what could not be closed, and has applied what had come."""
    left = duration.total_seconds()
    while left > 0:
        log.info("Waiting for Meta to end the replace of an earlier run by itself: %.0f minutes to go.", left / _MINUTE)
        pause(min(left, _MINUTE))
        left -= _MINUTE
