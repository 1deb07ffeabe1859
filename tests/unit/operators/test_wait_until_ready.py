"""``wait_until_ready``: what a refresh does once all is sent, in its worker and in the triggerer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from operator_tools import FakeTaskInstance, TaskDeferred, digests, emails

from airflow_provider_fbca.compat import AirflowFailException
from airflow_provider_fbca.exceptions import StoppedError
from airflow_provider_fbca.operators import waiting
from airflow_provider_fbca.operators.custom_audience import FacebookRefreshAudienceOperator
from airflow_provider_fbca.operators.manifest import manifest_key

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = [f"p{number}" for number in range(100)]
EVERYBODY = emails(*NAMES)


@pytest.fixture(autouse=True)
def _known(run: Any) -> None:
    """Somebody was uploaded before: whatever status the audience shows, the ledger knows who is in."""
    run("upload", emails("before"))


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
    """Lets pauses pass at once: ``pauses(first, second)`` does ``first`` during the first one; gives their seconds."""

    def script(*events: Callable[[], object]) -> list[float]:
        slept: list[float] = []
        left = list(events)

        def pause(seconds: float, check_stop: Callable[[], None]) -> None:
            slept.append(seconds)
            left.pop(0)()
            check_stop()

        monkeypatch.setattr(waiting, "_pause", pause)
        return slept

    return script


def test_a_refresh_returns_its_manifest_once_the_audience_is_ready(
    sandbox: Any, audience: str, run: Any, members: Any, pauses: Any
) -> None:
    slept = pauses(lambda: sandbox.pretend(audience, operation_status=414), lambda: sandbox.pretend(audience))
    sandbox.pretend(audience, operation_status=410)
    manifest = run("refresh", EVERYBODY, wait_until_ready=True)
    assert manifest["rows"] == len(NAMES)
    assert slept == [waiting.POLL_SECONDS] * 2
    assert members() == digests(*NAMES)


def test_it_does_not_wait_unless_asked_to(sandbox: Any, audience: str, run: Any, pauses: Any) -> None:
    pauses()
    sandbox.pretend(audience, operation_status=410)
    assert run("refresh", EVERYBODY)["rows"] == len(NAMES)


def test_the_lease_is_given_back_and_the_manifest_pushed_before_the_wait(
    sandbox: Any, audience: str, run: Any, xcom: dict[str, Any], pauses: Any, waits: list[float], history: Any
) -> None:
    def another_task_writes() -> None:
        assert xcom[manifest_key(audience)]["rows"] == len(NAMES)
        assert history().entries[-1].settled
        before = list(waits)
        run("upload", emails("new"))
        assert waits == before
        sandbox.pretend(audience)

    pauses(another_task_writes)
    sandbox.pretend(audience, operation_status=0)
    run("refresh", EVERYBODY, wait_until_ready=True)


@pytest.mark.parametrize("code", [470, 471, 500])
def test_what_only_a_person_can_clear_fails_after_all_was_sent(
    sandbox: Any, audience: str, run: Any, members: Any, history: Any, pauses: Any, code: int
) -> None:
    pauses(lambda: sandbox.pretend(audience, operation_status=code))
    sandbox.pretend(audience, operation_status=0)
    with pytest.raises(AirflowFailException, match=f"operation_status is {code}"):
        run("refresh", EVERYBODY, wait_until_ready=True)
    assert members() == digests(*NAMES)
    assert history().entries[-1].settled


def test_a_failed_replace_of_before_is_waited_out_and_then_believed(
    sandbox: Any, audience: str, run: Any, pauses: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.pretend(audience, operation_status=415)
    slept = pauses(lambda: sandbox.pretend(audience))
    run("refresh", EVERYBODY, wait_until_ready=True)
    assert len(slept) == 1
    monkeypatch.setattr(waiting, "LONGEST_STALE_FAILURE", 0.0)
    sandbox.pretend(audience, operation_status=415)
    with pytest.raises(AirflowFailException, match="415"):
        run("refresh", EVERYBODY, wait_until_ready=True)


def test_it_does_not_wait_for_ever(sandbox: Any, audience: str, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LONGEST_WAIT", 0.0)
    sandbox.pretend(audience, operation_status=0)
    with pytest.raises(AirflowFailException, match="did not become ready in time"):
        run("refresh", EVERYBODY, wait_until_ready=True)


def test_nobody_and_a_mere_plan_are_not_waited_for(sandbox: Any, audience: str, run: Any, pauses: Any) -> None:
    pauses()
    assert run("refresh", emails(), allow_empty=True, wait_until_ready=True)["rows"] == 0
    assert run("refresh", EVERYBODY, plan_only=True, wait_until_ready=True)["plan_only"]


def test_a_task_that_is_told_to_stop_stops_waiting(sandbox: Any, audience: str, tmp_path: Any, pauses: Any) -> None:
    task = FacebookRefreshAudienceOperator(
        task_id="send",
        audience_id=audience,
        ledger_uri=f"file://{tmp_path}/ledger",
        users_callable=lambda: EVERYBODY,
        wait_until_ready=True,
    )
    sandbox.pretend(audience, operation_status=0)
    pauses(task.on_kill)
    with pytest.raises(StoppedError):
        task.execute({"ti": FakeTaskInstance({})})


def test_a_pause_ends_when_the_task_is_told_to_stop() -> None:
    def stopped() -> None:
        raise StoppedError("stop")

    with pytest.raises(StoppedError):
        waiting._pause(3600.0, stopped)
    waiting._pause(0.01, lambda: None)


def test_a_deferrable_refresh_waits_in_the_triggerer(
    sandbox: Any, audience: str, run: Any, xcom: dict[str, Any], tmp_path: Any
) -> None:
    sandbox.pretend(audience, operation_status=0)
    with pytest.raises(TaskDeferred) as caught:
        run("refresh", EVERYBODY, wait_until_ready=True, deferrable=True)
    deferral = caught.value
    manifest = xcom[manifest_key(audience)]
    assert deferral.kwargs == {"manifest": manifest}
    sandbox.pretend(audience)
    trigger = deferral.trigger
    trigger.next_look_at = 0.0
    event = asyncio.run(anext(trigger.run())).payload
    task = FacebookRefreshAudienceOperator(task_id="send", audience_id=audience, wait_until_ready=True)
    assert task.resume_execution(deferral.method_name, {**deferral.kwargs, "event": event}, {}) == manifest
    failed = {"status": "failed", "message": "Audience 1 will not become ready."}
    with pytest.raises(AirflowFailException, match="will not become ready"):
        task.resume_execution(deferral.method_name, {**deferral.kwargs, "event": failed}, {})


def test_a_deferrable_refresh_that_is_ready_is_not_deferred(run: Any) -> None:
    assert run("refresh", EVERYBODY, wait_until_ready=True, deferrable=True)["rows"] == len(NAMES)
