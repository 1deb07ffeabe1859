"""One upload under way: batches to sessions, sessions to requests, requests to a few threads, errors to an end.

The caller's thread reads and prepares the rows; a few threads of a pool send them, so that one batch is prepared while
others are on their way. Memory holds the bodies in flight and one more, or two while some are sent again in parts,
however many rows there are.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_fbca.exceptions import GraphError, OptionsError
from airflow_provider_fbca.graph.chunks import Piece, rechunk
from airflow_provider_fbca.graph.options import Verb
from airflow_provider_fbca.graph.outcome import Tally
from airflow_provider_fbca.graph.payload import payloads_within
from airflow_provider_fbca.graph.refusals import Refusals
from airflow_provider_fbca.graph.sending import BatchSender, SentBackError, StoppedError, Why, out_of_time
from airflow_provider_fbca.graph.sessions import MAX_SESSION_ID, Session
from airflow_provider_fbca.graph.sizes import Sizes
from airflow_provider_fbca.graph.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    import pyarrow as pa

    from airflow_provider_fbca.graph.options import Options
    from airflow_provider_fbca.graph.outcome import BatchAck, UploadTotals
    from airflow_provider_fbca.graph.payload import Payload
    from airflow_provider_fbca.graph.sessions import Batch

log = logging.getLogger(__name__)

#: Between two looks, during a pause, whether the caller wants no more requests.
_LOOK_SECONDS = 0.5
#: Sessions that may come to their end before a batch gets through.
_MOST_MOVES = 3


@dataclass(frozen=True, slots=True, repr=False)
class Parcel:
    """A piece that is ready to be sent, not yet placed in a session.

    :param piece: its rows.
    :param payload: their JSON.
    :param ends: whether it is the end of the rows that it was cut from.
    """

    piece: Piece
    payload: Payload
    ends: bool


@dataclass(frozen=True, slots=True, repr=False)
class Flight:
    """A piece on its way, and its session."""

    piece: Piece
    session: Session


@dataclass
class Delivery:
    """One call of an uploader.

    :param options: of the uploader.
    :param verb: what is done with the people.
    :param total: rows of the call, a hint for Meta.
    """

    options: Options
    verb: Verb
    total: int
    session: Session | None = field(default=None, init=False)
    sessions: list[Session] = field(default_factory=list, init=False)
    flying: dict[Future[BatchAck], Flight] = field(default_factory=dict, init=False)
    #: Pieces that go another way than they went; they come before any others.
    returned: deque[Piece] = field(default_factory=deque, init=False)
    tally: Tally = field(default_factory=Tally, init=False)
    refusals: Refusals = field(default_factory=Refusals, init=False)
    #: A row that Meta has taken.
    good: Piece | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.sizes = Sizes(self.options.batch_size)
        self.window = Window(self.options.max_concurrency)
        self.sender = BatchSender(self.options, self.verb, self.total, self.window, self._pause)

    def go(self, rows: Iterable[pa.RecordBatch]) -> UploadTotals:
        """Send all rows in the order that the verb asks for."""
        started = self.options.clock()
        with ThreadPoolExecutor(self.options.max_concurrency, "fbca-graph") as self._pool:
            try:
                self._send_all(rows)
            except BaseException as error:
                self.sender.stop.set()
                self._wait_quietly()
                if isinstance(error, GraphError):
                    error.acknowledged = self.tally.rows
                raise
        return self.tally.totals(self.sessions, self.options.clock() - started)

    def parcels(self, rows: Iterable[pa.RecordBatch]) -> Iterator[Parcel]:
        """Prepare rows one batch at a time: exact size, within the limit of bytes, the last one marked."""
        first_row = 0
        for chunk, is_last in rechunk(rows, self.options.batch_size):
            yield from self._written(Piece(chunk, first_row), ends=is_last)
            first_row += chunk.num_rows

    def _written(self, piece: Piece, *, ends: bool = True) -> Iterator[Parcel]:
        """Prepare a piece, in parts where it is too large."""
        options, done = self.options, 0
        while done < len(piece):
            some = piece.part(done, self.sizes.rows)
            for payload, size in payloads_within(some.rows, options.max_payload_bytes, extra=options.payload_extra):
                part = piece.part(done, size)
                done += size
                yield Parcel(part, payload, ends and done == len(piece))

    def _send_all(self, rows: Iterable[pa.RecordBatch]) -> None:
        for parcel in self.parcels(rows):
            if parcel.ends:
                self._settle()
            else:
                self._send_returned()
            if len(parcel.piece) > self.sizes.rows:
                # It was prepared before one of its size came back.
                self.returned.append(parcel.piece)
            else:
                self._place(parcel, closes=parcel.ends)
            if parcel.ends:
                self._settle(closes=True)
                self._close()
        if error := self.refusals.error():
            raise error

    def _send_returned(self) -> None:
        """Send what came back; more may come back meanwhile."""
        self._wait_for_place()
        while self.returned:
            for parcel in self._written(self.returned.popleft()):
                self._place(parcel)
            self._wait_for_place()

    def _settle(self, *, closes: bool = False) -> None:
        """Wait until all that was placed is acknowledged, and send again what comes back.

        :param closes: whether the very last of it closes the session.
        """
        self._wait_for_all()
        while self.returned:
            for parcel in self._written(self.returned.popleft()):
                if closes and parcel.ends and not self.returned:
                    # Only now is it known whether something comes after it.
                    self._wait_for_all()
                self._place(parcel, closes=closes and parcel.ends and not self.returned)
            # What came back tells how large the next may be, so it is looked at before that is written.
            self._wait_for_place() if self.returned else self._wait_for_all()

    def _close(self) -> None:
        """Close the session with a row that Meta has taken, where the rows that should have done so were refused."""
        session = self.session
        if not (session and session.acknowledged and self.good):
            return
        # One that is too old by now is left to Meta, unless it is a replace's.
        ways = frozenset({Why.AGE}).intersection(self._ways(session))
        for parcel in self._written(self.good):
            with suppress(SentBackError):
                self.sender.send(self._batch(parcel, session, closes=True), session, ways=ways)

    def _place(self, parcel: Parcel, *, closes: bool = False) -> None:
        """Put a parcel into its session and send it.

        :param closes: whether it is the last of all.
        """
        # The age of a session counts when its batch is sent, so first comes the wait for a free place.
        self._wait_for_place()
        session, rolls = self._session_for()
        batch = self._batch(parcel, session, closes=closes or rolls)
        # A session takes nothing after its last batch, and a replace nothing before its first has been accepted.
        alone = batch.last or (self.verb is Verb.REPLACE and batch.seq == 1)
        if alone:
            self._wait_for_all()
        self._send(batch, Flight(parcel.piece, session))
        if alone:
            self._wait_for_all()
        self.session = None if session.is_closed else session

    def _batch(self, parcel: Parcel, session: Session, *, closes: bool) -> Batch:
        return session.next_batch(parcel.payload, first_row=parcel.piece.first_row, rows=len(parcel.piece), last=closes)

    def _send(self, batch: Batch, flight: Flight) -> None:
        """Let a thread of the pool send a batch."""
        piece, session = flight.piece, flight.session

        def send() -> BatchAck:
            may_have_closed = piece.may_have_closed is session
            return self.sender.send(batch, session, may_have_closed=may_have_closed, ways=self._ways(session))

        self.flying[self._pool.submit(send)] = flight

    def _ways(self, _session: Session) -> Collection[Why]:
        """Return for what reasons a batch of a session may come back."""
        return tuple(Why)

    def _session_for(self) -> tuple[Session, bool]:
        """Return the session that the next batch belongs to, and whether its age makes that batch its last."""
        # It may be a long wait until the batch is sent.
        instant = self.options.clock() + self.options.due_in()
        if self.session and not self.session.is_too_old(instant):
            return self.session, self.session.is_old(instant)
        # One that is too old is left to Meta, which closes it by itself.
        self._wait_for_all()
        return self._new_session(), False

    def _new_session(self) -> Session:
        session_id = self.options.new_session()
        if isinstance(session_id, bool) or not isinstance(session_id, int) or not 0 < session_id <= MAX_SESSION_ID:
            raise OptionsError(f"A session id must be an integer from 1 to {MAX_SESSION_ID}.")
        session = Session(session_id, self.options.api.longest_flight)
        self.sessions.append(session)
        return session

    def _wait_for_place(self) -> None:
        """Wait until one more request may be made; the window may become smaller meanwhile."""
        self._wait(lambda: self.window.size - 1)

    def _wait_for_all(self) -> None:
        """Wait until no request is on its way."""
        self._wait(lambda: 0)

    def _wait(self, most: Callable[[], int]) -> None:
        """Take the answers that are there, and wait until no more than so many requests are on their way."""
        self._take([future for future in self.flying if future.done()])
        while len(self.flying) > most():
            done, _ = wait(self.flying, return_when=FIRST_COMPLETED)
            self._take(done)

    def _take(self, done: Iterable[Future[BatchAck]]) -> None:
        """Count and report what was acknowledged, take back what goes another way, then raise the first error."""
        failed: BaseException | None = None
        for future in done:
            flight = self.flying.pop(future)
            error = future.exception()
            if isinstance(error, SentBackError):
                error = self._take_back(flight, error)
            elif error is None:
                self._report(future.result(), flight)
            if error and (failed is None or isinstance(failed, StoppedError)):
                failed = error
        if failed:
            raise failed

    def _take_back(self, flight: Flight, sent_back: SentBackError) -> GraphError | None:
        """Decide which way the rows of a batch go that Meta has not acknowledged; an error where there is none."""
        piece, error = flight.piece, sent_back.error
        if sent_back.may_have_closed:
            piece = replace(piece, may_have_closed=flight.session)
        if sent_back.why is Why.ROWS and error:
            if len(piece) > 1:
                log.info("Meta refused a batch of %s rows; sending it in halves. %s", f"{len(piece):,}", error)
                self.returned.extendleft(reversed(piece.cut(-(-len(piece) // 2))))
            return self.refusals.take(piece, error)
        if sent_back.why is Why.AGE:
            log.info("An upload session came to its end before all that was sent in it; going on in another.")
            self.returned.appendleft(piece.moved())
            # A limit that outlasts a session, and then the next one, is no matter of sessions.
            if error and piece.moves:
                return error
            return out_of_time() if piece.moves == _MOST_MOVES else None
        log.info("A batch of %s rows is too large for the way to Meta; sending it in parts.", f"{len(piece):,}")
        self.returned.extendleft(reversed(piece.cut(self.sizes.complain(len(piece)))))
        return None

    def _report(self, ack: BatchAck, flight: Flight) -> None:
        flight.session.take(ack)
        self.tally.count(ack)
        self.window.succeed()
        self.sizes.acknowledge(ack.rows)
        self.refusals.acknowledge()
        self.good = self.good or replace(flight.piece, rows=flight.piece.rows.take([0]))
        self.options.on_batch(ack)

    def _pause(self, seconds: float) -> None:
        """Wait before a try, but not once another batch has failed or the caller wants no more requests."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self.sender.stop.wait(min(left, _LOOK_SECONDS)):
                raise StoppedError
            self.options.ask_before_request()

    def _wait_quietly(self) -> None:
        """After an error: let what is flying end, report what was acknowledged, leave the error the first."""
        while self.flying:
            try:
                self._wait_for_all()
            except Exception as error:  # noqa: BLE001 - only the first error is raised
                if not isinstance(error, StoppedError):
                    log.warning("Another batch of the upload failed too: %s.", type(error).__name__)
