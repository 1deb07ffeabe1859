"""Whether a replace can be sent within its session, told before it begins, or as early as its own speed shows it.

Meta applies after 90 minutes what it has got until then, so that a replace that does not fit would leave a part of its
list in the audience.

.. seealso::
    https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences
    (replacing users)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_provider_fbca.exceptions import GraphRetryableError
from airflow_provider_fbca.graph.sessions import ROLL_OVER_SECONDS

if TYPE_CHECKING:
    from airflow_provider_fbca.graph.options import Options
    from airflow_provider_fbca.graph.sessions import Session

_MINUTE: Final = 60.0
#: Speed is judged from this age of the session on, and once so many batches for each thread tell it.
_JUDGED_FROM_SECONDS: Final = 10 * _MINUTE
_JUDGED_BATCHES: Final = 3
#: How many times longer than it may the rest has to take: a line may become faster, and what was begun be wasted.
_TOO_SLOW: Final = 1.5
_REMEDY: Final = (
    "Meta will apply the part that it has 90 minutes after its beginning. Wait for that, then run the task again with "
    'a higher max_concurrency or on a faster line, or use strategy="delta".'
)


@dataclass(slots=True)
class Pace:
    """The speed of one replace.

    :param options: of the uploader.
    :param total: rows to send.
    """

    options: Options
    total: int
    _since: float = math.inf
    _rows: int = 0
    _batches: int = 0

    def check_quota(self) -> None:
        """Look, before the first batch, whether the rate limits leave room for all of them.

        :raises GraphRetryableError: they do not.
        """
        options = self.options
        requests = math.ceil(self.total / options.batch_size)
        seconds = options.due_in() + options.api.usage.minutes_for(requests) * _MINUTE
        if seconds > ROLL_OVER_SECONDS:
            raise GraphRetryableError(
                f"The replace was not begun: under Meta's rate limit its {requests:,} requests take "
                f"{seconds / _MINUTE:.0f} minutes at least, and Meta gives it 90.",
                remedy="Raise batch_size (10,000 at most), wait until less of the limit is used, or use "
                'strategy="delta".',
            )

    def count(self, rows: int) -> None:
        """Take in that a batch was acknowledged.

        :param rows: of that batch.
        """
        if self._since == math.inf:
            # The first batch goes alone, so that its own speed tells nothing of the others'.
            self._since = self.options.clock()
            return
        self._rows += rows
        self._batches += 1

    def check(self, session: Session, sent: int) -> None:
        """Look whether the rest can be sent in time.

        :param session: of the replace.
        :param sent: rows that were acknowledged.
        :raises GraphRetryableError: surely not, or the session is too old already.
        """
        now = self.options.clock()
        age = session.age(now)
        left = ROLL_OVER_SECONDS - age - self.options.due_in()
        if left <= 0:
            raise GraphRetryableError(
                f"The replace is 80 minutes old and not all sent ({sent:,} of {self.total:,} rows): Meta would drop "
                "what comes after 90 minutes.",
                remedy=_REMEDY,
            )
        if age < _JUDGED_FROM_SECONDS or self._batches < _JUDGED_BATCHES * self.options.max_concurrency:
            return
        needed = (self.total - sent) / self._rows * (now - self._since)
        if needed > _TOO_SLOW * left:
            raise GraphRetryableError(
                f"The replace is too slow for the 90 minutes that Meta gives it: {sent:,} of {self.total:,} rows were "
                f"sent in {age / _MINUTE:.0f} minutes; the others would take {needed / _MINUTE:.0f} more.",
                remedy=_REMEDY,
            )
