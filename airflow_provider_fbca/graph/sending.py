"""One batch on its way: its tries, its answer, and whether its rows have to go another way.

.. seealso::
    https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from airflow_provider_fbca.exceptions import GraphError, GraphRetryableError, GraphThrottledError
from airflow_provider_fbca.graph.complaints import is_about_rows, is_about_size, may_be_about_size
from airflow_provider_fbca.graph.errors import ALIAS_UNKNOWN, REPLACE_FINISHED
from airflow_provider_fbca.graph.options import Verb
from airflow_provider_fbca.graph.outcome import BatchAck
from airflow_provider_fbca.graph.retry import repeat_any, repeat_unsent
from airflow_provider_fbca.graph.samples import sampled_rows
from airflow_provider_fbca.graph.sizes import FLOOR_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from airflow_provider_fbca.graph.options import Options
    from airflow_provider_fbca.graph.payload import Payload
    from airflow_provider_fbca.graph.retry import Repeatable
    from airflow_provider_fbca.graph.sessions import Batch, Session
    from airflow_provider_fbca.graph.window import Window


class Why(Enum):
    """Why the rows of a batch go another way."""

    #: Its session is over, or nearly: Meta would drop it without a word.
    AGE = "age"
    #: It was refused for its size.
    TOO_LARGE = "too large"
    #: It failed twice in a row as batches do that are too large, and may have been applied.
    SEEMS_TOO_LARGE = "seems too large"
    #: It was refused for what is in it.
    ROWS = "rows"


class SentBackError(Exception):
    """A batch is not acknowledged, and its rows go another way.

    :param why: what is to be done with them.
    :param error: Meta's refusal, if there was one; of a session's age, the rate limit that the batch waited for.
    :param may_have_closed: whether one of its requests may have closed its session.
    """

    def __init__(self, why: Why, error: GraphError | None = None, *, may_have_closed: bool = False) -> None:
        self.why = why
        self.error = error
        self.may_have_closed = may_have_closed
        super().__init__(why.value)


class StoppedError(Exception):
    """Another batch failed, so this one was not sent (again)."""


@dataclass(frozen=True)
class BatchSender:
    """Sends the batches of one call. Its methods may run in any thread.

    :param options: of the uploader.
    :param verb: what is done with the people.
    :param total: rows of the call, a hint for Meta.
    :param window: told of every try that failed for a reason that passes.
    :param pause: waits between two tries.
    :param stop: set once no further request is wanted.
    """

    options: Options
    verb: Verb
    total: int
    window: Window
    pause: Callable[[float], None]
    stop: threading.Event = field(default_factory=threading.Event)

    def send(
        self,
        batch: Batch,
        session: Session,
        *,
        node: str | None = None,
        may_have_closed: bool = False,
        ways: Collection[Why] = (),
    ) -> BatchAck:
        """Send one batch, with its tries, and read the answer.

        :param batch: what to send.
        :param session: that it belongs to.
        :param node: whose edge takes it; the audience's by default.
        :param may_have_closed: whether an earlier request of these rows may have closed the session.
        :param ways: for what reasons the caller can send its rows another way.
        :raises SentBackError: they have to go another way.
        :raises GraphError: the batch was refused or not answered, after all its tries.
        """
        options = self.options
        members: dict[str, bytes | Payload] = {"payload": batch.payload}
        if self.verb is not Verb.ERASE:
            members["session"] = batch.session_json(self.total)
        # A replace's first batch starts it: a second one could start it twice.
        starts = self.verb is Verb.REPLACE and batch.seq == 1
        tries = _Tries(repeat_unsent if starts else repeat_any, batch, ways, may_have_closed=may_have_closed)

        def before_try() -> None:
            if self.stop.is_set():
                raise StoppedError
            options.ask_before_request()
            tries.began = options.clock()
            session.begin(tries.began)
            if session.is_too_old(tries.began):
                raise SentBackError(Why.AGE, tries.limit) if Why.AGE in ways else out_of_time()

        def repeatable(error: BaseException) -> bool:
            if repeat_any(error):
                self.window.fail(tries.began, options.clock())
            return tries.repeatable(error)

        method, edge = self.verb.value
        started = options.clock()
        try:
            answer = options.api.send(
                method,
                (node or options.audience_id, edge),
                members,
                repeatable=repeatable,
                before_try=before_try,
                sleep=self.pause,
            )
        except GraphError as error:
            # Our own earlier try had got through: the session it closed is the one that is now finished.
            if not (tries.may_have_closed and error.subcode == REPLACE_FINISHED):
                why = tries.why_back(error)
                if why is None:
                    raise
                # Its frames refer to it in turn, and would keep the body until the next full garbage collection.
                error.with_traceback(None)
                raise SentBackError(why, error, may_have_closed=tries.may_have_closed) from None
            answer = {}
        if Why.AGE in ways and session.is_over(options.clock()):
            # A process may be held up between the check and the request, and Meta tells nobody what it drops.
            raise SentBackError(Why.AGE)
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


class _Tries:
    """What the tries of one batch have taught so far."""

    def __init__(self, safe: Repeatable, batch: Batch, ways: Collection[Why], *, may_have_closed: bool) -> None:
        self.began = -math.inf
        self.may_have_closed = may_have_closed
        #: The rate limit that refused the last try; None where it was another error.
        self.limit: GraphThrottledError | None = None
        self._safe = safe
        # Not the batch itself: what decides on tries outlives them for a while, and its body shall not.
        self._last = batch.last
        # What is small is no smaller in parts.
        self._ways = ways if batch.rows > FLOOR_ROWS else set(ways) - {Why.TOO_LARGE, Why.SEEMS_TOO_LARGE}
        self._seemed_too_large = False
        self._seems_too_large = False

    def repeatable(self, error: BaseException) -> bool:
        self.limit = error.with_traceback(None) if isinstance(error, GraphThrottledError) else None
        # An audience that Meta has only just created may not be known everywhere yet.
        if isinstance(error, GraphError) and error.code == ALIAS_UNKNOWN:
            return True
        again = self._safe(error)
        if again and self._last and not repeat_unsent(error):
            self.may_have_closed = True
        seems = may_be_about_size(error)
        self._seems_too_large = seems and self._seemed_too_large and Why.SEEMS_TOO_LARGE in self._ways
        self._seemed_too_large = seems
        return again and not self._seems_too_large

    def why_back(self, error: GraphError) -> Why | None:
        """Return why the rows go another way after their last try; None where the error ends the upload."""
        if self._seems_too_large:
            return Why.SEEMS_TOO_LARGE
        if Why.TOO_LARGE in self._ways and is_about_size(error):
            return Why.TOO_LARGE
        return Why.ROWS if Why.ROWS in self._ways and is_about_rows(error) else None


def out_of_time() -> GraphRetryableError:
    """Return the error of a batch that no session takes in time."""
    return GraphRetryableError(
        "The upload session came near its 90 minutes before a batch got through.",
        remedy="Run the task again: it begins another session.",
    )


def _count(value: object) -> int | None:
    """A count of Meta's, which comes as a number or as text, or not at all."""
    if isinstance(value, bool):
        return None
    try:
        return max(0, int(str(value)))
    except (TypeError, ValueError, OverflowError):
        return None
