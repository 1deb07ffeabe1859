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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BUSINESS_USE_CASE = ("x-business-use-case-usage", "x-business-use-case")
_AD_ACCOUNT = "x-ad-account-usage"
_APP = "x-app-usage"
_AUDIENCES = "custom_audience"
#: Calls an hour of an app to an ad account's audiences at least, by access tier (each active audience adds 40).
_LIMITED_QUOTA, _FULL_QUOTA = 5_000, 190_000
_PERCENTS = ("call_count", "total_cputime", "total_time")


@dataclass(frozen=True, slots=True)
class Usage:
    """What one answer says on rate limits.

    :param percent: the fullest of all quotas that were named, 0 where none was.
    :param regain_seconds: the longest wait that the usage headers ask for, 0 where they ask for none.
    :param retry_after: seconds of ``Retry-After``, which Meta does not document; None where absent.
    :param limited: whether the app has the limited access tier; None where no header says so.
    """

    percent: float = 0.0
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
        cases = list(_audience_cases(_object(next(filter(None, map(lower.get, _BUSINESS_USE_CASE)), None))))
        percents = [_number(source.get(name)) for source in (app, *cases) for name in _PERCENTS]
        minutes = [_number(case.get("estimated_time_to_regain_access")) for case in cases]
        tiers = [source["ads_api_access_tier"] for source in (account, *cases) if "ads_api_access_tier" in source]
        return cls(
            percent=max([0.0, _number(account.get("acc_id_util_pct")), *percents]),
            regain_seconds=max([_number(account.get("reset_time_duration")), *(60 * each for each in minutes)]),
            retry_after=_retry_after(lower.get("retry-after")),
            limited=any(_is_limited(tier) for tier in tiers) if tiers else None,
        )

    def minutes_for(self, requests: int) -> float:
        """Return the least minutes that some requests take under the hourly quota; 0 where it has room for all.

        :param requests: to the audiences of one ad account. Where the tier is not known, the smaller one counts.
        """
        quota = _FULL_QUOTA if self.limited is False else _LIMITED_QUOTA
        left = quota * (1 - min(self.percent, 100.0) / 100)
        return max(0.0, requests - left) / quota * 60

    def wait_seconds(self, floor: float) -> float:
        """Seconds to wait after a refusal.

        :param floor: the least that Meta's documentation asks for after this error, used unless the answer has a
            ``Retry-After`` of its own.
        """
        if self.retry_after is not None:
            return self.retry_after
        return max(self.regain_seconds, floor)


def _audience_cases(usage: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Entries on custom audiences, of every business object; all entries where none is on audiences."""
    entries = [entry for listed in usage.values() if isinstance(listed, list) for entry in listed]
    known = [entry for entry in entries if isinstance(entry, dict)]
    yield from [entry for entry in known if entry.get("type") == _AUDIENCES] or known


def _is_limited(tier: object) -> bool:
    # "Development" and "Standard" were the names of the limited tier before "Limited".
    return isinstance(tier, str) and tier.lower().startswith(("limited", "development", "standard"))


def _object(text: str | None) -> Mapping[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0


def _retry_after(value: str | None) -> float | None:
    """Seconds, from either form that RFC 9110 section 10.2.3 gives the header."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
