"""Faults on demand: a queue of what shall go wrong, and how each kind of fault answers.

A new kind is one more entry of :data:`KINDS`: a function that gives an answer, or :class:`NoAnswer`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from starlette.responses import HTMLResponse, JSONResponse, Response

from airflow_provider_fbca.sandbox.errors import GraphError
from airflow_provider_fbca.sandbox.wire import NoAnswer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

When = Literal["before", "after", "late"]

_ERROR_PAGE = "<!DOCTYPE html><html><body><h1>Sorry, something went wrong.</h1></body></html>"


@dataclass
class Fault:
    """One thing that shall go wrong.

    :param kind: one of :data:`KINDS`.
    :param when: ``before``: the call is never carried out; ``after``: it is, and only its answer is lost; ``late``: it
        is carried out when the caller has long given up.
    :param lands_after: clock time after which a late call is carried out.
    :param operation: strike calls for this only (``add_users``, ``remove_users``, ``replace_users``, ...).
    :param method: strike calls by this HTTP method only.
    :param path: strike calls whose path holds a match of this regular expression only.
    :param nth: strike the nth matching call first.
    :param count: how many matching calls to strike, one after the other.
    :param status: HTTP status, for the kinds that answer with one.
    :param seconds: real time to hold the connection: of a timeout until it is dropped, of a slow call until its answer.
    :param code: Graph's code, for ``graph``.
    :param subcode: Graph's subcode, for ``graph``.
    :param is_transient: of the error, for ``graph``.
    """

    kind: str
    when: When = "before"
    operation: str | None = None
    method: str | None = None
    path: str | None = None
    nth: int = 1
    count: int = 1
    status: int | None = None
    seconds: float = 600.0
    lands_after: float = 0.0
    code: int = 2
    subcode: int | None = None
    is_transient: bool = True

    def __post_init__(self) -> None:
        """Refuse what could never strike."""
        if self.kind not in KINDS:
            raise ValueError(f"No such kind of fault: {self.kind}. There are {', '.join(KINDS)}.")
        if self.nth < 1 or self.count < 1:
            raise ValueError("nth and count start at 1.")

    def concerns(self, operation: str, method: str, path: str) -> bool:
        """Say whether a call is one of those to strike."""
        return (
            self.operation in (None, operation)
            and self.method in (None, method)
            and (self.path is None or re.search(self.path, path) is not None)
        )

    async def strike(self, answer: Response | None) -> Response:
        """Answer a call that this fault spoils.

        :param answer: what the call would have been answered; None where it was not carried out.
        """
        return await KINDS[self.kind](self, answer)


class FaultQueue:
    """Faults still to come; each call takes the first that is due for it."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Queue a fault behind the others."""
        self._faults.append(fault)

    def take(self, operation: str, method: str, path: str) -> Fault | None:
        """Return the fault that strikes this call, if any; every waiting fault counts the call."""
        struck = None
        for fault in [fault for fault in self._faults if fault.concerns(operation, method, path)]:
            if fault.nth > 1:
                fault.nth -= 1
            elif struck is None:
                struck = fault
                fault.count -= 1
        if struck is not None and not struck.count:
            self._faults.remove(struck)
        return struck

    def clear(self) -> None:
        """Forget all faults."""
        self._faults.clear()

    def __len__(self) -> int:
        return len(self._faults)


async def _time_out(fault: Fault, answer: Response | None) -> Response:
    del answer
    return NoAnswer(after=fault.seconds)


async def _drop(fault: Fault, answer: Response | None) -> Response:
    del fault, answer
    return NoAnswer()


async def _server_error(fault: Fault, answer: Response | None) -> Response:
    del answer
    return HTMLResponse(_ERROR_PAGE, status_code=fault.status or 502)


async def _empty(fault: Fault, answer: Response | None) -> Response:
    del answer
    return Response(b"", status_code=fault.status or 500)


async def _graph(fault: Fault, answer: Response | None) -> Response:
    del answer
    error = GraphError(
        fault.code,
        "Injected fault",
        subcode=fault.subcode,
        transient=fault.is_transient,
        status=fault.status or 500,
    )
    return JSONResponse(error.body(), status_code=error.status)


#: What each kind of fault does: takes the fault and the answer that it spoils (None before the call was carried out).
KINDS: Mapping[str, Callable[[Fault, Response | None], Awaitable[Response]]] = {
    "timeout": _time_out,
    "drop": _drop,
    "server_error": _server_error,
    "empty": _empty,
    "graph": _graph,
}
