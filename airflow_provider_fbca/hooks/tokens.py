"""What an access token is worth, when it ends, and a longer-lived one in its place.

.. seealso::
    https://developers.facebook.com/docs/facebook-login/guides/access-tokens/debugging and
    https://developers.facebook.com/docs/facebook-login/guides/access-tokens/get-long-lived
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.exceptions import GraphAuthError, GraphError, GraphPermissionError, GraphRequestError
from airflow_provider_fbca.graph.audiences import ODD_ANSWER
from airflow_provider_fbca.graph.errors import rule_for
from airflow_provider_fbca.graph.retry import repeat_any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_provider_fbca.graph.api import GraphApi
    from airflow_provider_fbca.graph.audiences import Audiences

log = logging.getLogger(__name__)

#: The permission that work on audiences needs.
PERMISSION = "ads_management"
#: How long before a token's end its tasks begin to warn.
WARNS_BEFORE = timedelta(days=7)

_ANOTHER = "Get another one with `fbca login`, or one of a system user, which need not expire (docs/login.md)."
_WRONG_SECRET, _WRONG_APP, _WRONG_PARAMETER = 1, 101, 100


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that Meta has just granted; its ``repr`` hides it.

    :param value: the token itself.
    :param ends: when, in UTC; None where Meta named no end.
    """

    value: str = field(repr=False)
    ends: datetime | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One thing that Meta's description of a token says.

    :param told: in words, the remedy included.
    :param failure: why the token is of no use; None where it is.
    :param is_warning: whether somebody has to do something soon.
    """

    told: str
    failure: GraphError | None = None
    is_warning: bool = False


def verdicts(info: Mapping[str, Any], now: datetime) -> Iterator[Verdict]:
    """Yield what a token's description means. Whether it is still valid, Meta's clock decides and not ours.

    :param info: as :meth:`~airflow_provider_fbca.graph.audiences.Audiences.token_info` returns it.
    :param now: with its time zone.
    """
    if info.get("is_valid") is False:
        yield _failed(_of_invalid(info.get("error") or {}))
        return
    scopes = info.get("scopes")
    if isinstance(scopes, list):
        yield _of_scopes(scopes)
    yield _of_end(_instant(info.get("expires_at")), now)
    data_access_ends = _instant(info.get("data_access_expires_at"))
    if data_access_ends is not None:
        yield _of_data_access(data_access_ends, now)


def raise_failures(info: Mapping[str, Any]) -> list[Verdict]:
    """Return what a token's description means, where the token is of use.

    :param info: as for :func:`verdicts`.
    :raises GraphAuthError: where the token is not valid (any more).
    :raises GraphPermissionError: where it lacks ads_management.
    """
    found = list(verdicts(info, datetime.now(UTC)))
    failures = [verdict.failure for verdict in found if verdict.failure]
    if failures:
        raise failures[0]
    return found


def check(api: GraphApi, audiences: Audiences) -> None:
    """Find out before long work whether the token will do.

    Warns from seven days before an end on. Where Meta does not tell, nothing is said: the work itself will find out.

    :param api: the connection's client.
    :param audiences: on the same.
    :raises GraphAuthError: where the token is not valid (any more).
    :raises GraphPermissionError: where it lacks ads_management.
    """
    refusal: GraphError | None = None
    try:
        info = audiences.token_info()
    except GraphError as error:
        refusal = error
    if refusal is None:
        for verdict in raise_failures(info):
            if verdict.is_warning:
                log.warning("%s", verdict.told)
        return
    # A token that asks about itself and is refused as a token is useless; an app that is refused says nothing of it.
    if isinstance(refusal, GraphAuthError) and api.app_token is None:
        raise refusal
    log.debug("What the token is worth is not known: %s", refusal)


def exchange(api: GraphApi, app_id: str, app_secret: str) -> NewToken:
    """Exchange the token of a client for one of about 60 days. An expired one cannot be exchanged.

    :param api: made with the token.
    :param app_id: of the token's app.
    :param app_secret: of the same; it is sent in a body only.
    :raises GraphAuthError: where the token has expired, or app and secret do not match.
    :raises GraphError: where Meta refuses.
    """
    params = {"grant_type": "fb_exchange_token", "fb_exchange_token": api.token}
    return _granted(api, app_id, app_secret, params, lambda error: repeat_any(error) and not _is_of_app(error))


def from_code(api: GraphApi, app_id: str, app_secret: str, *, code: str, redirect_uri: str) -> NewToken:
    """Exchange the code of a login for a token. A code is good once, so that this is not tried again by itself.

    :param api: made with the app's own token.
    :param app_id: of the app that the person has logged in to.
    :param app_secret: of the same; it is sent in a body only.
    :param code: what the dialog answered.
    :param redirect_uri: the address that the dialog was given.
    :raises GraphAuthError: where Meta does not take the code, or app and secret do not match.
    :raises GraphError: where Meta refuses.

    .. seealso:: https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow#exchangecode
    """
    failure: GraphError | None = None
    try:
        return _granted(api, app_id, app_secret, {"code": code, "redirect_uri": redirect_uri}, lambda _error: False)
    except GraphError as error:
        failure = error
    if failure.code != _WRONG_PARAMETER:
        raise failure
    raise GraphAuthError(
        "Meta does not take the code of this login",
        **_facts(failure),
        remedy="Log in once more: a code is good once, for a few minutes, and for the address it was sent to.",
    )


def _granted(
    api: GraphApi,
    app_id: str,
    app_secret: str,
    params: Mapping[str, str],
    repeatable: Callable[[BaseException], bool],
) -> NewToken:
    asked = {"client_id": app_id, "client_secret": app_secret, **params}
    failure: GraphError | None = None
    try:
        answer = api.request("GET", ("oauth", "access_token"), asked, repeatable=repeatable)
    except GraphError as error:
        failure = error
    if failure is None:
        return _new_token(answer)
    raise wrong_app(app_id, failure) if _is_of_app(failure) else failure


def wrong_app(app_id: str, refusal: GraphError) -> GraphAuthError:
    """Return the error for a call in the app's own name that Meta refused.

    :param app_id: of the app.
    :param refusal: what Meta answered.
    """
    return GraphAuthError(
        f"Meta knows no app {app_id} with this secret",
        **_facts(refusal),
        remedy="Copy both from the app's dashboard: App settings > Basic.",
    )


def _is_of_app(error: BaseException) -> bool:
    """Whether an answer is about the app; a wrong secret has the code of an unknown fault, but not its status."""
    return isinstance(error, GraphError) and (
        error.code == _WRONG_APP or (error.code == _WRONG_SECRET and error.http_status == HTTPStatus.BAD_REQUEST)
    )


def _new_token(answer: Mapping[str, Any]) -> NewToken:
    value = answer.get("access_token")
    if not isinstance(value, str) or not value:
        raise GraphRequestError("Meta granted a token in a form that is not known.", remedy=ODD_ANSWER)
    try:
        seconds = int(answer.get("expires_in") or 0)
        end = datetime.now(UTC) + timedelta(seconds=seconds) if seconds > 0 else None
    except (TypeError, ValueError, OverflowError):
        end = None
    return NewToken(value, end)


def _facts(error: GraphError) -> dict[str, Any]:
    return {name: getattr(error, name) for name in ("code", "subcode", "fbtrace_id", "http_status")}


def _failed(failure: GraphError) -> Verdict:
    return Verdict(str(failure), failure)


def _of_invalid(error: Mapping[str, int]) -> GraphError:
    code, subcode = error.get("code"), error.get("subcode")
    rule = rule_for(code, subcode)
    if rule is None or not issubclass(rule.error, GraphAuthError):
        return GraphAuthError("The access token is not valid", code=code, subcode=subcode, remedy=_ANOTHER)
    return GraphAuthError(
        f"The access token cannot be used: {rule.meaning}", code=code, subcode=subcode, remedy=rule.remedy
    )


def _of_scopes(scopes: list[Any]) -> Verdict:
    if PERMISSION in scopes:
        return Verdict(f"{PERMISSION} is granted.")
    remedy = f"Create a token with it: `fbca login` asks for {PERMISSION}, which must stay ticked."
    return _failed(GraphPermissionError(f"{PERMISSION} is missing among the token's permissions.", remedy=remedy))


def _of_end(end: datetime | None, now: datetime) -> Verdict:
    if end is None:
        return Verdict("The token never expires.")
    told = f"The token {_at(end, now)}."
    return Verdict(f"{told} {_ANOTHER}", is_warning=True) if end - now <= WARNS_BEFORE else Verdict(told)


def _of_data_access(end: datetime, now: datetime) -> Verdict:
    """Judge the end of data access: 90 days after the person was last active, while the token itself stays valid.

    .. seealso:: https://developers.facebook.com/docs/facebook-login/auth-vs-data
    """
    told = f"The app's access to the data of the token's person {_at(end, now)}."
    if end - now > WARNS_BEFORE:
        return Verdict(told)
    return Verdict(f"{told} Have them log in to the app once more (`fbca login`).", is_warning=True)


def _at(end: datetime, now: datetime) -> str:
    return f"{'ends' if end > now else 'ended'} {end:%Y-%m-%d %H:%M} UTC"


def _instant(seconds: object) -> datetime | None:
    """Read an instant of Meta's; 0 means never."""
    try:
        return datetime.fromtimestamp(int(str(seconds)), tz=UTC) if seconds else None
    except (ValueError, OverflowError, OSError):
        return None
