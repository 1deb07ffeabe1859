"""A coordinator of Trino as the real client sees it: statements by POST, pages by GET, cancelled by DELETE.

Written after Trino's documentation of its client protocol; nothing of it is the client's.
"""

from __future__ import annotations

import itertools
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: What a page may be besides its rows: one that is not answered until the query is cancelled.
HANGS = "hangs"


@dataclass
class Result:
    """What a query gives.

    :param columns: name -> type, as Trino writes it: ``decimal(38,9)``.
    :param pages: of rows; an error as Trino writes it, or ``HANGS``.
    """

    columns: dict[str, str]
    pages: Sequence[Any]


@dataclass
class Coordinator:
    """What the test says and learns.

    :param results: given to one query after the other; settings of the session have their own answer.
    """

    results: list[Result] = field(default_factory=list)
    port: int = 0
    statements: list[str] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    blocked: threading.Event = field(default_factory=threading.Event)

    def pages(self) -> int:
        """Tell how many pages were asked for."""
        return self.requests.count("GET")


def error(name: str, kind: str, message: str) -> dict[str, Any]:
    """Write an error as Trino does."""
    failure = {"type": "io.trino.spi.TrinoException", "message": message, "stack": []}
    return {"message": message, "errorCode": 8, "errorName": name, "errorType": kind, "failureInfo": failure}


@contextmanager
def running() -> Iterator[Coordinator]:
    """Run a coordinator on a port of its own."""
    coordinator = Coordinator()
    running_queries: dict[str, Result] = {}
    numbers = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            coordinator.requests.append("POST")
            sql = self.rfile.read(int(self.headers["Content-Length"])).decode()
            coordinator.statements.append(sql)
            coordinator.sessions.append(self.headers.get("X-Trino-Session") or "")
            number = str(next(numbers))
            headers = {}
            if sql.startswith("SET SESSION"):
                name, _, value = sql.removeprefix("SET SESSION ").partition(" = ")
                headers["X-Trino-Set-Session"] = f"{name}={value.strip(chr(39))}"
                running_queries[number] = Result({"result": "boolean"}, [[[True]]])
            elif sql == "EXECUTE IMMEDIATE 'SELECT 1'":
                running_queries[number] = Result({"_col0": "integer"}, [[[1]]])
            else:
                running_queries[number] = coordinator.results.pop(0)
            self._answer({"id": number, "nextUri": self._page(number, 0)}, headers)

        def do_GET(self) -> None:
            coordinator.requests.append("GET")
            number, place = self.path.split("/")[-2:]
            result = running_queries[number]
            page = result.pages[int(place)] if result.pages else []
            if page == HANGS:
                coordinator.blocked.set()
                coordinator.cancelled.wait(30)
            if coordinator.cancelled.is_set():
                page = error("USER_CANCELED", "USER_ERROR", "Query was canceled")
            if isinstance(page, dict):
                self._answer({"id": number, "error": page})
                return
            columns = [_column(name, kind) for name, kind in result.columns.items()]
            answer: dict[str, Any] = {"id": number, "columns": columns, "data": page}
            if int(place) + 1 < len(result.pages):
                answer["nextUri"] = self._page(number, int(place) + 1)
            self._answer(answer)

        def do_DELETE(self) -> None:
            coordinator.requests.append("DELETE")
            coordinator.cancelled.set()
            self.send_response(204)
            self.end_headers()

        def _page(self, number: str, place: int) -> str:
            return f"http://127.0.0.1:{coordinator.port}/v1/statement/executing/{number}/{place}"

        def _answer(self, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
            content = json.dumps({"infoUri": "http://127.0.0.1/", "stats": {"state": "RUNNING"}, **body}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    coordinator.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield coordinator
    finally:
        coordinator.cancelled.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _column(name: str, kind: str) -> dict[str, Any]:
    raw, _, rest = ("varchar(2147483647)" if kind == "varchar" else kind).partition("(")
    numbers, _, zone = rest.partition(")")
    arguments: list[dict[str, Any]] = [{"kind": "LONG", "value": int(n)} for n in numbers.split(",") if n.isdigit()]
    if raw in {"array", "map", "row"}:
        arguments = [{"kind": "TYPE", "value": {"rawType": "varchar", "arguments": []}}] * 2
        if raw == "row":
            part = {"fieldName": {"name": "part"}, "typeSignature": {"rawType": "varchar", "arguments": []}}
            arguments = [{"kind": "NAMED_TYPE", "value": part}]
    return {"name": name, "type": kind, "typeSignature": {"rawType": raw + zone, "arguments": arguments}}
