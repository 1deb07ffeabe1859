"""ClickHouse's HTTP interface over the engine inside chdb, as far as its Python client needs it.

Run as ``python clickhouse_http.py PORT``. The engine is the real one: types, formats, settings, sessions of settings,
parameters, ``system.processes`` and ``KILL QUERY`` are its own, only the protocol around it is ours. What the wheel's
engine lacks is a server. A query that fails in the middle of its result ends as ClickHouse's do: with the error as text
in the body, and without the last chunk of HTTP. The user ``reader`` may only read, and change no setting.

Comments at the end of a statement let things go wrong: ``-- cut`` ends a result after its first block as if all had
come, ``-- stall`` sends nothing after it for long, whatever is killed, and ``-- forget`` forgets the session, as
another server behind the same address would never have known it.
"""

from __future__ import annotations

import base64
import email
import email.policy
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import chdb
import pyarrow as pa

_NOT_SETTINGS = {"query", "database", "query_id", "session_id", "session_check", "session_timeout", "default_format"}
_NOT_SETTINGS |= {"user", "password", "client_protocol_version", "wait_end_of_query"}
_NOT_SETTINGS |= {"send_progress_in_http_headers", "http_headers_progress_interval_ms", "enable_http_compression"}
_CODE = re.compile(r"Code: (\d+)")
_SET = re.compile(r"\s*SET\s+(\w+)\s*=\s*(.+?)\s*$", re.IGNORECASE | re.DOTALL)
_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*$")
_KILL = re.compile(r"\s*KILL QUERY WHERE startsWith\(query_id, '([^']*)'\)")

_READER = "Basic " + base64.b64encode(b"reader:").decode()

SESSIONS: dict[str, dict[str, str]] = {}
#: Of all requests, as whatever logs them on the way would have them; ``/seen`` gives them.
PATHS: list[str] = []
# The engine ends with its last connection.
ENGINE = chdb.connect(":memory:")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if url.path == "/ping":
            self._answer(200, b"Ok.\n")
            return
        if url.path == "/seen":
            self._answer(200, "\n".join(PATHS).encode())
            return
        PATHS.append(self.path)
        fields = dict(parse_qsl(url.query, keep_blank_values=True))
        if self.headers.get_content_maintype() == "multipart":
            fields |= self._form(body)
        else:
            fields["query"] = "\n".join(part for part in (fields.get("query", ""), body.decode()) if part)
        connection = chdb.connect(":memory:")
        try:
            if self.headers.get("Authorization") == _READER:
                connection.query("SET readonly = 1")
            self._run(connection, fields)
        except chdb.ChdbError as error:
            code = _CODE.search(str(error))
            self._answer(500, str(error).encode(), {"X-ClickHouse-Exception-Code": code[1] if code else "1001"})
        finally:
            connection.close()

    def _run(self, connection: object, fields: dict[str, str]) -> None:
        sql = fields["query"]
        session = self._session(fields)
        if setting := _SET.match(sql):
            connection.query(f"SELECT 1 SETTINGS {setting[1]} = {setting[2]}")
            session[setting[1]] = setting[2].removesuffix("-- forget")
            if sql.endswith("-- forget"):
                del SESSIONS[fields["session_id"]]
            self._answer(200, b"")
            return
        if killed := _KILL.match(sql):
            mark = f"position(query, '/* {killed[1]}') = 1"
            connection.query(f"KILL QUERY WHERE {mark} ASYNC")
            self._answer(200, b"")
            return
        asked = {name: f"'{value}'" for name, value in fields.items() if name not in _NOT_SETTINGS | _params(fields)}
        settings = ", ".join(f"{name} = {value}" for name, value in {**session, **asked}.items())
        found = _FORMAT.search(sql)
        sql = sql if found else f"{sql}\nFORMAT TabSeparated"
        marked = f"/* {fields.get('query_id', '')} */ {sql}" + (f" SETTINGS {settings}" if settings else "")
        params = {name.removeprefix("param_"): fields[name] for name in _params(fields)}
        if found and found[1] == "ArrowStream":
            self._stream(connection, marked, params)
        else:
            self._answer(200, connection.query(marked, found[1] if found else "TabSeparated", params=params).bytes())

    def _stream(self, connection: object, sql: str, params: dict[str, str]) -> None:
        """Send each block as soon as the engine has it; each comes as a stream of its own, which are made one."""
        result = connection.send_query(sql, "ArrowStream", params=params)
        sink: _Chunks | None = None
        writer = None
        try:
            while (block := result.fetch()) is not None and (data := block.bytes()):
                with pa.ipc.open_stream(data) as stream:
                    if writer is None:
                        sink = self._start()
                        writer = pa.ipc.new_stream(pa.PythonFile(sink, "w"), stream.schema)
                    for batch in stream:
                        writer.write_batch(batch)
                if "-- stall" in sql:
                    time.sleep(30)
                if "-- cut" in sql:
                    sink.end()
                    return
            if writer is None:
                self._answer(200, connection.query(sql, "ArrowStream", params=params).bytes())
                return
            writer.close()
            sink.end()
        except chdb.ChdbError as error:
            if sink is None:
                raise
            sink.write(f"\r\n__exception__\r\n{error}".encode())
            self.close_connection = True
        except OSError:
            self.close_connection = True  # the client is gone
        finally:
            result.close()

    def _start(self) -> _Chunks:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("X-ClickHouse-Format", "ArrowStream")
        self.end_headers()
        return _Chunks(self.wfile)

    def _session(self, fields: dict[str, str]) -> dict[str, str]:
        name = fields.get("session_id", "")
        if fields.get("session_check") == "1" and name not in SESSIONS:
            raise chdb.ChdbError("Code: 372. DB::Exception: Session not found.")
        return SESSIONS.setdefault(name, {}) if name else {}

    def _form(self, body: bytes) -> dict[str, str]:
        header = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.message_from_bytes(header + body, policy=email.policy.HTTP)
        return {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True).decode()
            for part in message.iter_parts()
        }

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class _Chunks:
    """A body of HTTP in chunks, as a file to write to."""

    closed = False

    def __init__(self, file: object) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        if len(data):
            self._file.write(f"{len(data):x}\r\n".encode() + bytes(data) + b"\r\n")
        return len(data)

    def flush(self) -> None:
        self._file.flush()

    def end(self) -> None:
        self._file.write(b"0\r\n\r\n")


def _params(fields: dict[str, str]) -> set[str]:
    return {name for name in fields if name.startswith("param_")}


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
