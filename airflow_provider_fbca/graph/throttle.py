"""Staying under Meta's rate limits: when the next request to an ad account may go.

Meta counts by app and ad account, in several quotas at once, and tells with each answer how full they are. The rules:

* below 75 percent of every quota, requests go as they come;
* from 75 percent on, they are spaced so that they use no more than comes back meanwhile. What a request uses is what
  the percentage grew by, request by request; Meta's documented cost of a call is the least. Requests that are on their
  way count as if their answers had told of them. All of a quota of calls comes back within an hour (a rolling one), all
  of an ad account's score in ``reset_time_duration`` seconds, or in 300;
* from 90 percent on, no request goes until it should have come down to that, and then one at a time, as only an answer
  tells how full a quota really is. Of a rolling hour nothing may come back for long: so that what is left lasts for all
  of the hour, a request waits for as much of the hour as it takes of what is left;
* after an error of a limit, and where an answer names minutes to regain access, nothing goes until Meta's time is over:
  calls that fail count as well, and prolong it.

.. seealso::
    https://developers.facebook.com/documentation/ads-commerce/marketing-api/overview/rate-limiting (scores, quotas of
    calls by tier) and https://developers.facebook.com/docs/graph-api/overview/rate-limiting (headers, rolling hour)
"""

from __future__ import annotations

import logging
import math
import random
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from airflow_provider_fbca.exceptions import GraphThrottledError
from airflow_provider_fbca.graph.usage import SLOW_PERCENT, STOP_PERCENT

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from airflow_provider_fbca.graph.usage import Quota, Usage

log = logging.getLogger(__name__)

#: Shorter waits are not worth a line in the log.
_TOLD_SECONDS: Final = 5.0
#: Seconds between two looks whether the one request that may go has been answered.
_LOOK_SECONDS: Final = 0.2
#: Answers over which the mean share of a request is taken.
_REMEMBERED: Final = 20
#: How much longer than needed a wait is at most, at random, so that parallel tasks do not come back together.
_SPREAD: Final = 0.1
_MOMENT: Final = 1e-6
_MINUTES_FROM: Final = 100.0


@dataclass(slots=True)
class _Reading:
    """A quota as the answers have told it.

    :param quota: as of the last answer.
    :param at: when that answer came.
    :param share: percent of it that a request takes.
    :param answers: that the share is the mean of.
    """

    quota: Quota
    at: float
    share: float
    answers: int = 0

    def take(self, quota: Quota, now: float) -> None:
        """Take in what another answer tells."""
        came_back = self.quota.percent - self.percent(now) if quota.comes_back_evenly else 0.0
        # Answers overtake each other, and a rolling hour drops what is old: less than before tells nothing.
        grown = max(0.0, quota.percent - self.quota.percent + came_back)
        self.answers = min(self.answers + 1, _REMEMBERED)
        self.share += (grown - self.share) / self.answers
        self.quota, self.at = quota, now

    def percent(self, now: float) -> float:
        """How full it is, supposing that it comes back evenly and nobody uses it."""
        return max(0.0, self.quota.percent - (now - self.at) * 100 / self.quota.window)

    @property
    def cost(self) -> float:
        """Percent of it that the next request is taken to use."""
        return max(self.share, self.quota.least_share)

    def spacing(self, now: float, flying: int) -> float:
        """Seconds between two requests that use no more than comes back meanwhile; 0 while there is room."""
        if self.percent(now) + flying * self.cost < SLOW_PERCENT:
            return 0.0
        return min(1.0, self.cost / 100) * self.quota.window

    def is_nearly_full(self, now: float, flying: int) -> bool:
        """Whether it may be so full, once what is flying has been counted, that only an answer can tell."""
        return self.percent(now) > 0.0 and self.quota.percent + flying * self.cost >= STOP_PERCENT

    def pause(self, now: float) -> float:
        """Seconds until a request may go although it is nearly full; 0 where it is not."""
        percent = self.quota.percent
        if percent < STOP_PERCENT:
            return 0.0
        wait = (percent - STOP_PERCENT) / 100
        if not self.quota.comes_back_evenly:
            left = max(1.0, 100 - percent)
            wait = max(wait, self.cost / left)
        # Where others use the quota too, a request seems to take more than it does; but all comes back in time.
        return max(0.0, self.at + min(1.0, wait) * self.quota.window - now)


@dataclass(eq=False)
class Budget:
    """What one app may still ask of one ad account; shared by all threads and connections of the process.

    :param whose: the ad account, in words.
    :param clock: seconds that only grow.
    """

    whose: str
    clock: Callable[[], float] = field(repr=False)
    _readings: dict[str, _Reading] = field(default_factory=dict, repr=False)
    _blocked_until: float = field(default=-math.inf, repr=False)
    _last: float = field(default=-math.inf, repr=False)
    _flying: int = field(default=0, repr=False)
    _told_until: float = field(default=-math.inf, repr=False)
    # Held for moments only, never during a pause: the answers of calls that are flying must get in.
    _changed: threading.Condition = field(default_factory=threading.Condition, repr=False)

    def due_in(self) -> float:
        """Seconds that the next request has to wait now; 0 where it may go."""
        with self._changed:
            return self._due(self.clock())

    def learn(self, usage: Usage) -> None:
        """Take in what the headers of an answer tell.

        :param usage: read from them.
        """
        with self._changed:
            now = self.clock()
            for quota in usage.quotas:
                reading = self._readings.get(quota.name)
                if reading is None:
                    self._readings[quota.name] = _Reading(quota, now, quota.least_share)
                else:
                    reading.take(quota, now)
            self._block(now + usage.regain_seconds)

    def refuse_for(self, seconds: float) -> None:
        """Let nothing go for a while, since Meta has refused a request over a limit.

        :param seconds: that Meta asks to wait.
        """
        with self._changed:
            self._block(self.clock() + seconds)

    @contextmanager
    def turn(self, *, sleep: Callable[[float], None], at_most: float) -> Iterator[None]:
        """Wait until a request may go, which is then made inside.

        :param sleep: waits; what it raises ends the wait.
        :param at_most: most seconds to wait at once.
        :raises GraphThrottledError: it would take longer; nothing was sent.
        """
        self._wait(sleep, at_most)
        try:
            yield
        finally:
            with self._changed:
                self._flying -= 1
                self._changed.notify_all()

    def _wait(self, sleep: Callable[[float], None], at_most: float) -> None:
        began, slept = self.clock(), 0.0
        while True:
            with self._changed:
                # A pause lasts as long as was asked for, or longer: whichever is more has passed.
                now = max(self.clock(), began + slept)
                due = self._due(now)
                if not due:
                    if not self._must_stay_alone(now):
                        self._flying += 1
                        self._last = now
                        return
                    self._changed.wait(_LOOK_SECONDS)
            if due > at_most:
                raise GraphThrottledError(
                    f"Meta's rate limit of {self.whose} leaves no room for a request now.",
                    remedy=f"The next one may go in {in_words(due)}.",
                    wait_seconds=due,
                )
            pause = due * (1 + _SPREAD * random.random()) if due else _LOOK_SECONDS
            self._tell(now, due)
            sleep(pause)
            slept += pause

    def _due(self, now: float) -> float:
        # Where Meta has named a time, its word counts, and not what we reckon from what was told before its end.
        readings = [reading for reading in self._readings.values() if reading.at >= self._blocked_until]
        spaced = self._last + max((reading.spacing(now, self._flying) for reading in readings), default=0.0) - now
        paused = max((reading.pause(now) for reading in readings), default=0.0)
        due = max(self._blocked_until - now, spaced, paused)
        return due if due > _MOMENT else 0.0

    def _must_stay_alone(self, now: float) -> bool:
        """Whether the answers to the requests that are flying have to be waited for."""
        flying = self._flying
        return flying > 0 and any(reading.is_nearly_full(now, flying) for reading in self._readings.values())

    def _block(self, until: float) -> None:
        self._blocked_until = max(self._blocked_until, until)

    def _tell(self, now: float, due: float) -> None:
        """Log a wait, once for all the threads that wait for the same."""
        with self._changed:
            if due < _TOLD_SECONDS or now + due <= self._told_until + _TOLD_SECONDS:
                return
            self._told_until = now + due
        log.warning("Meta's rate limit of %s: waiting %s.", self.whose, in_words(due))


def in_words(seconds: float) -> str:
    """Tell a wait and its end, such as ``4 minutes, until 14:32 UTC``.

    :param seconds: from now on.
    """
    now = datetime.now(UTC)
    if seconds < _MINUTES_FROM:
        end = now + timedelta(seconds=math.ceil(seconds))
        return f"{math.ceil(seconds)} seconds, until {end:%H:%M:%S} UTC"
    minutes = math.ceil(seconds / 60)
    # A minute is named by its beginning, which must not be before the end.
    end = now + timedelta(seconds=seconds + 59)
    day = "" if end.date() == now.date() else f"{end:%Y-%m-%d} "
    return f"{minutes} minutes, until {day}{end:%H:%M} UTC"


_budgets: Final[dict[Hashable, Budget]] = {}
_budgets_lock: Final = threading.Lock()


def budget_for(host: str, caller: Hashable, node: str, *, whose: str, clock: Callable[[], float]) -> Budget:
    """Return the process's one budget of an ad account.

    :param host: where the Graph API is.
    :param caller: the app, or the token where the app is not known; never shown.
    :param node: digits of the ad account; another node of the Graph where its account is not known.
    :param whose: the ad account, in words.
    :param clock: seconds that only grow; budgets by other clocks are others.
    """
    with _budgets_lock:
        return _budgets.setdefault((host, caller, node, clock), Budget(whose, clock))


def forget_budgets() -> None:
    """Forget what all answers have told, for tests, whose servers begin anew."""
    with _budgets_lock:
        _budgets.clear()
