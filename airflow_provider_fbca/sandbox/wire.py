"""Hanging up: the one thing that the server interface between uvicorn and an app cannot express."""

from __future__ import annotations

import asyncio
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
    """

    def __init__(self, after: float = 0.0) -> None:
        super().__init__()
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hang up."""
        del send
        connection = scope["extensions"][_EXTENSION]
        connection["held"] = True
        try:
            await asyncio.wait_for(_until_gone(receive), self._after)
        except TimeoutError:
            connection["transport"].abort()
            # The server must have noticed before this returns, or it would send an answer of its own.
            await _until_gone(receive)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
