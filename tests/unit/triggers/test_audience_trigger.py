"""The trigger as a triggerer runs it: on an event loop, against a local Graph API."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from airflow.serialization.serialized_objects import BaseSerialization

from airflow_provider_fbca.exceptions import ConnectionFieldsError, FbcaError
from airflow_provider_fbca.graph.api import GraphApi
from airflow_provider_fbca.graph.throttle import forget_budgets
from airflow_provider_fbca.hooks import custom_audience as hooks
from airflow_provider_fbca.triggers import custom_audience as triggers
from airflow_provider_fbca.triggers.custom_audience import CustomAudienceTrigger, refuse_failure

if TYPE_CHECKING:
    from collections.abc import Callable

READY = {"status": "ready"}


@pytest.fixture
def audience(sandbox: Any) -> str:
    """An audience with people enough for ads."""
    audience = sandbox.create_audience()
    sandbox.seed(audience, [{"EXTERN_ID": f"c{number}"} for number in range(100)])
    return audience


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
    """Lets waits pass at once: ``waits(first, second)`` does ``first`` during the first one; gives their seconds."""

    def script(*events: Callable[[], object]) -> list[float]:
        slept: list[float] = []
        left = list(events)

        async def sleep(seconds: float) -> None:
            # The first look is due at once.
            if seconds:
                slept.append(seconds)
                left.pop(0)()

        monkeypatch.setattr(triggers, "sleep", sleep)
        return slept

    return script


def trigger_for(audience: str, **options: Any) -> CustomAudienceTrigger:
    return CustomAudienceTrigger(audience_id=audience, fbca_conn_id="fbca_default", poll_seconds=30.0, **options)


def run(trigger: CustomAudienceTrigger) -> dict[str, Any]:
    """Run a trigger to its end, and give its one event."""

    async def collect() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    (payload,) = asyncio.run(collect())
    return payload


def looks(sandbox: Any) -> int:
    return len(sandbox.requests("read_audience"))


@pytest.mark.parametrize("code", [None, 100, 200, 400, 411, 412, 441, 450])
def test_an_audience_that_is_ready_takes_one_look(sandbox: Any, audience: str, code: int | None, waits: Any) -> None:
    waits()
    sandbox.pretend(audience, operation_status=code)
    assert run(trigger_for(audience)) == READY
    assert looks(sandbox) == 1


@pytest.mark.parametrize("code", [0, 410, 414, 434, 460])
def test_what_passes_is_waited_out(sandbox: Any, audience: str, code: int, waits: Any, capsys: Any) -> None:
    sandbox.pretend(audience, operation_status=code)
    slept = waits(lambda: None, lambda: sandbox.pretend(audience))
    assert run(trigger_for(audience)) == READY
    assert slept == [30.0, 30.0]
    assert looks(sandbox) == 3
    assert capsys.readouterr().out.count(f"operation_status is {code}") == 1


@pytest.mark.parametrize("code", [415, 470, 471, 500])
def test_what_only_a_person_can_clear_ends_the_wait(sandbox: Any, audience: str, code: int, waits: Any) -> None:
    waits()
    sandbox.pretend(audience, operation_status=code)
    event = run(trigger_for(audience))
    assert event["status"] == "failed"
    assert f"operation_status is {code}" in event["message"]
    with pytest.raises(FbcaError, match=f"operation_status is {code}") as caught:
        refuse_failure(event)
    assert caught.value.permanent


def test_people_enough_for_ads_are_waited_for_unless_delivery_does_not_matter(sandbox: Any, waits: Any) -> None:
    audience = sandbox.create_audience()
    people = [{"EXTERN_ID": f"c{number}"} for number in range(100)]
    sandbox.seed(audience, people[:3])
    waits(lambda: sandbox.seed(audience, people))
    assert run(trigger_for(audience, require_delivery=False)) == READY
    assert looks(sandbox) == 1
    assert run(trigger_for(audience)) == READY
    assert looks(sandbox) == 3


def test_a_change_is_waited_for_until_meta_has_applied_it(sandbox: Any, audience: str, waits: Any) -> None:
    later = sandbox.now() + 3600

    def change() -> None:
        sandbox.set_clock(later)
        sandbox.seed(audience, [{"EXTERN_ID": "new"}])

    waits(change)
    assert run(trigger_for(audience, updated_after=later)) == READY
    assert looks(sandbox) == 2


def test_a_rate_limit_is_waited_out_for_as_long_as_meta_asks(sandbox: Any, audience: str, waits: Any) -> None:
    sandbox.fault("graph", code=4)
    slept = waits(forget_budgets)
    assert run(trigger_for(audience)) == READY
    assert slept == [300.0]
    assert looks(sandbox) == 2


@pytest.mark.parametrize(
    "fault", [{"kind": "server_error"}, {"kind": "drop"}, {"kind": "empty"}, {"kind": "graph"}], ids=str
)
def test_a_fault_that_passes_is_waited_out_and_not_tried_at_once(
    sandbox: Any, audience: str, fault: dict[str, Any], waits: Any
) -> None:
    sandbox.fault(**fault)
    slept = waits(lambda: None)
    assert run(trigger_for(audience)) == READY
    assert slept == [30.0]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda sandbox: sandbox.put_token(sandbox.token, [sandbox.ad_account_id], expires_in=-1), "has expired"),
        (lambda sandbox: sandbox.reset(), "does not exist"),
        (lambda sandbox: sandbox.fault("graph", code=200, is_transient=False), "ads_management"),
    ],
    ids=["expired", "deleted", "forbidden"],
)
def test_an_error_that_stays_ends_the_wait(sandbox: Any, audience: str, spoil: Any, told: str, waits: Any) -> None:
    waits()
    spoil(sandbox)
    event = run(trigger_for(audience))
    assert event["status"] == "failed"
    assert told in event["message"]
    assert sandbox.token not in event["message"]


def test_it_gives_up_when_its_time_is_over_after_a_last_look(sandbox: Any, audience: str, waits: Any) -> None:
    sandbox.pretend(audience, operation_status=414)
    waits()
    event = run(trigger_for(audience, give_up_at=1.0))
    assert event["status"] == "failed"
    assert "did not become ready in time: operation_status is 414" in event["message"]
    sandbox.pretend(audience)
    assert run(trigger_for(audience, give_up_at=1.0)) == READY


def test_a_connection_that_cannot_be_read_is_left_to_the_tasks_retries(
    sandbox: Any, audience: str, waits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits()
    monkeypatch.delenv("AIRFLOW_CONN_FBCA_DEFAULT")
    with pytest.raises(ConnectionFieldsError):
        run(trigger_for(audience))


def test_an_unexpected_exception_tells_its_class_only(
    audience: str, waits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("secret")

    waits()
    monkeypatch.setattr(hooks, "read_status", fail)
    with pytest.raises(FbcaError, match="KeyError") as caught:
        run(trigger_for(audience))
    assert "secret" not in str(caught.value)
    assert not caught.value.permanent


def test_it_is_stored_as_ids_and_numbers_and_made_again_from_them(sandbox: Any, audience: str) -> None:
    options = {
        "audience_id": audience,
        "fbca_conn_id": "fbca_default",
        "ad_account_id": f"act_{sandbox.ad_account_id}",
        "require_delivery": False,
        "updated_after": 1.5,
        "stale_until": 2.5,
        "poll_seconds": 3.5,
        "next_look_at": 4.5,
        "give_up_at": 5.5,
    }
    path, stored = CustomAudienceTrigger(**options).serialize()
    assert stored == options
    assert json.loads(json.dumps(stored)) == options
    assert BaseSerialization.deserialize(BaseSerialization.serialize(stored)) == options
    module, _, name = path.rpartition(".")
    assert getattr(__import__(module, fromlist=[name]), name)(**stored).serialize() == (path, options)


def test_nothing_secret_is_stored_or_shown_after_a_look(sandbox: Any, audience: str, waits: Any) -> None:
    waits()
    trigger = trigger_for(audience)
    run(trigger)
    shown = repr(trigger) + repr(trigger.serialize()) + str(trigger)
    assert sandbox.token not in shown
    assert sandbox.app_secret not in shown


def test_the_secrets_are_masked_before_the_first_request(
    sandbox: Any, audience: str, waits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    masked: list[str] = []
    monkeypatch.setattr(hooks, "mask_secret", masked.append)
    waits()
    trigger = trigger_for(audience)
    run(trigger)
    proof = trigger._waiting.hook.get_conn().appsecret_proof
    assert {sandbox.token, sandbox.app_secret, proof} <= set(masked)


def test_another_triggerer_goes_on_where_one_has_died(sandbox: Any, audience: str, monkeypatch: Any) -> None:
    sandbox.pretend(audience, operation_status=414)
    first = trigger_for(audience)

    async def die_waiting() -> None:
        asleep = asyncio.Event()

        async def sleep(seconds: float) -> None:
            if seconds:
                asleep.set()
                await asyncio.Event().wait()

        monkeypatch.setattr(triggers, "sleep", sleep)
        running = asyncio.create_task(anext(first.run()))
        await asleep.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(die_waiting())
    monkeypatch.undo()
    monkeypatch.setenv("AIRFLOW_CONN_FBCA_DEFAULT", sandbox.connection_json)
    sandbox.pretend(audience)
    assert run(CustomAudienceTrigger(**first.serialize()[1])) == READY


def test_the_event_loop_goes_on_during_a_look(audience: str, waits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits()
    others_went_on = threading.Event()
    read_status = hooks.read_status

    def slow(*arguments: Any) -> dict[str, Any]:
        assert others_went_on.wait(20)
        return read_status(*arguments)

    monkeypatch.setattr(hooks, "read_status", slow)

    async def both() -> Any:
        look = asyncio.create_task(anext(trigger_for(audience).run()))
        await asyncio.sleep(0.05)
        others_went_on.set()
        return await look

    assert asyncio.run(both()).payload == READY


def test_no_connection_is_left_open_between_looks(audience: str, waits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[GraphApi] = []
    close = GraphApi.close
    monkeypatch.setattr(GraphApi, "close", lambda self: (closed.append(self), close(self)))
    waits()
    trigger = trigger_for(audience)
    run(trigger)
    assert closed == [trigger._waiting.hook.get_conn()]
