"""HTTP itself: one exchange, within its time and size, whose failures say nothing secret.

Each thread has a :class:`requests.Session` of its own. Requests does not promise that a session may be shared between
threads, and a session per thread still gives every thread its kept-alive connection, with the proxies and certificate
bundles that the environment names. Idle ones go with their thread.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
import weakref
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING

import requests
import urllib3

from airflow_provider_fbca.exceptions import GraphTransientError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_fbca.graph.errors import Place

#: The most bytes of an answer that are read: the largest pages of audiences have a few megabytes.
MAX_ANSWER_BYTES = 32 * 2**20
#: Seconds for a connection to come about. urllib3 also holds each write of a body to it, so it is not shorter.
CONNECT_SECONDS = 30.0
_BLOCK_BYTES = 2**18


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """What came back.

    :param status: HTTP status.
    :param headers: names in any case.
    :param body: decoded from its transfer and content encodings.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """What is sent.

    :param method: GET, POST or DELETE, as it goes over the wire.
    :param url: whole address, free of secrets.
    :param headers: apart from ``Authorization``.
    :param body: None for a plain GET.
    :param token: goes into the ``Authorization`` header.
    :param place: for errors.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    token: str
    place: Place


class Transport:
    """Sends requests and reads their answers.

    :param timeout: seconds for one exchange, from connecting until the answer has begun; reading it has as long again.
    :param proxies: as for requests; None for what the environment says.
    :param use_environment: whether proxies and certificate bundles come from the environment.
    """

    def __init__(self, *, timeout: float, proxies: Mapping[str, str] | None, use_environment: bool) -> None:
        self.timeout = timeout
        self._proxies = dict(proxies or {})
        self._use_environment = use_environment
        self._local = threading.local()
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()
        self._lock = threading.Lock()

    @property
    def longest_flight(self) -> float:
        """Seconds after its start by which no request of ours can still be on its way to Meta."""
        # The last block of a body may begin just in time and then block for as long as a connection may.
        return self.timeout + min(CONNECT_SECONDS, self.timeout)

    def exchange(self, request: Request) -> Answer:
        """Send a request once and read its whole answer, whatever its status.

        :param request: what to send.
        :raises GraphTransientError: no whole answer came; ``outcome_unknown`` if the request writes and any of its
            body was sent.
        """
        body = _TimedBody(request.body or b"", time.monotonic() + self.timeout)
        handled = sys.exception()
        try:
            return self._exchange(request, body)
        except (OSError, ValueError, urllib3.exceptions.HTTPError, _OutOfBoundsError) as error:
            # Such errors quote addresses and bodies: only the name of the class goes on.
            reason = str(error) if isinstance(error, _OutOfBoundsError) else type(error).__name__
            _forget_locals(error, handled=handled)
        # Raised out here, the new error holds no reference to the one that quotes.
        raise GraphTransientError(
            f"{request.place.doing} got no answer from Meta: {reason}.",
            remedy="If this does not pass, check network, certificates, and the connection's host and proxies.",
            outcome_unknown=request.place.write and body.begun,
        )

    def close(self) -> None:
        """Close the kept-alive connections of all threads; the next exchange opens new ones."""
        with self._lock:
            for session in self._sessions:
                session.close()

    def _exchange(self, request: Request, body: _TimedBody) -> Answer:
        session = self._session()
        prepared = session.prepare_request(
            requests.Request(
                request.method,
                request.url,
                headers=dict(request.headers),
                data=body if len(body) else None,
                auth=_Bearer(request.token),
            )
        )
        settings = session.merge_environment_settings(
            prepared.url, dict(self._proxies), stream=True, verify=None, cert=None
        )
        with session.send(
            prepared,
            timeout=urllib3.Timeout(total=self.timeout, connect=min(CONNECT_SECONDS, self.timeout)),  # type: ignore[arg-type]
            allow_redirects=False,
            **settings,
        ) as response:
            return Answer(response.status_code, response.headers, self._read(response))

    def _read(self, response: requests.Response) -> bytes:
        deadline = time.monotonic() + self.timeout
        received = bytearray()
        for block in response.iter_content(2**16):
            received += block
            if len(received) > MAX_ANSWER_BYTES:
                raise _OutOfBoundsError(f"the answer has more than {MAX_ANSWER_BYTES} bytes")
            if time.monotonic() > deadline:
                raise _OutOfBoundsError(f"the answer took longer than {self.timeout:g} seconds to read")
        return bytes(received)

    def _session(self) -> requests.Session:
        # A forked child must not write into its parent's connections.
        if getattr(self._local, "process", None) != os.getpid():
            self._local.process = os.getpid()
            self._local.session = self._new_session()
        session: requests.Session = self._local.session
        return session

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = self._use_environment
        session.verify = True
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        with self._lock:
            self._sessions.add(session)
        return session


def _forget_locals(error: BaseException, *, handled: BaseException | None) -> None:
    """Let the frames of an error, and of those that led to it, go of all they hold: a body goes with its request.

    Here and in the HTTP library errors and frames refer to each other: they would stay, body and all, until the next
    full garbage collection.

    :param error: that was caught; frames that still run are left alone.
    :param handled: what the caller was handling already, which is no part of this.
    """
    link: BaseException | None = error
    while link is not None and link is not handled:
        traceback.clear_frames(link.__traceback__)
        link = link.__context__


class _OutOfBoundsError(Exception):
    """An exchange went beyond what we allow; its text holds limits only."""


class _Bearer(requests.auth.AuthBase):
    """Authorisation by header. As an ``auth`` of requests it also keeps a ``.netrc`` from replacing it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _TimedBody:
    """A body that knows whether any of it was sent, and that stops when the time for sending is over.

    requests and urllib3 read it like a file; a socket's own timeout would begin anew at each write.
    """

    def __init__(self, data: bytes, deadline: float) -> None:
        self._data = memoryview(data)
        self._deadline = deadline
        self._position = 0
        self.begun = False

    def __len__(self) -> int:
        return len(self._data)

    def read(self, _size: int = -1) -> memoryview:
        if time.monotonic() > self._deadline:
            raise _OutOfBoundsError("sending it took too long")
        self.begun = True
        block = self._data[self._position : self._position + _BLOCK_BYTES]
        self._position += len(block)
        return block
