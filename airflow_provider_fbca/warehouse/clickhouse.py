"""ClickHouse's own route: Arrow over its HTTP interface, with the types that Arrow has no word for written as text."""

from __future__ import annotations

import contextlib
import math
import re
import socket
import uuid
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_provider_fbca.exceptions import SourceError
from airflow_provider_fbca.warehouse.arrow import sliced
from airflow_provider_fbca.warehouse.source import Query, checked_names

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Types that come as they are. The rest would come as bare numbers or bytes: dates, times, enumerations, addresses,
#: large integers, and whatever ClickHouse invents next.
_NATIVE = re.compile(
    r"U?Int(8|16|32|64)|Float(32|64)|Bool|String|Decimal|Nothing|Array|Map|Tuple|Nested"
    r"|Point|Ring|(Multi)?LineString|(Multi)?Polygon"
)
_TYPE = re.compile(
    r"(?:(?:LowCardinality|Nullable)\(|SimpleAggregateFunction\(\w+, )*(?P<name>\w+)(?:\((?P<width>\d+))?"
)
_DIGEST_BYTES = 32

_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
#: How much of a body's end is kept: what went wrong in the middle of a result stands there, as text.
_TAIL_BYTES = 65_536
_SERVER_ERROR = re.compile(rb"Code: (\d{1,5})\. DB::")


class ServerError(Exception):
    """What the server wrote into the middle of a result, by its code alone.

    :param code: of ClickHouse.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class ClickHouseReader:
    """Streams a query of ClickHouse.

    :param hook: a ``ClickHouseHook``.
    :param query: what to run.
    """

    route = "clickhouse"

    def __init__(self, hook: Any, query: Query) -> None:
        self.origin = query.origin
        self._hook = hook
        self._query = query
        self._client: Any = None
        self._body: _Body | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._statement_id = f"fbca-{uuid.uuid4()}"
        self._statements = 0

    def connect(self) -> None:
        """Make the client, which asks the server for its settings."""
        options: dict[str, Any] = {}
        if self._query.parameters:
            # They would otherwise stand in the URL, and so in the logs of whatever is on the way.
            options["form_encode_query_params"] = True
        if self._query.session_sql:
            options["autogenerate_session_id"] = True
        self._hook.client_kwargs = {**self._hook.client_kwargs, **options}
        self._client = self._hook.get_client()

    def start(self) -> tuple[str, ...]:
        """Ask for the columns' types and run the query.

        :return: its columns.
        :raises SourceError: its columns cannot be told apart.
        """
        for statement in self._query.session_sql:
            self._client.command(statement, settings=self._next_statement())
        described = self._client.query(
            f"DESCRIBE TABLE (\n{self._query.sql}\n)",
            parameters=self._query.parameters,
            settings={**self._next_statement(), **self._limits()},
        )
        types = {str(row[0]): str(row[1]) for row in described.result_rows}
        names = checked_names([str(row[0]) for row in described.result_rows], self.origin)
        response = self._client.raw_stream(
            _with_texts(self._query.sql, types),
            parameters=self._query.parameters,
            settings={**self._next_statement(), **self._limits()},
            fmt="ArrowStream",
        )
        self._body = _Body(response)
        self._batches = self._read_all(self._body)
        return names

    def read(self) -> pa.RecordBatch | None:
        """Give the next batch, None after the last.

        :raises ServerError: the server gave up in the middle of the result.
        :raises SourceError: the result ended before its end.
        """
        failure: Exception
        try:
            return next(self._batches, None)
        except SourceError:
            raise
        except Exception as error:  # noqa: BLE001  Arrow's or the connection's: the server's own comes first, if any
            code = None if self._body is None else self._body.error_code()
            failure = error if code is None else ServerError(code)
        raise failure

    def cancel(self) -> None:
        """End a read that waits for the server, and the statement there."""
        if self._client is None:
            return
        if self._body is not None:
            self._body.hang_up()
        # In a session of its own, since that of the query waits for the query.
        self._client.command(
            f"KILL QUERY WHERE startsWith(query_id, '{self._statement_id}') ASYNC",
            settings={"session_id": str(uuid.uuid4())},
        )

    def close(self) -> None:
        """Close the result, which ends the query at the server, and the client."""
        self._batches = iter(())
        body, self._body = self._body, None
        client, self._client = self._client, None
        with contextlib.ExitStack() as last_first:
            for part in (client, body):
                if part is not None:
                    last_first.callback(part.close)

    def _read_all(self, body: _Body) -> Iterator[pa.RecordBatch]:
        with pa.ipc.open_stream(body) as stream:
            for batch in stream:
                yield from sliced(batch, self._query.batch_rows)
        # Arrow takes a connection that ends between two batches for the end.
        if not body.is_complete:
            raise SourceError(f"The result on {self.origin} ended early.", remedy="Try again.")

    def _next_statement(self) -> dict[str, Any]:
        """Give the settings that name a statement, so that it can be killed, and tie it to the session."""
        self._statements += 1
        statement = {"query_id": f"{self._statement_id}-{self._statements}"}
        if self._query.session_sql and self._statements > 1:
            # Another server behind the same address would not know the session, and not say so.
            statement["session_check"] = "1"
        return statement

    def _limits(self) -> dict[str, Any]:
        """Give the settings that hold a query to reading, in time, in Arrow; without those that this user may not set.

        2 is read only with settings that may be changed, which 1 forbids.
        """
        wanted: dict[str, Any] = {
            "readonly": 2,
            "cancel_http_readonly_queries_on_client_close": 1,
            # As bytes: ClickHouse's strings may hold any, and whoever reads them as text makes sure that they are.
            "output_format_arrow_string_as_string": 0,
        }
        if self._query.timeout is not None:
            wanted["max_execution_time"] = math.ceil(self._query.timeout)
        known = self._client.server_settings
        return {name: value for name, value in wanted.items() if name in known and not known[name].readonly}


class _Body:
    """The body of an answer, as Arrow reads a file; keeps its last bytes.

    :param response: of urllib3.
    """

    closed = False

    def __init__(self, response: Any) -> None:
        self._response = response
        self._tail = b""

    def read(self, size: int = -1) -> bytes:
        """Give the next bytes, as many as asked for, fewer only at the end."""
        try:
            data: bytes = self._response.read(None if size < 0 else size)
        except Exception as error:
            # A connection that breaks off: the bytes before that come with the error.
            self._keep(next((cause.partial for cause in error.args if hasattr(cause, "partial")), b""))
            raise
        self._keep(data)
        return data

    def _keep(self, data: bytes) -> None:
        self._tail = (self._tail + data[-_TAIL_BYTES:])[-_TAIL_BYTES:]

    @property
    def is_complete(self) -> bool:
        """Whether what was read ends as a stream of Arrow does."""
        return self._tail.endswith(_END_OF_STREAM)

    def error_code(self) -> int | None:
        """Give the code of the error that the body ends with, None where there is none."""
        codes = _SERVER_ERROR.findall(self._tail)
        return int(codes[-1]) if codes else None

    def hang_up(self) -> None:
        """End a read that blocks on another thread."""
        connection = getattr(self._response, "connection", None)
        sock = getattr(connection, "sock", None)
        if sock is not None:
            sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection, which ends the query at the server."""
        self.closed = True
        self._response.close()


def _with_texts(sql: str, types: dict[str, str]) -> str:
    """Give the query with those columns as text that Arrow could not show as ClickHouse does."""
    texts = {name: text for name, kind in types.items() if (text := _text_of(_quoted(name), kind))}
    if not texts:
        return sql
    replaced = ", ".join(f"{text} AS {_quoted(name)}" for name, text in texts.items())
    return f"SELECT * REPLACE ({replaced}) FROM (\n{sql}\n)"  # noqa: S608  the query is the user's own, names are quoted


def _text_of(column: str, kind: str) -> str | None:
    """Give how a column of some type is written in SQL, None where it is left alone.

    Dates and times are shown in the zone of their column, or else of the session.
    """
    match = _TYPE.match(kind)
    name, width = (match["name"], int(match["width"] or 0)) if match else ("", 0)
    if name and _NATIVE.fullmatch(name):
        return None
    if name == "DateTime64" and width:
        return f"replaceRegexpOne(toString({column}), '\\\\.?0+$', '')"
    if name == "FixedString" and width == _DIGEST_BYTES:
        # A digest's own zeros at its end are no padding.
        return f"if(isValidUTF8({column}), toString({column}), substring({column}, 1, {width}))"
    return f"toString({column})"


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
