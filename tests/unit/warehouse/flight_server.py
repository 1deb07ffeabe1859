"""A Flight SQL server as small as the real ADBC client allows: it answers any query with the batches of a test."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import flight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class FlightSqlServer(flight.FlightServerBase):
    """Answers ``CommandStatementQuery`` alone: other commands, prepared statements among them, are not implemented.

    :param schema: of every answer.
    :param batches: called for each read of an answer; gives its batches, or raises.
    """

    def __init__(self, schema: pa.Schema, batches: Callable[[], Iterator[pa.RecordBatch]]) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self.schema = schema
        self._batches = batches
        #: The SQL of each query, in the order that they came.
        self.queries: list[str] = []
        #: How many batches were asked for by whoever reads.
        self.sent = 0
        #: Set where a client went away before the last batch; by whoever answers a query while it waits.
        self.ended = threading.Event()
        #: While set, a query is not answered but waits for its client to go.
        self.stall = False

    def get_flight_info(
        self, context: flight.ServerCallContext, descriptor: flight.FlightDescriptor
    ) -> flight.FlightInfo:
        kind, sql = _command(descriptor.command)
        if kind != "CommandStatementQuery":
            raise NotImplementedError(kind)
        self.queries.append(sql)
        while self.stall:
            if context.is_cancelled():
                self.ended.set()
                raise flight.FlightCancelledError("gone")
            self.ended.wait(0.02)
        ticket = flight.FlightEndpoint(b"rows", [])
        return flight.FlightInfo(self.schema, descriptor, [ticket], -1, -1)

    def do_action(self, context: flight.ServerCallContext, action: flight.Action) -> Iterator[bytes]:
        raise NotImplementedError(action.type)

    def do_get(self, context: flight.ServerCallContext, ticket: flight.Ticket) -> flight.GeneratorStream:
        return flight.GeneratorStream(self.schema, self._counted(context))

    def _counted(self, context: flight.ServerCallContext) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._batches():
                if context.is_cancelled():
                    return
                self.sent += 1
                yield batch
        finally:
            self.ended.set()


@contextmanager
def serving(schema: pa.Schema, batches: Callable[[], Iterator[pa.RecordBatch]]) -> Iterator[FlightSqlServer]:
    """Run the server on a port of its own."""
    with FlightSqlServer(schema, batches) as server:
        yield server


def _command(message: bytes) -> tuple[str, str]:
    """Give the name of a command and its first field, out of the ``google.protobuf.Any`` that it comes in."""
    fields = dict(_fields(message))
    name = fields[1].decode().rpartition(".")[2]
    return name, dict(_fields(fields.get(2, b""))).get(1, b"").decode()


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Give number and bytes of each field of a protobuf message whose fields all have a length."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        length, place = _varint(message, place)
        yield tag >> 3, message[place : place + length]
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
        shift += 7
