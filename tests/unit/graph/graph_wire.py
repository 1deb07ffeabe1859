"""A server that says whatever a test wants, over real HTTP, and rows to send."""

from __future__ import annotations

import http.server
import json
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN = "EAABsecretTOKENsecretTOKENsecret1234567890"
SECRET = "0123456789abcdef0123456789abcdef"
AUDIENCE = "120210000000000001"
ACCOUNT = "100000000000001"


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}


@dataclass
class Reply:
    """An answer; ``drop`` closes the connection instead, ``hold`` waits first."""

    status: int = 200
    body: Any = field(default_factory=lambda: {"success": True})
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    hold: float = 0.0
    promised: int | None = None

    @property
    def payload(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class OddServer:
    """Answers with the replies that a test has queued, then with success."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.replies: deque[Reply] = deque()
        self.answer: Callable[[Seen], Reply] | None = None
        self.released = threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                seen = Seen(self.command, self.path, dict(self.headers), body)
                server.seen.append(seen)
                reply = server.replies.popleft() if server.replies else None
                reply = reply or (server.answer(seen) if server.answer else Reply())
                if reply.hold:
                    server.released.wait(reply.hold)
                if reply.drop:
                    self.close_connection = True
                    self.connection.close()
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(reply.promised or len(reply.payload)))
                self.end_headers()
                self.wfile.write(reply.payload)
                if reply.promised:
                    self.close_connection = True

            do_GET = do_POST = do_DELETE = serve  # noqa: N815

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        # Clients that hang up are part of the tests.
        self._server.handle_error = lambda *_args: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def say(self, *replies: Reply) -> None:
        self.replies.extend(replies)

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


def error_body(code: int, subcode: int | None = None, **more: Any) -> dict[str, Any]:
    error = {"message": "Some words", "type": "OAuthException", "code": code, "fbtrace_id": "AbC123_-", **more}
    if subcode is not None:
        error["error_subcode"] = subcode
    return {"error": error}


def refused(code: int, subcode: int | None = None, *, status: int = 400, **more: Any) -> Reply:
    return Reply(status, error_body(code, subcode, **more))


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


def people(count: int, *, start: int = 0, step: int = 997) -> Iterator[pa.RecordBatch]:
    """Rows in batches of an awkward size."""
    for first in range(start, start + count, step):
        numbers = range(first, min(first + step, start + count))
        yield pa.record_batch(
            {
                "EXTERN_ID": pa.array([f"c{number}" for number in numbers]),
                "EMAIL": pa.array([digest(number) for number in numbers], pa.binary(32)),
            }
        )
