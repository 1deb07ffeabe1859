"""What Meta made of an upload: of one batch, and of a whole call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_fbca.graph.sessions import Session

#: Positions of invalid rows that are kept; Meta shows as many for each batch.
_MOST_INVALID_ROWS = 100


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


@dataclass(slots=True)
class Tally:
    """Counts what is acknowledged; for the fields see :class:`UploadTotals`."""

    requests: int = 0
    rows: int = 0
    invalid: int = 0
    bytes: int = 0
    invalid_rows: list[int] = field(default_factory=list)

    def count(self, ack: BatchAck) -> None:
        """Take in a batch.

        :param ack: Meta's answer to it.
        """
        self.requests += 1
        self.rows += ack.rows
        self.invalid += ack.invalid
        self.invalid_rows += ack.invalid_rows[: _MOST_INVALID_ROWS - len(self.invalid_rows)]
        self.bytes += ack.size

    def totals(self, sessions: Iterable[Session], seconds: float) -> UploadTotals:
        """Return what the call did.

        :param sessions: in the order of their use.
        :param seconds: that it took.
        """
        sessions = tuple(sessions)
        return UploadTotals(
            requests=self.requests,
            rows=self.rows,
            received=sum(session.received for session in sessions),
            invalid=min(self.invalid, self.rows),
            session_ids=tuple(session.session_id for session in sessions),
            bytes=self.bytes,
            seconds=seconds,
            invalid_rows=tuple(sorted(self.invalid_rows)),
        )
