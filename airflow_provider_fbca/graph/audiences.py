"""Audiences themselves: making, finding, reading, changing and deleting them, and what is asked around them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from airflow_provider_fbca.exceptions import (
    GraphError,
    GraphNotFoundError,
    GraphRequestError,
    GraphTransientError,
    OptionsError,
)
from airflow_provider_fbca.graph.ids import account_number, audience_number
from airflow_provider_fbca.graph.retry import repeat_any, repeat_unsent

if TYPE_CHECKING:
    from airflow_provider_fbca.graph.api import GraphApi

#: What is read of an audience unless something else is asked for.
DEFAULT_FIELDS: Final = (
    "id",
    "name",
    "description",
    "subtype",
    "account_id",
    "customer_file_source",
    "is_value_based",
    "retention_days",
    "operation_status",
    "delivery_status",
    "approximate_count_lower_bound",
    "approximate_count_upper_bound",
    "time_created",
    "time_updated",
    "time_content_updated",
)
_FIND_FIELDS = ("id", "name", "subtype", "account_id", "customer_file_source", "is_value_based", "retention_days")
_ACCOUNT_FIELDS = ("id", "account_id", "name", "account_status")
_SESSION_FIELDS = (
    "session_id",
    "start_time",
    "end_time",
    "num_received",
    "num_invalid_entries",
    "num_matched",
    "progress",
    "stage",
)
#: The only parts of a token's description that are passed on.
_TOKEN_FIELDS = (
    "app_id",
    "type",
    "application",
    "is_valid",
    "expires_at",
    "data_access_expires_at",
    "issued_at",
    "scopes",
    "granular_scopes",
    "user_id",
)
_PAGE_ROWS = 100
_SMALLEST_PAGE_ROWS = 10
_TOO_MUCH_DATA = 1
_CUSTOMER_LIST = "CUSTOM"
_DIGITS = re.compile("[0-9]{1,30}")
#: What to do about an answer of a form that Meta does not document.
ODD_ANSWER: Final = "Check the connection's host; if it is Meta's, report this."


class Audiences:
    """Calls on customer-list audiences.

    :param api: the client.
    :param before_try: called before each try of a call that reads; what it raises ends the call.
    :param sleep: waits between such tries, so that a pause can be cut short.
    """

    def __init__(
        self,
        api: GraphApi,
        *,
        before_try: Callable[[], None] | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._api = api
        self._read = partial(api.request, "GET", before_try=before_try, sleep=sleep)

    def create(
        self,
        account_id: str,
        *,
        name: str,
        description: str | None = None,
        customer_file_source: str = "USER_PROVIDED_ONLY",
        is_value_based: bool = False,
        retention_days: int | None = None,
    ) -> str:
        """Create an empty customer-list audience.

        Names are not unique at Meta, so this is not made again when its outcome is unknown: use :meth:`find` first.

        :param account_id: the ad account, with or without ``act_``.
        :param name: its name. Meta flags names that speak of health or money.
        :param description: free text.
        :param customer_file_source: ``USER_PROVIDED_ONLY``, ``PARTNER_PROVIDED_ONLY`` or
            ``BOTH_USER_AND_PARTNER_PROVIDED``.
        :param is_value_based: whether every row will have a LOOKALIKE_VALUE.
        :param retention_days: days after which a person drops out, 1 to 180; None for never.
        :returns: the audience's id.
        :raises GraphTransientError: with ``outcome_unknown`` where an audience may have been created all the same.
        :raises GraphError: Meta refused.

        .. seealso:: https://developers.facebook.com/docs/marketing-api/reference/ad-account/customaudiences
        """
        if not name.strip():
            raise OptionsError("An audience needs a name.")
        account = account_number(account_id)
        params: dict[str, Any] = {
            "name": name,
            "subtype": _CUSTOMER_LIST,
            "description": description,
            "customer_file_source": customer_file_source,
            "is_value_based": True if is_value_based else None,
            "retention_days": retention_days,
        }
        answer = self._api.request("POST", (f"act_{account}", "customaudiences"), params, repeatable=repeat_unsent)
        audience_id = str(answer.get("id") or "")
        if not audience_id.isdecimal():
            raise GraphTransientError(
                "Meta answered the creation of the audience without its id.",
                remedy="Look for the audience in Ads Manager before creating it again.",
                outcome_unknown=True,
            )
        self._api.remember(audience_id, account, created=True)
        return audience_id

    def find(self, account_id: str, name: str, *, fields: Sequence[str] = _FIND_FIELDS) -> dict[str, Any] | None:
        """Find the customer-list audience of an exact name.

        Meta documents no filter by name, so all audiences of the account are listed. Names are not unique: with
        several of that name none is chosen, since people must not end up in a list by chance.

        :param account_id: the ad account, with or without ``act_``.
        :param name: compared letter by letter.
        :param fields: what to read; ``id``, ``name`` and ``subtype`` always are.
        :returns: its fields; None where there is none.
        :raises GraphRequestError: several have the name; their ids are named.
        :raises GraphError: Meta refused.
        """
        account = account_number(account_id)
        wanted = list(dict.fromkeys(["id", "name", "subtype", *fields]))
        found = [
            audience
            for audience in self._pages((f"act_{account}", "customaudiences"), {"fields": ",".join(wanted)})
            if audience.get("name") == name and audience.get("subtype", _CUSTOMER_LIST) == _CUSTOMER_LIST
        ]
        if len(found) > 1:
            ids = ", ".join(sorted(str(audience.get("id")) for audience in found))
            raise GraphRequestError(
                f"{len(found)} audiences of ad account act_{account} have the wanted name: {ids}.",
                remedy="Give the id of the one that is meant, or rename the others.",
            )
        if found:
            self._api.remember(str(found[0]["id"]), account)
        return found[0] if found else None

    def get(self, audience_id: str, *, fields: Sequence[str] = DEFAULT_FIELDS) -> dict[str, Any]:
        """Read an audience.

        :param audience_id: digits.
        :param fields: names of fields.
        :returns: the fields that Meta has a value for.
        :raises GraphNotFoundError: there is none, or the token may not see it.
        :raises GraphError: Meta refused.

        .. seealso:: https://developers.facebook.com/documentation/ads-commerce/marketing-api/reference/custom-audience
        """
        return self._read((audience_number(audience_id),), {"fields": ",".join(fields)})

    def update(self, audience_id: str, **values: Any) -> None:
        """Change an audience's own fields (``name``, ``description``, ``retention_days``, ...), not its people.

        :param audience_id: digits.
        :param values: the fields to set.
        :raises GraphError: Meta refused.
        """
        self._api.request("POST", (audience_number(audience_id),), values)

    def delete(self, audience_id: str) -> None:
        """Delete an audience for good. Ads that use it stop.

        :param audience_id: digits.
        :raises GraphNotFoundError: there was none, or the token may not see it.
        :raises GraphRequestError: lookalike audiences depend on it.
        :raises GraphError: Meta refused.
        """
        landed = False

        def repeatable(error: BaseException) -> bool:
            nonlocal landed
            again = repeat_any(error)
            landed = landed or (again and not repeat_unsent(error))
            return again

        try:
            self._api.request("DELETE", (audience_number(audience_id),), repeatable=repeatable)
        except GraphNotFoundError:
            # After a first try without an answer, its absence means that this try had deleted it.
            if not landed:
                raise

    def account_of(self, audience_id: str) -> str:
        """Read which ad account an audience belongs to.

        :param audience_id: digits.
        :returns: the account's digits, without ``act_``.
        :raises GraphError: Meta refused.
        """
        account = digits_of(self.get(audience_id, fields=("account_id",)), "account_id")
        self._api.remember(audience_number(audience_id), account)
        return account

    def sessions(self, audience_id: str, *, session_id: int | None = None) -> list[dict[str, Any]]:
        """Read the upload sessions of an audience.

        :param audience_id: digits.
        :param session_id: only this one.
        :returns: all values are text; the words of ``stage`` are not documented.
        :raises GraphError: Meta refused.

        .. seealso:: https://developers.facebook.com/docs/marketing-api/reference/custom-audience-session
        """
        params: dict[str, Any] = {"fields": ",".join(_SESSION_FIELDS), "session_id": session_id}
        return list(self._pages((audience_number(audience_id), "sessions"), params))

    def ad_accounts(self) -> list[dict[str, Any]]:
        """Read the ad accounts that the token may see, with id, name and status.

        :raises GraphError: Meta refused.
        """
        return list(self._pages(("me", "adaccounts"), {"fields": ",".join(_ACCOUNT_FIELDS)}))

    def terms_accepted(self, account_id: str) -> bool | None:
        """Read whether the Custom Audience terms are accepted for an ad account.

        :param account_id: the ad account, with or without ``act_``.
        :returns: None where Meta says nothing about terms; an upload then finds out.
        :raises GraphError: Meta refused.

        .. seealso:: https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/reference/custom-audience-terms-of-service
        """
        answer = self._read((f"act_{account_number(account_id)}",), {"fields": "tos_accepted"})
        accepted = answer.get("tos_accepted")
        if not isinstance(accepted, Mapping):
            return None
        return str(accepted.get("custom_audience_tos")) in {"1", "True"}

    def token_info(self) -> dict[str, Any]:
        """Ask Meta about the connection's token: validity, expiry, permissions, app.

        The app asks where its id and secret are known, else the token asks about itself.

        :returns: ``is_valid``, ``expires_at`` (0 for never), ``scopes``, ``app_id`` and so on, and of an ``error`` its
            ``code`` and ``subcode``; never the token, and no text of Meta's that could quote it.
        :raises GraphError: Meta refused.

        .. seealso:: https://developers.facebook.com/docs/graph-api/reference/debug_token
        """
        token, app_token = self._api.token, self._api.app_token
        answer = self._read(("debug_token",), {"input_token": token, "access_token": app_token})
        data = answer.get("data")
        if not isinstance(data, Mapping):
            raise GraphRequestError("Meta described the token in a form that is not known.", remedy=ODD_ANSWER)
        described = {name: data[name] for name in _TOKEN_FIELDS if name in data}
        error = data.get("error")
        numbers = {name: error.get(name) for name in ("code", "subcode")} if isinstance(error, Mapping) else {}
        known = {name: number for name, number in numbers.items() if isinstance(number, int)}
        return {**described, "error": known} if known else described

    def _pages(self, path: Sequence[str], params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """All entries of an edge. A page may be empty and not the last: what counts is ``paging.next``."""
        limit, after = _PAGE_ROWS, None
        while True:
            page, limit = self._page(path, {**params, "after": after}, limit)
            entries = page.get("data")
            yield from (entry for entry in entries if isinstance(entry, dict)) if isinstance(entries, list) else ()
            following = _after(page.get("paging"))
            if following is None:
                return
            if following == after:
                raise GraphRequestError(
                    "Meta's list of pages does not end: a page names itself as the next.", remedy=ODD_ANSWER
                )
            after = following

    def _page(self, path: Sequence[str], params: Mapping[str, Any], limit: int) -> tuple[dict[str, Any], int]:
        """One page, and the size that Meta could deliver: too large ones are refused with code 1."""
        while True:
            try:
                return self._read(
                    path,
                    {**params, "limit": limit},
                    repeatable=lambda error, size=limit: repeat_any(error) and not _is_too_large(error, size),  # type: ignore[misc]
                ), limit
            except GraphError as error:
                if not _is_too_large(error, limit):
                    raise
                limit //= 2


def digits_of(audience: Mapping[str, Any], field: str) -> str:
    """An id in the description of an audience.

    :param audience: fields as :meth:`Audiences.get` returns them.
    :param field: ``id`` or ``account_id``.
    :raises GraphTransientError: Meta gave none.
    """
    found = str(audience.get(field))
    if _DIGITS.fullmatch(found):
        return found
    raise GraphTransientError(f"Meta described the audience without its {field}.", remedy=ODD_ANSWER)


def retention_days_of(audience: Mapping[str, Any]) -> int | None:
    """Days after which people drop out of an audience; None where they stay.

    :param audience: fields as :meth:`Audiences.get` returns them.
    :raises GraphTransientError: what Meta says is no number.
    """
    days = str(audience.get("retention_days") or 0)
    if _DIGITS.fullmatch(days):
        return int(days) or None
    raise GraphTransientError("Meta described the audience with retention_days that are no number.", remedy=ODD_ANSWER)


def operation_code(audience: Mapping[str, Any], field: str = "operation_status") -> int | None:
    """The code of an audience's status; None where Meta gave none.

    :param audience: fields as :meth:`Audiences.get` returns them.
    :param field: ``operation_status`` or ``delivery_status``.

    .. seealso:: https://developers.facebook.com/documentation/ads-commerce/marketing-api/reference/custom-audience
    """
    status = audience.get(field)
    if not isinstance(status, Mapping):
        return None
    # A sample in Meta's overview has "status" for "code".
    code = status.get("code", status.get("status"))
    try:
        return int(code)
    except (TypeError, ValueError, OverflowError):
        return None


def _is_too_large(error: BaseException, limit: int) -> bool:
    return isinstance(error, GraphError) and error.code == _TOO_MUCH_DATA and limit > _SMALLEST_PAGE_ROWS


def _after(paging: object) -> str | None:
    """The cursor of the next page; None at the end, where a cursor may be present all the same."""
    if not isinstance(paging, Mapping) or not isinstance(paging.get("next"), str):
        return None
    cursors = paging.get("cursors")
    after = cursors.get("after") if isinstance(cursors, Mapping) else None
    return str(after or (parse_qs(urlsplit(paging["next"]).query).get("after") or [""])[0]) or None
