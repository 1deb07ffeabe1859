"""Databricks' Thrift interface, as far as the SQL connector needs it: a handler for the connector's own processor."""

from __future__ import annotations

import threading
import time
from typing import Any

import pyarrow as pa
from databricks.sql.thrift_api.TCLIService import TCLIService, ttypes
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.transport.TTransport import TMemoryBuffer

_OK = ttypes.TStatus(statusCode=ttypes.TStatusCode.SUCCESS_STATUS)
_SESSION = ttypes.TSessionHandle(
    sessionId=ttypes.THandleIdentifier(guid=b"\x01" * 16, secret=b"\x02" * 16),
    serverProtocolVersion=ttypes.TProtocolVersion.SPARK_CLI_SERVICE_PROTOCOL_V7,
)
_STATEMENT = ttypes.TOperationHandle(
    operationId=ttypes.THandleIdentifier(guid=b"\x03" * 16, secret=b"\x04" * 16),
    operationType=ttypes.TOperationType.EXECUTE_STATEMENT,
    hasResultSet=True,
)
#: Kind of the nasty table -> Arrow's type. The session is in Tokyo.
_TYPES: dict[str, pa.DataType] = {
    "int": pa.int32(),
    "bigint": pa.int64(),
    "decimal": pa.decimal128(20, 0),
    "scaled": pa.decimal128(38, 9),
    "huge": pa.decimal128(38, 0),
    "money": pa.decimal128(18, 4),
    "float": pa.float64(),
    "nan": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "zoned": pa.timestamp("us", tz="Asia/Tokyo"),
    "bytes": pa.binary(),
    "digest": pa.binary(),
}


def column(name: str, kind: str, values: list[Any]) -> tuple[pa.Field, pa.Array]:
    """Give a column as Databricks sends it.

    :param kind: of the nasty table.
    """
    arrow = _TYPES.get(kind, pa.string())
    return pa.field(name, arrow), pa.array(values, arrow)


def table(*columns: tuple[pa.Field, pa.Array]) -> pa.RecordBatch:
    return pa.record_batch([array for _, array in columns], schema=pa.schema([field for field, _ in columns]))


class DatabricksServer:
    """What it was told, and what it answers.

    :param parts: the result, one for each time that rows are fetched.
    :param in_files: whether rows come as files that have addresses of their own, three at a time.
    """

    def __init__(self, *parts: pa.RecordBatch, in_files: bool = False) -> None:
        self.parts = parts
        self.in_files = in_files
        self.in_text = False
        self.address = ""
        self.settings: dict[str, str] = {}
        self.statements: list[str] = []
        self.submitted: list[Any] = []
        self.done = threading.Event()
        self.done.set()
        self.cancelled = threading.Event()
        self.closed = threading.Event()
        self.failure: str | None = None
        self.fetched = 0
        #: Rows after the first part are not sent before this is set.
        self.may_send = threading.Event()
        self.may_send.set()

    def answer(self, request: Any) -> tuple[int, dict[str, str], bytes]:
        if request.method == "GET":
            return 200, {}, _stream(self.parts[int(request.path.rpartition("/")[2])])
        sent = TMemoryBuffer()
        protocol = TBinaryProtocol(TMemoryBuffer(request.body)), TBinaryProtocol(sent)
        TCLIService.Processor(self).process(*protocol)
        return 200, {"Content-Type": "application/x-thrift"}, sent.getvalue()

    # -- what the processor calls -------------------------------------------------------------------------------

    def OpenSession(self, request: Any) -> Any:  # noqa: N802  the protocol's name, as those below
        self.settings = request.configuration
        version = _SESSION.serverProtocolVersion
        return ttypes.TOpenSessionResp(status=_OK, sessionHandle=_SESSION, serverProtocolVersion=version)

    def CloseSession(self, request: Any) -> Any:  # noqa: N802
        self.closed.set()
        return ttypes.TCloseSessionResp(status=_OK)

    def ExecuteStatement(self, request: Any) -> Any:  # noqa: N802
        if request.getDirectResults is None:
            self.submitted.append(request)
            return ttypes.TExecuteStatementResp(status=_OK, operationHandle=_STATEMENT)
        self.statements.append(request.statement)
        nothing = table(column("key", "text", []))
        direct = ttypes.TSparkDirectResults(
            operationStatus=self._state(ttypes.TOperationState.FINISHED_STATE),
            resultSetMetadata=self._metadata(nothing.schema),
            resultSet=ttypes.TFetchResultsResp(status=_OK, hasMoreRows=False, results=_rows(nothing)),
            closeOperation=ttypes.TCloseOperationResp(status=_OK),
        )
        return ttypes.TExecuteStatementResp(status=_OK, operationHandle=_STATEMENT, directResults=direct)

    def GetOperationStatus(self, request: Any) -> Any:  # noqa: N802
        if self.failure is not None:
            return self._state(ttypes.TOperationState.ERROR_STATE)
        if self.cancelled.is_set():
            return self._state(ttypes.TOperationState.CANCELED_STATE)
        done = self.done.is_set()
        return self._state(ttypes.TOperationState.FINISHED_STATE if done else ttypes.TOperationState.RUNNING_STATE)

    def FetchResults(self, request: Any) -> Any:  # noqa: N802
        if self.fetched:
            self.may_send.wait(20)
        schema = self.parts[0].schema
        if self.in_files:
            rows = self._links()
        else:
            rows = _rows(self.parts[self.fetched], self._first_row(self.fetched))
            self.fetched += 1
        return ttypes.TFetchResultsResp(
            status=_OK,
            hasMoreRows=self.fetched < len(self.parts),
            results=_text_rows() if self.in_text else rows,
            resultSetMetadata=self._metadata(schema),
        )

    def CancelOperation(self, request: Any) -> Any:  # noqa: N802
        self.cancelled.set()
        return ttypes.TCancelOperationResp(status=_OK)

    def CloseOperation(self, request: Any) -> Any:  # noqa: N802
        return ttypes.TCloseOperationResp(status=_OK)

    # -- its answers --------------------------------------------------------------------------------------------

    def _state(self, state: int) -> Any:
        return ttypes.TGetOperationStatusResp(status=_OK, operationState=state, displayMessage=self.failure)

    def _metadata(self, schema: pa.Schema) -> Any:
        if self.in_text:
            kind = ttypes.TSparkRowSetType.COLUMN_BASED_SET
        else:
            kind = ttypes.TSparkRowSetType.URL_BASED_SET if self.in_files else ttypes.TSparkRowSetType.ARROW_BASED_SET
        entry = ttypes.TTypeEntry(primitiveEntry=ttypes.TPrimitiveTypeEntry(type=ttypes.TTypeId.STRING_TYPE))
        described = [
            ttypes.TColumnDesc(columnName=name, typeDesc=ttypes.TTypeDesc(types=[entry]), position=position)
            for position, name in enumerate(schema.names, 1)
        ]
        return ttypes.TGetResultSetMetadataResp(
            status=_OK,
            schema=ttypes.TTableSchema(columns=described),
            resultFormat=kind,
            lz4Compressed=False,
            arrowSchema=schema.serialize().to_pybytes(),
            isStagingOperation=False,
        )

    def _links(self) -> Any:
        first, self.fetched = self.fetched, min(self.fetched + 3, len(self.parts))
        links = [
            ttypes.TSparkArrowResultLink(
                fileLink=f"{self.address}/file/{number}",
                expiryTime=int(time.time() * 1000) + 3_600_000,
                startRowOffset=self._first_row(number),
                rowCount=self.parts[number].num_rows,
                bytesNum=len(_stream(self.parts[number])),
            )
            for number in range(first, self.fetched)
        ]
        return ttypes.TRowSet(startRowOffset=self._first_row(first), rows=[], resultLinks=links)

    def _first_row(self, part: int) -> int:
        return sum(each.num_rows for each in self.parts[:part])


def _rows(part: pa.RecordBatch, first_row: int = 0) -> Any:
    batch = ttypes.TSparkArrowBatch(batch=part.serialize().to_pybytes(), rowCount=part.num_rows)
    return ttypes.TRowSet(startRowOffset=first_row, rows=[], arrowBatches=[batch] if part.num_rows else [])


def _text_rows() -> Any:
    column = ttypes.TColumn(stringVal=ttypes.TStringColumn(values=["x"], nulls=b"\x00"))
    return ttypes.TRowSet(startRowOffset=0, rows=[], columns=[column])


def _stream(part: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, part.schema) as writer:
        writer.write_batch(part)
    return sink.getvalue().to_pybytes()
