"""One upload under way: batches to sessions, sessions to requests, requests to a few threads, errors to an end.

The caller's thread reads and prepares the rows; a few threads of a pool send them, so that one batch is prepared while
others are on their way. Memory holds the bodies in flight and one more, however many rows there are.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.exceptions import GraphError, GraphRetryableError, OptionsError
from airflow_provider_fbca.graph.chunks import rechunk
from airflow_provider_fbca.graph.errors import ALIAS_UNKNOWN, REPLACE_FINISHED
from airflow_provider_fbca.graph.payload import payloads_within
from airflow_provider_fbca.graph.retry import Repeatable, repeat_any, repeat_unsent
from airflow_provider_fbca.graph.samples import sampled_rows
from airflow_provider_fbca.graph.sessions import MAX_SESSION_ID, ROLL_OVER_SECONDS, TOO_OLD_SECONDS, Batch, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import pyarrow as pa

    from airflow_provider_fbca.graph.api import GraphApi
    from airflow_provider_fbca.graph.payload import Payload

log = logging.getLogger(__name__)

#: Positions of invalid rows that are kept; Meta shows as many for each batch.
_MOST_INVALID_ROWS = 100
#: Between two looks, during a pause, whether the caller wants no more requests.
_LOOK_SECONDS = 0.5


class Verb(Enum):
    """What can be done with people: the method and the edge."""

    ADD = ("POST", "users")
    REMOVE = ("DELETE", "users")
    REPLACE = ("POST", "usersreplace")
    ERASE = ("DELETE", "usersofanyaudience")


@dataclass(frozen=True, slots=True)
class BatchAck:
    """Meta's answer to one batch.

    :param session_id: the session it was sent in.
    :param batch_seq: its number in that session, from 1.
    :param last: whether it closed the session.
    :param first_row: position of its first row among all rows of the call, from 0.
    :param rows: its rows.
    :param received: what Meta counted in the session so far; None where Meta did not say.
    :param invalid: rows of it that Meta could not use, roughly.
    :param invalid_rows: positions, among all rows of the call from 0, of those that Meta showed as samples.
    :param size: bytes of the payload.
    :param seconds: from its first try to its answer.
    """

    session_id: int
    batch_seq: int
    last: bool
    first_row: int
    rows: int
    received: int | None
    invalid: int
    size: int
    seconds: float
    invalid_rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class UploadTotals:
    """What one call of an uploader did.

    :param requests: batches that Meta acknowledged.
    :param rows: rows in them.
    :param received: what Meta counted, over all sessions; a batch that was sent again may count twice.
    :param invalid: rows that Meta could not use, roughly, as its guide says.
    :param session_ids: in the order of their use.
    :param bytes: bytes of all payloads.
    :param seconds: from beginning to end.
    :param invalid_rows: positions, from 0 and in order, of rows that Meta showed as samples; a hundred at most.
    """

    requests: int
    rows: int
    received: int
    invalid: int
    session_ids: tuple[int, ...]
    bytes: int
    seconds: float
    invalid_rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """What an uploader was made with; see there.

    :param max_payload_bytes: most bytes of a payload.
    :param lock: held while ``before_request`` runs.
    """

    api: GraphApi
    audience_id: str
    batch_size: int
    max_concurrency: int
    new_session: Callable[[], int]
    on_batch: Callable[[BatchAck], None]
    before_request: Callable[[], None]
    max_payload_bytes: int
    payload_extra: Mapping[str, Any] | None
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask_before_request(self) -> None:
        """Call ``before_request``, from one thread at a time."""
        with self.lock:
            self.before_request()

    def wait_out_flights(self) -> None:
        """Wait until no write whose answer was given up can still land."""
        if self.api.unknown_since is None:
            return
        left = self.api.unknown_since + self.api.longest_flight - self.clock()
        if left > 0:
            log.warning("Meta left a request without an answer; waiting %.0f s until it can land no more.", left)
            self.sleep(left)


@dataclass(frozen=True, slots=True, repr=False)
class Prepared:
    """A batch that is ready, not yet placed in a session."""

    payload: Payload
    first_row: int
    rows: int
    last: bool


@dataclass
class Delivery:
    """One call of an uploader."""

    options: Options
    verb: Verb
    total: int
    sessions: list[Session] = field(default_factory=list)
    flying: dict[Future[BatchAck], Session] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)
    requests: int = 0
    rows: int = 0
    invalid: int = 0
    invalid_rows: list[int] = field(default_factory=list)
    bytes: int = 0

    def go(self, rows: Iterable[pa.RecordBatch]) -> UploadTotals:
        """Send all rows in the order that the verb asks for."""
        started = self.options.clock()
        with ThreadPoolExecutor(self.options.max_concurrency, "fbca-graph") as pool:
            try:
                session: Session | None = None
                for prepared in self.batches(rows):
                    session = self.place(prepared, session, pool)
            except BaseException as error:
                self.stop.set()
                self._wait_quietly()
                if isinstance(error, GraphError):
                    error.acknowledged = self.rows
                raise
        return UploadTotals(
            requests=self.requests,
            rows=self.rows,
            received=sum(session.received for session in self.sessions),
            invalid=min(self.invalid, self.rows),
            session_ids=tuple(session.session_id for session in self.sessions),
            bytes=self.bytes,
            seconds=self.options.clock() - started,
            invalid_rows=tuple(sorted(self.invalid_rows)),
        )

    def batches(self, rows: Iterable[pa.RecordBatch]) -> Iterator[Prepared]:
        """Prepare batches one by one: exact size, within the limit of bytes, the last one marked."""
        first_row = 0
        for chunk, last in rechunk(rows, self.options.batch_size):
            end = first_row + chunk.num_rows
            for payload, count in payloads_within(
                chunk, self.options.max_payload_bytes, extra=self.options.payload_extra
            ):
                yield Prepared(payload, first_row, count, last and first_row + count == end)
                first_row += count

    def send(
        self, batch: Batch, session: Session, *, node: str | None = None, may_have_landed: bool = False
    ) -> BatchAck:
        """Send one batch, with its tries, and read the answer. Runs in any thread.

        :param batch: what to send.
        :param session: that it belongs to.
        :param node: whose edge takes it; the audience's by default.
        :param may_have_landed: whether an earlier request of the same rows may have closed the session.
        """
        options = self.options
        members: dict[str, bytes | Payload] = {"payload": batch.payload}
        if self.verb is not Verb.ERASE:
            members["session"] = batch.session_json(self.total)
        # A replace's first batch starts it: a second one could start it twice.
        starts = self.verb is Verb.REPLACE and batch.seq == 1
        tries = _Tries(repeat_unsent if starts else repeat_any, may_have_landed=may_have_landed)

        def before_try() -> None:
            if self.stop.is_set():
                raise _StoppedError
            if options.clock() - session.begun > TOO_OLD_SECONDS:
                raise GraphRetryableError(
                    "The upload session came near its 90 minutes before a batch got through.",
                    remedy="Run the task again: it begins another session.",
                )
            options.ask_before_request()

        method, edge = self.verb.value
        started = options.clock()
        try:
            answer = options.api.send(
                method,
                (node or options.audience_id, edge),
                members,
                repeatable=tries.repeatable,
                before_try=before_try,
                sleep=self._pause,
            )
        except GraphError as error:
            # Our own earlier try had got through: the session it closed is the one that is now finished.
            if not (batch.last and tries.may_have_landed and error.subcode == REPLACE_FINISHED):
                raise
            answer = {}
        return BatchAck(
            session_id=batch.session_id,
            batch_seq=batch.seq,
            last=batch.last,
            first_row=batch.first_row,
            rows=batch.rows,
            received=_count(answer.get("num_received")),
            invalid=_count(answer.get("num_invalid_entries")) or 0,
            size=len(batch.payload),
            seconds=options.clock() - started,
            invalid_rows=tuple(
                batch.first_row + row for row in sampled_rows(answer.get("invalid_entry_samples"), batch.payload)
            ),
        )

    def place(self, prepared: Prepared, session: Session | None, pool: ThreadPoolExecutor) -> Session | None:
        """Put a batch into its session and send it; returns the session for the next one."""
        # The age of a session counts when its batch is sent, so first comes the wait for a free place.
        self.wait(self.options.max_concurrency - 1)
        session, rolls = self._session_for(session)
        closes = prepared.last or rolls
        batch = session.next_batch(prepared.payload, first_row=prepared.first_row, rows=prepared.rows, last=closes)
        # A session takes nothing after its last batch, and a replace nothing before its first has been accepted.
        alone = closes or (self.verb is Verb.REPLACE and batch.seq == 1)
        if alone:
            self.wait(0)
        self.flying[pool.submit(self.send, batch, session)] = session
        if alone:
            self.wait(0)
        return None if closes else session

    def _session_for(self, session: Session | None) -> tuple[Session, bool]:
        """The session that the next batch belongs to, and whether its age makes that batch its last."""
        age = self.options.clock() - session.begun if session else 0.0
        if session and age <= ROLL_OVER_SECONDS:
            return session, False
        if session and self.verb is Verb.REPLACE:
            raise GraphRetryableError(
                "The replace is 80 minutes old and not all sent: Meta would drop what comes after 90 minutes.",
                remedy="Meta will apply the part that it has 90 minutes after its beginning. Wait for that, then run "
                'the task again with a higher max_concurrency or on a faster line, or use strategy="delta".',
            )
        if session and age <= TOO_OLD_SECONDS:
            return session, True
        self.wait(0)
        session_id = self.options.new_session()
        if isinstance(session_id, bool) or not isinstance(session_id, int) or not 0 < session_id <= MAX_SESSION_ID:
            raise OptionsError(f"A session id must be an integer from 1 to {MAX_SESSION_ID}.")
        fresh = Session(session_id, self.options.clock())
        self.sessions.append(fresh)
        return fresh, False

    def wait(self, left: int) -> None:
        """Take the answers that are there, and wait until no more than ``left`` requests are flying."""
        self._take([future for future in self.flying if future.done()])
        while len(self.flying) > left:
            done, _ = wait(self.flying, return_when=FIRST_COMPLETED)
            self._take(done)

    def _take(self, done: Iterable[Future[BatchAck]]) -> None:
        """Count and report what was acknowledged, then raise the first error among the rest."""
        failed: BaseException | None = None
        for future in done:
            session = self.flying.pop(future)
            error = future.exception()
            if error is None:
                self._report(future.result(), session)
            elif failed is None or isinstance(failed, _StoppedError):
                failed = error
        if failed:
            raise failed

    def _report(self, ack: BatchAck, session: Session) -> None:
        session.count(ack.received)
        self.requests += 1
        self.rows += ack.rows
        self.invalid += ack.invalid
        self.invalid_rows += ack.invalid_rows[: _MOST_INVALID_ROWS - len(self.invalid_rows)]
        self.bytes += ack.size
        self.options.on_batch(ack)

    def _pause(self, seconds: float) -> None:
        """Wait between two tries, but not once another batch has failed or the caller wants no more requests."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.stop.wait(min(left, _LOOK_SECONDS)):
            self.options.ask_before_request()

    def _wait_quietly(self) -> None:
        """After an error: let what is flying end, report what was acknowledged, leave the error the first."""
        while self.flying:
            try:
                self.wait(0)
            except Exception as error:  # noqa: BLE001 - only the first error is raised
                if not isinstance(error, _StoppedError):
                    log.warning("Another batch of the upload failed too: %s.", type(error).__name__)


class _Tries:
    """What the tries of one batch have taught so far."""

    def __init__(self, safe: Repeatable, *, may_have_landed: bool) -> None:
        self.may_have_landed = may_have_landed
        self._safe = safe

    def repeatable(self, error: BaseException) -> bool:
        # An audience that Meta has only just created may not be known everywhere yet.
        if isinstance(error, GraphError) and error.code == ALIAS_UNKNOWN:
            return True
        again = self._safe(error)
        self.may_have_landed = self.may_have_landed or (again and not repeat_unsent(error))
        return again


class _StoppedError(Exception):
    """Another batch failed, so this one was not sent (again)."""


def _count(value: object) -> int | None:
    """A count of Meta's, which comes as a number or as text, or not at all."""
    if isinstance(value, bool):
        return None
    try:
        return max(0, int(str(value)))
    except (TypeError, ValueError, OverflowError):
        return None
