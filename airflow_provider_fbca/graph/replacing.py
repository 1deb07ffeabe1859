"""A replace under way. What sets it apart is its first batch, which starts it at Meta.

.. seealso::
    https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences
    (replacing users)
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_fbca.exceptions import GraphError, GraphTransientError
from airflow_provider_fbca.graph.delivery import Delivery
from airflow_provider_fbca.graph.errors import REPLACE_NOT_BEGUN
from airflow_provider_fbca.graph.retry import repeat_unsent

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from airflow_provider_fbca.graph.delivery import Prepared
    from airflow_provider_fbca.graph.sessions import Session

log = logging.getLogger(__name__)

#: Sessions that one replace may take for its first batch to arrive.
_MOST_SESSIONS = 3


@dataclass
class Replacing(Delivery):
    """One replace: its first batch is never sent twice in one session (rule L9)."""

    def place(self, prepared: Prepared, session: Session | None, pool: ThreadPoolExecutor) -> Session | None:
        """Put a batch into its session and send it; returns the session for the next one."""
        if session is not None:
            return super().place(prepared, session, pool)
        return self._begin(prepared, pool)

    def _begin(self, prepared: Prepared, pool: ThreadPoolExecutor) -> Session | None:
        """Send the first batch, in further sessions where it turns out not to have arrived."""
        for _ in range(_MOST_SESSIONS):
            try:
                return super().place(prepared, None, pool)
            except GraphTransientError as error:
                lost = error
            if repeat_unsent(lost):
                break
            log.warning("Meta did not say whether it took the first batch of the replace; finding out.")
            # Only once it can land no more does its absence mean anything.
            self.options.wait_out_flights()
            try:
                return self._go_on(prepared, self.sessions[-1], pool)
            except GraphError as error:
                if error.subcode != REPLACE_NOT_BEGUN:
                    raise
            log.warning("It did not arrive: the replace begins anew, in another session.")
        raise lost

    def _go_on(self, prepared: Prepared, session: Session, pool: ThreadPoolExecutor) -> Session | None:
        """Send the rows of the first batch as a further one, which Meta refuses unless the first has arrived.

        Meta documents both: a number other than 1 may come in any order and more than once, and without a first batch
        it is refused. So the answer is surer than what any reading of the audience could tell.
        """
        batch = session.next_batch(
            prepared.payload, first_row=prepared.first_row, rows=prepared.rows, last=prepared.last
        )
        self.flying[pool.submit(self.send, batch, session, may_have_landed=True)] = session
        self.wait(0)
        return None if prepared.last else session
