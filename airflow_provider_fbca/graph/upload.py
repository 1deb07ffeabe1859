"""Sending people to an audience: adding, removing, replacing, erasing.

.. seealso::
    https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences
    (sessions, batches, replacing)
"""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_fbca.exceptions import (
    GraphBusyError,
    GraphError,
    GraphReplaceFailedError,
    OptionsError,
    UsersError,
)
from airflow_provider_fbca.graph.complaints import is_about_rows
from airflow_provider_fbca.graph.delivery import Delivery
from airflow_provider_fbca.graph.errors import (
    REPLACE_FINISHED,
    REPLACE_IN_PROGRESS,
    REPLACE_NOT_BEGUN,
    REPLACE_TIMED_OUT,
)
from airflow_provider_fbca.graph.ids import account_number, audience_number
from airflow_provider_fbca.graph.options import Options, Verb
from airflow_provider_fbca.graph.outcome import BatchAck, UploadTotals
from airflow_provider_fbca.graph.payload import payloads_within
from airflow_provider_fbca.graph.replacing import Replacing
from airflow_provider_fbca.graph.sessions import MAX_SESSION_ID, Session
from airflow_provider_fbca.graph.sizes import FLOOR_ROWS
from airflow_provider_fbca.graph.watching import REPLACE_MARGIN_SECONDS, REPLACE_SECONDS, ReplaceEnd, ReplaceWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    import pyarrow as pa

    from airflow_provider_fbca.graph.api import GraphApi

__all__ = [
    "MAX_BATCH_ROWS",
    "MAX_SESSION_ID",
    "REPLACE_MARGIN_SECONDS",
    "REPLACE_SECONDS",
    "BatchAck",
    "ReplaceEnd",
    "ReplaceState",
    "UploadTotals",
    "UserUploader",
]

#: Meta's limit of rows in one request.
MAX_BATCH_ROWS: Final = 10_000
#: What a body holds beside its payload.
_ENVELOPE_BYTES: Final = 1024


class ReplaceState(Enum):
    """What became of a replace that was to be closed."""

    CLOSED = "closed"
    CLOSED_BEFORE = "closed before"
    NEVER_BEGUN = "never begun"
    #: Another batch was not taken while Meta replaces or updates the audience, by this session or another.
    BUSY = "busy"


class UserUploader:
    """Adds, removes and replaces the people of one audience.

    Rows are record batches of any size, one column a key (see :func:`~airflow_provider_fbca.graph.payload.payload_json`
    for types). Each call begins a session, and another one before the first is 80 minutes old. A batch whose outcome is
    unknown is sent again where that is harmless, and one that met the end of its session goes in another: Meta drops
    what comes after 90 minutes without a word.

    A batch that is too large for Meta, or for the way to it, goes in halves, down to 500 rows, and the next ones are as
    small for a while; where an answer was lost, only the second time in a row. One that Meta refuses for what is in it
    (code 100) is halved until the rows are found: all others go through, then
    :class:`~airflow_provider_fbca.exceptions.GraphRowsRefusedError` tells which they are. Where nothing goes through,
    or after 64 such refusals, the call ends.

    When a batch fails for good, no further batch is begun, those on their way are waited for (and reported to
    ``on_batch``), and the first error is raised. The session is left open: Meta closes it by itself, and closing a
    replace half-way would make Meta apply half a list.

    :param api: the client.
    :param audience_id: digits.
    :param batch_size: rows in a request, at most Meta's 10,000.
    :param max_concurrency: requests on their way at once.
    :param new_session: makes a session id, from 1 to 2**53-1 and unique in the ad account; whatever it does before it
        returns (writing the id down) is done before the id is used.
    :param on_batch: told of each acknowledged batch, in the caller's thread.
    :param before_request: called right before every request, second tries included, and now and then in the pauses
        between tries, from one thread at a time; what it raises stops everything.
    :param max_body_bytes: most bytes of a request; a batch that is larger goes as several.
    :param payload_extra: further members of every payload (``app_ids``, ``page_ids``, ``data_source``).
    :param clock: seconds that only grow, the same as the client's; sessions age by it.
    :param sleep: waits in place of :func:`time.sleep` for requests without an answer and for replaces; what it raises
        ends the wait.
    :raises OptionsError: an option has an impossible value.
    """

    def __init__(
        self,
        api: GraphApi,
        audience_id: str,
        *,
        batch_size: int = MAX_BATCH_ROWS,
        max_concurrency: int = 4,
        new_session: Callable[[], int],
        on_batch: Callable[[BatchAck], None] | None = None,
        before_request: Callable[[], None] | None = None,
        max_body_bytes: int = 16 * 2**20,
        payload_extra: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not 1 <= batch_size <= MAX_BATCH_ROWS:
            raise OptionsError(f"batch_size must be from 1 to {MAX_BATCH_ROWS}, Meta's limit.")
        if max_concurrency < 1:
            raise OptionsError("max_concurrency must be 1 or more.")
        if max_body_bytes < 2 * _ENVELOPE_BYTES:
            raise OptionsError(f"max_body_bytes must be {2 * _ENVELOPE_BYTES} or more.")
        self._options = Options(
            api=api,
            audience_id=audience_number(audience_id),
            batch_size=batch_size,
            max_concurrency=max_concurrency,
            new_session=new_session,
            on_batch=on_batch or (lambda _ack: None),
            before_request=before_request or (lambda: None),
            max_payload_bytes=max_body_bytes - _ENVELOPE_BYTES,
            payload_extra=payload_extra,
            clock=clock,
            sleep=sleep,
        )

    @property
    def batch_size(self) -> int:
        """Most rows in a request."""
        return self._options.batch_size

    def add(self, rows: Iterable[pa.RecordBatch], *, total: int) -> UploadTotals:
        """Add people; those who are in already are not harmed.

        :param rows: the people; without any, nothing is sent and no session begun.
        :param total: how many they are, a hint for Meta.
        :raises GraphRowsRefusedError: Meta refused some rows, and took all others.
        :raises GraphError: a batch was refused or not answered, after all its tries.
        """
        return Delivery(self._options, Verb.ADD, total).go(rows)

    def remove(self, rows: Iterable[pa.RecordBatch], *, total: int) -> UploadTotals:
        """Remove people; those who are not in are not harmed. Ten thousand people are one request.

        :param rows: the people, with the identifiers that they were added with.
        :param total: how many they are, a hint for Meta.
        :raises GraphRemovalRefusedError: too few people would remain.
        :raises GraphRowsRefusedError: Meta refused some rows, and took all others.
        :raises GraphError: a batch was refused or not answered, after all its tries.
        """
        return Delivery(self._options, Verb.REMOVE, total).go(rows)

    def replace(self, rows: Iterable[pa.RecordBatch], *, total: int) -> UploadTotals:
        """Replace all people of the audience.

        Meta applies it some time after the last batch: see :meth:`wait_until_replaced`.

        The first batch is sent alone, since it starts the replace; then all others but the last, a few at once; then
        the last, which ends it. The first is never sent twice in one session: where its outcome is unknown, this waits
        until it can land no more, and goes on in that session if it has arrived, or in a new one if not.

        :param rows: everybody who shall be in the audience.
        :param total: how many they are, a hint for Meta.
        :returns: what was done; the last of its sessions is the one that replaces, others have never begun.
        :raises UsersError: there are no rows, and nothing was sent.
        :raises GraphBusyError: another replace or update is still going on.
        :raises GraphRetryableError: the session came near its 90 minutes, or broke; begin again with another.
        :raises GraphRowsRefusedError: Meta refused some rows, and took all others.
        :raises GraphError: a batch was refused or not answered, after all its tries.
        """
        totals = Replacing(self._options, Verb.REPLACE, total).go(rows)
        if not totals.requests:
            raise UsersError(
                "An audience cannot be replaced by nobody: Meta takes no empty batch.",
                remedy="Remove the people who may be in it instead.",
            )
        return totals

    def wait_until_replaced(self, session_id: int) -> None:
        """Wait until Meta is done with a replace whose last batch was acknowledged (rule S6).

        It is done once the audience reads as normal after it read as being replaced, or as changed since the first
        reading, or once the session reads as finished. The wait has a bound: by 90 minutes from now Meta has closed the
        session even if it lost the last batch, and half an hour is for its work. The log tells of the wait each minute,
        and ``before_request`` is called before each reading.

        :param session_id: the session that replaces, the last of those that :meth:`replace` returned.
        :raises GraphReplaceFailedError: Meta gave the replace up; begin again with another session.
        :raises GraphBusyError: two hours have passed and Meta has not said that it is done.
        :raises GraphFlaggedError: the audience takes no people any more.
        :raises GraphError: the audience cannot be read.
        """
        end = self.watch_replaces((session_id,), REPLACE_SECONDS)
        if end is ReplaceEnd.FAILED:
            raise GraphReplaceFailedError(
                "Meta could not complete the replace (operation_status 415).",
                remedy="Run the task again: it begins another session.",
            )
        if end is not ReplaceEnd.DONE:
            raise GraphBusyError(
                f"Meta has not said within {REPLACE_SECONDS / 60:.0f} minutes that the replace is done.",
                remedy="Look at the audience in Ads Manager, and run the task again once it reads as ready.",
            )

    def watch_replaces(self, session_ids: Collection[int], seconds: float) -> ReplaceEnd:
        """Read the audience until replaces are done, as for :meth:`wait_until_replaced`, or the time is over.

        :param session_ids: sessions that have got their last batch, or that Meta has ended.
        :param seconds: the longest time to wait; the audience is read once at least.
        :returns: how it ended.
        :raises GraphError: the audience cannot be read, or takes no people any more.
        """
        return ReplaceWatch(self._options, session_ids).wait(seconds)

    def wait_out_flights(self) -> None:
        """Wait until no write whose answer was given up can still land: what comes next would be undone by it."""
        self._options.wait_out_flights()

    def close_replace(self, session_id: int, rows: pa.RecordBatch, *, batch_seq: int, total: int) -> ReplaceState:
        """End a replace that was begun earlier, by sending its last batch.

        Meta then applies the batches that it has. The audience may be busy for a while, whatever this returns; only
        where the replace had never begun is there nothing to wait for.

        :param session_id: the session to close.
        :param rows: the rows of its last batch; so few of them are sent that no way to Meta finds them too large, and
            fewer where Meta refuses one of them.
        :param batch_seq: a number other than 1, since 1 would start the replace anew.
        :param total: rows of the whole session.
        :returns: whether it was closed now, or before, or had never begun at Meta, or whether Meta is at work.
        :raises GraphError: Meta refused it for another reason or did not answer, after all tries.
        """
        if batch_seq <= 1:
            raise OptionsError("batch_seq must be above 1: a batch with 1 starts the replace anew.")
        session = Session(session_id, batches=batch_seq - 1)
        run = Delivery(self._options, Verb.REPLACE, total)
        options = self._options
        few = rows.slice(0, FLOOR_ROWS)
        payload, count = next(payloads_within(few, options.max_payload_bytes, extra=options.payload_extra))
        try:
            run.sender.send(session.next_batch(payload, first_row=0, rows=count, last=True), session)
        except GraphError as error:
            if error.subcode in {REPLACE_FINISHED, REPLACE_TIMED_OUT}:
                return ReplaceState.CLOSED_BEFORE
            if error.subcode == REPLACE_NOT_BEGUN:
                return ReplaceState.NEVER_BEGUN
            if error.subcode == REPLACE_IN_PROGRESS:
                return ReplaceState.BUSY
            if count == 1 or not is_about_rows(error):
                raise
            # One of them is bad; any other closes it as well.
            return self.close_replace(session_id, few.slice(0, count // 2), batch_seq=batch_seq, total=total)
        return ReplaceState.CLOSED

    def erase(self, rows: Iterable[pa.RecordBatch], *, account_id: str) -> int:
        """Remove people from every customer list of an ad account, as for a request to be forgotten.

        Meta does nothing, and says nothing, where the account has no business or has not accepted the terms.

        :param rows: the people. Nothing but identifiers: ``LOOKALIKE_VALUE`` has no place here.
        :param account_id: the ad account, with or without ``act_``.
        :returns: how many requests were made.
        :raises GraphError: a batch was refused or not answered, after all its tries.
        """
        run = Delivery(self._options, Verb.ERASE, 0)
        sent = 0
        for parcel in run.parcels(rows):
            # Such requests know no session; this one only counts.
            session = Session(MAX_SESSION_ID)
            batch = session.next_batch(
                parcel.payload, first_row=parcel.piece.first_row, rows=len(parcel.piece), last=False
            )
            run.sender.send(batch, session, node=f"act_{account_number(account_id)}")
            sent += 1
        return sent
