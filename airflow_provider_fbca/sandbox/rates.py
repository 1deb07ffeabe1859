"""Rate limits: what an app has used up for each ad account, the headers that tell it, and who calls too early.

Meta keeps two limits for each app and ad account. The business use case limit counts calls in a rolling hour; the
score of the ad account adds points, one for a read and three for a write, and decays. CPU and wall time count too; how
much is documented nowhere, so here they follow the calls.

Sources: https://developers.facebook.com/docs/graph-api/overview/rate-limiting and
https://developers.facebook.com/documentation/ads-commerce/marketing-api/overview/rate-limiting.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from airflow_provider_fbca.sandbox import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_fbca.sandbox.settings import Settings

_CALLS_FOR_AN_AUDIENCE = 40
_MOST_CALLS = 700_000
_READ_POINTS, _WRITE_POINTS = 1, 3
_DECAY_SECONDS = 300.0
_MINUTE = 60
_CPU_SHARE, _TIME_SHARE = 0.4, 0.35
# Meta allows 200 calls an hour for each user of an app; only calls that are not about an ad account count for this.
_APP_CALLS, _APP_WINDOW_SECONDS = 200 * 1000, 3600.0
#: Graph's code for a limit of the whole app; any other limit is one of an ad account.
_APP_LIMIT = 4


@dataclass(frozen=True)
class Tier:
    """What Meta allows an app.

    :param shown: its name in the usage headers, which have kept the names that it had once.
    :param calls: an hour to the audiences of one ad account; each audience adds 40.
    :param score: the most points.
    :param block_seconds: how long calls are refused once the score is reached.
    """

    shown: str
    calls: int
    score: int
    block_seconds: float


TIERS = {
    "limited": Tier("development_access", 5_000, 60, 300.0),
    "full": Tier("standard_access", 190_000, 9_000, 60.0),
}


class Throttled(JSONResponse):
    """An error that tells of a limit.

    :param error: what it says.
    :param status: HTTP status.
    :param minutes: to wait, as the usage header shall say; None for what the ad account's usage is.
    :param retry_after: seconds for ``Retry-After``; None for no such header.
    """

    def __init__(
        self, error: errors.GraphError, status: int, *, minutes: int | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(error.body(), status_code=status)
        self.label = error.label
        self.is_of_the_app = error.code == _APP_LIMIT
        self.minutes = minutes
        self.retry_after = retry_after


@dataclass
class Told:
    """That callers have been told to wait.

    :param until: instant on the sandbox's clock; 0 if they have not.
    :param since: when the answer with it went out, in real time.
    """

    until: float = 0.0
    since: float = 0.0

    def tell(self, until: float, now: float, real_now: float) -> None:
        """Note that an answer asks to wait; who was told before knows it since then."""
        if self.until <= now:
            self.since = real_now
        self.until = max(self.until, until)

    def forbids(self, at: float, arrived: float) -> bool:
        """Say whether a caller should have known better.

        :param at: when the call came, on the sandbox's clock.
        :param arrived: the same in real time, less what the answer may have taken to be heard.
        """
        return at < self.until and arrived > self.since


@dataclass
class Meter:
    """What the app has used up for one ad account.

    :param calls: instants of the calls in the window.
    :param score: points when they were last counted.
    :param scored_at: when that was.
    :param regain_at: when calls are let in again after the limit of calls was reached.
    :param unblocked_at: the same after the score was reached.
    :param shown_until: what an injected fault lets the usage header say.
    :param told: what callers know.
    :param too_early: calls that came although their caller knew better.
    """

    calls: deque[float] = field(default_factory=deque)
    score: float = 0.0
    scored_at: float = 0.0
    regain_at: float = 0.0
    unblocked_at: float = 0.0
    shown_until: float = 0.0
    told: Told = field(default_factory=Told)
    too_early: int = 0

    def count(self, settings: Settings, quota: int, now: float, *, writes: bool) -> None:
        """Count a call; also one that is refused counts, so that hammering prolongs the wait."""
        tier = TIERS[settings.access_tier]
        self.update(settings, now)
        self.calls.append(now)
        if settings.rate_limits and len(self.calls) > quota:
            room_at = self.calls[-quota] + settings.rate_window_seconds
            self.regain_at = max(self.regain_at, now + _MINUTE * ceil((room_at - now) / _MINUTE))
        self.score += _WRITE_POINTS if writes else _READ_POINTS
        if self.score > tier.score:
            self.score = tier.score
            if settings.score_limits:
                self.unblocked_at = now + tier.block_seconds

    def update(self, settings: Settings, now: float) -> None:
        """Forget what is over."""
        _forget(self.calls, now - settings.rate_window_seconds)
        most = TIERS[settings.access_tier].score
        self.score = max(0.0, self.score - (now - self.scored_at) * most / _DECAY_SECONDS)
        self.scored_at = now

    def refusal(self, settings: Settings, now: float) -> Throttled | None:
        """Return the answer to a call that comes while a limit is reached, None for one that may pass."""
        if settings.rate_limits and now < self.regain_at:
            error, until = errors.audience_calls_reached(), self.regain_at
        elif settings.score_limits and now < self.unblocked_at:
            error, until = errors.account_score_reached(), self.unblocked_at
        else:
            return None
        retry_after = ceil(until - now) if settings.retry_after else None
        return Throttled(error, settings.throttle_status, retry_after=retry_after)

    def usage_headers(self, settings: Settings, account_id: str, quota: int, now: float) -> dict[str, str]:
        """Return the headers that tell of this ad account."""
        tier = TIERS[settings.access_tier]
        regain_at = max(self.regain_at, self.shown_until)
        percent = 100 * len(self.calls) / quota
        if now < regain_at:
            percent = max(percent, 100.0)
        audiences = {
            "type": "custom_audience",
            "call_count": int(percent),
            "total_cputime": int(percent * _CPU_SHARE),
            "total_time": int(percent * _TIME_SHARE),
            "estimated_time_to_regain_access": max(0, ceil((regain_at - now) / _MINUTE)),
            "ads_api_access_tier": tier.shown,
        }
        account = {
            "acc_id_util_pct": round(100 * self.score / tier.score, 2),
            "reset_time_duration": ceil(max(self.score * _DECAY_SECONDS / tier.score, self.unblocked_at - now)),
            "ads_api_access_tier": tier.shown,
        }
        return {
            "x-business-use-case-usage": json.dumps({account_id: [audiences]}),
            "x-ad-account-usage": json.dumps(account),
        }


class Rates:
    """The meters of all ad accounts, and of the app itself."""

    def __init__(self) -> None:
        self._meters: dict[str, Meter] = {}
        self._app_calls: deque[float] = deque()
        self._app_told = Told()

    def of(self, account_id: str) -> Meter:
        """Return the meter of an ad account."""
        return self._meters.setdefault(account_id, Meter())

    def count_for_app(self, now: float) -> None:
        """Count a call that is about no ad account."""
        self._app_calls.append(now)

    def is_too_early(self, meter: Meter | None, at: float, arrived: float) -> bool:
        """Say whether a call's caller has been told of a limit that is not over, and count it if so.

        :param meter: of the ad account that the call is about, if any.
        :param at: when it came, on the sandbox's clock.
        :param arrived: the same in real time, less what an answer may have taken to be heard.
        """
        if self._app_told.forbids(at, arrived) or (meter is not None and meter.told.forbids(at, arrived)):
            if meter is not None:
                meter.too_early += 1
            return True
        return False

    def tell(self, answer: Throttled, meter: Meter | None, now: float, real_now: float) -> None:
        """Note what an answer that goes out tells of a limit."""
        ends = [now + (answer.retry_after or 0), now + _MINUTE * (answer.minutes or 0)]
        if meter is not None:
            meter.shown_until = max(meter.shown_until, ends[-1])
            ends += [meter.regain_at, meter.unblocked_at]
        if answer.is_of_the_app or meter is None:
            self._app_told.tell(max(ends), now, real_now)
        else:
            meter.told.tell(max(ends), now, real_now)

    def app_headers(self, now: float) -> Mapping[str, str]:
        """Return the header that tells of the app."""
        _forget(self._app_calls, now - _APP_WINDOW_SECONDS)
        percent = 100 * len(self._app_calls) / _APP_CALLS
        if now < self._app_told.until:
            percent = max(percent, 100.0)
        usage = {
            "call_count": int(percent),
            "total_cputime": int(percent * _CPU_SHARE),
            "total_time": int(percent * _TIME_SHARE),
        }
        return {"x-app-usage": json.dumps(usage)}


def quota_of(settings: Settings, audiences: int) -> int:
    """Return how many calls an ad account may take in a window.

    :param audiences: that it has.
    """
    if settings.calls_per_hour is not None:
        return settings.calls_per_hour
    return min(_MOST_CALLS, TIERS[settings.access_tier].calls + _CALLS_FOR_AN_AUDIENCE * audiences)


def _forget(calls: deque[float], until: float) -> None:
    while calls and calls[0] <= until:
        calls.popleft()


def describe(meter: Meter, settings: Settings, quota: int, now: float) -> dict[str, Any]:
    """Return an ad account's usage for tests, in numbers."""
    meter.update(settings, now)
    return {
        "access_tier": settings.access_tier,
        "calls": len(meter.calls),
        "quota": quota,
        "score": meter.score,
        "most_score": TIERS[settings.access_tier].score,
        "refuses_until": max(meter.regain_at, meter.unblocked_at) if meter.refusal(settings, now) else None,
        "told_until": meter.told.until if now < meter.told.until else None,
        "too_early": meter.too_early,
    }
