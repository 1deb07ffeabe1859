"""The whole way through real Airflow processes: after each history, the audience holds exactly the query's rows.

One Airflow per metadata database, since the two order a task's earlier XComs differently.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

import pytest
from people import hashed_rows, person
from stage import EXAMPLE, SECRET, TOKEN, Case, Kind, Stage, staged

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

KINDS = {
    "dated_and_not": Kind(),
    "cleared": Kind(),
    "by_assets": Kind(schedule='[Asset("fbca_e2e_customers")]'),
    "backfilled": Kind(schedule='"@yearly"'),
    "killed_then_retried": Kind(options={"retries": 1}),
    "killed_for_good": Kind(),
    "put_off": Kind(options={"deferrable": True}),
    "cleared_while_put_off": Kind(options={"deferrable": True}),
    "waited_for": Kind(options={"deferrable": True, "wait_until_ready": True}),
    "left_behind": Kind(),
}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp(request.param), request.param, KINDS) as found:
        yield found


def test_example_on_a_schedule_keeps_the_audience_equal_to_the_query(stage: Stage) -> None:
    case = stage.cases[EXAMPLE]
    stayed = [person(number) for number in range(8)]
    moved = person(20)
    days = [
        [*stayed, moved, person(30)],
        [*stayed[2:], moved.moved_to(phone="+16505551999", city="Shelbyville"), person(40), person(41)],
        [stayed[5], person(30), person(40), person(50)],
    ]
    for day in days:
        case.fill(*day)
        known = {run["dag_run_id"] for run in stage.airflow.runs(case.dag_id)}
        stage.airflow.set_paused(case.dag_id, paused=False)
        stage.airflow.wait_for_new_run(case.dag_id, known, "scheduled")
        stage.airflow.set_paused(case.dag_id, paused=True)
        stage.airflow.wait_for_quiet(case.dag_id)
        stage.assert_equal(case)
    runs = stage.airflow.runs(case.dag_id)
    assert {run["run_type"] for run in runs} == {"scheduled"}
    assert sum(run["state"] == "success" for run in runs) >= len(days)
    assert len(stage.outstanding(case)) == 1


def test_l7_manual_runs_without_a_logical_date_among_dated_ones(stage: Stage) -> None:
    case = stage.cases["dated_and_not"]
    dates = [None, "2025-11-10T00:00:00Z", "2025-11-05T00:00:00Z", None, "2025-11-12T00:00:00Z", None]
    for number, date in enumerate(dates):
        case.fill(*(person(100 + 2 * number + offset) for offset in range(7)))
        stage.assert_refreshes(case, logical_date=date)


def test_l7_asset_triggered_runs_without_a_logical_date(stage: Stage) -> None:
    case = stage.cases["by_assets"]
    for number in range(4):
        case.fill(*(person(150 + 2 * number + offset) for offset in range(7)))
        if number == 2:
            stage.assert_refreshes(case, logical_date="2025-11-10T00:00:00Z")
            continue
        known = {run["dag_run_id"] for run in stage.airflow.runs(case.dag_id)}
        stage.airflow.emit("fbca_e2e_customers")
        stage.assert_settled(case, stage.airflow.wait_for_new_run(case.dag_id, known, "asset_triggered"))
    assert [run["logical_date"] is None for run in stage.airflow.runs(case.dag_id)].count(True) == 3


def test_l7_backfill_after_newer_runs(stage: Stage) -> None:
    case = stage.cases["backfilled"]
    case.fill(*(person(200 + offset) for offset in range(7)))
    stage.airflow.set_paused(case.dag_id, paused=False)
    stage.assert_settled(case, stage.airflow.wait_for_new_run(case.dag_id, set(), "scheduled"))
    case.fill(*(person(202 + offset) for offset in range(7)))
    stage.assert_refreshes(case)
    case.fill(*(person(204 + offset) for offset in range(7)))
    runs = stage.airflow.backfill(case.dag_id, "2021-01-01T00:00:00Z", "2022-12-31T00:00:00Z")
    assert len(runs) == 2
    stage.assert_settled(case, runs[0])
    assert stage.airflow.xcom(case.dag_id, runs[1], "refresh")["entry"] is None, "there was nothing left to send"
    case.fill(*(person(206 + offset) for offset in range(7)))
    stage.assert_refreshes(case)


def test_l7_old_run_cleared_after_newer_ones_of_which_one_failed(stage: Stage) -> None:
    case = stage.cases["cleared"]
    case.fill(*(person(250 + offset) for offset in range(7)))
    old = stage.assert_refreshes(case, logical_date="2025-11-05T00:00:00Z")

    # The second batch of additions is refused: people of this run are in the audience, and its manifest is not.
    stage.sandbox.fault("graph", operation="add_users", nth=2, code=200, status=400, is_transient=False)
    case.fill(*(person(260 + offset) for offset in range(12)))
    _, state = stage.airflow.run(case.dag_id)
    assert state == "failed"
    assert set(stage.held(case)) & set(hashed_rows(case.people))
    assert len(stage.outstanding(case)) == 2

    case.fill(*(person(253 + offset) for offset in range(9)))
    stage.assert_refreshes(case)

    # Of a run cleared long after it, Airflow shows no later XCom.
    case.fill(*(person(257 + offset) for offset in range(6)))
    assert stage.airflow.clear(case.dag_id, old) == "success", stage.airflow.last_words()
    stage.assert_settled(case, old)

    case.fill(*(person(250 + offset) for offset in range(3)))
    stage.assert_refreshes(case)


def test_l7_retry_after_a_try_that_died(stage: Stage) -> None:
    case = stage.cases["killed_then_retried"]
    case.fill(*(person(300 + offset) for offset in range(7)))
    stage.assert_refreshes(case)

    case.fill(*(person(304 + offset) for offset in range(13)))
    run_id = _kill_once_somebody_is_in(stage, case)
    assert stage.airflow.wait_for_run(case.dag_id, run_id) == "success", stage.airflow.last_words()
    assert stage.airflow.tries(case.dag_id, run_id, "refresh") == 2
    stage.assert_settled(case, run_id)


def test_l7_run_after_one_that_died_for_good(stage: Stage) -> None:
    case = stage.cases["killed_for_good"]
    case.fill(*(person(400 + offset) for offset in range(7)))
    stage.assert_refreshes(case)

    case.fill(*(person(410 + offset) for offset in range(13)))
    run_id = _kill_once_somebody_is_in(stage, case)
    assert stage.airflow.wait_for_run(case.dag_id, run_id) == "failed"
    assert len(stage.outstanding(case)) == 2

    # Whoever only the killed run had added must go.
    case.fill(*(person(403 + offset) for offset in range(4)))
    stage.assert_refreshes(case)


def test_a_long_wait_for_a_rate_limit_holds_no_worker_and_nothing_is_sent_twice(stage: Stage) -> None:
    case = stage.cases["put_off"]
    case.fill(*(person(600 + offset) for offset in range(7)))
    stage.assert_refreshes(case)

    case.fill(*(person(604 + offset) for offset in range(13)))
    known = len(stage.sandbox.requests())
    run_id = _put_off(stage, case)
    assert stage.airflow.wait_for_run(case.dag_id, run_id) == "success", stage.airflow.last_words()
    assert stage.airflow.tries(case.dag_id, run_id, "refresh") == 1
    stage.assert_settled(case, run_id)
    manifest = stage.airflow.xcom(case.dag_id, run_id, "refresh")
    calls = [each for each in stage.sandbox.requests()[known:] if case.audience_id in each["path"]]
    assert sum(each["rows"] or 0 for each in calls if each["applied"]) == manifest["added"] + manifest["removed"]
    assert not any(each["too_early"] for each in calls)


def test_l10_a_task_cleared_while_it_is_put_off_goes_on_and_forgets_nobody(stage: Stage) -> None:
    case = stage.cases["cleared_while_put_off"]
    case.fill(*(person(700 + offset) for offset in range(7)))
    stage.assert_refreshes(case)

    case.fill(*(person(704 + offset) for offset in range(13)))
    run_id = _put_off(stage, case)
    assert len(stage.outstanding(case)) == 2
    assert stage.airflow.clear(case.dag_id, run_id) == "success", stage.airflow.last_words()
    stage.assert_settled(case, run_id)

    case.fill(*(person(702 + offset) for offset in range(9)))
    stage.assert_refreshes(case)


def test_a_refresh_waits_in_the_triggerer_until_its_audience_is_ready(stage: Stage) -> None:
    case = stage.cases["waited_for"]
    case.fill(*(person(800 + offset) for offset in range(7)))
    stage.sandbox.pretend(case.audience_id, delivery_status=300)
    run_id = stage.airflow.trigger(case.dag_id)
    _wait_until_put_off(stage, case, run_id)
    stage.assert_equal(case)
    stage.sandbox.pretend(case.audience_id, delivery_status=200)
    assert stage.airflow.wait_for_run(case.dag_id, run_id) == "success", stage.airflow.last_words()
    stage.assert_settled(case, run_id)


def test_nothing_secret_or_personal_is_left_behind(stage: Stage) -> None:
    """Runs last, since it stops Airflow: its home, its database, the ledger and the temporary folder are searched."""
    case = stage.cases["left_behind"]
    case.fill(*(person(500 + offset) for offset in range(12)))
    stage.assert_refreshes(case)
    stage.sandbox.fault("graph", operation="add_users", nth=2, code=200, status=400, is_transient=False)
    case.fill(*(person(506 + offset) for offset in range(12)))
    _, state = stage.airflow.run(case.dag_id)
    assert state == "failed"
    stage.assert_refreshes(case)
    stage.stop()

    proof = hmac.new(SECRET.encode(), TOKEN.encode(), hashlib.sha256).hexdigest()
    people = {trace for each in stage.cases.values() for one in each.everyone for trace in one.traces()}
    forbidden = {trace.encode() for trace in {TOKEN, SECRET, proof, *people}}
    files = [path for path in stage.airflow.home.rglob("*") if path.is_file()]
    markers = [path for path in stage.ledger.rglob("*") if path.is_file() and path.suffix != ".parquet"]
    assert len(files) > 20
    assert len(markers) > 4
    texts = [(str(path), path.read_bytes()) for path in (*files, *markers)]
    tables = list(stage.dump())
    assert any(case.audience_id.encode() in content for _, content in tables), "the dump is not of this Airflow"
    found = {(name, word) for name, text in (*texts, *tables) for word in forbidden if word in text}
    assert not found

    left = list((stage.airflow.home / "tmp").rglob("task-*"))
    assert not left
    snapshots = {path.name.partition(".")[0] for path in stage.ledger.rglob("*.parquet")}
    assert snapshots == set().union(*(stage.outstanding(each) for each in stage.cases.values()))
    assert {path.stat().st_mode & 0o077 for path in stage.ledger.rglob("*")} == {0}


def _kill_once_somebody_is_in(stage: Stage, case: Case) -> str:
    """Start a run, kill its task when the first batch of additions has landed, and return the run's id."""
    case.deaths.plan("after POST users")
    run_id = stage.airflow.trigger(case.dag_id)
    stage.airflow.wait_for(case.deaths.dying, "the first batch to land")
    assert set(stage.held(case)) & set(hashed_rows(case.people))
    case.deaths.plan()
    case.deaths.kill()
    return run_id


def _put_off(stage: Stage, case: Case) -> str:
    """Start a run, wait until a rate limit at its third request has put its task off, and return the run's id."""
    path = f"/{case.audience_id}/users"
    stage.sandbox.fault("graph", path=path, nth=3, code=80003, status=400, is_transient=False, retry_after=8)
    run_id = stage.airflow.trigger(case.dag_id)
    _wait_until_put_off(stage, case, run_id)
    return run_id


def _wait_until_put_off(stage: Stage, case: Case, run_id: str) -> None:
    stage.airflow.wait_for(
        lambda: stage.airflow.task_state(case.dag_id, run_id, "refresh") == "deferred", "the task to be put off"
    )
