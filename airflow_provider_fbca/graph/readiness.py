"""Whether an audience is ready: what Meta's status codes mean, as data, and what one reading tells.

.. seealso:: https://developers.facebook.com/documentation/ads-commerce/marketing-api/reference/custom-audience
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NoReturn

from airflow_provider_fbca.exceptions import GraphFlaggedError, GraphRequestError, GraphThrottledError
from airflow_provider_fbca.graph.audiences import operation_code
from airflow_provider_fbca.graph.ids import audience_number
from airflow_provider_fbca.graph.redact import safe_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_fbca.graph.api import GraphApi

#: Seconds for which a failed replace that is read may be one of before, since Meta shows what it does with a delay.
LONGEST_STALE_FAILURE: Final = 300.0
#: Seconds by which people may have changed before the instant that they are waited for: an upload is over when its last
#: request is answered, Meta may apply it before it answers, and clocks differ.
UPDATE_SLACK: Final = 120.0

_FIELDS = ("account_id", "operation_status", "delivery_status", "time_content_updated")
#: What is told as later than that is no instant, and is taken for this one.
_LATEST = 2**53
_DELIVERABLE = 200
_TOO_SMALL = 300
_UNDELIVERABLE = 400


class Standing(Enum):
    """What the status of an audience's last operation means for whoever works with the audience."""

    #: Meta is not changing it: it is normal, or there is a remark.
    AT_REST = "at rest"
    #: It can be used, and grows.
    GROWING = "growing"
    EMPTY = "empty"
    REPLACING = "replacing"
    REPLACE_FAILED = "replace failed"
    #: It takes no people and reaches nobody until a person has cleared that.
    BLOCKED = "blocked"
    #: It does not tell, or not of a customer list.
    UNKNOWN = "unknown"


_USABLE = {Standing.AT_REST, Standing.GROWING}


@dataclass(frozen=True, slots=True)
class Status:
    """One code of ``operation_status``.

    :param standing: what follows from it.
    :param meaning: in words.
    :param remedy: what a person should do; empty where nothing.
    """

    standing: Standing
    meaning: str
    remedy: str = ""


_PIXEL = Status(Standing.UNKNOWN, "it is fed by a pixel, which has a problem")
_LOOKALIKE = Status(Standing.UNKNOWN, "it is a lookalike audience, which could not be built or refreshed yet")
_UNDOCUMENTED = Status(Standing.UNKNOWN, "Meta does not document this code")
_LOOK = "Look at it in Ads Manager, Audiences."

OPERATION_STATUSES: Final[Mapping[int, Status]] = {
    0: Status(Standing.UNKNOWN, "its status is not available"),
    100: Status(
        Standing.AT_REST,
        "no ad set has used it for two years, and Meta will delete it",
        "Use it in an ad set to keep it.",
    ),
    200: Status(Standing.AT_REST, "normal"),
    400: Status(Standing.AT_REST, "Meta has a warning for it", _LOOK),
    410: Status(Standing.EMPTY, "nothing was uploaded to it yet"),
    411: Status(Standing.AT_REST, "few of its rows match a person", "Send more identifiers a row, and complete ones."),
    412: Status(
        Standing.AT_REST,
        "many entries of its last upload were invalid",
        "Look at the columns that are sent, and how they were hashed.",
    ),
    414: Status(Standing.REPLACING, "its people are being replaced"),
    415: Status(
        Standing.REPLACE_FAILED,
        "the replace of its people failed",
        'Refresh it again; with strategy="replace" in one session.',
    ),
    421: _PIXEL,
    422: _PIXEL,
    423: _PIXEL,
    431: _LOOKALIKE,
    432: _LOOKALIKE,
    433: _LOOKALIKE,
    434: _LOOKALIKE,
    441: Status(Standing.GROWING, "it is being filled, and will grow"),
    442: Status(Standing.UNKNOWN, "it could not be filled with people of before"),
    450: Status(Standing.AT_REST, "no ad set has used it for a while"),
    470: Status(
        Standing.BLOCKED, "its ad account is not active", "Activate the ad account in Meta's Business Settings."
    ),
    471: Status(
        Standing.BLOCKED,
        "Meta flagged it for its name, description or rule",
        "Appeal in Ads Manager, or create another audience with neutral wording.",
    ),
    500: Status(Standing.BLOCKED, "it has an error that a person must clear", _LOOK),
}


def standing_of(code: int | None) -> Standing:
    """Return what a code of ``operation_status`` means.

    :param code: None where Meta gave none.
    """
    return _status_of(code).standing


def content_changed_at(audience: Mapping[str, Any]) -> int:
    """Return when the people of an audience changed last: seconds since 1970, 0 where Meta does not tell.

    :param audience: fields as Meta gave them; the instant comes as a number or as text.
    """
    try:
        return max(0, min(int(str(audience.get("time_content_updated"))), _LATEST))
    except ValueError:
        return 0


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look at an audience has given.

    :param waits_for: what keeps it from being ready, in words; empty where it is.
    :param remark: what a person should know of an audience that is ready all the same; empty for nothing.
    :param pause: seconds that Meta asks to wait before the next look.
    """

    waits_for: str = ""
    remark: str = ""
    pause: float = 0.0

    @property
    def is_ready(self) -> bool:
        """Whether nothing is left to wait for."""
        return not self.waits_for


@dataclass(frozen=True, slots=True)
class Wanted:
    """What must be so for an audience to count as ready.

    :param delivery: whether ads must be able to reach it, by its ``delivery_status``.
    :param updated_after: that its people must have changed since, in seconds since 1970; None for any time.
    :param stale_until: until when a failed replace that is read may be one of before, in seconds since 1970.
    """

    delivery: bool = True
    updated_after: float | None = None
    stale_until: float = 0.0

    def judge(self, audience_id: str, audience: Mapping[str, Any]) -> Finding:
        """Tell whether an audience is ready.

        :param audience_id: for errors.
        :param audience: its fields, as :func:`read_status` returns them.
        :raises GraphFlaggedError: a person must clear something first.
        :raises GraphRequestError: its people could not be replaced.
        """
        code = operation_code(audience)
        status = _status_of(code)
        told = f"operation_status is {_shown(code)}: {status.meaning}"
        if status.standing is Standing.BLOCKED:
            _refuse(GraphFlaggedError, audience_id, told, audience.get("operation_status"), status.remedy)
        if status.standing is Standing.REPLACE_FAILED and time.time() >= self.stale_until:
            _refuse(GraphRequestError, audience_id, told, audience.get("operation_status"), status.remedy)
        if status.standing not in _USABLE:
            return Finding(told)
        waits_for = self._delivery_waits_for(audience_id, audience) or self._content_waits_for(audience)
        return Finding(waits_for, f"{told}. {status.remedy}".rstrip() if status.remedy else "")

    def _delivery_waits_for(self, audience_id: str, audience: Mapping[str, Any]) -> str:
        code = operation_code(audience, "delivery_status")
        if not self.delivery or code == _DELIVERABLE:
            return ""
        told = f"delivery_status is {_shown(code)}"
        if code is not None and code >= _UNDELIVERABLE:
            _refuse(GraphFlaggedError, audience_id, f"{told}: no ad can use it", audience.get("delivery_status"), _LOOK)
        if code == _TOO_SMALL:
            return f"{told}: Meta has matched too few people for ads to use it"
        return told

    def _content_waits_for(self, audience: Mapping[str, Any]) -> str:
        changed_at = content_changed_at(audience)
        if self.updated_after is None or changed_at + UPDATE_SLACK >= self.updated_after:
            return ""
        last = f"last changed at {_time_of(changed_at)}" if changed_at else "never changed, as far as Meta tells"
        return f"its people {last}, and a change after {_time_of(self.updated_after)} is waited for"


def read_status(api: GraphApi, audience_id: str) -> dict[str, Any]:
    """Read once what tells whether an audience is ready. Who waits looks again later, so no wait is spent in here.

    :param api: the client.
    :param audience_id: digits.
    :returns: ``account_id``, ``operation_status``, ``delivery_status`` and ``time_content_updated``, where Meta has a
        value for them.
    :raises GraphThrottledError: Meta asks to wait, and for how long.
    :raises GraphError: Meta refused, or did not answer.
    """
    return api.request(
        "GET",
        (audience_number(audience_id),),
        {"fields": ",".join(_FIELDS)},
        repeatable=lambda _: False,
        sleep=_leave_to_the_caller,
    )


def _leave_to_the_caller(seconds: float) -> NoReturn:
    raise GraphThrottledError("Meta's rate limit leaves no room for it now", wait_seconds=seconds)


def _status_of(code: int | None) -> Status:
    return OPERATION_STATUSES[0] if code is None else OPERATION_STATUSES.get(code, _UNDOCUMENTED)


def _refuse(
    error: type[GraphFlaggedError | GraphRequestError], audience_id: str, told: str, status: object, remedy: str
) -> NoReturn:
    """Raise an error that quotes how Meta describes the status, as far as that is safe."""
    described = safe_text(status.get("description")) if isinstance(status, dict) else ""
    said = f" ({described.rstrip('.')})" if described else ""
    raise error(f"Audience {audience_id} will not become ready: {told}{said}.", remedy=remedy)


def _shown(code: int | None) -> str:
    return "missing" if code is None else str(code)


def _time_of(instant: float) -> str:
    return f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%d %H:%M:%S} UTC"
