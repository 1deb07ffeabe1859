"""How much of Meta's rate limits is used up, as the headers of each answer tell.

.. seealso::
    https://developers.facebook.com/docs/graph-api/overview/rate-limiting and
    https://developers.facebook.com/documentation/ads-commerce/marketing-api/overview/rate-limiting
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: From this percentage of a quota on, requests go no faster than the quota comes back.
SLOW_PERCENT: Final = 75.0
#: From this percentage on, requests wait until it has come down, and go one at a time.
STOP_PERCENT: Final = 90.0
#: The longest wait that an answer can ask for: no quota takes longer than an hour to come back, and no clock is so odd.
LONGEST_WAIT: Final = 24 * 3600.0

_BUSINESS_USE_CASE = ("x-business-use-case-usage", "x-business-use-case")
_AD_ACCOUNT = "x-ad-account-usage"
_APP = "x-app-usage"
_AUDIENCES = "custom_audience"
#: Calls an hour of an app to an ad account's audiences at least, by access tier (each active audience adds 40).
_LIMITED_QUOTA, _FULL_QUOTA = 5_000, 190_000
#: Points of an ad account's score, by access tier; a read costs one of them, a write three.
_LIMITED_SCORE, _FULL_SCORE = 60, 9_000
#: Both quotas of calls are for a rolling hour; a score decays evenly, from all to nothing in five minutes.
_HOUR, _SCORE_DECAY = 3600.0, 300.0
_PERCENTS = ("call_count", "total_cputime", "total_time")
_FULL = 100.0
#: What is told as more is taken for this.
_MOST_PERCENT = 1000.0


@dataclass(frozen=True, slots=True)
class Quota:
    """How full one of Meta's quotas is.

    :param name: tells it from the other quotas of the same ad account.
    :param percent: how much of it is used.
    :param window: seconds in which all of it comes back.
    :param least_share: percent of it that a request takes at least, by Meta's documentation; 0 where that is not known.
    :param comes_back_evenly: whether it is a score that decays; what was used of a rolling hour comes back an hour
        after its use.
    """

    name: str
    percent: float
    window: float = _HOUR
    least_share: float = 0.0
    comes_back_evenly: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What one answer says on rate limits.

    :param quotas: those that were named.
    :param regain_seconds: the longest time for which the usage headers say that calls are refused, 0 where none does.
    :param retry_after: seconds of ``Retry-After``, which Meta does not document; None where absent.
    :param limited: whether the app has the limited access tier; None where no header says so.
    """

    quotas: tuple[Quota, ...] = ()
    regain_seconds: float = 0.0
    retry_after: float | None = None
    limited: bool | None = None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Usage:
        """Read the headers of an answer; what is malformed counts as absent.

        :param headers: names in any case.
        """
        lower = {name.lower(): value for name, value in headers.items()}
        account, app = _object(lower.get(_AD_ACCOUNT)), _object(lower.get(_APP))
        cases = _audience_cases(_object(next(filter(None, map(lower.get, _BUSINESS_USE_CASE)), None)))
        sources = (account, *(case for _, case in cases))
        tiers = [source["ads_api_access_tier"] for source in sources if "ads_api_access_tier" in source]
        limited = any(_is_limited(tier) for tier in tiers) if tiers else None
        return cls(
            quotas=(*_hourly(cases, limited), *_score(account, limited), *_of_app(app)),
            regain_seconds=max([_score_regain(account), *(_regain(case) for _, case in cases)]),
            retry_after=_retry_after(lower.get("retry-after")),
            limited=limited,
        )

    @property
    def percent(self) -> float:
        """The fullest of all quotas that were named, 0 where none was."""
        return max((quota.percent for quota in self.quotas), default=0.0)

    def minutes_for(self, requests: int) -> float:
        """Return the least minutes that some requests take under the hourly quota; 0 where it has room for all.

        Room is what is left up to the percentage from which on requests are spaced.

        :param requests: to the audiences of one ad account. Where the tier is not known, the smaller one counts.
        """
        quota = _FULL_QUOTA if self.limited is False else _LIMITED_QUOTA
        used = max((each.percent for each in self.quotas if not each.comes_back_evenly), default=0.0)
        room = quota * (SLOW_PERCENT - min(used, SLOW_PERCENT)) / _FULL
        first_pause = max(0.0, used - STOP_PERCENT) / _FULL
        return (max(0.0, requests - room) / quota + first_pause) * 60

    def wait_seconds(self, floor: float) -> float:
        """Seconds to wait after a refusal.

        :param floor: the least that Meta's documentation asks for after this error, used unless the answer has a
            ``Retry-After`` of its own. One that is over already, as by a clock that is off, tells nothing.
        """
        if self.retry_after:
            return self.retry_after
        return max(self.regain_seconds, floor)


def _hourly(cases: list[tuple[str, Mapping[str, Any]]], limited: bool | None) -> Iterator[Quota]:
    """Quotas by business use case: calls, and the time that they take Meta."""
    share = _FULL / (_FULL_QUOTA if limited is False else _LIMITED_QUOTA)
    for business, case in cases:
        for name, percent in _percents(case):
            yield Quota(
                f"{case.get('type')} {name} {business}", percent, least_share=share if name == "call_count" else 0.0
            )


def _score(account: Mapping[str, Any], limited: bool | None) -> Iterator[Quota]:
    percent = _number(account.get("acc_id_util_pct"))
    if percent is None:
        return
    window = min(_number(account.get("reset_time_duration")) or _SCORE_DECAY, LONGEST_WAIT)
    share = _FULL / (_FULL_SCORE if limited is False else _LIMITED_SCORE)
    yield Quota(
        "score",
        min(percent, _MOST_PERCENT),
        window=min(window, LONGEST_WAIT),
        least_share=share,
        comes_back_evenly=True,
    )


def _of_app(app: Mapping[str, Any]) -> Iterator[Quota]:
    yield from (Quota(f"app {name}", percent) for name, percent in _percents(app))


def _percents(source: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name in _PERCENTS:
        percent = _number(source.get(name))
        if percent is not None:
            yield name, min(percent, _MOST_PERCENT)


def _regain(case: Mapping[str, Any]) -> float:
    minutes = _number(case.get("estimated_time_to_regain_access")) or 0.0
    return min(60 * minutes, LONGEST_WAIT)


def _score_regain(account: Mapping[str, Any]) -> float:
    """The score's time to reset is on every answer; only where the score is full does it ask to wait."""
    is_full = (_number(account.get("acc_id_util_pct")) or 0.0) >= _FULL
    return min((_number(account.get("reset_time_duration")) or 0.0) if is_full else 0.0, LONGEST_WAIT)


def _audience_cases(usage: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Entries on custom audiences, of every business object; all entries where none is on audiences."""
    known: list[tuple[str, Mapping[str, Any]]] = [
        (business, entry)
        for business, listed in usage.items()
        if isinstance(listed, list)
        for entry in listed
        if isinstance(entry, dict)
    ]
    return [(business, entry) for business, entry in known if entry.get("type") == _AUDIENCES] or known


def _is_limited(tier: object) -> bool:
    # The headers say "development_access" where the documentation says "Limited", and "standard_access" for "Full".
    return isinstance(tier, str) and tier.lower().startswith(("limited", "development"))


def _object(text: str | None) -> Mapping[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    """A number from 0 on; None for all else."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _retry_after(value: str | None) -> float | None:
    """Seconds, from either form that RFC 9110 section 10.2.3 gives the header."""
    if not value:
        return None
    if value.strip().isdecimal():
        return min(float(value), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - datetime.now(UTC)).total_seconds()), LONGEST_WAIT)
