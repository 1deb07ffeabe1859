"""The lease (rule L8): one writer at a time, whatever dies, freezes, lags or lands late."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lease_world import ACTIONS, FAULTS, PAUSES, STOPS, Step, World, Writer, run
from ledger_rows import AUDIENCE

from airflow_provider_fbca.exceptions import LeaseLostError, LedgerPlaceError, OptionsError
from airflow_provider_fbca.ledger import AudienceLedger, LeaseTerms
from airflow_provider_fbca.ledger import lease as lease_module
from airflow_provider_fbca.ledger.lease import Lease, boot_clock
from airflow_provider_fbca.ledger.lease_row import LeaseNote, LeaseRow
from airflow_provider_fbca.ledger.store import Store

TERMS = LeaseTerms(seconds=180, longest_flight=90)
OWNER = {"dag_id": "crm", "task_id": "sync", "run_id": "manual__1", "map_index": -1, "try_number": 2}
OTHER = OWNER | {"dag_id": "web"}


class ToldToStopError(Exception):
    """What a pause raises where the task was told to stop."""


def no_wait(_seconds):
    raise ToldToStopError


class Clock:
    """Time that passes by waiting only."""

    def __init__(self):
        self.now = 5000.0
        self.waits = []

    def __call__(self):
        return self.now

    def wall(self):
        return datetime(2026, 5, 4, tzinfo=UTC) + timedelta(seconds=self.now)

    def pause(self, seconds):
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(root):
    return Store(root.joinpath(AUDIENCE))


@pytest.fixture
def lease_of(store, clock):
    """Gives leases of one audience by a clock that only waiting moves; nothing renews them by itself."""

    def lease(owner=OWNER, *, terms=TERMS, pause=no_wait, wall=clock.wall, key=None):
        return Lease(store, owner, terms, pause=pause, clock=clock, wall=wall, key=key)

    return lease


def files(store):
    return {name: json.loads(content) for name, content in store.read(store.names()).items()}


def note(**changes):
    held = LeaseNote("held", OTHER, "ab12", "cd34", 600.0, "2026-05-04T01:23:20+00:00")
    return dataclasses.replace(held, **changes)


def write(store, number, content):
    store.create(f"{number:010d}.lease.json", content if isinstance(content, bytes) else content.to_json())


# The rule, searched.

steps = st.lists(
    st.builds(
        Step,
        writer=st.integers(0, 2),
        pause=st.sampled_from(PAUSES),
        stops=st.sampled_from(STOPS),
        fault=st.sampled_from(FAULTS),
        action=st.sampled_from(ACTIONS),
    ),
    min_size=30,
    max_size=120,
)
clocks = st.lists(
    st.tuples(st.sampled_from([0.0, -300.0, 5000.0]), st.sampled_from([0, -29, 29])), min_size=2, max_size=3
)


def writers_of(world, offsets, make_lease=Lease):
    return [Writer(world, ahead, timedelta(minutes=skew), make_lease) for ahead, skew in offsets]


@pytest.fixture
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, offsets=clocks)
def test_l8_at_no_instant_may_two_write_and_nothing_lands_late(quiet, steps, offsets):
    world = World()
    run(steps, writers_of(world, offsets), world)


def test_l8_the_search_sees_the_lease_change_hands(quiet):
    changes = []

    @settings(max_examples=200, derandomize=True, database=None, phases=[Phase.generate])
    @given(steps=steps, offsets=clocks)
    def search(steps, offsets):
        world = World()
        changes.append(run(steps, writers_of(world, offsets), world))

    search()
    assert sum(count > 1 for count in changes) > 50


class CountsFromTheAnswer(Lease):
    def renew(self):
        if self._clock() < self._valid_until and self._advance("held"):
            self._valid_until = self._clock() + self._terms.seconds


class KnowsNoFlights(Lease):
    def __init__(self, store, owner, terms, **clocks):
        super().__init__(store, owner, LeaseTerms(terms.seconds, 0), **clocks)


class TakesAllFilesForItsOwn(Lease):
    def _wrote(self, note):
        return True


class WritesTheSameTwice(Lease):
    def _note(self, *told):
        last = super()._note(*told)
        return dataclasses.replace(last, change="", taken_at=f"{last.taken_at[:15]}0:00+00:00")


def does_not_look_again(self, number, note):
    try:
        self._store.create(f"{number:010d}.lease.json", note.to_json())
    except lease_module.LedgerError:
        return False
    self._discard([each for each in self._numbers() if each < number])
    return True


def deletes_what_it_releases(self, number, note, append=LeaseRow.append):
    appended = append(self, number, note)
    if appended and note.is_released:
        self._discard([number])
    return appended


def is_impatient(self, seen, is_free=lease_module._Watch.is_free):
    return is_free(self, seen) or self.left <= 60


LEFT_OUT = {
    "looking again after creating": (LeaseRow, "append", does_not_look_again),
    "keeping the highest number": (LeaseRow, "append", deletes_what_it_releases),
    "waiting until it has expired": (lease_module._Watch, "is_free", is_impatient),
    "mistrusting the clock on the wall": (lease_module, "_SKEW_SECONDS", 0.0),
    "counting from before the request": (CountsFromTheAnswer, None, None),
    "stopping a flight earlier": (KnowsNoFlights, None, None),
    "telling its own files": (TakesAllFilesForItsOwn, None, None),
    "telling its own tries apart": (WritesTheSameTwice, None, None),
    "keeping it for the heir alone": (LeaseNote, "is_for", lambda self, key: key is not None),
}


@pytest.mark.parametrize("rule", LEFT_OUT)
def test_l8_the_search_finds_the_hole_where_a_part_is_left_out(quiet, monkeypatch, rule):
    place, name, instead = LEFT_OUT[rule]
    make_lease = Lease if name else place
    if name:
        monkeypatch.setattr(place, name, instead)

    @settings(max_examples=3000, derandomize=True, database=None, phases=[Phase.generate], report_multiple_bugs=False)
    @given(steps=steps, offsets=clocks)
    def search(steps, offsets):
        world = World()
        run(steps, writers_of(world, offsets, make_lease), world)

    with pytest.raises(AssertionError, match=r"two hold it|may still land"):
        search()


# Taking it.


def test_l8_an_idle_audience_keeps_one_small_file_that_tells_who_was_last(store, lease_of):
    with lease_of() as lease:
        for _ in range(3):
            lease.renew()
        (held,) = files(store).values()
    ((name, released),) = files(store).items()
    assert name == "0000000005.lease.json"
    assert held["state"] == "held"
    assert released["state"] == "released"
    assert (released["format"], released["owner"], released["seconds"]) == (1, OWNER, 180)
    assert released["token"] == held["token"]
    assert datetime.fromisoformat(released["taken_at"]).tzinfo is not None


def test_l8_a_release_hands_over_at_once(any_root):
    ledger = AudienceLedger(any_root, AUDIENCE)
    with ledger.lease(OWNER, TERMS, pause=no_wait) as first:
        first.check()
        with pytest.raises(ToldToStopError), AudienceLedger(any_root, AUDIENCE).lease(OTHER, TERMS, pause=no_wait):
            pass
    with AudienceLedger(any_root, AUDIENCE).lease(OTHER, TERMS, pause=no_wait) as second:
        second.check()
        assert not second.lost
    assert [name for name in ledger._store.names() if name.endswith(".lease.json")] == ["0000000004.lease.json"]


def test_l8_the_lease_is_no_entry_of_the_ledger(ledger, write_entry):
    with ledger.lease(OWNER, TERMS):
        entry = write_entry(ledger, ["a"], supersedes=())
    assert [each.id for each in ledger.history().entries] == [entry.id]
    assert entry.id.startswith("0000000001-")


def test_l8_who_waits_is_told_who_holds_it_at_once_and_then_each_minute(store, clock, lease_of, caplog):
    caplog.set_level(logging.INFO)
    lease_of(OTHER).take()
    clock.now += 17
    with lease_of(pause=clock.pause) as lease:
        lease.check()
    told = [record.getMessage() for record in caplog.records if "Waiting" in record.getMessage()]
    assert all("dag_id web, task_id sync, run_id manual__1, map_index -1, try_number 2" in text for text in told)
    assert [re.search(r"free in (\d+) s", text)[1] for text in told] == ["180", "120", "60"]
    assert sum(clock.waits) == pytest.approx(180)
    assert max(clock.waits) <= 2


def test_l8_a_dead_owner_expires_by_what_it_wrote_itself(store, clock, lease_of):
    write(store, 41, note(seconds=600.0))
    with lease_of(pause=clock.pause, terms=LeaseTerms(20, 1)):
        assert sum(clock.waits) == pytest.approx(600)
    assert list(files(store)) == ["0000000043.lease.json"]


def test_l8_each_renewal_that_is_seen_starts_the_wait_anew(store, clock, lease_of):
    other = lease_of(OTHER)
    other.take()
    renewals = iter([100, 150])
    due = [next(renewals)]

    def pause(seconds):
        clock.pause(seconds)
        if due and clock.now - 5000 >= due[0]:
            other.renew()
            due[:] = [next(renewals)] if due == [100] else []

    lease_of(pause=pause).take()
    assert 330 <= clock.now - 5000 <= 334


def test_l8_what_the_pause_raises_ends_the_wait_and_nothing_is_written(store, lease_of):
    lease_of(OTHER).take()
    before = files(store)
    with pytest.raises(ToldToStopError):
        lease_of().take()
    assert files(store) == before


@pytest.mark.parametrize("minutes", [-59, 0, 59, 10_000])
def test_l8_a_clock_on_the_wall_that_is_off_hastens_nothing(store, clock, lease_of, minutes):
    write(store, 1, note(taken_at=(clock.wall() + timedelta(minutes=minutes)).isoformat(), seconds=180.0))
    lease_of(pause=clock.pause).take()
    assert sum(clock.waits) == pytest.approx(180)


def test_l8_an_expiry_that_is_more_than_an_hour_old_is_believed_at_once(store, clock, lease_of):
    write(store, 1, note(taken_at=(clock.wall() - timedelta(seconds=3600 + 181)).isoformat(), seconds=180.0))
    lease_of(pause=no_wait).take()


UNREADABLE = {
    "nothing": b"",
    "half": note().to_json()[:60],
    "no JSON object": b"[1]",
    "a later format": note().to_json().replace(b'"format": 1', b'"format": 2'),
    "a field less": note().to_json().replace(b'"token"', b'"taken"'),
    "an unknown state": note(state="lent").to_json(),
    "no number": note(seconds="long").to_json(),
    "no length": note(seconds=0).to_json(),
    "no end": note(seconds=float("inf")).to_json(),
    "no date": note(taken_at="yesterday").to_json(),
    "no zone": note(taken_at="2026-05-04T01:23:20").to_json(),
    "no owner": note(owner=["crm"]).to_json(),
    "an owner of more than texts": note(owner={"dag": ["crm"]}).to_json(),
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_l8_a_file_that_cannot_be_read_counts_as_held_for_our_own_terms(store, clock, lease_of, caplog, content):
    caplog.set_level(logging.INFO)
    write(store, 7, content)
    lease_of(pause=clock.pause).take()
    assert sum(clock.waits) == pytest.approx(180)
    assert "held by another, whose note cannot be read" in caplog.text
    assert list(files(store)) == ["0000000008.lease.json"]


def test_l8_who_creates_a_deleted_number_anew_holds_nothing(any_root, clock):
    store = Store(any_root.joinpath(AUDIENCE))
    slow, quick = (Lease(store, owner, TERMS, pause=no_wait, clock=clock, wall=clock.wall) for owner in (OWNER, OTHER))
    seen = slow._row.latest()
    with quick:
        for _ in range(3):
            quick.renew()
        assert not slow._follow(seen)
        assert slow.lost
        with pytest.raises(ToldToStopError):
            slow.take()
        quick.renew()
        quick.check()
        assert store.names() == ["0000000005.lease.json"]


@pytest.mark.parametrize("seconds", [0, -180, 179.9, float("nan"), float("inf")])
def test_l8_a_lease_shorter_than_two_flights_is_refused_with_both_ways_out(seconds):
    with pytest.raises(OptionsError, match=r"on their way for 90 s.*lease_seconds to at least 180.*lower the timeout"):
        LeaseTerms(seconds, 90)


def test_l8_one_look_costs_one_listing(store, lease_of, monkeypatch):
    lease_of(OTHER).take()
    listings = []
    monkeypatch.setattr(store, "names", lambda names=store.names: listings.append(1) or names())
    with pytest.raises(ToldToStopError):
        lease_of().take()
    assert len(listings) == 1


# Keeping it.


def test_l8_a_check_refuses_a_flight_before_expiry_and_from_then_on(clock, lease_of):
    lease = lease_of()
    lease.take()
    clock.now += 89.9
    lease.check()
    clock.now += 0.1
    assert lease.lost
    with pytest.raises(LeaseLostError, match="lost: it was not renewed in time") as caught:
        lease.check()
    assert not caught.value.permanent
    lease.renew()
    clock.now -= 50
    with pytest.raises(LeaseLostError):
        lease.check()


def test_l8_a_lease_that_was_never_taken_allows_nothing(lease_of):
    with pytest.raises(LeaseLostError):
        lease_of().check()


def test_l8_who_finds_it_taken_over_is_told_by_whom_and_releases_nothing(store, clock, lease_of):
    with lease_of() as lease:
        clock.now += 60
        patient = lease_of(OTHER, pause=clock.pause)
        patient.take()
        clock.now -= 100  # as if ours had not been late
        lease.renew()
        with pytest.raises(LeaseLostError, match="taken over by dag_id web"):
            lease.check()
    ((_, last),) = ((name, told) for name, told in sorted(files(store).items())[-1:])
    assert (last["owner"]["dag_id"], last["state"]) == ("web", "held")


def test_l8_an_abandoned_lease_expires_by_itself(store, clock, lease_of):
    with lease_of() as lease:
        lease.abandon()
        lease.check()
    ((_, left),) = files(store).items()
    assert left["state"] == "held"
    lease_of(OTHER, pause=clock.pause).take()
    assert sum(clock.waits) == pytest.approx(180)


def kept(lease_of, seconds=600.0):
    """Gives the key to a lease that a task has kept for when it goes on."""
    with lease_of() as lease:
        return lease.keep_for_heir(seconds)


def test_l8_a_kept_lease_is_taken_over_by_its_heir_at_once(store, lease_of):
    with lease_of(key=kept(lease_of)) as heir:
        heir.check()
        [(_, told)] = files(store).items()
        assert told["state"] == "held"
    lease_of(OTHER).take()


def test_l8_a_kept_lease_keeps_others_out_until_its_heir_is_long_due(store, clock, lease_of):
    kept(lease_of)
    began = clock.now
    with pytest.raises(ToldToStopError):
        lease_of(OTHER).take()
    lease_of(OTHER, pause=clock.pause).take()
    assert clock.now - began == 600 + TERMS.seconds


@pytest.mark.parametrize("key", [None, "another"])
def test_l8_who_has_not_its_key_waits_for_a_kept_lease(lease_of, key):
    kept(lease_of)
    with pytest.raises(ToldToStopError):
        lease_of(key=key).take()


def test_l8_a_kept_lease_has_one_heir_and_no_second(lease_of):
    key = kept(lease_of)
    with lease_of(key=key), pytest.raises(ToldToStopError):
        lease_of(key=key).take()


def test_l8_an_heir_that_comes_when_another_has_taken_over_waits(clock, lease_of):
    key = kept(lease_of)
    with lease_of(OTHER, pause=clock.pause), pytest.raises(ToldToStopError):
        lease_of(key=key).take()


def test_l8_a_lease_that_is_lost_is_kept_for_nobody(clock, lease_of):
    with lease_of() as lease:
        clock.now += TERMS.seconds
        with pytest.raises(LeaseLostError):
            lease.keep_for_heir(600.0)


def test_l8_a_note_without_a_key_is_of_an_earlier_version_and_is_understood():
    told = json.loads(note().to_json())
    del told["key"]
    assert LeaseNote.from_json(json.dumps(told).encode()) == note()


def test_l8_renewals_keep_it_longer_than_it_lasts_and_end_with_it(store):
    with Lease(store, OWNER, LeaseTerms(0.6, 0.2)) as lease:
        for _ in range(20):
            time.sleep(0.1)
            lease.check()
        assert lease._thread.is_alive()
    assert not lease._thread.is_alive()
    names = store.names()
    assert len(names) == 1
    time.sleep(0.5)
    assert store.names() == names


def test_l8_what_the_store_refuses_is_tried_again(store, monkeypatch, caplog):
    plain, refused = store.create, []

    def create(name, content):
        if len(refused) % 4 < 3:
            refused.append(name)
            error = LedgerPlaceError("The store does not answer.")
            error.permanent = False
            raise error
        refused.append(name)
        plain(name, content)

    with Lease(store, OWNER, LeaseTerms(1.2, 0.2)) as lease:
        monkeypatch.setattr(store, "create", create)
        for _ in range(30):
            time.sleep(0.1)
            lease.check()
    assert len(refused) >= 8
    assert "was not renewed, trying again: The store does not answer." in caplog.text


def test_l8_a_store_that_refuses_until_expiry_ends_the_work_and_not_the_process(store, monkeypatch, caplog):
    def refuse(*_):
        raise LedgerPlaceError("The store does not answer.")

    with Lease(store, OWNER, LeaseTerms(0.6, 0.2)) as lease:
        monkeypatch.setattr(store, "create", refuse)
        lease._thread.join(5)
        assert not lease._thread.is_alive()
        with pytest.raises(LeaseLostError):
            lease.check()
    ((_, left),) = files(store).items()
    assert left["state"] == "held"


def test_l8_a_release_that_the_store_refuses_fails_nothing(store, lease_of, monkeypatch, caplog):
    def refuse(*_):
        raise LedgerPlaceError("The store does not answer.")

    with lease_of() as lease:
        lease.check()
        monkeypatch.setattr(store, "create", refuse)
    assert "could not be released, the next run waits up to 180 s: The store does not answer." in caplog.text


def test_l8_a_number_of_ours_that_landed_without_an_answer_is_gone_on_from(store, clock, lease_of, monkeypatch):
    plain = store.create

    def land_and_refuse(name, content):
        plain(name, content)
        raise LedgerPlaceError("The store does not answer.")

    lease = lease_of()
    lease.take()
    clock.now += 30
    monkeypatch.setattr(store, "create", land_and_refuse)
    with pytest.raises(LedgerPlaceError):
        lease.renew()
    monkeypatch.setattr(store, "create", plain)
    clock.now += 30
    assert lease._valid_until == 5180
    lease.renew()
    lease.check()
    assert lease._valid_until == 5240
    assert store.names() == ["0000000003.lease.json"]


def test_l8_a_take_that_landed_without_an_answer_is_ours(store, clock, lease_of, monkeypatch):
    plain, tries = store.create, []

    def land_and_refuse(name, content):
        plain(name, content)
        tries.append(name)
        if len(tries) == 1:
            error = LedgerPlaceError("The store does not answer.")
            error.permanent = False
            raise error

    monkeypatch.setattr(store, "create", land_and_refuse)
    lease = lease_of(pause=clock.pause)
    lease.take()
    assert clock.waits == [2.0]
    assert lease._valid_until == clock.now + 180


def test_l8_a_store_that_keeps_refusing_ends_the_wait(store, clock, lease_of, monkeypatch):
    def refuse(*_):
        error = LedgerPlaceError("The store does not answer.")
        error.permanent = False
        raise error

    monkeypatch.setattr(store, "create", refuse)
    with pytest.raises(LedgerPlaceError, match="does not answer"):
        lease_of(pause=clock.pause).take()
    assert len(clock.waits) == 2


def test_l8_a_file_that_was_deleted_between_listing_and_reading_is_looked_for_anew(store, clock, lease_of, monkeypatch):
    other = lease_of(OTHER)
    other.take()
    plain = store.read

    def read(names):
        monkeypatch.setattr(store, "read", plain)
        other.renew()
        return plain(names)

    monkeypatch.setattr(store, "read", read)
    assert lease_of()._row.latest().number == 2


def test_l8_a_row_that_cannot_be_read_is_an_error(store, lease_of, monkeypatch):
    lease_of(OTHER).take()

    def refuse(names):
        raise LedgerPlaceError("The store does not answer.")

    monkeypatch.setattr(store, "read", refuse)
    with pytest.raises(LedgerPlaceError):
        lease_of().take()


# Processes.


def test_l8_a_forked_child_that_leaves_the_context_releases_nothing(store):
    with Lease(store, OWNER, TERMS) as lease:
        child = os.fork()
        if child == 0:
            lease.__exit__(None, None, None)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        ((_, left),) = files(store).items()
        assert left["state"] == "held"
        lease.check()


LEASEHOLDER = """
import sys, time
from upath import UPath
from airflow_provider_fbca.exceptions import LeaseLostError
from airflow_provider_fbca.ledger import AudienceLedger, LeaseTerms

lease = AudienceLedger(UPath(sys.argv[1]), "120210000000000001").lease({"dag_id": "held"}, LeaseTerms(1.5, 0.2))
lease.__enter__()
lease.check()
print("held", flush=True)
"""


def leaseholder(root, then):
    return subprocess.Popen(
        [sys.executable, "-c", LEASEHOLDER + then, root.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_l8_a_process_that_ends_without_leaving_is_not_kept_alive(root):
    process = leaseholder(root, "")
    told, _ = process.communicate(timeout=60)
    assert (told, process.returncode) == ("held\n", 0)


@pytest.mark.parametrize("ending", [signal.SIGSTOP, signal.SIGKILL])
def test_l8_an_owner_that_is_frozen_or_killed_expires_and_cannot_go_on(root, store, ending):
    process = leaseholder(
        root,
        """
sys.stdin.readline()
try:
    lease.check()
except LeaseLostError as error:
    print(error, flush=True)
lease.__exit__(None, None, None)
""",
    )
    assert process.stdout.readline() == "held\n"
    process.send_signal(ending)
    with Lease(store, OTHER, LeaseTerms(30, 1)) as lease:
        process.stdin.write("\n")
        if ending == signal.SIGSTOP:
            process.send_signal(signal.SIGCONT)
        told, _ = process.communicate(timeout=60)
        lease.check()
        lease.renew()
        lease.check()
    assert told == "" if ending == signal.SIGKILL else "is lost" in told
    assert [left["owner"]["dag_id"] for left in files(store).values()] == ["web"]


def test_the_clock_runs_on_while_the_machine_is_suspended():
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= boot_clock() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_l8_leases_of_two_audiences_do_not_meet(root):
    with (
        AudienceLedger(root, "1").lease(OWNER, TERMS, pause=no_wait) as one,
        AudienceLedger(root, "2").lease(OTHER, TERMS, pause=no_wait) as other,
    ):
        one.check()
        other.check()


def test_l8_many_who_wait_take_turns(root):
    inside, order = [], []

    def work(name):
        with AudienceLedger(root, AUDIENCE).lease({"dag_id": name}, TERMS, pause=lambda _: time.sleep(0.01)) as lease:
            inside.append(name)
            order.append(tuple(inside))
            lease.check()
            inside.remove(name)

    threads = [threading.Thread(target=work, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(order) == [(str(n),) for n in range(8)]
