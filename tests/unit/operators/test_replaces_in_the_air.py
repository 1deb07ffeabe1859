"""Rule S6: no replace of an earlier writer is applied after what comes now. Time is a clock that only waiting moves."""

from __future__ import annotations

import itertools
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pytest
from airflow.sdk import ObjectStoragePath
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from airflow_provider_fbca.exceptions import (
    GraphBusyError,
    GraphPermissionError,
    GraphReplaceFailedError,
    GraphTransientError,
    LedgerError,
    StoppedError,
)
from airflow_provider_fbca.graph.api import GraphApi
from airflow_provider_fbca.graph.retry import RetryPolicy
from airflow_provider_fbca.graph.upload import UserUploader
from airflow_provider_fbca.ledger import (
    AudienceLedger,
    OpenMarker,
    SessionNote,
    SettledMarker,
    Snapshot,
    WorkDir,
    utc_now,
)
from airflow_provider_fbca.ledger.snapshot import SnapshotWriter
from airflow_provider_fbca.ledger.store import Store
from airflow_provider_fbca.operators.replaces import close_replaces_in_the_air
from airflow_provider_fbca.sandbox import Clock, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_fbca.ledger import OpenEntry

NOON = 1_800_000_000.0
FLIGHT = 40
BATCH = 2
MINUTES = 60
log = logging.getLogger("writers")

Verb = Literal["replace", "upload", "remove"]


class Killed(BaseException):
    """The process of a writer has ended."""


class Writers:
    """Writers of one audience, one after the other, each with a client of its own, on one ledger and one sandbox."""

    def __init__(self, sandbox: Any, clock: Clock, folder: Path) -> None:
        self.sandbox, self.clock, self.folder = sandbox, clock, folder
        self.audience = sandbox.create_audience()
        self.ledger = AudienceLedger(ObjectStoragePath(f"file://{folder / 'ledger'}"), self.audience)
        self.waited = 0.0
        self.closes = True
        self.numbers = itertools.count(1)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now(), UTC)

    def write(self, verb: Verb, *people: str, dies_at: int = 0, fault: dict[str, Any] | None = None) -> OpenEntry:
        """Do what a task does from its ``open`` marker to its ``settled`` one.

        :param dies_at: number of the request before which, or with a fault at which, the writer's process ends.
        :param fault: what becomes of its last request.
        """
        life = _Life(self, dies_at, fault)
        with WorkDir(self.folder / "scratch") as workdir:
            outstanding = self.ledger.history().outstanding
            snapshot = snapshot_of(people, workdir)
            entry = self.ledger.begin(snapshot)
            entry.open(self.marker(verb, entry.digest, snapshot.rows))
            uploader = self.uploader(life, entry, replaces=verb == "replace")
            if self.closes:
                self.close(uploader, workdir, life, outstanding)
            send(uploader, verb, snapshot)
        retired = tuple(each.id for each in outstanding) if verb == "replace" else ()
        entry.settle(SettledMarker(retired, utc_now()))
        return entry

    def write_and_fail(self, verb: Verb, *people: str, **death: Any) -> None:
        """The same for a writer that may die or fail; nobody writes until its requests can land no more."""
        try:
            self.write(verb, *people, **death)
        except (Killed, GraphReplaceFailedError):
            self.clock.advance(FLIGHT)

    def close(self, uploader: UserUploader, workdir: WorkDir, life: _Life, entries: Any) -> None:
        close_replaces_in_the_air(self.ledger, entries, uploader, workdir, log=log, pause=life.sleep, now=self.now)

    def close_all(self, **options: Any) -> None:
        """Close what is in the air, as a writer does that then sends nothing."""
        life = _Life(self)
        with WorkDir(self.folder / "scratch") as workdir:
            uploader = self.uploader(life, None, **options)
            self.close(uploader, workdir, life, self.ledger.history().outstanding)

    def uploader(self, life: _Life, entry: OpenEntry | None, *, replaces: bool = False, **options: Any) -> UserUploader:
        api = GraphApi(
            access_token=self.sandbox.token,
            base_url=self.sandbox.url,
            timeout=FLIGHT / 2,
            retry=RetryPolicy(sleep=life.sleep),
            clock=self.clock.now,
        )
        return UserUploader(
            api,
            self.audience,
            new_session=lambda: entry.new_session("refresh", replaces=replaces) if entry else 1,
            before_request=life.before_request,
            clock=self.clock.now,
            sleep=life.sleep,
            **{"batch_size": BATCH} | options,
        )

    def marker(self, verb: Verb, digest: str, rows: int) -> OpenMarker:
        return OpenMarker(
            kind="refresh" if verb == "replace" else verb,
            strategy="replace" if verb == "replace" else None,
            audience_id=self.audience,
            ad_account_id=self.sandbox.ad_account_id,
            schema=("EXTERN_ID",),
            rows=rows,
            digest=digest,
            reads=(),
            audience_was_empty=True,
            retention_days=None,
            owner={},
            opened_at=utc_now(),
            batch_size=BATCH,
        )

    def names(self) -> set[str]:
        return {row["EXTERN_ID"] for row in self.sandbox.members(self.audience)}

    def replace_calls(self) -> list[dict[str, Any]]:
        return self.sandbox.requests("replace_users")

    def reads(self) -> int:
        return len(self.sandbox.requests("read_audience"))

    def file(self, ending: str) -> Path:
        [found] = self.folder.rglob(f"*{ending}")
        return found


class _Life:
    """The life of a writer's process, in requests."""

    def __init__(self, writers: Writers, dies_at: int = 0, fault: dict[str, Any] | None = None) -> None:
        self.writers, self.dies_at, self.fault = writers, dies_at, fault
        self.requests = 0
        self.dying = False

    def before_request(self) -> None:
        self.requests += 1
        if self.dying or (self.requests == self.dies_at and self.fault is None):
            raise Killed
        if self.requests == self.dies_at:
            self.writers.sandbox.fault("drop", **self.fault or {})
            self.dying = True

    def sleep(self, seconds: float) -> None:
        if self.dying:
            raise Killed
        self.writers.waited += seconds
        self.writers.clock.advance(seconds)


def snapshot_of(people: tuple[str, ...], workdir: WorkDir) -> Snapshot:
    rows = pa.record_batch({"EXTERN_ID": pa.array(people, pa.string())})
    with SnapshotWriter(workdir.file("users.parquet"), rows.schema) as writer:
        writer.write(rows)
        return writer.finish()


def send(uploader: UserUploader, verb: Verb, snapshot: Snapshot) -> None:
    rows = (batch.drop_columns(["row_id"]) for batch in snapshot.batches())
    if verb == "replace":
        totals = uploader.replace(rows, total=snapshot.rows)
        uploader.wait_until_replaced(totals.session_ids[-1])
    elif verb == "upload":
        uploader.add(rows, total=snapshot.rows)
    else:
        uploader.remove(rows, total=snapshot.rows)
    uploader.wait_out_flights()


@pytest.fixture(scope="module")
def clocked() -> Iterator[tuple[Any, Clock]]:
    clock = Clock(NOON)
    with serve(clock=clock) as sandbox, pytest.MonkeyPatch.context() as patch:
        # The ledger's notes tell the time of the same clock.
        told = lambda: datetime.fromtimestamp(clock.now(), UTC).isoformat(timespec="microseconds")  # noqa: E731
        patch.setattr("airflow_provider_fbca.ledger.entries.utc_now", told)
        yield sandbox, clock


@pytest.fixture
def writers(clocked: Any, tmp_path: Path) -> Writers:
    sandbox, clock = clocked
    sandbox.reset()
    sandbox.change(replace_seconds=60)
    return Writers(sandbox, clock, tmp_path)


def dead_replace(writers: Writers, *people: str, batches: int) -> None:
    """A replace whose writer died after some of its batches."""
    writers.write_and_fail("replace", *people, dies_at=batches + 1)
    assert len(writers.replace_calls()) == batches


FIVE = ("a", "b", "c", "d", "e")


@pytest.mark.parametrize("batches", [1, 2])
def test_s6_an_unfinished_replace_gets_its_last_batch_and_is_waited_for(writers: Writers, batches: int) -> None:
    dead_replace(writers, *FIVE, batches=batches)
    before = writers.clock.now()
    writers.write("upload", "z")
    assert writers.names() == {*FIVE[: BATCH * batches], "e", "z"}
    last = writers.replace_calls()[-1]
    assert (last["batch_seq"], last["last_batch_flag"], last["rows"]) == (3, True, 1)
    assert 60 <= writers.clock.now() - before < 180


def test_s6_the_last_batch_of_a_replace_of_one_is_not_its_first(writers: Writers) -> None:
    writers.write_and_fail("replace", "a", dies_at=1, fault={"when": "after"})
    writers.write("upload", "z")
    assert writers.names() == {"a", "z"}
    assert [call["batch_seq"] for call in writers.replace_calls()] == [1, 2]


def test_s6_a_replace_that_never_began_is_not_waited_for(writers: Writers) -> None:
    writers.write_and_fail("replace", *FIVE, dies_at=1)
    writers.write("upload", "z")
    assert writers.names() == {"z"}
    assert (writers.waited, writers.reads()) == (0, 0)
    assert [call["error"] for call in writers.replace_calls()] == ["2650/1870147"]


def test_s6_a_replace_that_got_its_last_batch_is_waited_for(writers: Writers) -> None:
    dead_replace(writers, *FIVE, batches=3)
    writers.write("remove", "a", "b")
    assert writers.names() == {"c", "d", "e"}
    assert writers.replace_calls()[-1]["error"] == "2650/1870159"


def test_s6_a_replace_that_meta_ended_by_itself_is_waited_for(writers: Writers) -> None:
    writers.sandbox.change(replace_seconds=1200)
    dead_replace(writers, *FIVE, batches=1)
    writers.clock.advance(90 * MINUTES)
    writers.write("remove", "a")
    assert writers.names() == {"b"}
    assert writers.replace_calls()[-1]["error"] == "2650/1870158"
    assert writers.waited > 1000


def test_s6_a_replace_that_takes_no_last_batch_is_waited_for_by_the_clock(writers: Writers) -> None:
    dead_replace(writers, *FIVE, batches=1)
    began = writers.clock.now() - FLIGHT
    writers.sandbox.fault("graph", operation="replace_users", code=2650, is_transient=False, status=400)
    writers.write("upload", "z")
    assert writers.names() == {"a", "b", "z"}
    assert writers.clock.now() - began >= 120 * MINUTES
    assert writers.waited <= 120 * MINUTES


@pytest.mark.parametrize("loss", ["missing", "damaged"])
def test_s6_a_replace_whose_rows_are_lost_is_waited_for_by_the_clock(writers: Writers, loss: str) -> None:
    dead_replace(writers, *FIVE, batches=1)
    rows = writers.file("rows.parquet")
    if loss == "missing":
        rows.unlink()
    else:
        rows.write_bytes(rows.read_bytes()[:-1])
    writers.write("upload", "z")
    assert writers.names() == {"a", "b", "z"}
    assert 119 * MINUTES <= writers.waited <= 120 * MINUTES
    assert len(writers.replace_calls()) == 1


def test_s6_an_entry_without_rows_is_waited_for_by_the_clock(writers: Writers) -> None:
    with WorkDir(writers.folder / "scratch") as workdir:
        snapshot = snapshot_of((), workdir)
        entry = writers.ledger.begin(snapshot)
        entry.open(writers.marker("replace", entry.digest, 0))
        entry.new_session("refresh", replaces=True)
    writers.close_all()
    assert writers.waited == pytest.approx(120 * MINUTES)


def test_s6_by_the_clock_nothing_is_left_of_an_old_replace(writers: Writers) -> None:
    dead_replace(writers, *FIVE, batches=1)
    writers.file("rows.parquet").unlink()
    writers.clock.advance(24 * 3600)
    writers.close_all()
    assert writers.waited == 0


def test_s6_an_old_replace_is_not_waited_for_though_meta_tells_nothing(writers: Writers) -> None:
    dead_replace(writers, *FIVE, batches=1)
    writers.clock.advance(24 * 3600)
    writers.sandbox.fault("graph", operation="list_sessions", code=2, count=5)
    writers.close_all()
    assert writers.waited < 100  # between tries to read the session


@pytest.mark.parametrize("noted_at", ["", "yesterday", "2100-01-01T00:00:00+00:00", "2100-01-01T00:00:00", None])
def test_s6_a_note_without_a_time_or_from_the_future_counts_from_now(writers: Writers, noted_at: Any) -> None:
    dead_replace(writers, *FIVE, batches=1)
    note = writers.file("session-*.json")
    [session_id] = {int(call["session_id"]) for call in writers.replace_calls()}
    note.write_bytes(SessionNote(session_id, "refresh", True, noted_at).to_json())
    writers.file("rows.parquet").unlink()
    writers.close_all()
    assert writers.waited == pytest.approx(120 * MINUTES)


def test_s6_what_was_closed_just_now_is_waited_for_however_old_its_note(writers: Writers) -> None:
    dead_replace(writers, *FIVE, batches=1)
    [session_id] = {int(call["session_id"]) for call in writers.replace_calls()}
    note = SessionNote(session_id, "refresh", True, "2001-01-01T00:00:00+00:00")
    writers.file("session-*.json").write_bytes(note.to_json())
    writers.close_all()
    assert writers.names() == {"a", "b", "e"}


def test_s6_a_failed_replace_ends_the_wait(writers: Writers) -> None:
    writers.write("upload", "y")
    writers.sandbox.change(replace_fails=True)
    dead_replace(writers, *FIVE, batches=2)
    writers.sandbox.change(replace_fails=False)
    entries = len(writers.ledger.history().outstanding)
    writers.write("upload", "z")
    assert writers.names() == {"y", "z"}
    assert writers.waited < 180
    assert len(writers.ledger.history().outstanding) == entries + 1


def test_s6_that_it_was_closed_is_not_remembered(writers: Writers) -> None:
    dead_replace(writers, *FIVE, batches=1)
    for name in ("x", "y", "z"):
        writers.write("upload", name)
    errors = [call["error"] for call in writers.replace_calls()]
    assert errors == [None, None, "2650/1870159", "2650/1870159"]
    writers.write("replace", "w")
    writers.write("upload", "v")
    # From the new replace on the old one is retired.
    assert [call["batch_seq"] for call in writers.replace_calls()[4:]] == [3, 1, 2]
    assert writers.names() == {"w", "v"}


def test_s6_every_session_of_every_entry_is_closed(writers: Writers) -> None:
    # The first batch of the second session of this one is lost on its way, too.
    writers.sandbox.fault("drop", operation="replace_users")
    writers.write_and_fail("replace", *FIVE, dies_at=5)
    writers.write_and_fail("replace", "f", "g", "h", dies_at=8)
    sessions = {call["session_id"] for call in writers.replace_calls() if call["session_id"]}
    before = len(writers.replace_calls())
    writers.write("upload", "z")
    closed = writers.replace_calls()[before:]
    assert len(closed) >= len(sessions)
    assert all(call["last_batch_flag"] for call in closed)
    assert "z" in writers.names()


def test_s6_a_copy_that_was_left_behind_closes_what_its_original_cannot(writers: Writers) -> None:
    dead_replace(writers, *FIVE, batches=1)
    [original] = writers.ledger.history().outstanding
    [note] = writers.ledger.sessions_of(original.id)
    with WorkDir(writers.folder / "scratch") as workdir:
        copy = writers.ledger.begin(snapshot_of(FIVE, workdir))
        copy.open(writers.marker("replace", copy.digest, len(FIVE)))
        copy.note_session(note)
    next(writers.folder.rglob(f"{original.id}.rows.parquet")).unlink()
    writers.close_all()
    assert writers.waited < 180
    assert writers.names() == {"a", "b", "e"}


def test_s6_an_unreadable_marker_hides_no_session(writers: Writers) -> None:
    dead_replace(writers, *FIVE, batches=1)
    writers.file("open.json").write_bytes(b"{")
    writers.close_all()
    assert writers.names() == {"a", "b", "e"}


def test_s6_the_marker_tells_the_number_of_the_last_batch(writers: Writers) -> None:
    dead_replace(writers, *FIVE, batches=1)
    writers.close_all(batch_size=10)
    assert writers.replace_calls()[-1]["batch_seq"] == 3


def test_s6_sessions_that_do_not_replace_are_let_alone(writers: Writers) -> None:
    writers.write_and_fail("upload", *FIVE, dies_at=2)
    writers.close_all()
    assert (writers.replace_calls(), writers.reads(), writers.waited) == ([], 0, 0)


def test_s6_the_ledger_is_listed_once_however_many_entries_there_are(writers: Writers, monkeypatch: Any) -> None:
    for person in "abc":
        writers.write("upload", person)
    listed, names = [], Store.names
    monkeypatch.setattr(Store, "names", lambda self: listed.append(1) or names(self))
    writers.close_all()
    # The history is the other.
    assert len(listed) == 2


def test_s6_meta_that_does_not_come_to_an_end_is_told(writers: Writers) -> None:
    dead_replace(writers, *FIVE, batches=1)
    writers.sandbox.pretend(writers.audience, operation_status=414)
    with pytest.raises(GraphBusyError, match="earlier run") as caught:
        writers.close_all()
    assert not caught.value.permanent


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "server_error", "count": 9}, GraphTransientError),
        ({"kind": "graph", "code": 200, "is_transient": False, "status": 403}, GraphPermissionError),
    ],
)
def test_s6_errors_that_would_stop_the_writer_anyway_stop_it_here(writers: Writers, fault: Any, error: Any) -> None:
    dead_replace(writers, *FIVE, batches=1)
    writers.sandbox.fault(operation="replace_users", **fault)
    with pytest.raises(error):
        writers.write("upload", "z")
    assert writers.sandbox.requests("add_users") == []


def test_s6_a_store_that_fails_for_a_while_is_told(writers: Writers, monkeypatch: Any) -> None:
    def fails(*_args: Any) -> Any:
        failure = LedgerError("The store does not answer.")
        failure.permanent = False
        raise failure

    dead_replace(writers, *FIVE, batches=1)
    monkeypatch.setattr(AudienceLedger, "fetch", fails)
    with pytest.raises(LedgerError):
        writers.close_all()
    assert writers.waited == 0


def test_s6_a_wait_by_the_clock_may_be_ended(writers: Writers, monkeypatch: Any) -> None:
    def stop(_self: Any, _seconds: float) -> None:
        raise StoppedError("told to stop")

    dead_replace(writers, *FIVE, batches=1)
    writers.file("rows.parquet").unlink()
    monkeypatch.setattr(_Life, "sleep", stop)
    with pytest.raises(StoppedError):
        writers.close_all()


def test_s6_the_log_tells_each_minute_and_no_row(writers: Writers, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    dead_replace(writers, "secret-one", "secret-two", "secret-three", batches=1)
    writers.close_all()
    writers.write_and_fail("replace", "secret-four", dies_at=4)
    for lost in writers.folder.rglob("*rows.parquet"):
        lost.unlink()
    writers.close_all()
    assert sum("minutes to go" in text for text in caplog.messages) >= 119
    assert "secret" not in caplog.text


def test_without_s6_an_older_replace_would_overwrite_what_was_sent(writers: Writers) -> None:
    """The other tests could fail: this is what the rule is for."""
    writers.closes = False
    writers.sandbox.change(replace_shows_after_seconds=10**6)
    dead_replace(writers, *FIVE, batches=1)
    writers.write("upload", "z")
    assert writers.names() == {"z"}
    writers.clock.advance(4 * 3600)
    assert writers.names() == {"a", "b"}


people = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6, unique=True)
deaths = st.one_of(
    st.none(),
    st.builds(lambda when, lands: {"when": when, "lands_after": lands}, st.just("late"), st.integers(0, FLIGHT - 1)),
    st.sampled_from([{"when": "before"}, {"when": "after"}]),
)
earlier = st.tuples(
    st.sampled_from(["replace", "replace", "replace", "upload", "remove"]),
    people,
    st.integers(1, 12),
    deaths,
    st.sampled_from([0, 0, 120, 5000, 8000]),
)


# Each of the writers makes dozens of requests: shrinking a failure would take longer than reading it.
@settings(
    max_examples=50,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    before=st.lists(earlier, min_size=1, max_size=4),
    ours=st.tuples(st.sampled_from(["replace", "upload", "remove"]), people),
    seconds=st.sampled_from([0, 60, 1000]),
    shows_after=st.sampled_from([0, 30, 10**6]),
    fails=st.booleans(),
)
@example(
    before=[("replace", list("gc"), 1, {"when": "late", "lands_after": 28}, 8000)],
    ours=("remove", ["e"]),
    seconds=60,
    shows_after=30,
    fails=False,
)
@example(
    before=[("replace", list("abc"), 1, {"when": "late", "lands_after": 39}, 0)],
    ours=("upload", ["z"]),
    seconds=1000,
    shows_after=10**6,
    fails=False,
)
def test_s6_whatever_earlier_writers_left_what_we_send_stays(
    clocked: Any,
    tmp_path: Path,
    before: list[tuple[Verb, list[str], int, dict[str, Any] | None, int]],
    ours: tuple[Verb, list[str]],
    seconds: float,
    shows_after: float,
    fails: bool,
) -> None:
    sandbox, clock = clocked
    sandbox.reset()
    if fails:
        # Who saw an earlier failure for hours on end could not tell it from one of the last replace.
        shows_after = min(shows_after, 30)
    sandbox.change(replace_seconds=seconds, replace_shows_after_seconds=shows_after, replace_fails=fails)
    writers = Writers(sandbox, clock, tmp_path / f"{clock.now()}")
    for verb, names, dies_at, fault, gap in before:
        writers.write_and_fail(verb, *names, dies_at=dies_at, fault=fault)
        clock.advance(gap)
    sandbox.change(replace_fails=False)
    sandbox.clear_faults()
    verb, names = ours
    writers.write(verb, *names)
    sent = writers.names()
    if verb == "replace":
        assert sent == set(names)
    elif verb == "upload":
        assert sent >= set(names)
    else:
        assert sent.isdisjoint(names)
    for _ in range(4):
        clock.advance(3600)
        assert writers.names() == sent
