"""BigQuery's HTTP interface for jobs, and its gRPC one for rows, as far as the Python clients need them."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator

_TABLE = {"projectId": "acme", "datasetId": "_results", "tableId": "anon1"}
#: Kind of the nasty table -> BigQuery's type and Arrow's. ``zoned`` is a DATETIME in the zone that the query asks for.
_TYPES: dict[str, tuple[str, pa.DataType]] = {
    "int": ("INTEGER", pa.int64()),
    "bigint": ("INTEGER", pa.int64()),
    "decimal": ("NUMERIC", pa.decimal128(38, 9)),
    "scaled": ("NUMERIC", pa.decimal128(38, 9)),
    "money": ("NUMERIC", pa.decimal128(38, 9)),
    "huge": ("BIGNUMERIC", pa.decimal256(76, 38)),
    "float": ("FLOAT", pa.float64()),
    "nan": ("FLOAT", pa.float64()),
    "bool": ("BOOLEAN", pa.bool_()),
    "date": ("DATE", pa.date32()),
    "timestamp": ("DATETIME", pa.timestamp("us")),
    "zoned": ("DATETIME", pa.timestamp("us")),
    "instant": ("TIMESTAMP", pa.timestamp("us", tz="UTC")),
    "json": ("JSON", pa.string()),
    "bytes": ("BYTES", pa.binary()),
    "digest": ("BYTES", pa.binary()),
}


def column(name: str, kind: str, values: list[Any]) -> tuple[pa.Field, pa.Array]:
    """Give a column as BigQuery sends it.

    :param kind: of the nasty table.
    """
    big, arrow = _TYPES.get(kind, ("STRING", pa.string()))
    cells = [value.replace(tzinfo=None) if kind == "zoned" and value else value for value in values]
    field = pa.field(name, arrow, metadata={"type": big})
    return field, pa.array(cells, arrow)


def table(*columns: tuple[pa.Field, pa.Array]) -> pa.RecordBatch:
    return pa.record_batch([array for _, array in columns], schema=pa.schema([field for field, _ in columns]))


class BigQueryServer:
    """What it was told, and what it answers.

    :param messages: the result, as the Storage API sends it; REST sends a page for each.
    """

    def __init__(self, *messages: pa.RecordBatch) -> None:
        self.messages = messages
        self.jobs: list[dict[str, Any]] = []
        self.dry_runs: list[dict[str, Any]] = []
        self.statement_type = "SELECT"
        self.done = threading.Event()
        self.done.set()
        self.cancelled = threading.Event()
        self.failure: dict[str, str] | None = None
        self.requests: list[str] = []
        self.storage_is_refused = False
        #: The Storage API sends no more than so many messages before ``may_send`` is set.
        self.at_once = 1000
        self.may_send = threading.Event()
        self.messages_sent = 0
        self.streams_asked = 0

    # -- HTTP ---------------------------------------------------------------------------------------------------

    def answer(self, request: Any) -> tuple[int, dict[str, str], bytes]:
        parts = request.path.strip("/").split("/")
        assert parts[:4] == ["bigquery", "v2", "projects", "acme"]
        status, said = self._say(request, parts[4:])
        self.requests.append(f"{request.method} {parts[4]}")
        return status, {"Content-Type": "application/json"}, json.dumps(said).encode()

    def _say(self, request: Any, parts: list[str]) -> tuple[int, dict[str, Any]]:
        if request.method == "POST" and parts == ["jobs"]:
            return self._insert(json.loads(request.body))
        if parts[-1] == "cancel":
            self.cancelled.set()
            return 200, {"job": self._job(self.jobs[-1])}
        if parts[0] == "jobs":
            return 200, self._job(next(job for job in self.jobs if job["jobReference"]["jobId"] == parts[1]))
        return self._query_results(request)

    def _insert(self, job: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if job["configuration"].get("dryRun"):
            self.dry_runs.append(job)
            statistics = {"query": {"statementType": self.statement_type}}
            return 200, {**job, "status": {"state": "DONE"}, "statistics": statistics}
        self.jobs.append(job)
        return 200, self._job(job)

    def _job(self, job: dict[str, Any]) -> dict[str, Any]:
        query = job["configuration"]["query"]
        statistics: dict[str, Any] = {"query": {"statementType": "SELECT"}}
        if query.get("createSession"):
            statistics["sessionInfo"] = {"sessionId": "session-1"}
        status: dict[str, Any] = {"state": "DONE" if self._is_over() else "RUNNING"}
        if failure := self._failure():
            status |= {"errorResult": failure, "errors": [failure]}
        configured = {**job["configuration"], "query": {**query, "destinationTable": _TABLE}}
        return {**job, "configuration": configured, "status": status, "statistics": statistics}

    def _is_over(self) -> bool:
        return self.done.is_set() or self.cancelled.is_set()

    def _failure(self) -> dict[str, str] | None:
        if self.cancelled.is_set():
            return {"reason": "stopped", "message": "Job execution was cancelled"}
        return self.failure

    def _query_results(self, request: Any) -> tuple[int, dict[str, Any]]:
        if not self._is_over():
            # The real one lets the client wait, too.
            self.cancelled.wait(0.2)
        if self._is_over() and (failure := self._failure()):
            codes = {"accessDenied": 403, "notFound": 404, "quotaExceeded": 403, "backendError": 500}
            code = codes.get(failure["reason"], 400)
            return code, {"error": {"code": code, "errors": [failure], "message": failure["message"]}}
        reference = {"projectId": "acme", "jobId": request.path.rpartition("/")[2], "location": "EU"}
        if not self._is_over():
            return 200, {"jobReference": reference, "jobComplete": False}
        said = {"jobReference": reference, "jobComplete": True, "schema": self._schema(), "cacheHit": False}
        said["totalRows"] = str(sum(message.num_rows for message in self.messages))
        if request.query.get("maxResults") != ["0"]:
            page = int(request.query.get("pageToken", ["0"])[0])
            said["rows"] = [
                {"f": [{"v": _json(cell)} for cell in row.values()]} for row in self.messages[page].to_pylist()
            ]
            if page + 1 < len(self.messages):
                said["pageToken"] = str(page + 1)
        return 200, said

    def _schema(self) -> dict[str, Any]:
        fields = self.messages[0].schema
        return {"fields": [{"name": f.name, "type": f.metadata[b"type"].decode(), "mode": "NULLABLE"} for f in fields]}

    # -- gRPC ---------------------------------------------------------------------------------------------------

    @contextmanager
    def storage(self) -> Iterator[str]:
        """Run the Storage API on loopback and give its address."""
        import grpc
        from google.cloud.bigquery_storage_v1.types import (
            CreateReadSessionRequest,
            ReadRowsRequest,
            ReadRowsResponse,
            ReadSession,
        )

        handlers = {
            "CreateReadSession": grpc.unary_unary_rpc_method_handler(
                self._create_read_session, CreateReadSessionRequest.deserialize, ReadSession.serialize
            ),
            "ReadRows": grpc.unary_stream_rpc_method_handler(
                self._read_rows, ReadRowsRequest.deserialize, ReadRowsResponse.serialize
            ),
        }
        service = "google.cloud.bigquery.storage.v1.BigQueryRead"
        server = grpc.server(ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            self.may_send.set()
            server.stop(grace=None).wait()

    def _create_read_session(self, request: Any, context: Any) -> Any:
        import grpc
        from google.cloud.bigquery_storage_v1.types import ArrowSchema, ReadSession, ReadStream

        if self.storage_is_refused:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "zoe.secret@example.com may not")
        self.streams_asked = request.max_stream_count
        streams = [ReadStream(name=f"streams/{number}") for number in range(min(2, len(self.messages)))]
        schema = ArrowSchema(serialized_schema=self.messages[0].schema.serialize().to_pybytes())
        return ReadSession(name="sessions/1", data_format=2, arrow_schema=schema, streams=streams)

    def _read_rows(self, request: Any, context: Any) -> Iterator[Any]:
        from google.cloud.bigquery_storage_v1.types import ArrowRecordBatch, ArrowSchema, ReadRowsResponse

        first = int(request.read_stream.rpartition("/")[2])
        for number, message in enumerate(self.messages[first::2]):
            if self.messages_sent >= self.at_once:
                self.may_send.wait(20)
            self.messages_sent += 1
            said: dict[str, Any] = {"row_count": message.num_rows}
            if number == 0:
                said["arrow_schema"] = ArrowSchema(serialized_schema=message.schema.serialize().to_pybytes())
            batch = ArrowRecordBatch(serialized_record_batch=message.serialize().to_pybytes())
            yield ReadRowsResponse(arrow_record_batch=batch, **said)


def _json(value: Any) -> object:
    """Write a cell as BigQuery's REST does."""
    return _JSON[type(value)](value)


_JSON: dict[type, Any] = {
    type(None): lambda _: None,
    str: str,
    int: str,
    float: lambda value: "NaN" if math.isnan(value) else str(value),
    bool: lambda value: "true" if value else "false",
    bytes: lambda value: base64.b64encode(value).decode(),
    Decimal: lambda value: format(value, "f"),
    dt.date: dt.date.isoformat,
    dt.datetime: lambda value: str(int(value.timestamp() * 1_000_000)) if value.tzinfo else value.isoformat(),
}
