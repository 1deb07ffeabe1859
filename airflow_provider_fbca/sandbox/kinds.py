"""The kinds of fault: what a spoilt call is answered.

A new kind is one more entry of :data:`KINDS`: a function that takes the fault and the answer that it spoils, which is
None where the call was not carried out. It returns what goes out instead, or None to let the call go on.
"""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from airflow_provider_fbca.sandbox.errors import GraphError
from airflow_provider_fbca.sandbox.rates import Throttled
from airflow_provider_fbca.sandbox.wire import CutAnswer, NoAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from airflow_provider_fbca.sandbox.faults import Fault

    Strike = Callable[[Fault, Response | None], Awaitable[Response | None]]

_JSON = "application/json"
_ERROR_PAGE = "<!DOCTYPE html><html><body><h1>Sorry, something went wrong.</h1></body></html>"
# What a call might have been answered that was never carried out: who takes it for a success is wrong.
_PRETENDED = b'{"success":true,"id":"120210000000000001","num_received":1}'
_BLOCK_BYTES = 2**18
_TRICKLES = 20
#: Usage headers that make no sense, for ``bad_headers``.
BAD_HEADERS = {
    "x-business-use-case-usage": '{"100000000000001":[{"type":"custom_audience","call_count":"many"},null],"2":7',
    "x-ad-account-usage": '[{"acc_id_util_pct":NaN}]',
    "x-app-usage": '{"call_count":{"percent":-1},"total_time":1e999,"total_cputime":null}',
    "retry-after": "soon",
}


async def _time_out(fault: Fault, answer: Response | None) -> Response:
    del answer
    return NoAnswer(after=_seconds(fault, 600.0))


async def _drop(fault: Fault, answer: Response | None) -> Response:
    del fault, answer
    return NoAnswer()


async def _reset(fault: Fault, answer: Response | None) -> Response:
    del fault, answer
    return NoAnswer(resets=True)


async def _not_http(fault: Fault, answer: Response | None) -> Response:
    del fault, answer
    return NoAnswer(noise=b"\x15\x03\x01 this is not HTTP\r\n\r\n")


async def _cut(fault: Fault, answer: Response | None) -> Response:
    return CutAnswer(_body(answer), status_code=_status(fault, answer), media_type=_JSON)


async def _slow(fault: Fault, answer: Response | None) -> Response | None:
    await asyncio.sleep(_seconds(fault, 1.0))
    return answer


async def _trickle(fault: Fault, answer: Response | None) -> Response:
    body = _body(answer)
    step = -(-len(body) // _TRICKLES)

    async def drops() -> AsyncIterator[bytes]:
        for start in range(0, len(body), step):
            await asyncio.sleep(_seconds(fault, 1.0) / _TRICKLES)
            yield body[start : start + step]

    return StreamingResponse(drops(), status_code=_status(fault, answer), media_type=_JSON)


async def _server_error(fault: Fault, answer: Response | None) -> Response:
    del answer
    return HTMLResponse(_ERROR_PAGE, status_code=fault.status or 502)


async def _html_ok(fault: Fault, answer: Response | None) -> Response:
    del answer
    return HTMLResponse(_ERROR_PAGE, status_code=fault.status or 200)


async def _empty(fault: Fault, answer: Response | None) -> Response:
    del answer
    return Response(b"", status_code=fault.status or 500)


async def _truncated_json(fault: Fault, answer: Response | None) -> Response:
    body = _body(answer)
    return Response(body[: len(body) // 2], status_code=_status(fault, answer), media_type=_JSON)


def _constant(body: bytes) -> Strike:
    """Return a strike that answers 200, or the fault's status, with a body that is no JSON object."""

    async def strike(fault: Fault, answer: Response | None) -> Response:
        del answer
        return Response(body, status_code=fault.status or 200, media_type=_JSON)

    return strike


async def _graph(fault: Fault, answer: Response | None) -> Response:
    del answer
    return _graph_error(fault, default_status=500)


async def _error_in_200(fault: Fault, answer: Response | None) -> Response:
    del answer
    return _graph_error(fault, default_status=200)


async def _redirect(fault: Fault, answer: Response | None) -> Response:
    del answer
    # No name under .example is ever anybody's (RFC 2606).
    return Response(b"", status_code=fault.status or 302, headers={"location": "https://login.example/checkpoint"})


async def _huge(fault: Fault, answer: Response | None) -> Response:
    body = _body(answer)

    async def blocks() -> AsyncIterator[bytes]:
        yield body
        for sent in range(len(body), fault.size, _BLOCK_BYTES):
            yield b" " * min(_BLOCK_BYTES, fault.size - sent)

    return StreamingResponse(blocks(), status_code=_status(fault, answer), media_type=_JSON)


async def _gzip_bomb(fault: Fault, answer: Response | None) -> Response:
    packed = gzip.compress(_body(answer).ljust(fault.size))
    return _gzip(packed, fault, answer)


async def _wrong_content(fault: Fault, answer: Response | None) -> Response:
    return _gzip(_body(answer), fault, answer)


async def _let_pass(fault: Fault, answer: Response | None) -> Response | None:
    del fault
    return answer


def _seconds(fault: Fault, default: float) -> float:
    return default if fault.seconds is None else fault.seconds


def _body(answer: Response | None) -> bytes:
    return _PRETENDED if answer is None else bytes(answer.body)


def _status(fault: Fault, answer: Response | None) -> int:
    return fault.status or (200 if answer is None else answer.status_code)


def _graph_error(fault: Fault, *, default_status: int) -> Response:
    error = GraphError(fault.code, "Injected fault", subcode=fault.subcode, transient=fault.is_transient)
    status = fault.status or default_status
    if fault.wait_minutes is None and fault.retry_after is None:
        return JSONResponse(error.body(), status_code=status)
    return Throttled(error, status, minutes=fault.wait_minutes, retry_after=fault.retry_after)


def _gzip(content: bytes, fault: Fault, answer: Response | None) -> Response:
    headers = {"content-encoding": "gzip"}
    return Response(content, status_code=_status(fault, answer), media_type=_JSON, headers=headers)


#: What each kind of fault does.
KINDS: Mapping[str, Strike] = {
    "timeout": _time_out,
    "drop": _drop,
    "reset": _reset,
    "not_http": _not_http,
    "cut": _cut,
    "slow": _slow,
    "trickle": _trickle,
    "server_error": _server_error,
    "html_ok": _html_ok,
    "empty": _empty,
    "truncated_json": _truncated_json,
    "not_json": _constant(b"success"),
    "not_utf8": _constant(b'{"success":"\xff\xfe"}'),
    "json_list": _constant(b'[{"success":true}]'),
    "json_string": _constant(b'"success"'),
    "json_null": _constant(b"null"),
    "success_false": _constant(b'{"success":false}'),
    "graph": _graph,
    "error_in_200": _error_in_200,
    "redirect": _redirect,
    "huge": _huge,
    "gzip_bomb": _gzip_bomb,
    "wrong_content": _wrong_content,
    "headers": _let_pass,
    "bad_headers": _let_pass,
}
#: Kinds whose call is answered as it would have been: these spoil nothing but time and headers.
HARMLESS = frozenset({"slow", "headers", "bad_headers"})


def check_kinds(kinds: Iterable[str]) -> None:
    """Check names of kinds.

    :raises ValueError: for one that does not exist.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"No such kind of fault: {kind}. There are {', '.join(KINDS)}.")
