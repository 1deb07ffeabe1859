"""Snowflake's HTTP interface, as far as the Python connectors need it: sessions, statements, results in Arrow.

Columns are sent in the forms of the real one: numbers as integers of the narrowest width with a scale beside them,
timestamps as an epoch or a structure of epoch, fraction and offset.
"""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import json
import threading
from decimal import Decimal
from typing import Any

import pyarrow as pa

QUERY = "01b00000-0000-0000-0000-000000000001"
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_PARTS = [("epoch", pa.int64()), ("fraction", pa.int32())]


class SnowflakeServer:
    """What it was told, and what it answers; ``answer`` serves the requests.

    :param chunks: the result: the first chunk comes within the answer, the others have addresses of their own.
    :param zone: of the session.
    """

    def __init__(self, *chunks: pa.RecordBatch, zone: str = "UTC") -> None:
        self.chunks = chunks
        self.zone = zone
        self.address = ""
        self.statements: list[str] = []
        self.submitted: list[dict[str, Any]] = []
        self.aborted = threading.Event()
        self.done = threading.Event()
        self.done.set()
        self.closed = threading.Event()
        self.failure: tuple[str, str] | None = None
        self.result_format = "arrow"
        #: Chunks are not sent before this is set.
        self.may_send = threading.Event()
        self.may_send.set()
        self.chunks_sent = 0
        #: So many rows of each chunk after the first are announced and not sent.
        self.withheld = 0

    def answer(self, request: Any) -> tuple[int, dict[str, str], bytes]:
        path = request.path.replace("//", "/")
        if path.startswith("/chunk/"):
            self.may_send.wait(20)
            self.chunks_sent += 1
            chunk = self.chunks[int(path.split("/")[2])]
            return 200, {"Content-Type": "application/octet-stream"}, _stream(chunk.slice(self.withheld))
        body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
        said = {"success": True, "code": None, "message": None, "data": None}
        said.update(self._say(path, request, json.loads(body or b"{}")))
        return 200, {"Content-Type": "application/json"}, json.dumps(said).encode()

    def _say(self, path: str, request: Any, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/session/v1/login-request":
            return {"data": self._session()}
        if path == "/queries/v1/query-request":
            return self._submit(body) if body.get("asyncExec") else self._run(body)
        if path == f"/monitoring/queries/{QUERY}":
            return {"data": {"queries": [self._state()]}}
        if path == f"/queries/{QUERY}/result":
            return {"data": self._result()}
        if path == f"/queries/{QUERY}/abort-request":
            self.aborted.set()
        if path == "/session" and request.query.get("delete"):
            self.closed.set()
        return {}

    def _submit(self, body: dict[str, Any]) -> dict[str, Any]:
        self.submitted.append(body)
        link = f"/queries/{QUERY}/result"
        return {"code": "333334", "message": "in progress", "data": {"queryId": QUERY, "getResultUrl": link}}

    def _run(self, body: dict[str, Any]) -> dict[str, Any]:
        self.statements.append(body["sqlText"])
        done = pa.record_batch([pa.array(["done"])], schema=pa.schema([text("status")]))
        return {"data": {**self._head(done.schema), "rowsetBase64": _base64(done), "total": 1, "returned": 1}}

    def _state(self) -> dict[str, Any]:
        if self.failure is not None:
            code, message = self.failure
            return {"id": QUERY, "status": "FAILED_WITH_ERROR", "errorCode": code, "errorMessage": message}
        if self.aborted.is_set():
            message = "SQL execution canceled"
            return {"id": QUERY, "status": "FAILED_WITH_ERROR", "errorCode": "000604", "errorMessage": message}
        return {"id": QUERY, "status": "SUCCESS" if self.done.is_set() else "RUNNING"}

    def _result(self) -> dict[str, Any]:
        first = self.chunks[0]
        rows = sum(chunk.num_rows for chunk in self.chunks)
        said = {**self._head(first.schema), "total": rows, "returned": rows}
        if self.result_format == "json":
            cells = [[None if cell is None else str(cell) for cell in row.values()] for row in first.to_pylist()]
            return {**said, "rowset": cells, "queryResultFormat": "json"}
        sizes = {"uncompressedSize": 100, "compressedSize": 100}
        links = [
            {"url": f"{self.address}/chunk/{number}/part", "rowCount": chunk.num_rows, **sizes}
            for number, chunk in enumerate(self.chunks)
        ][1:]
        return {**said, "rowsetBase64": _base64(first), **({"chunks": links} if links else {})}

    def _head(self, schema: pa.Schema) -> dict[str, Any]:
        return {
            "queryId": QUERY,
            "parameters": self._parameters(),
            "rowtype": [_row_type(field) for field in schema],
            "queryResultFormat": "arrow",
            "finalDatabaseName": "DB",
            "finalSchemaName": "S",
            "finalWarehouseName": "W",
            "finalRoleName": "R",
            "statementTypeId": 4096,
            "sqlState": "00000",
            "version": 1,
        }

    def _session(self) -> dict[str, Any]:
        names = {"databaseName": "DB", "schemaName": "S", "warehouseName": "W", "roleName": "R"}
        return {
            "token": "token_secret",
            "masterToken": "master_secret",
            "validityInSeconds": 3600,
            "masterValidityInSeconds": 14400,
            "displayUserName": "U",
            "serverVersion": "9",
            "firstLogin": False,
            "sessionId": 42,
            "parameters": self._parameters(),
            "sessionInfo": names,
        }

    def _parameters(self) -> list[dict[str, Any]]:
        values = {
            "TIMEZONE": self.zone,
            "PYTHON_CONNECTOR_QUERY_RESULT_FORMAT": "arrow",
            "CLIENT_PREFETCH_THREADS": 4,
            "CLIENT_TELEMETRY_ENABLED": False,
            "AUTOCOMMIT": True,
        }
        return [{"name": name, "value": value} for name, value in values.items()]


def text(name: str) -> pa.Field:
    return _field(name, pa.string(), "TEXT")


def whole(name: str, kind: pa.DataType) -> pa.Field:
    return _field(name, kind, "FIXED", scale=0, precision=38)


def column(name: str, kind: str, values: list[Any]) -> tuple[pa.Field, pa.Array]:
    """Give a column as Snowflake sends it.

    :param kind: of the nasty table.
    """
    if kind in _SCALES:
        return _fixed(name, values, *_SCALES[kind])
    if kind in _INSTANTS:
        logical, parts = _INSTANTS[kind]
        return _made(_field(name, pa.struct(parts), logical, scale=9), [_parts(value) for value in values])
    logical, arrow = _PLAIN.get(kind, ("TEXT", pa.string()))
    return _made(_field(name, arrow, logical), values)


def batch(*columns: tuple[pa.Field, pa.Array]) -> pa.RecordBatch:
    return pa.record_batch([array for _, array in columns], schema=pa.schema([field for field, _ in columns]))


_PLAIN = {
    "float": ("REAL", pa.float64()),
    "nan": ("REAL", pa.float64()),
    "bool": ("BOOLEAN", pa.bool_()),
    "date": ("DATE", pa.date32()),
    "json": ("VARIANT", pa.string()),
    "bytes": ("BINARY", pa.binary()),
    "digest": ("BINARY", pa.binary()),
}


_SCALES = {
    "int": (0, None),
    "bigint": (0, None),
    "decimal": (0, pa.decimal128(38, 0)),
    "huge": (0, pa.decimal128(38, 0)),
    "scaled": (9, pa.decimal128(38, 9)),
    "money": (4, None),
}
_INSTANTS = {
    "timestamp": ("TIMESTAMP_NTZ", _PARTS),
    "zoned": ("TIMESTAMP_LTZ", _PARTS),
    "offset": ("TIMESTAMP_TZ", [*_PARTS, ("timezone", pa.int32())]),
}


def _fixed(name: str, values: list[Any], scale: int, kind: pa.DataType | None) -> tuple[pa.Field, pa.Array]:
    if kind is not None:
        cells = [None if value is None else Decimal(value) for value in values]
    else:
        cells = [None if value is None else int(Decimal(value).scaleb(scale)) for value in values]
        widest = max((abs(cell) for cell in cells if cell is not None), default=0)
        kinds = ((8, pa.int8()), (16, pa.int16()), (32, pa.int32()), (64, pa.int64()))
        kind = next(kind for bits, kind in kinds if widest < 2 ** (bits - 1))
    return _made(_field(name, kind, "FIXED", scale=scale, precision=38), cells)


def _made(field: pa.Field, cells: list[Any]) -> tuple[pa.Field, pa.Array]:
    return field, pa.array(cells, field.type)


def _parts(value: dt.datetime | None) -> dict[str, int] | None:
    if value is None:
        return None
    offset = value.utcoffset() or dt.timedelta()
    since = (value if value.tzinfo else value.replace(tzinfo=dt.UTC)) - _EPOCH
    minutes = 1440 + offset // dt.timedelta(minutes=1)
    return {"epoch": since // dt.timedelta(seconds=1), "fraction": since.microseconds * 1000, "timezone": minutes}


def _field(name: str, kind: pa.DataType, logical: str, **more: int) -> pa.Field:
    return pa.field(name, kind, metadata={"logicalType": logical, **{key: str(value) for key, value in more.items()}})


def _row_type(field: pa.Field) -> dict[str, Any]:
    said = {key.decode(): value.decode() for key, value in field.metadata.items()}
    numbers = {key: int(said[key]) if key in said else None for key in ("scale", "precision")}
    nothing = dict.fromkeys(("length", "byteLength", "collation"))
    places = dict.fromkeys(("database", "schema", "table"), "")
    return {"name": field.name, "type": said["logicalType"].lower(), "nullable": True, **numbers, **nothing, **places}


def _stream(chunk: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, chunk.schema) as writer:
        writer.write_batch(chunk)
    return sink.getvalue().to_pybytes()


def _base64(chunk: pa.RecordBatch) -> str:
    return base64.b64encode(_stream(chunk)).decode()
