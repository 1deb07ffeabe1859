"""Cursor paging, as on every Graph list.

Source: https://developers.facebook.com/docs/graph-api/results
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from airflow_provider_fbca.sandbox import errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from airflow_provider_fbca.sandbox.params import Params

_DEFAULT_LIMIT = 25
_MOST_LIMIT = 5000
_EMPTY_PAGE = "empty"


def page_of(
    items: Sequence[dict[str, Any]], request: Request, params: Params, access_token: str, *, empty_pages: bool
) -> dict[str, Any]:
    """Return one page of a list.

    :param items: the whole list.
    :param request: its URL is what ``paging.next`` repeats.
    :param access_token: stands in ``paging.next``, as Meta's does.
    :param empty_pages: put an empty page with a ``next`` before each page, which Graph's rules allow.
    """
    limit = params.whole("limit") or _DEFAULT_LIMIT
    if not 0 < limit <= _MOST_LIMIT:
        raise errors.invalid_parameter("limit is out of range")
    start, is_filled = _read_cursor(params.text("after"))
    if empty_pages and not is_filled:
        return {"data": [], "paging": _paging(start, start, request, access_token, has_next=True, mark="filled")}
    end = min(start + limit, len(items))
    answer: dict[str, Any] = {"data": list(items[start:end])}
    if items:
        mark = _EMPTY_PAGE if empty_pages else ""
        has_next = end < len(items)
        answer["paging"] = _paging(start, end, request, access_token, has_next=has_next, mark=mark)
    if params.flag("summary"):
        answer["summary"] = {"total_count": len(items)}
    return answer


def _paging(start: int, end: int, request: Request, token: str, *, has_next: bool, mark: str) -> dict[str, Any]:
    after = _make_cursor(end, mark)
    paging: dict[str, Any] = {"cursors": {"before": _make_cursor(start, mark), "after": after}}
    if has_next:
        query = dict(parse_qsl(request.url.query)) | {"access_token": token, "after": after}
        paging["next"] = str(request.url.replace(query=urlencode(query)))
    return paging


def _make_cursor(position: int, mark: str) -> str:
    return base64.urlsafe_b64encode(f"{position}:{mark}".encode()).decode()


def _read_cursor(cursor: str) -> tuple[int, bool]:
    if not cursor:
        return 0, False
    try:
        position, _, mark = base64.urlsafe_b64decode(cursor).decode().partition(":")
        return int(position), mark == "filled"
    except (binascii.Error, ValueError) as error:
        raise errors.invalid_parameter("Invalid cursors values") from error
