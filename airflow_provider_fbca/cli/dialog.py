"""The dialog in which a person lets an app act for them, and how its answer comes back: to this machine, or by paste.

.. seealso:: https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow
"""

from __future__ import annotations

import hmac
import queue
import re
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

from airflow_provider_fbca.exceptions import FbcaError
from airflow_provider_fbca.graph.credentials import is_metas

if TYPE_CHECKING:
    from types import TracebackType

#: The permission that is asked for: the only one that work on audiences needs.
SCOPE = "ads_management"

_META = "https://www.facebook.com"
_WORD = re.compile(r"[a-z_]{1,40}")
_AGAIN = "Run `fbca login` once more."
_ARRIVED = b"<!DOCTYPE html><title>fbca login</title><p>The answer has arrived. Go back to the terminal."
_STRAY = b"<!DOCTYPE html><title>fbca login</title><p>This is no answer to the login that waits at the terminal."
_ANSWER_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'",
}
_READ_SECONDS = 10


def dialog_address(base_url: str, version: str, *, app_id: str, redirect_uri: str, state: str) -> str:
    """Return the address of the dialog that a person opens.

    :param base_url: of the Graph API; a stand-in has the dialog at the same host, Meta at another.
    :param version: of the API.
    :param app_id: of the app to log in to.
    :param redirect_uri: where the dialog sends its answer. Meta takes https addresses that the app's settings name, and
        ``http://localhost`` while the app is in development mode.
    :param state: a random text that the answer must bring back.
    """
    asked = {
        "client_id": app_id,
        "redirect_uri": redirect_uri,
        "state": state,
        "response_type": "code",
        "scope": SCOPE,
        # Else the dialog does not offer again what the person has once unticked.
        "auth_type": "rerequest",
    }
    host = _META if is_metas(base_url) else base_url
    return f"{host}/{version}/dialog/oauth?{urlencode(asked)}"


def code_in(address: str, state: str) -> str:
    """Return the code in the address that the dialog has sent the browser to.

    :param address: with its query.
    :param state: as it was given to the dialog.
    :raises FbcaError: where the person refused, or this is no answer to that dialog.
    """
    try:
        answer = {name: values[0] for name, values in parse_qs(urlsplit(address.strip()).query).items()}
    except ValueError:
        answer = {}
    if not hmac.compare_digest(answer.get("state", "").encode(), state.encode()):
        raise FbcaError("This is no answer to the login that was begun here: its state differs.", remedy=_AGAIN)
    if answer.get("code"):
        return answer["code"]
    # Only words of the protocol are shown: an address may hold anything.
    found = [answer.get(name, "") for name in ("error", "error_reason")]
    words = [word for word in found if _WORD.fullmatch(word)]
    raise FbcaError(f"The login ended without a code ({', '.join(words) or 'no reason given'}).", remedy=_AGAIN)


class Receiver:
    """Waits on this machine for the browser that the dialog sends back.

    :param port: to listen at on 127.0.0.1; 0 takes a free one.
    :param state: what an answer must bring back; any other request is turned away and changes nothing.
    :raises FbcaError: where the port is taken.
    """

    def __init__(self, port: int, state: str) -> None:
        self._state = state
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        try:
            # In threads: browsers open connections ahead on which nothing comes.
            self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        except OSError as error:
            reason = type(error).__name__
        else:
            self._server.daemon_threads = True
            return
        raise FbcaError(f"Port {port} cannot be listened at: {reason}.", remedy="Name another one with --port.")

    @property
    def redirect_uri(self) -> str:
        """Where the dialog has to send its answer; Meta lets plain http pass for this name only."""
        return f"http://localhost:{self._server.server_port}/"

    def wait(self, seconds: float) -> str:
        """Return the address of the answer.

        :param seconds: the longest wait.
        :raises FbcaError: where none comes.
        """
        try:
            return self._answers.get(timeout=seconds)
        except queue.Empty:
            pass
        raise FbcaError(
            f"No answer came within {seconds:g} seconds.",
            remedy="Where the browser is on another machine, use --paste.",
        )

    def __enter__(self) -> Receiver:
        threading.Thread(target=self._server.serve_forever, name="fbca-login", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answers, state = self._answers, self._state

        class Handler(BaseHTTPRequestHandler):
            timeout = _READ_SECONDS

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                if parts.path != "/":
                    self._say(HTTPStatus.NOT_FOUND, _STRAY)
                    return
                brought = parse_qs(parts.query).get("state", [""])[0]
                if not hmac.compare_digest(brought.encode(), state.encode()):
                    self._say(HTTPStatus.BAD_REQUEST, _STRAY)
                    return
                self._say(HTTPStatus.OK, _ARRIVED)
                answers.put(self.path)

            def _say(self, status: HTTPStatus, page: bytes) -> None:
                self.send_response(status)
                for name, value in _ANSWER_HEADERS.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_args: Any) -> None:
                """Say nothing: the request line holds the code."""

        return Handler
