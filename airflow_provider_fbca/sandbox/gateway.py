"""From an HTTP request to an answer, with everything that can go wrong on the way."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, JSONResponse, Response

from airflow_provider_fbca.sandbox.errors import GraphError
from airflow_provider_fbca.sandbox.graph import Call, answer, read_call
from airflow_provider_fbca.sandbox.params import read_params
from airflow_provider_fbca.sandbox.rates import Throttled
from airflow_provider_fbca.sandbox.wire import NoAnswer, target_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from airflow_provider_fbca.sandbox.params import Params
    from airflow_provider_fbca.sandbox.request_log import LoggedRequest
    from airflow_provider_fbca.sandbox.world import World

#: Longer URLs get no answer at all. Where Meta's limit lies is not documented; the official SDK's removals, whose
#: rows stand in the URL, break between 20 and 24 KB.
MAX_URL_BYTES = 16 * 1024

_TOO_LARGE_PAGE = "<!DOCTYPE html><html><body><h1>Sorry, something went wrong.</h1></body></html>"


async def handle(world: World, request: Request) -> Response:
    """Answer a call to the Graph API."""
    arrived = time.monotonic()
    entry = _begin_entry(world, request)
    if entry.url_length > MAX_URL_BYTES:
        return NoAnswer()
    body = await request.body()
    entry.body_bytes = len(body)
    if latency := world.next_latency():
        await asyncio.sleep(latency)
    if len(body) > world.settings.max_body_bytes:
        return _sign(world, entry, HTMLResponse(_TOO_LARGE_PAGE, status_code=413))
    try:
        params = await read_params(request)
    except GraphError as error:
        return _sign(world, entry, _error_response(error, entry))
    call = read_call(request.method, request.url.path, params.text("method"))
    entry.operation = call.operation
    _count(world, call, entry, arrived)
    return _sign(world, entry, await _answer_or_fail(world, call, request, params, entry), call)


def _count(world: World, call: Call, entry: LoggedRequest, arrived: float) -> None:
    """Count a call against the rate limits."""
    entry.account_id = world.account_of(call.kind, call.node)
    settings, now = world.settings, world.clock.now()
    meter = world.rates.of(entry.account_id) if entry.account_id else None
    entry.too_early = world.rates.is_too_early(meter, entry.at, arrived - settings.told_grace_seconds)
    if meter is None or entry.account_id is None:
        world.rates.count_for_app(now)
    else:
        meter.count(settings, world.calls_quota(entry.account_id), now, writes=call.writes)


async def _answer_or_fail(world: World, call: Call, request: Request, params: Params, entry: LoggedRequest) -> Response:
    """Carry the call out, unless a fault comes before; a fault after it takes the place of its answer."""
    fault = world.next_fault(call.operation, call.method, request.url.path)
    if fault is None:
        return _answer(world, call, request, params, entry)
    entry.fault = fault.kind
    if fault.when == "late":
        due = world.clock.now() + fault.lands_after
        world.do_later(due, lambda: _answer(world, call, request, params, entry))
    log = world.log
    spoilt = None if fault.when == "after" else await fault.strike(None)
    if world.log is not log:
        # It was held over a reset, and must not touch the audience that has its id now.
        return NoAnswer()
    if spoilt is None:
        answered = _answer(world, call, request, params, entry)
        spoilt = (await fault.strike(answered) if fault.when == "after" else None) or answered
    spoilt.headers.update(fault.headers)
    return spoilt


def _answer(world: World, call: Call, request: Request, params: Params, entry: LoggedRequest) -> Response:
    limit = world.rates.of(entry.account_id).refusal(world.settings, world.clock.now()) if entry.account_id else None
    if limit is not None:
        entry.error = limit.label
        return limit
    try:
        body = answer(world, call, request, params, entry)
    except GraphError as error:
        return _error_response(error, entry)
    entry.applied = True
    return JSONResponse(body)


def _error_response(error: GraphError, entry: LoggedRequest) -> Response:
    entry.error = error.label
    return JSONResponse(error.body(), status_code=error.status)


def _sign(world: World, entry: LoggedRequest, response: Response, call: Call | None = None) -> Response:
    """Note the answer in the log and set the headers that every answer has."""
    if isinstance(response, NoAnswer):
        return response
    entry.status = response.status_code
    response.headers["facebook-api-version"] = call.version if call else ""
    if call and call.version in world.settings.warned_versions:
        response.headers["x-ad-api-version-warning"] = f"The call has been upgraded from {call.version}"
    _tell_usage(world, entry, response)
    return response


def _tell_usage(world: World, entry: LoggedRequest, response: Response) -> None:
    """Set the headers that tell what is used up; those of a fault stay."""
    now = world.clock.now()
    meter = world.rates.of(entry.account_id) if entry.account_id else None
    if isinstance(response, Throttled):
        world.rates.tell(response, meter, now, time.monotonic())
        if response.retry_after is not None:
            response.headers.setdefault("retry-after", str(response.retry_after))
    headers = dict(world.rates.app_headers(now))
    if meter is not None and entry.account_id is not None:
        quota = world.calls_quota(entry.account_id)
        headers |= meter.usage_headers(world.settings, entry.account_id, quota, now)
    for name, value in headers.items():
        response.headers.setdefault(name, value)


def _begin_entry(world: World, request: Request) -> LoggedRequest:
    target = target_of(request.scope).decode("latin-1")
    entry = world.log.begin(world.clock.now(), request.method, request.url.path, url_length=len(target))
    names = {part.partition("=")[0] for part in target.partition("?")[2].split("&")}
    entry.query_has_access_token = "access_token" in names
    entry.query_has_appsecret_proof = "appsecret_proof" in names
    entry.content_type = request.headers.get("content-type", "").partition(";")[0]
    return entry
