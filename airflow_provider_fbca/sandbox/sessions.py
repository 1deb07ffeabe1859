"""Upload sessions: the ``session`` parameter and what Meta keeps of each session.

Source: the Custom Audience guide, "Session object", and the sessions edge
(https://developers.facebook.com/docs/marketing-api/reference/custom-audience-session).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_fbca.sandbox import errors

if TYPE_CHECKING:
    from airflow_provider_fbca.sandbox.params import Params

#: How long a session lives from its first batch.
SESSION_SECONDS = 90 * 60
_MOST_SESSION_ID = 2**63 - 1
_DIGITS = re.compile("[0-9]{1,19}")


@dataclass(frozen=True)
class BatchPlace:
    """Where a batch stands in its session: the ``session`` parameter.

    :param session_id: chosen by the client.
    :param batch_seq: number of the batch from 1; add and remove may leave it out.
    :param is_last: ``last_batch_flag``.
    """

    session_id: int
    batch_seq: int | None
    is_last: bool


@dataclass
class Session:
    """One upload session of an ad account.

    :param session_id: unique within the ad account.
    :param audience_id: the audience that it loads; ``""`` for a removal from all of an account's audiences.
    :param kind: which edge it began on.
    :param started_at: instant of its first batch.
    :param received: rows received, cumulative.
    :param invalid: rows found invalid, cumulative.
    :param discarded: rows that came after the end of its time and were dropped without a word.
    :param batches: batches that were accepted.
    :param finished_at: when its last batch came.
    :param keys: the schema of its first batch.
    """

    session_id: int
    audience_id: str
    kind: Literal["users", "replace"]
    started_at: float
    received: int = 0
    invalid: int = 0
    discarded: int = 0
    batches: int = 0
    finished_at: float | None = None
    keys: tuple[str, ...] = ()

    @property
    def ends_at(self) -> float:
        """When it closed, or when Meta will close it."""
        return self.finished_at if self.finished_at is not None else self.started_at + SESSION_SECONDS

    def is_late(self, now: float) -> bool:
        """Whether its 90 minutes passed without a last batch."""
        return self.finished_at is None and now >= self.ends_at

    def count(self, received: int, invalid: int) -> None:
        """Take a batch into the totals."""
        self.received += received
        self.invalid += invalid
        self.batches += 1

    def as_graph(self, now: float, *, at_work: bool = False) -> dict[str, str]:
        """Return the session as the sessions edge shows it: all strings.

        The words of ``stage`` are ours, as Meta documents none.

        :param at_work: whether what it brought is still being applied.
        """
        is_open = now < self.ends_at
        is_done = not (is_open or at_work)
        return {
            "session_id": str(self.session_id),
            "start_time": str(int(self.started_at)),
            "end_time": "0" if is_open else str(int(self.ends_at)),
            "num_received": str(self.received),
            "num_matched": "-1" if is_open else str(self.received - self.invalid),
            "num_invalid_entries": str(self.invalid),
            "progress": "100" if is_done else "0",
            "stage": "finished" if is_done else "uploading" if is_open else "processing",
        }


def read_place(params: Params, *, required: bool) -> BatchPlace | None:
    """Check the ``session`` parameter.

    :param required: as on usersreplace; the users edge makes a session itself where none was sent.
    :raises GraphError: code 100, with what is wrong.
    """
    session = params.json("session")
    if session is None:
        if required:
            raise errors.missing_parameter("session")
        return None
    if not isinstance(session, dict):
        raise errors.invalid_parameter("session must be an object")
    batch_seq = _positive(session.get("batch_seq"), "batch_seq") if "batch_seq" in session else None
    if required and batch_seq is None:
        raise errors.missing_parameter("session.batch_seq")
    return BatchPlace(
        session_id=_positive(session.get("session_id"), "session_id"),
        batch_seq=batch_seq,
        is_last=_flag(session.get("last_batch_flag", False)),
    )


def _positive(value: object, name: str) -> int:
    number = int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= _MOST_SESSION_ID:
        raise errors.invalid_parameter(f"session.{name} must be a positive 64-bit whole number")
    return number


def _flag(value: Any) -> bool:
    if value in (True, 1, "true", "1"):
        return True
    if value in (False, 0, "false", "0"):
        return False
    raise errors.invalid_parameter("session.last_batch_flag must be true or false")
