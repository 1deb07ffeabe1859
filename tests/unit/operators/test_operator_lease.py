"""One writer at a time (rule L8), as the operators keep it."""

from __future__ import annotations

import json
import os
import time

import pytest
from operator_tools import OPERATORS, FakeTaskInstance, digests, emails

from airflow_provider_fbca.compat import AirflowFailException
from airflow_provider_fbca.exceptions import FbcaError, LeaseLostError, StoppedError
from airflow_provider_fbca.graph.transport import Transport
from airflow_provider_fbca.ledger.store import Store
from airflow_provider_fbca.operators.journal import EntryJournal
from airflow_provider_fbca.operators.run import AudienceRun

OLD, NEW, OTHER = "abcdef", "defghi", "ehjk"
SMALL = {"batch_size": 2, "max_concurrency": 1}
REAL_PAUSE = AudienceRun._pause


@pytest.fixture
def at_request(monkeypatch):
    """Does something once, after the last look at the lease and before a request goes out, as a freeze there would."""

    def arrange(nth, work):
        exchange, count = Transport.exchange, 0

        def frozen(self, request):
            nonlocal count
            if request.url.endswith(("/users", "/usersreplace")):
                count += 1
                if count == nth:
                    work()
            return exchange(self, request)

        monkeypatch.setattr(Transport, "exchange", frozen)

    return arrange


@pytest.mark.parametrize("kind", ["upload", "refresh"])
def test_l8_of_two_at_once_the_second_waits_until_the_first_is_done(
    run, members, history, tmp_path, monkeypatch, audience, ledger_folder, kind
):
    monkeypatch.setattr(AudienceRun, "_pause", REAL_PAUSE)
    monkeypatch.setattr("airflow_provider_fbca.ledger.lease._LOOK_SECONDS", 0.1)
    go, at_work = tmp_path / "go", tmp_path / "at work"

    def slow():
        at_work.touch()
        while not go.exists():
            time.sleep(0.05)
        return emails(*OLD)

    child = os.fork()
    if child == 0:
        try:
            ti = FakeTaskInstance({})
            options = {"audience_id": audience, "ledger_uri": f"file://{ledger_folder}", "users_callable": slow}
            OPERATORS["refresh"](task_id="send", **options).execute({"ti": ti})
        except BaseException:  # noqa: BLE001 - the child must not go on as a test
            os._exit(1)
        os._exit(0)
    while not at_work.exists():
        time.sleep(0.05)

    looks = []

    def pause(self, seconds):
        if not self._lease:
            looks.append(history().entries)
            go.touch()
        REAL_PAUSE(self, seconds)

    monkeypatch.setattr(AudienceRun, "_pause", pause)
    run(kind, emails(*NEW))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert looks[0] == ()  # it came while the first had sent nothing, and sent nothing itself
    first, second = history().entries
    assert first.settled.settled_at < second.opened.opened_at
    assert members() == digests(*({*OLD, *NEW} if kind == "upload" else NEW))


@pytest.mark.parametrize("strategy", ["delta", "delete_insert", "replace"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_l8_a_writer_that_lost_its_lease_stops_and_whatever_it_sent_is_known(
    run, members, history, sandbox, at_request, waits, strategy, nth
):
    run("refresh", emails(*OLD), **SMALL)
    at_request(nth, lambda: run("refresh", emails(*OTHER), **SMALL))
    # Meta itself may be the first to tell, where the other has ended the replace.
    with pytest.raises(FbcaError) as caught:
        run("refresh", emails(*NEW), strategy=strategy, **SMALL)
    assert not caught.value.permanent
    (copy,) = [entry for entry in history().outstanding if entry.opened.left_behind]
    assert (copy.settled, copy.has_rows, copy.opened.rows, copy.opened.fingerprint) == (None, True, 6, None)
    waits.clear()
    run("refresh", emails(*OLD), **SMALL)
    assert waits[0] == pytest.approx(90)  # until the last request of the other can land no more
    sandbox.advance(2 * 3600)
    assert members() == digests(*OLD)
    assert [entry.opened.left_behind for entry in history().outstanding] == [False]


def test_l8_a_writer_stops_before_its_next_request_once_its_lease_is_old(run, writes, history, waits, monkeypatch):
    """Nobody took the lease; but who is late cannot know."""
    run("upload", emails(*OLD))
    lease_of, sent = AudienceRun._wait_for_lease, len(writes())

    def users():
        lease_of.late = True
        return emails(*NEW)

    class Late:
        def __init__(self, lease):
            self.lease = lease

        lost = True

        def __enter__(self):
            self.lease.__enter__()
            return self

        def __exit__(self, *error):
            self.lease.__exit__(*error)

        def check(self):
            if getattr(lease_of, "late", False):
                raise LeaseLostError("lost", remedy="")

    monkeypatch.setattr(AudienceRun, "_wait_for_lease", lambda self: Late(lease_of(self)))
    with pytest.raises(LeaseLostError):
        run("refresh", users)
    assert len(writes()) == sent
    # Nothing was marked, so there is nothing to leave behind.
    assert len(history().entries) == 1


@pytest.mark.parametrize("strategy", ["delta", "delete_insert", "replace"])
def test_l8_the_lease_is_looked_at_before_each_write_to_the_ledger(run, members, monkeypatch, strategy):
    run("refresh", emails(*OLD), **SMALL)
    last, done = "", []

    def noted(owner, name, tell):
        function = getattr(owner, name)

        def call(self, *args):
            nonlocal last
            told = tell(*args)
            if told and not told.endswith(".lease.json"):
                done.append((last, told))
                last = told
            return function(self, *args)

        monkeypatch.setattr(owner, name, call)

    noted(AudienceRun, "_go_on", lambda: "look")
    for name in ("put", "create", "delete"):
        noted(Store, name, lambda name, *_: name)
    run("refresh", emails(*NEW), strategy=strategy, **SMALL)
    unlooked = [(before.partition(".")[2], told.partition(".")[2]) for before, told in done if told != before != "look"]
    # Two files of one snapshot are written as one; a note takes the place of the one before.
    as_one = {"rows.parquet", "again.parquet", "progress-1.json"}
    assert [pair for pair in unlooked if pair[1] and pair[1] not in as_one] == []
    assert [before for before, told in done if told.endswith("rows.parquet")] == ["look", "look"]
    assert members() == digests(*NEW)


def test_l1_rows_that_were_stored_and_never_marked_are_not_left(run, files, members, monkeypatch):
    run("refresh", emails(*OLD))
    before = files()

    def stopped(self):
        assert len(files()) == len(before) + 1
        raise StoppedError("stopped")

    monkeypatch.setattr(EntryJournal, "open", stopped)
    with pytest.raises(StoppedError):
        run("refresh", emails(*NEW))
    assert files() == before
    assert members() == digests(*OLD)


def test_l8_a_task_that_fails_with_all_answered_lets_the_next_in_at_once(run, sandbox, members, monkeypatch):
    monkeypatch.setattr(AudienceRun, "_pause", lambda self, seconds: pytest.fail("waited"))
    sandbox.fault("graph", operation="add_users", code=200, is_transient=False, status=400)
    with pytest.raises(AirflowFailException):
        run("upload", emails("a"))
    run("refresh", emails("b"))
    assert members() == digests("b")


def test_l9_a_task_that_fails_with_a_request_in_the_air_lets_nobody_in_before_it_has_landed(
    run, sandbox, members, no_waits, monkeypatch
):
    sandbox.fault("drop", operation="add_users", when="after", count=20)
    with pytest.raises(FbcaError):
        run("upload", emails("a"))
    sandbox.clear_faults()
    waited = []
    pause = AudienceRun._pause

    def spy(self, seconds):
        if not self._lease:
            waited.append(seconds)
        pause(self, seconds)

    monkeypatch.setattr(AudienceRun, "_pause", spy)
    run("refresh", emails("b"))
    assert sum(waited) >= 90
    assert members() == digests("b")


def test_l8_waiting_ends_when_the_task_is_told_to_stop(run, writes, monkeypatch, ledger_folder, audience):
    from airflow.sdk import ObjectStoragePath

    from airflow_provider_fbca.ledger import AudienceLedger, LeaseTerms

    ledger = AudienceLedger(ObjectStoragePath(f"file://{ledger_folder}"), audience)

    def stop(self, seconds):
        self.stop()
        self._go_on()

    monkeypatch.setattr(AudienceRun, "_pause", stop)
    with ledger.lease({"dag_id": "another"}, LeaseTerms(180, 90)), pytest.raises(StoppedError):
        run("upload", emails("a"))
    assert writes() == []


def test_l8_a_plan_that_is_only_looked_at_waits_for_nobody(run, ledger_folder, audience):
    from airflow.sdk import ObjectStoragePath

    from airflow_provider_fbca.ledger import AudienceLedger, LeaseTerms

    ledger = AudienceLedger(ObjectStoragePath(f"file://{ledger_folder}"), audience)
    with ledger.lease({"dag_id": "another"}, LeaseTerms(180, 90)):
        assert run("refresh", emails("a"), plan_only=True)["would_add"] == 1


def test_l8_a_plan_that_is_only_looked_at_waits_for_no_request_of_others(run, history, ledger_folder, monkeypatch):
    run("upload", emails(*OLD))
    (file,) = ledger_folder.rglob("*.open.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"left_behind": True}))
    monkeypatch.setattr(AudienceRun, "_pause", lambda self, seconds: pytest.fail("waited"))
    assert run("refresh", emails(*NEW), plan_only=True)["present"] == len(OLD)


def test_l8_a_lease_shorter_than_two_flights_is_refused(run, refused, monkeypatch):
    monkeypatch.setenv("AIRFLOW__FBCA__LEASE_SECONDS", "179")
    refused(
        lambda: run("upload", lambda: pytest.fail("read")), "lease of 179 s is too short", "at least 180", "timeout"
    )
