"""A replace under way. What sets it apart is its first batch, which starts it at Meta.

.. seealso::
    https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences
    (replacing users)
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from airflow_provider_fbca.exceptions import GraphError, GraphTransientError
from airflow_provider_fbca.graph.complaints import may_be_about_size
from airflow_provider_fbca.graph.delivery import Delivery, Flight
from airflow_provider_fbca.graph.errors import REPLACE_NOT_BEGUN
from airflow_provider_fbca.graph.pace import Pace
from airflow_provider_fbca.graph.retry import repeat_unsent
from airflow_provider_fbca.graph.sending import Why
from airflow_provider_fbca.graph.sizes import FLOOR_ROWS

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_provider_fbca.graph.chunks import Piece
    from airflow_provider_fbca.graph.delivery import Parcel
    from airflow_provider_fbca.graph.outcome import BatchAck
    from airflow_provider_fbca.graph.sessions import Session

log = logging.getLogger(__name__)

#: Sessions that one replace may take for its first batch to arrive.
_MOST_SESSIONS = 3
#: A replace is one session, so that nothing of it can go in another.
_WAYS: Final = frozenset(Why) - {Why.AGE}


@dataclass
class Replacing(Delivery):
    """One replace: its first batch is never sent twice in one session (rule L9)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.pace = Pace(self.options, self.total)

    def _report(self, ack: BatchAck, flight: Flight) -> None:
        super()._report(ack, flight)
        self.pace.count(ack.rows)

    def _place(self, parcel: Parcel, *, closes: bool = False) -> None:
        """Put a parcel into the session and send it; the first in further sessions where it has not arrived."""
        if self.session is not None:
            super()._place(parcel, closes=closes)
            return
        for _ in range(_MOST_SESSIONS):
            try:
                super()._place(parcel, closes=closes)
            except GraphTransientError as error:
                lost = error
            else:
                self._forget_refused()
                return
            if repeat_unsent(lost):
                break
            log.warning("Meta did not say whether it took the first batch of the replace; finding out.")
            # Only once it can land no more does its absence mean anything.
            self.options.wait_out_flights()
            try:
                self._go_on(parcel.piece, self.sessions[-1], closes=closes)
            except GraphError as error:
                if error.subcode != REPLACE_NOT_BEGUN:
                    raise
            else:
                self._forget_refused()
                return
            log.warning("It did not arrive: the replace begins anew, in another session.")
            if may_be_about_size(lost) and len(parcel.piece) > FLOOR_ROWS:
                self.returned.extendleft(reversed(parcel.piece.cut(max(FLOOR_ROWS, len(parcel.piece) // 2))))
                return
        raise lost

    def _go_on(self, piece: Piece, session: Session, *, closes: bool) -> None:
        """Send the rows of the first batch as further ones, which Meta refuses unless the first has arrived.

        Meta documents both: a number other than 1 may come in any order and more than once, and without a first batch
        it is refused. So the answer is surer than what any reading of the audience could tell. It is asked by a few
        of the rows, in case the first batch was too large; the others follow.
        """
        if closes:
            # All of them may be in, and the session closed.
            piece = replace(piece, may_have_closed=session)
        parcel = next(self._written(piece.part(0, FLOOR_ROWS)))
        others = piece.part(len(parcel.piece), len(piece))
        self._send(self._batch(parcel, session, closes=closes and not others), Flight(parcel.piece, session))
        self._wait_for_all()
        self.session = None if session.is_closed else session
        if others:
            self.returned.append(others)

    def _forget_refused(self) -> None:
        """Begin anew, in another session, where the first batch came back: none has two first batches."""
        if self.session and not self.session.acknowledged:
            self.session = None

    def _ways(self, session: Session) -> Collection[Why]:
        """Return for what reasons a batch may come back: the first one not where it may have begun the replace."""
        return _WAYS if session.acknowledged else _WAYS - {Why.SEEMS_TOO_LARGE}

    def _session_for(self) -> tuple[Session, bool]:
        """Return the session of the replace, the only one that it can have."""
        if self.session is None:
            if not self.sessions:
                self.pace.check_quota()
            return self._new_session(), False
        self.pace.check(self.session, self.tally.rows)
        return self.session, False
