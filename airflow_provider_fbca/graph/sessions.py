"""Upload sessions: what Meta knows of one upload, batch by batch.

.. seealso::
    https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_provider_fbca.graph.payload import json_bytes

if TYPE_CHECKING:
    from airflow_provider_fbca.graph.outcome import BatchAck
    from airflow_provider_fbca.graph.payload import Payload

#: Session ids are 64-bit at Meta; JSON numbers are exact everywhere up to here.
MAX_SESSION_ID: Final = 2**53 - 1
#: A session lives 90 minutes from its first batch and drops later batches without an error.
SESSION_SECONDS: Final = 90 * 60.0
#: From this age on a session takes one last batch only.
ROLL_OVER_SECONDS: Final = 80 * 60.0
#: From this age on nothing more is sent in a session: the margin is for the request's own flight, if not longer.
TOO_OLD_SECONDS: Final = 88 * 60.0


@dataclass(frozen=True, slots=True, repr=False)
class Batch:
    """A batch in its place.

    :param session_id: its session.
    :param seq: its number in that session, from 1.
    :param last: whether it closes the session.
    :param payload: its people, as JSON.
    :param first_row: position of its first row among all rows of the call, from 0.
    :param rows: its rows.
    """

    session_id: int
    seq: int
    last: bool
    payload: Payload
    first_row: int
    rows: int

    def session_json(self, total: int) -> bytes:
        """The ``session`` member of the request.

        :param total: rows of the whole upload, a hint for Meta.
        """
        return json_bytes(
            {
                "session_id": self.session_id,
                "batch_seq": self.seq,
                "last_batch_flag": self.last,
                "estimated_num_total": total,
            }
        )


@dataclass(slots=True)
class Session:
    """What is known of one session.

    :param session_id: its id.
    :param flight: seconds that one of its requests may be on its way.
    :param begun: when its first request went out, on the uploader's clock; None before that. At Meta it begins when
        that arrives.
    :param batches: how many have been numbered.
    :param acknowledged: how many Meta has acknowledged.
    :param received: how many people Meta has counted.
    :param is_closed: whether Meta has acknowledged its last batch.
    """

    session_id: int
    flight: float = 0.0
    begun: float | None = None
    batches: int = 0
    acknowledged: int = 0
    received: int = 0
    is_closed: bool = False

    def begin(self, instant: float) -> None:
        """Take in that a request goes out; the first one begins it.

        :param instant: on the uploader's clock.
        """
        if self.begun is None:
            self.begun = instant

    def age(self, instant: float) -> float:
        """Return how many seconds it has lived.

        :param instant: on the uploader's clock.
        """
        return 0.0 if self.begun is None else instant - self.begun

    def is_old(self, instant: float) -> bool:
        """Whether it takes only one more batch, its last.

        :param instant: on the uploader's clock.
        """
        return self.age(instant) > ROLL_OVER_SECONDS

    def is_too_old(self, instant: float) -> bool:
        """Whether a batch sent now could arrive after its end.

        :param instant: on the uploader's clock.
        """
        return self.age(instant) > min(TOO_OLD_SECONDS, SESSION_SECONDS - self.flight)

    def is_over(self, instant: float) -> bool:
        """Whether it has ended, so that Meta may have dropped what came last.

        :param instant: on the uploader's clock.
        """
        return self.age(instant) >= SESSION_SECONDS

    def next_batch(self, payload: Payload, *, first_row: int, rows: int, last: bool) -> Batch:
        """Number the next batch.

        :param payload: its people, as JSON.
        :param first_row: position of its first row among all rows.
        :param rows: its rows.
        :param last: whether it closes the session.
        """
        self.batches += 1
        return Batch(self.session_id, self.batches, last, payload, first_row, rows)

    def take(self, ack: BatchAck) -> None:
        """Take in Meta's answer to one of its batches.

        :param ack: the answer.
        """
        self.acknowledged += 1
        self.is_closed = self.is_closed or ack.last
        # Meta counts from the session's beginning, and answers may overtake each other.
        self.received = max(self.received, ack.received or 0)
