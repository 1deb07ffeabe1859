"""HTTP servers of a few lines, which stand in for real ones or between them and who is tested."""

from __future__ import annotations

import http.client
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit


@contextmanager
def wire(answer):
    """Serve HTTP with a function of the request, which returns status, headers and body, or None to break off."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # so that it asks those to go on who wait for that (Expect: 100-continue)

        def handle_any(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            request = SimpleNamespace(
                method=self.command,
                target=self.path,
                path=parts.path,
                query=parse_qs(parts.query),
                headers={name.lower(): value for name, value in self.headers.items()},
                body=body,
            )
            seen.append(request)
            answered = answer(request)
            if answered is None:
                self.close_connection = True
                return
            status, headers, content = answered
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), "Connection": "close", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815 - names of the base class

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def forward_to(url, change=lambda request: None):
    """Answer with what a real server says; ``change`` may alter the request before."""

    def forward(request):
        change(request)
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        hop = {"host", "connection", "expect"}
        headers = {name: value for name, value in request.headers.items() if name not in hop}
        connection.request(request.method, request.target, request.body, headers)
        answer = connection.getresponse()
        content = answer.read()
        skip = {"content-length", "transfer-encoding", "connection", "date", "server"}
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in skip}
        if request.method == "HEAD":
            headers["Content-Length"] = answer.getheader("Content-Length", "0")
        connection.close()
        return answer.status, headers, content

    return forward
