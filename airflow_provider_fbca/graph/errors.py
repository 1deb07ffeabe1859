"""Meta's errors: what each code means for us, which exception it becomes and what the reader should do next.

Only codes and subcodes are looked at, never the wording, which is translated for the token's user. A subcode says
more than its code and wins.

.. seealso::
    https://developers.facebook.com/documentation/ads-commerce/marketing-api/error-reference and
    https://developers.facebook.com/docs/graph-api/guides/error-handling; codes 21009 and 2655 are met by others,
    https://github.com/rudderlabs/rudder-transformer and https://github.com/segmentio/action-destinations
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_fbca.exceptions import (
    GraphAuthError,
    GraphBusyError,
    GraphError,
    GraphFlaggedError,
    GraphNotFoundError,
    GraphPermissionError,
    GraphRemovalRefusedError,
    GraphRequestError,
    GraphRetryableError,
    GraphTermsError,
    GraphThrottledError,
    GraphTransientError,
)
from airflow_provider_fbca.graph.redact import safe_text
from airflow_provider_fbca.graph.throttle import in_words
from airflow_provider_fbca.graph.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

# Subcodes and codes that callers branch on.
ALIAS_UNKNOWN: Final = 803
REPLACE_TOO_LARGE: Final = 1870144
REPLACE_IN_PROGRESS: Final = 1870145
REPLACE_NOT_BEGUN: Final = 1870147
REPLACE_BROKEN: Final = 1870148
REPLACE_TIMED_OUT: Final = 1870158
REPLACE_FINISHED: Final = 1870159

_MINUTE = 60.0
_RENEW = "Put a new access token into the connection; a system user's token does not expire."
_TERMS = (
    "A person of the business (a system user cannot) must accept the Custom Audience terms for ad account {account} "
    "at https://business.facebook.com/ads/manage/customaudiences/tos/?act={account_number}."
)
_ROLE = (
    "Give the token's user or system user a role on ad account {account} that may manage campaigns, at "
    "https://business.facebook.com/settings/ad-accounts, and the token the permission ads_management."
)
_FLAGGED = (
    "Meta flagged the audience for its name, description or rule (operation_status 471). Appeal at "
    "https://adsmanager.facebook.com/audiences?act={account_number}, or create another audience with neutral wording."
)
_QUALITY = "https://business.facebook.com/accountquality"
_WAIT = (
    "The next request may go in {wait}; calls that fail before count as well. Fewer, larger requests and a higher "
    "access tier help."
)
_AGAIN = "Nothing needs to change: try again later."
_CALLER = "The request itself is wrong; report this with its fbtrace_id."
_REPLACE_AGAIN = "Wait until operation_status is 200, then run the task once more: it begins another session."


@dataclass(frozen=True, slots=True)
class Rule:
    """What one error of Meta's means.

    :param code: Meta's code; None where the subcode says enough.
    :param subcode: Meta's subcode; None for all that have no rule of their own.
    :param error: the exception that it becomes.
    :param meaning: shown where Meta sends no text.
    :param remedy: what to do next. ``{account}``, ``{account_number}``, ``{version}`` are filled in, and ``{wait}`` for
        rate limits: how long, and until what time of day.
    :param floor: least seconds to wait, for rate limits.
    :param limited_floor: the same for apps of the limited access tier, where it differs.
    """

    code: int | None
    subcode: int | None
    error: type[GraphError]
    meaning: str
    remedy: str
    floor: float = 0.0
    limited_floor: float | None = None


RULES: Final[tuple[Rule, ...]] = (
    # Passing faults.
    Rule(1, None, GraphTransientError, "unknown fault, or Meta is down", _AGAIN),
    Rule(1, 99, GraphTransientError, "unknown fault", _AGAIN + " Smaller batches (batch_size) may help."),
    Rule(2, None, GraphTransientError, "service temporarily not available", _AGAIN),
    Rule(21009, None, GraphTransientError, "unknown fault", _AGAIN),
    Rule(960, None, GraphTransientError, "batch of requests failed", _AGAIN),
    Rule(5000, None, GraphTransientError, "unknown fault", _AGAIN),
    # Rate limits: overview/rate-limiting of the Marketing API and of the Graph API.
    Rule(4, None, GraphThrottledError, "the app's request limit is reached", _WAIT, 5 * _MINUTE),
    Rule(17, None, GraphThrottledError, "the user's or ad account's limit is reached", _WAIT, _MINUTE, 5 * _MINUTE),
    Rule(17, 2446079, GraphThrottledError, "the ad account's limit is reached", _WAIT, _MINUTE, 5 * _MINUTE),
    Rule(32, None, GraphThrottledError, "the page's request limit is reached", _WAIT, 5 * _MINUTE),
    Rule(341, None, GraphThrottledError, "the app's limit is reached", _WAIT, _MINUTE),
    Rule(
        613,
        None,
        GraphThrottledError,
        "the limit against abuse is reached",
        "Stop for a long while, {wait} at least, then send fewer and larger requests: hammering prolongs the block.",
        5 * _MINUTE,
    ),
    Rule(613, 1487742, GraphThrottledError, "too many calls from this ad account", _WAIT, _MINUTE, 5 * _MINUTE),
    Rule(613, 1996, GraphThrottledError, "requests come too unevenly", _WAIT, 5 * _MINUTE),
    Rule(613, 5044001, GraphThrottledError, "more than 100 changes a second", _WAIT, _MINUTE),
    *(
        Rule(code, None, GraphThrottledError, "a business use case limit of the ad account is reached", _WAIT, _MINUTE)
        for code in range(80000, 80015)
    ),
    # With a subcode that elsewhere means an ad account's score, whose floor differs by tier.
    Rule(80003, 2446079, GraphThrottledError, "the limit of calls to custom audiences is reached", _WAIT, _MINUTE),
    # Tokens: guides/error-handling.
    Rule(102, None, GraphAuthError, "the access token is not valid", _RENEW),
    Rule(
        104,
        None,
        GraphAuthError,
        "incorrect signature",
        "Check the connection's app_secret: it belongs to the token's app.",
    ),
    Rule(190, None, GraphAuthError, "the access token is not valid", _RENEW),
    Rule(
        190,
        458,
        GraphAuthError,
        "the app was removed from the user's account",
        "Authorise the app again. " + _RENEW,
    ),
    Rule(
        190,
        459,
        GraphAuthError,
        "the user must log in at Facebook first",
        "The token's user must log in and clear the check.",
    ),
    Rule(190, 460, GraphAuthError, "the user's password was changed", _RENEW),
    Rule(190, 463, GraphAuthError, "the access token has expired", _RENEW),
    Rule(190, 464, GraphAuthError, "the token's user is not confirmed", _RENEW),
    Rule(190, 467, GraphAuthError, "the access token is not valid", _RENEW),
    Rule(190, 492, GraphAuthError, "the token's page session is not valid", _RENEW),
    # Permissions and terms.
    Rule(3, None, GraphPermissionError, "the app lacks a capability", "Add the Marketing API product to the app."),
    Rule(10, None, GraphPermissionError, "the app lacks a permission", _ROLE),
    Rule(200, None, GraphPermissionError, "no permission for this", _ROLE),
    Rule(
        200,
        1870050,
        GraphPermissionError,
        "the ad account belongs to no business",
        "Add ad account {account} to a business at https://business.facebook.com/settings/ad-accounts.",
    ),
    Rule(200, 1870034, GraphTermsError, "the Custom Audience terms are not accepted", _TERMS),
    Rule(200, 1870090, GraphTermsError, "the Custom Audience terms are not accepted", _TERMS),
    Rule(
        None,
        1870092,
        GraphTermsError,
        "the Business Tools terms are not accepted",
        "An administrator of the business that owns ad account {account} must accept the Business Tools terms.",
    ),
    Rule(2655, None, GraphTermsError, "the Custom Audience terms are not accepted", _TERMS),
    Rule(2663, None, GraphTermsError, "the Custom Audience terms are not accepted by a person", _TERMS),
    Rule(2664, None, GraphTermsError, "the Custom Audience terms are not accepted by the business", _TERMS),
    Rule(
        270,
        None,
        GraphPermissionError,
        "the app has development access only",
        "Ask for advanced access to ads_management in app review, or use an ad account that the app's "
        "administrator also administers.",
    ),
    Rule(
        294,
        None,
        GraphPermissionError,
        "managing ads needs the permission ads_management and an app that is allowed to",
        "Make a token with the permission ads_management, of an app that has the Marketing API product.",
    ),
    Rule(2654, 1713092, GraphPermissionError, "no permission to write to the ad account", _ROLE),
    # Things that are not there, or not for this token to see: Meta does not tell which.
    Rule(
        100,
        33,
        GraphNotFoundError,
        "the object does not exist, or the token may not see it",
        "Check the id, and that the token's user or system user is assigned to its ad account {account}.",
    ),
    Rule(ALIAS_UNKNOWN, None, GraphNotFoundError, "the object does not exist", "Check the id."),
    Rule(
        1487301,
        None,
        GraphNotFoundError,
        "the audience is not available to the ad account",
        "Check the id, and that the audience is shared with ad account {account}.",
    ),
    Rule(1487366, None, GraphNotFoundError, "the audience was deleted", "Create another one."),
    # Flags and blocks, which only a person can clear.
    Rule(100, 1713228, GraphFlaggedError, "a flagged audience cannot be edited", _FLAGGED),
    Rule(100, 1713230, GraphFlaggedError, "a flagged audience takes no people", _FLAGGED),
    Rule(100, 1713231, GraphFlaggedError, "the flagged fields must be changed in the same edit", _FLAGGED),
    Rule(100, 1713232, GraphFlaggedError, "a flagged audience cannot be the source of a lookalike", _FLAGGED),
    *(
        Rule(
            code,
            None,
            GraphFlaggedError,
            "the account is blocked or has a problem",
            f"Look at {_QUALITY}, at ad account {{account}} and at the token's user.",
        )
        for code in (1404078, 2859015, 3910001)
    ),
    Rule(
        368,
        None,
        GraphRetryableError,
        "blocked for a while for breaking a policy",
        f"Wait hours rather than minutes, and look at {_QUALITY}, at ad account {{account}}.",
    ),
    # The request itself.
    Rule(100, None, GraphRequestError, "a parameter is not valid", "Check the options and the columns that are sent."),
    Rule(100, 1713098, GraphRequestError, "the audience's rule is not valid", _CALLER),
    Rule(105, None, GraphRequestError, "too many parameters", "Lower batch_size."),
    Rule(194, None, GraphRequestError, "a required parameter is missing", _CALLER),
    Rule(506, None, GraphRequestError, "a duplicate", _CALLER),
    Rule(2500, None, GraphRequestError, "the path or the fields cannot be read", _CALLER),
    Rule(
        2635,
        None,
        GraphRequestError,
        "this version of the API is no longer served",
        "Raise api_version in the connection's extra; {version} was asked for.",
    ),
    Rule(2654, None, GraphRequestError, "the audience could not be created", "Check the audience's options."),
    Rule(
        2656,
        None,
        GraphRequestError,
        "lookalike audiences were made from this audience",
        "Delete its lookalike audiences first.",
    ),
    Rule(
        200,
        1870047,
        GraphRemovalRefusedError,
        "too few people would remain in the audience",
        'Add the new people first, or use strategy="replace".',
    ),
    # The state of an audience: guides/custom-audiences, replacing users.
    Rule(
        2650,
        None,
        GraphRequestError,
        "the audience could not be updated",
        "An audience takes one kind of data only: one first filled with another kind of key must be created anew.",
    ),
    Rule(
        2650,
        REPLACE_TOO_LARGE,
        GraphRequestError,
        "an audience of 100 million people or more cannot be replaced",
        'Use strategy="delta" or "delete_insert".',
    ),
    Rule(
        2650,
        REPLACE_IN_PROGRESS,
        GraphBusyError,
        "the audience is being replaced or updated",
        "Wait until its operation_status is 200 again.",
    ),
    Rule(2650, REPLACE_NOT_BEGUN, GraphRetryableError, "the first batch of the replace did not arrive", _REPLACE_AGAIN),
    Rule(2650, REPLACE_BROKEN, GraphRetryableError, "the replace broke off half-way", _REPLACE_AGAIN),
    Rule(2650, REPLACE_TIMED_OUT, GraphRetryableError, "the replace took longer than 90 minutes", _REPLACE_AGAIN),
    Rule(2650, REPLACE_FINISHED, GraphRetryableError, "the upload session is finished", _REPLACE_AGAIN),
)

_BY_CODES: Final = {(rule.code, rule.subcode): rule for rule in RULES}
#: Seven digits are a subcode's own: such a number means the same under any code, and as a code.
_LONE: Final = 1_000_000
_BY_NUMBER: Final = {
    number: rule for rule in RULES for number in (rule.code, rule.subcode) if number is not None and number >= _LONE
}
_PERMISSIONS: Final = range(201, 300)
_PROOF = Rule(
    100,
    None,
    GraphAuthError,
    "the app wants a valid appsecret_proof",
    "Set app_secret in the connection's extra to the secret of the token's app.",
)
# Meta's have some 23 characters; what is as long as a digest or a token is none.
_TRACE_ID = re.compile(r"[A-Za-z0-9_-]{1,30}")
_NO_ACCOUNT = "of the audience"


@dataclass(frozen=True, slots=True)
class Place:
    """What a call was about, for its error's text.

    :param doing: the call, as method and path.
    :param write: whether it would change something at Meta.
    :param account: digits of the ad account, where known.
    :param version: the API version of the call.
    """

    doing: str
    write: bool
    account: str | None = None
    version: str = ""


def rule_for(code: int | None, subcode: int | None) -> Rule | None:
    """Find what a code and subcode mean; None where Meta's documentation does not say.

    :param code: ``error.code``.
    :param subcode: ``error.error_subcode``.
    """
    return (
        _BY_CODES.get((code, subcode)) or (_BY_NUMBER.get(subcode) if subcode else None) or _BY_CODES.get((code, None))
    )


def error_from_response(status: int, headers: Mapping[str, str], body: bytes, place: Place) -> GraphError:
    """Make the exception for an answer that is not a success.

    :param status: HTTP status, which says little: Meta sends 400 for most.
    :param headers: the answer's headers.
    :param body: the answer's body.
    :param place: what was asked.
    :returns: the exception, to be raised. Its text holds Meta's title and message only as :func:`safe_text` leaves
        them.
    """
    usage = Usage.from_headers(headers)
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict):
        return _from_error(error, status, usage, place)
    if isinstance(answer, dict) and answer.get("success") is False:
        return GraphRequestError(
            f"Meta did not do {place.doing} and gave no reason",
            http_status=status,
            remedy="Look at the audience in Ads Manager; try again later.",
        )
    return _from_status(status, usage, place)


def _from_error(error: Mapping[str, Any], status: int, usage: Usage, place: Place) -> GraphError:
    code, subcode = _integer(error.get("code")), _integer(error.get("error_subcode"))
    rule = rule_for(code, subcode)
    # The one look at the wording: Meta gives this error no subcode, and a parameter's name is never translated.
    if code == _PROOF.code and subcode is None and "appsecret_proof" in str(error.get("message")):
        rule = _PROOF
    kind = rule.error if rule else _kind_of_unknown(code, status)
    if error.get("is_transient") is True and not issubclass(kind, GraphRetryableError):
        kind, rule = GraphTransientError, None
    fact: dict[str, Any] = {
        "code": code,
        "subcode": subcode,
        "fbtrace_id": _trace_id(error.get("fbtrace_id")),
        "http_status": status,
    }
    message = f"Meta refused {place.doing}: {_reason(error, rule)}"
    if issubclass(kind, GraphThrottledError):
        wait = usage.wait_seconds(_floor(rule, usage))
        return kind(message, wait_seconds=wait, remedy=_remedy(rule, kind, place, wait), **fact)
    return kind(message, remedy=_remedy(rule, kind, place), **fact)


def _from_status(status: int, usage: Usage, place: Place) -> GraphError:
    """The way to Meta answered, or its front door, but not the Graph API."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = usage.wait_seconds(_MINUTE)
        return GraphThrottledError(
            f"Meta refused {place.doing}: too many requests",
            http_status=status,
            remedy=_WAIT.format(wait=in_words(wait)),
            wait_seconds=wait,
        )
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return GraphRequestError(
            f"{place.doing} is too large for Meta, or for a proxy before it",
            http_status=status,
            remedy="Lower batch_size.",
        )
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return GraphRequestError(
            f"{place.doing} was answered with a redirect, which the Graph API never does",
            http_status=status,
            remedy="Check the connection's host: it must be the base address of the Graph API.",
        )
    return GraphTransientError(
        f"{place.doing} got an answer that is not the Graph API's",
        http_status=status,
        remedy="Nothing needs to change if this passes; else check the connection's host and proxies.",
        outcome_unknown=place.write,
    )


def _kind_of_unknown(code: int | None, status: int) -> type[GraphError]:
    if code is None or code < 0:
        return GraphTransientError
    if code in _PERMISSIONS:
        return GraphPermissionError
    return GraphTransientError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else GraphRequestError


def _reason(error: Mapping[str, Any], rule: Rule | None) -> str:
    texts = [safe_text(error.get(name)) for name in ("error_user_title", "message")]
    told = safe_text(": ".join(text for text in texts if text)).rstrip(". ")
    return "; ".join(filter(None, [rule.meaning if rule else "", told])) or "it gave no reason"


def _remedy(rule: Rule | None, kind: type[GraphError], place: Place, wait: float = 0.0) -> str:
    if rule is None:
        return _AGAIN if issubclass(kind, GraphRetryableError) else _CALLER
    account = f"act_{place.account}" if place.account else _NO_ACCOUNT
    return rule.remedy.format(
        account=account,
        account_number=place.account or "<account>",
        version=place.version,
        wait=in_words(wait),
    )


def _floor(rule: Rule | None, usage: Usage) -> float:
    if rule is None:
        return _MINUTE
    if usage.limited and rule.limited_floor is not None:
        return rule.limited_floor
    return rule.floor


def _integer(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        return int(value)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError, OverflowError):
        return None


def _trace_id(value: object) -> str | None:
    return value if isinstance(value, str) and _TRACE_ID.fullmatch(value) else None
