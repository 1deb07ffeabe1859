"""What was called, without tokens, bodies or anything of a person."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

_KEPT = 100_000


@dataclass
class LoggedRequest:
    """One call.

    :param number: counts calls from 1.
    :param at: when it came, on the sandbox's clock.
    :param method: HTTP method as sent.
    :param path: without the query.
    :param url_length: of path and query.
    :param query_has_access_token: whether a token stood in the URL.
    :param query_has_appsecret_proof: whether a proof stood in the URL.
    :param body_bytes: size of the body as sent.
    :param content_type: of the body.
    :param operation: what the call was for (``add_users``, ``remove_users``, ...); ``""`` if it is unknown.
    :param token_place: where the token stood: ``header``, ``body``, ``query`` or ``""``.
    :param rows: rows in the payload, counted where it was read.
    :param session_id: of the upload session.
    :param batch_seq: of the batch in it.
    :param last_batch_flag: of the batch.
    :param status: HTTP status of the answer; None where there was none.
    :param error: Graph's code and subcode, like ``2650/1870145``.
    :param fault: the injected fault that struck.
    :param account_id: the ad account that it was about, without ``act_``; None where it was about none.
    :param too_early: whether it came before the end of a limit that its caller had been told of.
    :param applied: whether the sandbox carried the call out; False where it refused it or a fault came first.
    """

    number: int
    at: float
    method: str
    path: str
    url_length: int
    query_has_access_token: bool = False
    query_has_appsecret_proof: bool = False
    body_bytes: int = 0
    content_type: str = ""
    operation: str = ""
    token_place: str = ""
    rows: int | None = None
    session_id: str | None = None
    batch_seq: int | None = None
    last_batch_flag: bool | None = None
    status: int | None = None
    error: str | None = None
    fault: str | None = None
    account_id: str | None = None
    too_early: bool = False
    applied: bool = False


class RequestLog:
    """The latest calls, oldest first."""

    def __init__(self) -> None:
        self._entries: deque[LoggedRequest] = deque(maxlen=_KEPT)
        self._number = 0

    def begin(self, at: float, method: str, path: str, url_length: int) -> LoggedRequest:
        """Start the entry of a call; what is learnt later is set on it."""
        self._number += 1
        entry = LoggedRequest(self._number, at, method, path, url_length)
        self._entries.append(entry)
        return entry

    def entries(self) -> list[dict[str, Any]]:
        """Return all entries as plain objects."""
        return [asdict(entry) for entry in self._entries]
