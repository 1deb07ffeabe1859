"""Hanging up, before an answer or inside it: what the server interface between uvicorn and an app cannot express."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, cast

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_EXTENSION = "fbca.sandbox.connection"
# The URL parser behind uvicorn ends at 64 KB; what is longer reaches the app cut off, with its true length beside it.
_PARSED_URL_BYTES = 32 * 1024


class Protocol(HttpToolsProtocol):
    """HTTP as uvicorn speaks it; tells the app which connection a request came by and how long its URL was."""

    def on_headers_complete(self) -> None:
        """Begin a request."""
        self.scope["extensions"] = {_EXTENSION: {"transport": self.transport, "target": self.url}}
        self.url = self.url[:_PARSED_URL_BYTES]
        super().on_headers_complete()

    def shutdown(self) -> None:
        """End the connection as the server stops; one that will get no answer is not waited for."""
        if self.cycle is not None and _EXTENSION in self.scope.get("extensions", {}):
            connection = cast("dict[str, Any]", self.scope["extensions"][_EXTENSION])
            if connection.get("held"):
                connection["transport"].abort()
        super().shutdown()


def target_of(scope: Scope) -> bytes:
    """Return the path and query of a request as they were sent, however long."""
    target: bytes = scope["extensions"][_EXTENSION]["target"]
    return target


class NoAnswer(Response):
    """Not an answer: the connection closes without one.

    :param after: seconds to hold it until then; a caller who hangs up first ends it sooner.
    :param resets: end it by a reset, where it would be closed in peace.
    :param noise: bytes to send before it closes, which are no HTTP.
    """

    def __init__(self, after: float = 0.0, *, resets: bool = False, noise: bytes = b"") -> None:
        super().__init__()
        self._after = after
        self._resets = resets
        self._noise = noise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hang up."""
        del send
        connection = scope["extensions"][_EXTENSION]
        connection["held"] = True
        try:
            await asyncio.wait_for(_until_gone(receive), self._after)
        except TimeoutError:
            transport = connection["transport"]
            if self._resets:
                _make_close_reset(transport)
            transport.write(self._noise)
            (transport.close if self._noise else transport.abort)()
            # The server must have noticed before this returns, or it would send an answer of its own.
            await _until_gone(receive)


class CutAnswer(Response):
    """An answer whose connection closes in the middle of the body that its headers announce."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the headers and half of the body, and hang up."""
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": half, "more_body": True})
        scope["extensions"][_EXTENSION]["transport"].close()
        await _until_gone(receive)


def _make_close_reset(transport: asyncio.Transport) -> None:
    """Let a connection end with a reset (TCP RST): to linger for no time drops it, whichever way it is closed."""
    # uvloop's own socket objects refuse options; a second one on the same connection sets them for both.
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
