"""What a test asks and tells the sandbox, under ``/sandbox``. None of it exists at Meta."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import StreamingResponse

from airflow_provider_fbca.sandbox import errors, rates
from airflow_provider_fbca.sandbox.audience import Audience, Change
from airflow_provider_fbca.sandbox.batch import MAX_ROWS, Batch, Payload, read_batch
from airflow_provider_fbca.sandbox.faults import Fault
from airflow_provider_fbca.sandbox.forms import (
    AudienceForm,
    ClockForm,
    FaultForm,
    LinkForm,
    SeedForm,
    SettingsForm,
    TokenForm,
)
from airflow_provider_fbca.sandbox.identifiers import row_identifiers
from airflow_provider_fbca.sandbox.schema import ALL_KEYS, ATTRIBUTE_KEYS, IDENTITY_KEYS
from airflow_provider_fbca.sandbox.settings import Token
from airflow_provider_fbca.sandbox.world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_fbca.sandbox.sessions import Session

router = APIRouter(prefix="/sandbox", tags=["sandbox"])


async def _world(request: Request) -> World:
    """Return the sandbox's state with everything done that is due."""
    world: World = request.app.state.world
    world.tick()
    return world


async def _audience(audience_id: str, world: Annotated[World, Depends(_world)]) -> Audience:
    try:
        return world.audiences[audience_id]
    except KeyError as error:
        raise HTTPException(404, f"There is no audience {audience_id}.") from error


AnyWorld = Annotated[World, Depends(_world)]
AnyAudience = Annotated[Audience, Depends(_audience)]


@router.get("/audiences")
async def list_audiences(world: AnyWorld) -> list[dict[str, Any]]:
    """Return what every audience holds."""
    return [describe(world, audience) for audience in world.audiences.values()]


@router.get("/audiences/{audience_id}")
async def read_audience(world: AnyWorld, audience: AnyAudience) -> dict[str, Any]:
    """Return what an audience holds."""
    return describe(world, audience)


@router.get("/audiences/{audience_id}/members")
async def read_members(audience: AnyAudience) -> StreamingResponse:
    """Stream an audience's rows, one JSON object a line, each key -> cell without the blank ones."""
    return StreamingResponse(_lines(audience), media_type="application/x-ndjson")


@router.post("/audiences/{audience_id}")
async def pretend(world: AnyWorld, audience: AnyAudience, form: AudienceForm) -> dict[str, Any]:
    """Set an operation status or a delivery status, or pretend 100 million members."""
    status, delivery = form.operation_status, form.delivery_status
    audience.pretend(world.clock.now(), status=status, delivery=delivery, is_huge=form.is_huge)
    return describe(world, audience)


@router.post("/audiences/{audience_id}/seed")
async def seed(world: AnyWorld, audience: AnyAudience, form: SeedForm) -> dict[str, Any]:
    """Put rows in at once, past all checks of state, as another tool would have."""
    now = world.clock.now()
    try:
        for start in range(0, len(form.rows), MAX_ROWS):
            batch = _batch_of(form.rows[start : start + MAX_ROWS], world)
            audience.accept(Change(now, batch, removes=False), now)
    except errors.GraphError as error:
        raise HTTPException(422, str(error)) from error
    audience.data_source = audience.data_source or errors.MULTI_HASHES
    return describe(world, audience)


@router.get("/requests")
async def read_requests(world: AnyWorld) -> list[dict[str, Any]]:
    """Return the log of calls to the Graph API, oldest first."""
    return world.log.entries()


@router.get("/usage/{account_id}")
async def read_usage(world: AnyWorld, account_id: str) -> dict[str, Any]:
    """Return what is used up of an ad account's rate limits."""
    account_id = account_id.removeprefix("act_")
    if account_id not in world.accounts:
        raise HTTPException(404, f"There is no ad account {account_id}.")
    meter = world.rates.of(account_id)
    return rates.describe(meter, world.settings, world.calls_quota(account_id), world.clock.now())


@router.get("/clock")
async def read_clock(world: AnyWorld) -> dict[str, float]:
    """Return the present instant on the sandbox's clock."""
    return {"now": world.clock.now()}


@router.post("/clock")
async def move_clock(world: AnyWorld, form: ClockForm) -> dict[str, float]:
    """Move, stop or start the clock."""
    if form.running is not None:
        (world.clock.run if form.running else world.clock.stop)()
    try:
        if form.set is not None:
            world.clock.set(form.set)
        if form.advance is not None:
            world.clock.advance(form.advance)
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
    return {"now": world.tick()}


@router.post("/faults")
async def queue_fault(world: AnyWorld, form: FaultForm) -> dict[str, int]:
    """Queue a fault."""
    try:
        world.faults.add(Fault(**form.model_dump()))
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
    return {"queued": len(world.faults)}


@router.delete("/faults")
async def clear_faults(world: AnyWorld) -> dict[str, int]:
    """Forget all faults."""
    world.faults.clear()
    return {"queued": 0}


@router.post("/links")
async def link(world: AnyWorld, form: LinkForm) -> dict[str, int]:
    """Make all identifiers of all given partial rows one person's."""
    numbers: list[int] = []
    for row in form.identifiers:
        if unknown := row.keys() - set(IDENTITY_KEYS):
            raise HTTPException(422, f"There is no key {', '.join(sorted(unknown))}.")
        found = row_identifiers({key: [cell] for key, cell in row.items()}, 1)[0]
        if not found:
            raise HTTPException(422, f"{', '.join(sorted(row))} does not single out a person.")
        numbers += found
    world.link(numbers)
    return {"linked": len(numbers)}


@router.post("/tokens")
async def put_token(world: AnyWorld, form: TokenForm) -> dict[str, Any]:
    """Make or change an access token."""
    accounts = tuple(account.removeprefix("act_") for account in form.accounts)
    if unknown := set(accounts) - world.accounts.keys():
        raise HTTPException(422, f"There is no ad account {', '.join(sorted(unknown))}.")
    now = world.clock.now()
    expires_at = None if form.expires_in is None else now + form.expires_in
    data_end = None if form.data_access_expires_in is None else now + form.data_access_expires_in
    world.tokens[form.token] = Token(accounts, tuple(form.scopes), expires_at, data_access_expires_at=data_end)
    return {"accounts": accounts, "scopes": form.scopes, "expires_at": expires_at}


@router.post("/settings")
async def change_settings(world: AnyWorld, form: SettingsForm) -> dict[str, Any]:
    """Change switches from now on."""
    try:
        world.change(**form.model_dump(exclude_none=True))
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
    return {name: getattr(world.settings, name) for name in SettingsForm.model_fields}


@router.post("/reset")
async def reset(world: AnyWorld) -> dict[str, bool]:
    """Forget audiences, sessions, links, faults, tokens and the log, and put all settings back."""
    world.reset()
    return {"success": True}


def describe(world: World, audience: Audience) -> dict[str, Any]:
    """Return what an audience holds, in numbers."""
    now = world.clock.now()
    sessions = [one for one in world.sessions.values() if one.audience_id == audience.audience_id]
    return {
        "id": audience.audience_id,
        "account_id": audience.account_id,
        "name": audience.details.get("name"),
        "subtype": audience.details["subtype"],
        "people": audience.members.people,
        "rows": audience.members.rows,
        "operation_status": audience.operation_status,
        "time_content_updated": audience.content_updated_at,
        "data_source": audience.data_source,
        "pending_changes": len(audience.changes),
        "replacing": audience.replace is not None,
        "sessions": [_describe_session(audience, one, now) for one in sessions],
    }


def _describe_session(audience: Audience, session: Session, now: float) -> dict[str, Any]:
    shown = session.as_graph(now, at_work=audience.is_replaced_by(session))
    return {**shown, "kind": session.kind, "discarded": session.discarded}


def _batch_of(rows: list[dict[str, Any]], world: World) -> Batch:
    """Return rows as a checked batch; a row that Meta would call invalid is a mistake of the test here."""
    keys = tuple(key for key in ALL_KEYS if any(key in row for row in rows))
    if unknown := set().union(*rows) - set(keys):
        raise errors.data_mismatch(f"there is no key {', '.join(sorted(unknown))}")
    if any(key not in row for row in rows for key in keys if key in ATTRIBUTE_KEYS):
        raise errors.data_mismatch("all rows of a call must have the same attributes, or none")
    cells = [[row.get(key, "") for key in keys] for row in rows]
    batch = read_batch(Payload(keys, memoryview(msgspec.json.encode(cells)), errors.MULTI_HASHES))
    if batch.invalid_count:
        raise errors.data_mismatch(f"{batch.invalid_count} rows are invalid: {sorted(set(batch.invalid.values()))}")
    return batch.with_identifiers(world.aliases.apply(batch.identifiers))


async def _lines(audience: Audience) -> AsyncIterator[bytes]:
    encoder = msgspec.json.Encoder()
    for rows in audience.members.members():
        yield encoder.encode_lines(rows)
