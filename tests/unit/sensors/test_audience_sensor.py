"""The sensor as a task runs it, in each of its modes, against a local Graph API."""

from __future__ import annotations

import inspect
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG, BaseSensorOperator
from airflow.sdk.bases import sensor as airflow_sensor
from airflow.sdk.bases.operator import TriggerFailureReason

from airflow_provider_fbca.compat import AirflowFailException
from airflow_provider_fbca.graph.throttle import forget_budgets
from airflow_provider_fbca.operators.base import AudienceOperator
from airflow_provider_fbca.sensors.custom_audience import FacebookCustomAudienceSensor

try:
    from airflow.sdk.exceptions import (
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowSkipException,
        TaskDeferred,
    )
except ImportError:  # Airflow 3.1
    from airflow.exceptions import AirflowRescheduleException, AirflowSensorTimeout, AirflowSkipException, TaskDeferred
try:
    from airflow.serialization.serialized_objects import DagSerialization
except ImportError:  # Airflow 3.1
    from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization

if TYPE_CHECKING:
    from collections.abc import Callable

ALL_MODES = pytest.mark.parametrize(
    "options",
    [{"mode": "poke"}, {"mode": "reschedule"}, {"deferrable": True}],
    ids=["poke", "reschedule", "deferrable"],
)
PEOPLE = [{"EXTERN_ID": f"c{number}"} for number in range(100)]


@pytest.fixture
def audience(sandbox: Any) -> str:
    """An audience with people enough for ads."""
    audience = sandbox.create_audience()
    sandbox.seed(audience, PEOPLE)
    return audience


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
    """Lets pauses in a worker pass at once, as the sensor's own clock sees it: ``waits(first, second)`` does ``first``
    during the first one; gives their seconds."""

    def script(*events: Callable[[], object]) -> list[float]:
        slept: list[float] = []
        left = list(events)

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if left:
                left.pop(0)()

        monkeypatch.setattr(airflow_sensor, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: sum(slept)))
        return slept

    return script


def sensor(audience: str, **options: Any) -> FacebookCustomAudienceSensor:
    return FacebookCustomAudienceSensor(task_id="ready", audience_id=audience, **options)


def context(began: datetime | None = None) -> dict[str, Any]:
    return {"ti": SimpleNamespace(get_first_reschedule_date=lambda _: began)}


def looks(sandbox: Any) -> int:
    return len(sandbox.requests("read_audience"))


@ALL_MODES
def test_an_audience_that_is_ready_takes_one_look_in_the_worker(sandbox: Any, audience: str, options: Any) -> None:
    assert sensor(audience, **options).execute(context()) is None
    assert looks(sandbox) == 1


@ALL_MODES
@pytest.mark.parametrize("code", [415, 470, 471, 500])
def test_what_only_a_person_can_clear_wastes_no_retry(sandbox: Any, audience: str, options: Any, code: int) -> None:
    sandbox.pretend(audience, operation_status=code)
    with pytest.raises(AirflowFailException, match=f"operation_status is {code}"):
        sensor(audience, **options).execute(context())
    with pytest.raises(AirflowSkipException):
        sensor(audience, soft_fail=True, **options).execute(context())


def test_a_worker_looks_until_the_audience_is_ready(sandbox: Any, audience: str, waits: Any) -> None:
    sandbox.pretend(audience, operation_status=414)
    slept = waits(lambda: None, lambda: sandbox.pretend(audience))
    sensor(audience, poke_interval=7).execute(context())
    assert slept == [7, 7]
    assert looks(sandbox) == 3


def test_a_worker_waits_for_as_long_as_meta_asks(sandbox: Any, audience: str, waits: Any) -> None:
    sandbox.fault("graph", code=4)
    slept = waits(forget_budgets)
    sensor(audience, poke_interval=7).execute(context())
    assert slept == [300.0]


def test_a_wait_that_meta_asks_for_does_not_outlast_the_timeout(sandbox: Any, audience: str, waits: Any) -> None:
    sandbox.fault("graph", code=4, count=9)
    slept = waits()
    with pytest.raises(AirflowSensorTimeout):
        sensor(audience, poke_interval=7, timeout=100).execute(context())
    assert slept == [100.0, 7]


def test_a_fault_that_passes_costs_one_look(sandbox: Any, audience: str, waits: Any) -> None:
    sandbox.fault("server_error")
    slept = waits()
    sensor(audience, poke_interval=7).execute(context())
    assert slept == [7]


def test_the_timeout_ends_the_wait_in_a_worker(sandbox: Any, audience: str, waits: Any) -> None:
    sandbox.pretend(audience, operation_status=414)
    waits()
    with pytest.raises(AirflowSensorTimeout):
        sensor(audience, timeout=200).execute(context())
    with pytest.raises(AirflowSkipException):
        sensor(audience, timeout=200, soft_fail=True).execute(context())


def test_a_rescheduled_sensor_frees_its_worker(sandbox: Any, audience: str) -> None:
    sandbox.pretend(audience, operation_status=414)
    task = sensor(audience, mode="reschedule", poke_interval=600)
    with pytest.raises(AirflowRescheduleException) as caught:
        task.execute(context())
    assert caught.value.reschedule_date > datetime.now(UTC) + timedelta(seconds=500)
    with pytest.raises(AirflowSensorTimeout):
        sensor(audience, mode="reschedule", timeout=60).execute(context(datetime.now(UTC) - timedelta(hours=1)))


def test_a_rescheduled_sensor_comes_back_when_meta_says(sandbox: Any, audience: str) -> None:
    sandbox.fault("graph", code=4)
    with pytest.raises(AirflowRescheduleException) as caught:
        sensor(audience, mode="reschedule", poke_interval=10).execute(context())
    assert caught.value.reschedule_date > datetime.now(UTC) + timedelta(seconds=200)


def test_a_deferrable_sensor_hands_its_wait_to_the_triggerer(sandbox: Any, audience: str) -> None:
    sandbox.pretend(audience, operation_status=414)
    task = sensor(
        audience,
        deferrable=True,
        ad_account_id=f"act_{sandbox.ad_account_id}",
        require_delivery=False,
        updated_after="1970-01-01T00:00:05+00:00",
        poke_interval=7,
        timeout=500,
    )
    with pytest.raises(TaskDeferred) as caught:
        task.execute(context())
    deferral = caught.value
    _, stored = deferral.trigger.serialize()
    assert stored.pop("next_look_at") > datetime.now(UTC).timestamp()
    assert stored == {
        "audience_id": audience,
        "fbca_conn_id": "fbca_default",
        "ad_account_id": f"act_{sandbox.ad_account_id}",
        "require_delivery": False,
        "updated_after": 5.0,
        "stale_until": 0.0,
        "poll_seconds": 7.0,
        "give_up_at": None,
    }
    assert deferral.timeout == timedelta(seconds=500)
    assert task.resume_execution(deferral.method_name, {"event": {"status": "ready"}}, context()) is None


@pytest.mark.parametrize(("soft_fail", "raised"), [(False, AirflowFailException), (True, AirflowSkipException)])
def test_what_the_trigger_finds_ends_the_task(audience: str, soft_fail: bool, raised: type[Exception]) -> None:
    task = sensor(audience, deferrable=True, soft_fail=soft_fail)
    event = {"status": "failed", "message": "Audience 1 will not become ready."}
    with pytest.raises(raised):
        task.resume_execution("finish", {"event": event}, context())


@pytest.mark.parametrize(("soft_fail", "raised"), [(False, AirflowSensorTimeout), (True, AirflowSkipException)])
def test_the_timeout_ends_a_wait_in_the_triggerer(audience: str, soft_fail: bool, raised: type[Exception]) -> None:
    task = sensor(audience, deferrable=True, soft_fail=soft_fail)
    with pytest.raises(raised):
        task.resume_execution("__fail__", {"error": TriggerFailureReason.TRIGGER_TIMEOUT}, context())


def test_an_audience_that_is_too_small_is_ready_where_delivery_does_not_matter(sandbox: Any, waits: Any) -> None:
    audience = sandbox.create_audience()
    sandbox.seed(audience, PEOPLE[:3])
    waits(lambda: sandbox.seed(audience, PEOPLE))
    sensor(audience, require_delivery=False).execute(context())
    assert looks(sandbox) == 1
    sensor(audience).execute(context())
    assert looks(sandbox) == 3


@pytest.mark.parametrize(
    "instant",
    [
        lambda moment: moment.isoformat(timespec="microseconds"),
        lambda moment: moment.isoformat().replace("+00:00", "Z"),
        lambda moment: moment.replace(tzinfo=None).isoformat(),
        lambda moment: str(moment.astimezone()),
        lambda moment: moment,
        lambda moment: moment.replace(tzinfo=None),
    ],
)
def test_a_change_is_waited_for_since_an_instant_in_any_form(
    sandbox: Any, audience: str, instant: Any, waits: Any
) -> None:
    moment = datetime.fromtimestamp(sandbox.now(), UTC) + timedelta(hours=1)

    def change() -> None:
        sandbox.set_clock(moment.timestamp())
        sandbox.seed(audience, [{"EXTERN_ID": "new"}])

    slept = waits(lambda: None, change)
    sensor(audience, updated_after=instant(moment)).execute(context())
    assert len(slept) == 2


@pytest.mark.parametrize("nothing", [None, "", "None"])
def test_a_manifest_without_an_instant_asks_for_no_change(sandbox: Any, audience: str, nothing: Any) -> None:
    sensor(audience, updated_after=nothing).execute(context())
    assert looks(sandbox) == 1


@pytest.mark.parametrize("wrong", ["yesterday", "2026-13-01", 5])
def test_an_instant_that_is_none_fails_before_a_request(sandbox: Any, audience: str, wrong: Any) -> None:
    with pytest.raises(AirflowFailException, match="updated_after"):
        sensor(audience, updated_after=wrong).execute(context())
    assert looks(sandbox) == 0


def test_an_audience_of_another_account_fails(sandbox: Any, audience: str) -> None:
    with pytest.raises(AirflowFailException, match="belongs to ad account"):
        sensor(audience, ad_account_id="act_999").execute(context())


def test_a_missing_audience_fails_and_nothing_secret_is_told(sandbox: Any, audience: str, capsys: Any) -> None:
    with pytest.raises(AirflowFailException, match="does not exist") as caught:
        sensor("42").execute(context())
    told = str(caught.value) + capsys.readouterr().out
    assert sandbox.token not in told
    assert sandbox.app_secret not in told


def test_every_option_is_documented_kept_and_no_name_of_airflows() -> None:
    task = sensor("1")
    own = inspect.signature(FacebookCustomAudienceSensor.__init__).parameters
    assert set(own) == {"self", "audience_id", "updated_after", "require_delivery", "deferrable", "kwargs"}
    airflows = set(dir(BaseSensorOperator)) | set(vars(BaseSensorOperator(task_id="any")))
    for name, parameter in own.items():
        if name in {"self", "kwargs"}:
            continue
        assert f":param {name}:" in FacebookCustomAudienceSensor.__doc__
        assert getattr(task, name) == ("1" if name == "audience_id" else parameter.default)
        assert name not in airflows
    new = {name for name in vars(FacebookCustomAudienceSensor) if not name.startswith("__")}
    assert new & set(dir(BaseSensorOperator)) <= {
        "template_fields",
        "operator_extra_links",
        "poke",
        "_get_next_poke_interval",
        "_abc_impl",
        "_BaseOperator__serialized_fields",
    }


def test_it_is_a_sensor_that_serialises_maps_and_renders() -> None:
    with DAG("contract", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        task = sensor(
            "{{ params.number }}",
            updated_after="{{ params.at }}",
            fbca_conn_id="meta_{{ params.number }}",
            mode="reschedule",
        )
        FacebookCustomAudienceSensor.partial(task_id="mapped", mode="reschedule").expand(audience_id=["1", "2"])
    found = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag)))).get_task("ready")
    assert found.reschedule
    assert set(found.template_fields) == {*AudienceOperator.template_fields, "audience_id", "updated_after"}
    task.render_template_fields({"params": {"number": 7, "at": "2026-01-01"}}, dag.get_template_env())
    assert (task.audience_id, task.updated_after, task.fbca_conn_id) == ("7", "2026-01-01", "meta_7")
