"""Long waits for Meta's rate limit free the worker: a task is put off, and another process of its try goes on."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest
from operator_tools import TaskDeferred, digests, emails, killed

from airflow_provider_fbca.compat import AirflowFailException
from airflow_provider_fbca.exceptions import LedgerError, StoppedError
from airflow_provider_fbca.ledger.lease_row import LeaseRow

OLD, NEW, OTHER = "abcdef", "defghi", "ehjk"
SMALL = {"batch_size": 2, "max_concurrency": 1, "deferrable": True}


@pytest.fixture
def put_off(run, monkeypatch):
    """Runs an operator that is put off, and gives what it leaves to the next process."""
    monkeypatch.setenv("AIRFLOW__FBCA__DEFER_AFTER_SECONDS", "30")

    def execute(kind, users=None, **options):
        with pytest.raises(TaskDeferred) as caught:
            run(kind, users, **SMALL | options)
        return caught.value

    return execute


@pytest.fixture
def limit(sandbox):
    """Lets Meta refuse, for a minute or more, the nth request that sends people."""

    def arrange(nth=1, **options):
        fault = {"path": "/users", "code": 80003, "subcode": 2446079, "status": 400, "is_transient": False}
        sandbox.fault("graph", nth=nth, **fault | options)

    return arrange


@pytest.fixture
def sent(sandbox):
    """Gives the rows of each request so far that Meta has taken."""
    return lambda: [each["rows"] for each in sandbox.requests() if each["applied"] and each["rows"]]


@pytest.mark.parametrize("source", ["file", "function"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_what_meta_has_acknowledged_is_not_sent_again_after_a_wait(
    run, put_off, limit, sent, members, history, tmp_path, source, nth
):
    asked = []
    run("refresh", emails(*OLD), **SMALL)
    options = {"users_callable": lambda: asked.append(1) or emails(*NEW)}
    if source == "file":
        pq.write_table(emails(*NEW), tmp_path / "users.parquet")
        options = {"users_uri": f"file://{tmp_path}/users.parquet"}
    before = len(sent())
    limit(nth)
    deferred = put_off("refresh", **options)
    assert len(sent()) - before == nth - 1
    begun = history().entries[-1].id
    manifest = run("refresh", after=deferred, **SMALL | options)
    assert len(sent()) - before == 4
    assert (manifest["entry"]["id"], manifest["rows"]) == (begun, len(NEW))
    assert members() == digests(*NEW)
    assert len(asked) == (source == "function")
    run("refresh", emails(*OTHER), **SMALL)
    assert members() == digests(*OTHER)


def test_a_task_is_put_off_as_often_as_meta_asks(run, put_off, limit, members):
    for _ in range(3):
        limit(2)
    deferred = put_off("upload", emails(*OLD))
    for _ in range(2):
        with pytest.raises(TaskDeferred) as caught:
            run("upload", emails(*OLD), after=deferred, **SMALL)
        deferred = caught.value
    run("upload", emails(*OLD), after=deferred, **SMALL)
    assert members() == digests(*OLD)


def test_a_wait_before_anything_has_begun_leaves_nothing(run, put_off, sandbox, files, members):
    sandbox.fault("graph", operation="read_audience", code=80003, status=400, is_transient=False)
    deferred = put_off("upload", emails(*OLD))
    assert files() == []
    run("upload", emails(*OLD), after=deferred, **SMALL)
    assert members() == digests(*OLD)


def test_l8_the_lease_is_kept_for_the_task_and_for_nobody_else(run, put_off, limit, members, monkeypatch):
    limit(2)
    deferred = put_off("upload", emails(*OLD))

    def pause(_self, _seconds):
        raise StoppedError("It waits.")

    with monkeypatch.context() as waiting:
        waiting.setattr("airflow_provider_fbca.operators.run.AudienceRun._pause", pause)
        with pytest.raises(StoppedError):
            run("upload", emails(*NEW), **SMALL)
        assert members() == digests(*OLD[:2])
        run("upload", emails(*OLD), after=deferred, **SMALL)
    run("upload", emails(*NEW), **SMALL)
    assert members() == digests(*sorted({*OLD, *NEW}))


def test_l8_a_task_that_is_put_off_again_before_it_could_take_its_lease_still_has_it(
    run, put_off, limit, sandbox, members, ledger_folder
):
    limit(2)
    first = put_off("upload", emails(*OLD))
    sandbox.fault("graph", operation="read_audience", code=80003, status=400, is_transient=False)
    with pytest.raises(TaskDeferred) as caught:
        run("upload", emails(*OLD), after=first, **SMALL)
    [lease] = [json.loads(path.read_text()) for path in ledger_folder.rglob("*.lease.json")]
    keys = [deferred.kwargs["handover"]["lease"] for deferred in (first, caught.value)]
    assert (lease["state"], lease["key"]) == ("kept", keys[1])
    assert keys[0] != keys[1]
    run("upload", emails(*OLD), after=caught.value, **SMALL)
    assert members() == digests(*OLD)


def test_a_task_that_is_cleared_while_it_is_put_off_waits_for_its_lease_and_forgets_nobody(
    run, put_off, limit, members, history
):
    run("refresh", emails(*OLD), **SMALL)
    limit(4)
    put_off("refresh", emails(*NEW))
    # A function is asked again, and its entry is another.
    run("refresh", emails(*OTHER), **SMALL)
    assert members() == digests(*OTHER)
    assert len(history().outstanding) == 1


def test_l9_a_request_without_an_answer_has_landed_or_never_will_when_the_task_goes_on(
    run, put_off, limit, sandbox, no_waits, monkeypatch, ledger_folder
):
    connection = json.loads(sandbox.connection_json)
    connection["extra"]["timeout"] = 400
    monkeypatch.setenv("AIRFLOW_CONN_FBCA_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__FBCA__LEASE_SECONDS", "1000")
    sandbox.fault("drop", operation="add_users", when="after")
    limit(2)
    began = datetime.now(UTC)
    deferred = put_off("upload", emails(*OLD))
    [lease] = [json.loads(path.read_text()) for path in ledger_folder.rglob("*.lease.json")]
    assert (lease["state"], lease["key"]) == ("kept", deferred.kwargs["handover"]["lease"])
    # The longest flight of a request is its timeout and as long as a connection may take; the triggerer's clock may be
    # five minutes ahead of the worker's.
    assert lease["seconds"] == 1000 + 430 + 300
    assert deferred.trigger.moment >= began + timedelta(seconds=430 + 300)


def test_l9_a_store_that_does_not_keep_the_lease_lets_nobody_in_before_a_request_has_landed(
    run, limit, sandbox, no_waits, monkeypatch, ledger_folder
):
    monkeypatch.setenv("AIRFLOW__FBCA__DEFER_AFTER_SECONDS", "30")
    append = LeaseRow.append

    def refuse(self, number, note):
        if note.state == "kept":
            raise LedgerError("The store refuses.")
        return append(self, number, note)

    monkeypatch.setattr(LeaseRow, "append", refuse)
    sandbox.fault("drop", operation="add_users", when="after")
    limit(2)
    with pytest.raises(AirflowFailException, match="The store refuses"):
        run("upload", emails(*OLD), **SMALL)
    [lease] = [json.loads(path.read_text()) for path in ledger_folder.rglob("*.lease.json")]
    assert lease["state"] == "held"


def test_a_replace_waits_in_its_worker_since_it_is_never_resumed(run, limit, sandbox, no_waits, members, monkeypatch):
    monkeypatch.setenv("AIRFLOW__FBCA__DEFER_AFTER_SECONDS", "30")
    sandbox.fault("graph", operation="replace_users", nth=2, code=80003, status=400, is_transient=False)
    run("refresh", emails(*OLD), strategy="replace", **SMALL)
    assert members() == digests(*OLD)


def test_a_task_that_is_not_deferrable_waits_in_its_worker(run, limit, no_waits, members, monkeypatch):
    monkeypatch.setenv("AIRFLOW__FBCA__DEFER_AFTER_SECONDS", "30")
    limit(2)
    run("upload", emails(*OLD), **SMALL | {"deferrable": False})
    assert members() == digests(*OLD)


def test_the_log_tells_when_the_task_goes_on_and_what_it_leaves_tells_nothing(put_off, limit, capsys, sandbox):
    limit(2)
    deferred = put_off("upload", emails(*OLD))
    told = re.search(r"The task goes on in (\d+) (\w+), until (\d\d:\d\d(:\d\d)?) UTC", capsys.readouterr().out)
    assert told
    end = datetime.strptime(told[3], "%H:%M:%S" if told[4] else "%H:%M").replace(tzinfo=UTC)
    late = (end - deferred.trigger.moment.replace(year=1900, month=1, day=1)).total_seconds()
    # Both count from an instant of their own.
    assert (late + 2) % 86400 < 63
    left = repr((deferred.trigger.serialize(), deferred.kwargs))
    assert not any(secret in left for secret in (sandbox.token, sandbox.app_secret, *digests(*OLD)))
    assert set(deferred.kwargs["handover"]) == {"lease", "audience_id", "entry"}


@pytest.mark.kills
@pytest.mark.parametrize("place", ["write before", "write half", "write after", "request before", "request after"])
def test_a_task_killed_on_its_way_into_or_out_of_a_wait_forgets_nobody(
    run, put_off, limit, sandbox, members, history, place
):
    def work():
        limit(2)
        deferred = put_off("refresh", emails(*NEW))
        run("refresh", emails(*NEW), after=deferred, **SMALL)

    nth, dead = 0, True
    while dead:
        nth += 1
        dead = killed(place, nth, work)
        sandbox.clear_faults()
        run("refresh", emails(*OTHER[nth % 2 :]), **SMALL)
        assert members() == digests(*OTHER[nth % 2 :])
        assert len(history().outstanding) == 1
    assert nth > 4
