"""Sending people to an audience: adding, removing, replacing, erasing.

.. seealso::
    https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences
    (sessions, batches, replacing)
"""

from __future__ import annotations

import logging
import time
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_fbca.exceptions import GraphError, OptionsError
from airflow_provider_fbca.graph.delivery import BatchAck, Delivery, Options, UploadTotals, Verb
from airflow_provider_fbca.graph.errors import REPLACE_FINISHED, REPLACE_NOT_BEGUN, REPLACE_TIMED_OUT
from airflow_provider_fbca.graph.ids import account_number, audience_number
from airflow_provider_fbca.graph.payload import payloads_within
from airflow_provider_fbca.graph.sessions import MAX_SESSION_ID, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import pyarrow as pa

    from airflow_provider_fbca.graph.api import GraphApi

__all__ = ["MAX_BATCH_ROWS", "MAX_SESSION_ID", "BatchAck", "ReplaceState", "UploadTotals", "UserUploader"]

log = logging.getLogger(__name__)

#: Meta's limit of rows in one request.
MAX_BATCH_ROWS: Final = 10_000
#: What a body holds beside its payload.
_ENVELOPE_BYTES: Final = 1024


class ReplaceState(Enum):
    """What became of a replace that was to be closed."""

    CLOSED = "closed"
    CLOSED_BEFORE = "closed before"
    NEVER_BEGUN = "never begun"


class UserUploader:
    """Adds, removes and replaces the people of one audience.

    Rows are record batches of any size, one column a key (see :func:`~airflow_provider_fbca.graph.payload.payload_json`
    for types). Each call begins a session, and another one before the first is 80 minutes old. A batch whose outcome is
    unknown is sent again where that is harmless.

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
    :param before_request: called right before every request, second tries included, from one thread at a time; what it
        raises stops everything.
    :param max_body_bytes: most bytes of a request; a batch that is larger goes as several.
    :param payload_extra: further members of every payload (``app_ids``, ``page_ids``, ``data_source``).
    :param clock: seconds that only grow, as :func:`time.monotonic` counts them; sessions age by it.
    :param sleep: waits in place of :func:`time.sleep` in :meth:`wait_out_flights`; what it raises ends the wait.
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
        self._sleep = sleep
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
        )

    def add(self, rows: Iterable[pa.RecordBatch], *, total: int) -> UploadTotals:
        """Add people; those who are in already are not harmed.

        :param rows: the people; without any, nothing is sent and no session begun.
        :param total: how many they are, a hint for Meta.
        :raises GraphError: a batch was refused or not answered, after all its tries.
        """
        return Delivery(self._options, Verb.ADD, total).go(rows)

    def remove(self, rows: Iterable[pa.RecordBatch], *, total: int) -> UploadTotals:
        """Remove people; those who are not in are not harmed. Ten thousand people are one request.

        :param rows: the people, with the identifiers that they were added with.
        :param total: how many they are, a hint for Meta.
        :raises GraphRemovalRefusedError: too few people would remain.
        :raises GraphError: a batch was refused or not answered, after all its tries.
        """
        return Delivery(self._options, Verb.REMOVE, total).go(rows)

    def replace(self, rows: Iterable[pa.RecordBatch], *, total: int) -> UploadTotals:
        """Replace all people of the audience. Meta applies it some time after the last batch.

        The first batch is sent alone, since it starts the replace; then all others but the last, a few at once; then
        the last, which ends it. The first is never sent again when its outcome is unknown.

        :param rows: everybody who shall be in the audience.
        :param total: how many they are, a hint for Meta.
        :raises GraphBusyError: another replace or update is still going on.
        :raises GraphRetryableError: the session came near its 90 minutes, or broke; begin again with another.
        :raises GraphError: a batch was refused or not answered, after all its tries.
        """
        return Delivery(self._options, Verb.REPLACE, total).go(rows)

    def wait_out_flights(self) -> None:
        """Wait until no write whose answer was given up can still land: what comes next would be undone by it."""
        api = self._options.api
        if api.unknown_since is None:
            return
        left = api.unknown_since + api.longest_flight - self._options.clock()
        if left > 0:
            log.warning("Meta left a request without an answer; waiting %.0f s until it can land no more.", left)
            self._sleep(left)

    def close_replace(self, session_id: int, rows: pa.RecordBatch, *, batch_seq: int, total: int) -> ReplaceState:
        """End a replace that was begun earlier, by sending its last batch.

        Meta then applies the batches that it has. The audience may be busy for a while, whatever this returns.

        :param session_id: the session to close.
        :param rows: the rows of its last batch, at most a batch of them.
        :param batch_seq: a number other than 1, since 1 would start the replace anew.
        :param total: rows of the whole session.
        :returns: whether it was closed now, or before, or had never begun at Meta.
        :raises GraphError: Meta refused it for another reason or did not answer, after all tries.
        """
        if batch_seq <= 1:
            raise OptionsError("batch_seq must be above 1: a batch with 1 starts the replace anew.")
        session = Session(session_id, self._options.clock())
        session.batches = batch_seq - 1
        run = Delivery(self._options, Verb.REPLACE, total)
        [(payload, count)] = payloads_within(rows, 2**62, extra=self._options.payload_extra)
        try:
            run.send(session.next_batch(payload, first_row=0, rows=count, last=True), session)
        except GraphError as error:
            if error.subcode in {REPLACE_FINISHED, REPLACE_TIMED_OUT}:
                return ReplaceState.CLOSED_BEFORE
            if error.subcode == REPLACE_NOT_BEGUN:
                return ReplaceState.NEVER_BEGUN
            raise
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
        for batch in run.batches(rows):
            # Such requests know no session; this one only counts.
            session = Session(MAX_SESSION_ID, self._options.clock())
            run.send(
                session.next_batch(batch.payload, first_row=batch.first_row, rows=batch.rows, last=False),
                session,
                node=f"act_{account_number(account_id)}",
            )
            sent += 1
        return sent
