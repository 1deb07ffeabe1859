"""When a call is made again, and after which pause."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception

from airflow_provider_fbca.exceptions import GraphError, GraphThrottledError, GraphTransientError
from airflow_provider_fbca.graph.errors import ALIAS_UNKNOWN

T = TypeVar("T")

_SLOWER = 4
#: What a refusal by a rate limit counts for at least, so that short ones do not make for many tries.
_LEAST_REFUSAL_SECONDS = 60.0

#: Decides on an error whether the call that raised it may be made again.
Repeatable = Callable[[BaseException], bool]


def repeat_any(error: BaseException) -> bool:
    """For calls that do the same when made twice: every passing fault is worth another try.

    :param error: what the call raised.
    """
    return isinstance(error, GraphThrottledError | GraphTransientError)


def repeat_unsent(error: BaseException) -> bool:
    """For calls that must not be made twice: only where Meta surely did not act on the first.

    That is a refusal by a rate limit, or a connection that never came about.

    :param error: what the call raised.
    """
    if isinstance(error, GraphThrottledError):
        return True
    return isinstance(error, GraphTransientError) and error.http_status is None and not error.outcome_unknown


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long one call is tried.

    After a passing fault the pause doubles from ``first_pause`` to ``longest_pause``, each time cut at random to
    between its half and its whole, so that parallel tasks do not come back together. After a rate limit there is no
    pause here: all calls to the ad account wait then, before their next try, in
    :mod:`airflow_provider_fbca.graph.throttle`.

    :param attempts: tries in all, without those that a rate limit refused.
    :param first_pause: seconds before the second try.
    :param longest_pause: most seconds between two tries after a fault.
    :param throttle_pause: most seconds to wait at once for a rate limit; beyond, the error is raised. A call that was
        refused ``attempts`` times waits no longer than that in all, either.
    :param total: most seconds of all pauses after faults of one call together.
    :param sleep: what waits in place of :func:`time.sleep`, for tests.
    """

    attempts: int = 5
    first_pause: float = 1.0
    longest_pause: float = 30.0
    throttle_pause: float = 300.0
    total: float = 600.0
    sleep: Callable[[float], None] | None = None

    def run(
        self,
        call: Callable[[], T],
        *,
        repeatable: Repeatable,
        sleep: Callable[[float], None] | None = None,
    ) -> T:
        """Make a call, and again while its error is repeatable and the bounds allow.

        :param call: makes one try.
        :param repeatable: whether an error may be followed by another try.
        :param sleep: waits in place of :func:`time.sleep`, so that a pause can be cut short.
        :returns: what the call returned.
        :raises BaseException: the last try's error.
        """
        wait = self.sleeper(sleep)
        refusals: list[float] = []
        return Retrying(
            retry=retry_if_exception(repeatable),
            wait=self._pause,
            stop=lambda state: self._enough(state, refusals),
            sleep=lambda seconds: wait(seconds) if seconds else None,
            reraise=True,
        )(call)

    def sleeper(self, sleep: Callable[[float], None] | None) -> Callable[[float], None]:
        """What waits for a call.

        :param sleep: of the call, None where it has none.
        """
        return self.sleep or sleep or time.sleep

    def _enough(self, state: RetryCallState, refusals: list[float]) -> bool:
        """Tell whether the last try was the last.

        :param refusals: seconds of the waits that rate limits have asked for so far; those of the last are added.
        """
        error = _error_of(state)
        if isinstance(error, GraphThrottledError):
            refusals.append(max(error.wait_seconds, _LEAST_REFUSAL_SECONDS))
            is_often = len(refusals) >= self.attempts
            return max(error.wait_seconds, sum(refusals) if is_often else 0.0) > self.throttle_pause
        return (
            state.attempt_number - len(refusals) >= self.attempts
            or state.idle_for + self._least_pause(state) > self.total
        )

    def _pause(self, state: RetryCallState) -> float:
        return self._least_pause(state) * (1 + random.random())

    def _least_pause(self, state: RetryCallState) -> float:
        error = _error_of(state)
        if isinstance(error, GraphThrottledError):
            return 0.0
        # Meta may take a minute to know a new audience everywhere, far longer than a fault usually lasts.
        first = self.first_pause * (_SLOWER if error is not None and error.code == ALIAS_UNKNOWN else 1)
        return float(min(self.longest_pause, first * 2 ** (state.attempt_number - 1))) / 2


def _error_of(state: RetryCallState) -> GraphError | None:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, GraphError) else None
