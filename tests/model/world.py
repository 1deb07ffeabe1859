"""One history: an audience, its ledger, the tasks that work on it, and what must be true of them at every instant."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from airflow_provider_fbca.exceptions import FbcaError, GraphTransientError, LedgerPlaceError
from airflow_provider_fbca.graph.api import GraphApi
from airflow_provider_fbca.graph.throttle import forget_budgets
from airflow_provider_fbca.graph.transport import Answer
from airflow_provider_fbca.hooks.credentials import Credentials
from airflow_provider_fbca.hooks.custom_audience import FacebookCustomAudienceHook
from airflow_provider_fbca.ledger.store import Store
from airflow_provider_fbca.operators.custom_audience import (
    FacebookRefreshAudienceOperator,
    FacebookRemoveUsersOperator,
    FacebookUploadUsersOperator,
)
from tests.model import people, virtual
from tests.model.kernel import Crash, Kernel, Owner, Process, current
from tests.model.meta import Manners, Meta, RefusedError, Row, connected, rows_of
from tests.model.shadow import Shadow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from airflow_provider_fbca.graph.transport import Request

OPERATORS = {
    "upload": FacebookUploadUsersOperator,
    "remove": FacebookRemoveUsersOperator,
    "refresh": FacebookRefreshAudienceOperator,
}
TIMEOUT = 60.0
#: Seconds by which a request may land after its answer was given up or its sender died.
LATEST = 85.0
#: A request that was held up for longer than this since its lease check may meet another writer's (rule S8).
FROZEN = 90.0
DAY = 86_400.0
_QUIET = logging.getLogger("tests.model")
_QUIET.setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True)
class Fault:
    """What goes wrong at one place of a try.

    :param place: ``request`` (of people), ``read`` (another request), ``write`` (to the ledger) or ``lease``.
    :param nth: which of them, from 1.
    :param how: see :meth:`World.exchange` and :meth:`World.ledger_write`.
    :param seconds: of a freeze; or until a request lands.
    :param lasting: whether it goes wrong in the same way from then on.
    """

    place: str
    nth: int
    how: str
    seconds: float = 0.0
    lasting: bool = False


@dataclass
class Task:
    """A task of a DAG run, whose tries share its identity.

    :param kind: ``upload``, ``remove`` or ``refresh``.
    :param number: its place among the runs by logical date.
    :param options: of the operator.
    :param from_file: whether its users come from a file, so that a retry may resume, or from a function.
    :param names: of the rows that its source gives now.
    :param removed: rows whose removal Meta has acknowledged, by entry.
    """

    kind: str
    number: int
    options: dict[str, Any]
    from_file: bool
    tries: int = 0
    names: frozenset[str] | None = None
    removed: dict[str, set[Row]] = field(default_factory=dict)


class Writer(Owner):
    """One try of a task."""

    def __init__(self, task: Task, names: frozenset[str], faults: Iterable[Fault]) -> None:
        super().__init__()
        self.task = task
        self.names = names
        self.rows = people.rows(names)
        self.faults = {(each.place, each.nth): each for each in faults}
        self.counts = {"request": 0, "read": 0, "write": 0, "lease": 0}
        self.result: Any = None
        self.error: BaseException | None = None
        self.ended = False
        #: Rows that Meta acknowledged as added in this try.
        self.added: set[Row] = set()
        #: Those added since the last removal.
        self.added_last: set[Row] = set()
        #: Rows that a delta must keep in all the while.
        self.floor: frozenset[Row] | None = None
        self.opened: str | None = None
        self.disturbed = False
        #: Whether its work is done, and only its lease is to be given back.
        self.settled = False
        #: Whether it has slept through its lease and sent a request.
        self.zombie = False
        self.lagging: list[Callable[[], None]] = []
        #: Whether, of a refresh that is done, all rows were to be sent again; None before.
        self.overdue: bool | None = None

    @property
    def strategy(self) -> str:
        """Of a refresh; empty otherwise."""
        return self.task.options.get("strategy", "") if self.task.kind == "refresh" else ""

    @property
    def succeeded(self) -> bool:
        """Whether the try came to its end without an error."""
        return self.ended and not self.dead and self.error is None


class World:
    """The history.

    :param manners: of Meta.
    :param strangers: names of rows that were in before.
    """

    def __init__(self, manners: Manners = Manners(), strangers: Iterable[str] = ()) -> None:  # noqa: B008 - frozen
        self.kernel = Kernel()
        virtual.enter(self.kernel)
        self.strangers = set(people.rows(strangers))
        self.meta = Meta(self.kernel, manners, self.strangers, self._changed)
        self.shadow = Shadow()
        self.folder = Path(tempfile.mkdtemp(prefix="ledger-"))
        self.tasks: list[Task] = []
        self.writers: list[Writer] = []
        self.xcom: dict[int, dict[str, Any]] = {}
        self.violations: list[str] = []
        #: Rows that may be in unknown to the ledger, since rule S8 promises nothing for them yet.
        self.excused: set[Row] = set()
        #: Whether nothing is promised any more until a replace: a woken writer died before it could say what it sent.
        self.tainted = False
        #: Writers that have slept through their lease and sent a request, and have not said so yet (rule S8).
        self.unsaid: list[Writer] = []
        #: Ids that the ledger has lost.
        self.lost: set[str] = set()
        #: Whether people of theirs may be in, and the rows that may.
        self.lost_people = False
        self.lost_rows: set[Row] = set()
        #: What the last refresh that succeeded promises, as long as nobody else sends; and who may be missing.
        self.equal_to: tuple[frozenset[Row], frozenset[Row]] | None = None
        self.lagged: frozenset[Row] = frozenset()
        #: Rows whose removal Meta has acknowledged and not applied yet.
        self.leaving: list[set[Row]] = []
        self.sent_all_at = float("-inf")
        self.successes = 0
        self._landing: tuple[Writer, bool] | None = None

    def close(self) -> None:
        """End all and leave nothing behind."""
        for writer in self.writers:
            writer.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- what a machine does -----------------------------------------------------------------------------------------

    def task(self, kind: str, *, from_file: bool = True, backfill: bool = False, **options: Any) -> Task:
        """Return the task of a new run, later than all by its logical date, or earlier than all."""
        number = len(self.tasks)
        task = Task(kind, -number if backfill else number, options, from_file)
        self.tasks.append(task)
        return task

    def begin(self, task: Task, names: Iterable[str], faults: Iterable[Fault] = ()) -> Writer:
        """Start a try of a task."""
        task.tries += 1
        if task.kind == "refresh":
            self.xcom.pop(task.number, None)
        if self.lost_people and not self.lost & self._told(task.number):
            # Nothing names what is lost any more, so nobody can know of it.
            self.tainted = True
        if any(each.task is task for each in self.live()):
            # Whoever is still at work on it may be reading its source just now.
            names = task.names or frozenset()
        writer = Writer(task, frozenset(names), faults)
        self._write_users(task, writer.names)
        self.writers.append(writer)
        Process(self.kernel, writer, lambda: self._execute(writer))
        return writer

    def finish(self, writer: Writer, *, within: float = 14 * DAY) -> None:
        """Let time pass until a try has ended."""
        until = self.kernel.now + within
        self.kernel.run(lambda: writer.ended, until=until)
        if not writer.ended:
            self.violations.append("a try does not end")
        self.clean_up()

    def live(self) -> list[Writer]:
        """Return the tries that go on."""
        return [writer for writer in self.writers if not writer.ended]

    def wait(self, seconds: float) -> None:
        """Let time pass for all."""
        self.kernel.wait(seconds)
        self.clean_up()

    def clean_up(self) -> None:
        """Take the dead out of the way: their threads do nothing any more."""
        for writer in [each for each in self.writers if each.dead and not each.ended]:
            writer.end()
            writer.ended = True
            self._catch_up(writer)

    def lose(self, entry_id: str) -> None:
        """Delete all files of an entry."""
        for path in self.folder.rglob(f"{entry_id}.*"):
            path.unlink()
        self.shadow.lose(entry_id)
        self.lost.add(entry_id)
        self.lost_people = True
        self.lost_rows |= self.meta.rows | self.meta.coming
        self.equal_to = None

    def drop_out(self, names: Iterable[str]) -> None:
        """Let people drop out of the audience, as its retention has it."""
        self.equal_to = None
        self.meta.rows -= people.rows(names)

    def named_entries(self) -> set[str]:
        """Return the entries that are not retired and that another entry or XCom names."""
        return self._told(len(self.tasks)) & self.shadow.outstanding.keys()

    def _told(self, number: int) -> set[str]:
        """Return the entries that a run of some number could hear of."""
        told = {each for entry in self.shadow.entries.values() if entry.opened for each in entry.opened["reads"]}
        manifest = self.manifest_before(number)
        return told | {each["id"] for each in (manifest["outstanding"] if manifest else ())}

    def manifest_before(self, number: int) -> dict[str, Any] | None:
        """Return what XCom gives to a run: the manifest of the last one not after it."""
        key = f"fbca_upload:{self.meta.audience_id}"
        runs = sorted(each for each, pushed in self.xcom.items() if each <= number and key in pushed)
        return self.xcom[runs[-1]][key] if runs else None

    def settled(self, writer: Writer) -> None:
        """Take in that a refresh has written that all is done, whether or not it lives to say so."""
        writer.overdue = self._is_overdue()
        if writer.rows <= writer.added:
            self.sent_all_at = self.kernel.now

    def _is_overdue(self) -> bool:
        return self.kernel.now - self.sent_all_at > 7 * DAY + 3600

    # -- one try -----------------------------------------------------------------------------------------------------

    def _execute(self, writer: Writer) -> None:
        task = writer.task
        # Each try is a process of its own, which knows of no limit that another has met.
        forget_budgets()

        def users() -> Any:
            self.kernel.wait(2.0)
            return people.table(writer.names)

        operator = OPERATORS[task.kind](
            task_id="send",
            audience_id=self.meta.audience_id,
            ledger_uri=f"file://{self.folder / 'ledger'}",
            **({"users_uri": f"file://{self._file_of(task)}"} if task.from_file else {"users_callable": users}),
            max_concurrency=1,
            hashed={"EMAIL": True, "PHONE": True},
            **({"min_rows": 0} | task.options),
        )
        operator.__dict__.update(hook=self._hook(), _cached_logger=_QUIET)
        try:
            writer.result = operator.execute({"ti": TaskInstance(self, writer)})
        except Crash:
            raise
        except FbcaError as error:
            writer.error = error
        except Exception as error:  # noqa: BLE001 - AirflowFailException, or a fault of the model itself
            writer.error = error
            if type(error).__name__ != "AirflowFailException":
                self.violations.append(f"{type(error).__name__}: {error}")
        else:
            self._succeeded(writer)
        finally:
            writer.ended = not writer.dead
            if writer.ended:
                self._catch_up(writer)
                self._end_excuse(writer)

    def _catch_up(self, writer: Writer) -> None:
        """Let Meta apply what it has acknowledged to a writer: nothing is promised while it lags behind (rule S4)."""
        for apply in list(writer.lagging):
            apply()

    def _end_excuse(self, writer: Writer) -> None:
        """Excuse a writer no longer that slept through its lease: it has said so, or could have (rule S8)."""
        could_not = any(fault.place == "write" and fault.how == "refused" for fault in writer.faults.values())
        if writer in self.unsaid and not could_not:
            self.unsaid.remove(writer)
            self.excused -= writer.rows
            self.check_known()

    def _file_of(self, task: Task) -> Path:
        return self.folder / f"users-{task.number}.parquet"

    def _write_users(self, task: Task, names: frozenset[str]) -> None:
        """Let the task's query give other rows, or leave the file as it is where it gives the same."""
        if task.from_file and task.names != names:
            pq.write_table(people.table(names), self._file_of(task))
        task.names = names

    def _hook(self) -> FacebookCustomAudienceHook:
        hook = FacebookCustomAudienceHook()
        credentials = Credentials("token", ad_account_id=self.meta.account_id, timeout=TIMEOUT)
        api = GraphApi(access_token="token", timeout=TIMEOUT)
        api._transport = Wire(self)
        # The model knows nothing of tokens.
        hook.__dict__.update(credentials=credentials, _api=api, check_token=lambda: None)
        return hook

    # -- places where something may go wrong -------------------------------------------------------------------------

    def fault_at(self, place: str) -> tuple[Writer | None, Fault | None]:
        """Count a place and return who is there, and what goes wrong.

        :raises Crash: where the writer is dead.
        """
        process = current()
        if process is None:
            return None, None
        writer = process.owner
        assert isinstance(writer, Writer)
        if writer.dead:
            raise Crash
        writer.counts[place] += 1
        fault = writer.faults.get((place, writer.counts[place]))
        if fault and fault.lasting:
            writer.faults[place, writer.counts[place] + 1] = fault
        return writer, fault

    def die(self, writer: Writer) -> None:
        """Kill a writer at once.

        :raises Crash: always.
        """
        writer.dead = True
        self.kernel.after(0.0, self.clean_up)
        raise Crash

    def freeze(self, writer: Writer, seconds: float) -> None:
        """Stop all threads of a writer for a while."""
        writer.frozen_until = self.kernel.now + seconds
        self.kernel.wait(0.0)

    def exchange(self, request: Request) -> Answer:
        """Carry a request to Meta, or not, and its answer back, or not."""
        sends = request.place.write
        writer, fault = self.fault_at("request" if sends else "read")
        assert writer is not None
        how = fault.how if fault else "answered"
        seconds = fault.seconds if fault else 0.0
        if sends:
            self.equal_to = None
        self.kernel.wait(0.5)
        if how in {"freeze", "freeze late"}:
            self.freeze(writer, seconds)
            if seconds > FROZEN and sends:
                self._woke(writer, request)
        if how.startswith("crash"):
            self._crash(writer, request, how, seconds)
        if how == "refused":
            return _answer(400, {"error": {"message": "no", "code": 100, "fbtrace_id": "A"}})
        if how in {"lost", "landed", "late", "freeze late"}:
            self._give_up(writer, request, how, LATEST if how == "freeze late" else seconds)
        if how == "lag" and request.method == "DELETE":
            return _answer(*self._lag(writer, request, seconds))
        status, answer = self._land(writer, request)
        self.kernel.wait(0.5)
        if how == "freeze after":
            self.freeze(writer, seconds)
        return _answer(status, answer)

    def _crash(self, writer: Writer, request: Request, how: str, seconds: float) -> None:
        """Kill a writer at a request that has not left, or has been carried out, or will land later."""
        if how == "crash after":
            self._land(writer, request)
        if how == "crash late":
            self.kernel.after(seconds, lambda: self._land(writer, request, late=True))
        self.die(writer)

    def _give_up(self, writer: Writer, request: Request, how: str, seconds: float) -> None:
        """Let a request get no answer.

        :raises GraphTransientError: always.
        """
        if how == "landed":
            self._land(writer, request)
        elif how != "lost":
            self.kernel.after(TIMEOUT + seconds, lambda: self._land(writer, request, late=True))
        self.kernel.wait(TIMEOUT)
        raise GraphTransientError("no answer", outcome_unknown=request.place.write)

    @contextmanager
    def ledger_write(self, name: str) -> Iterator[None]:
        """Surround a write to the ledger with what goes wrong there."""
        writer, fault = self.fault_at("lease" if "lease" in name else "write")
        how = fault.how if fault else "done"
        if writer:
            self.kernel.wait(0.05)
        if how == "crash before":
            self.die(writer)
        if how == "freeze":
            self.freeze(writer, fault.seconds)
        if how == "refused":
            error = LedgerPlaceError("the store refuses")
            error.permanent = False
            raise error
        yield
        if how == "crash after":
            self.die(writer)
        if how == "freeze after":
            self.freeze(writer, fault.seconds)

    def _lag(self, writer: Writer, request: Request, seconds: float) -> tuple[int, dict[str, Any]]:
        """Acknowledge a removal now and apply it later (rule S4); refuse it at once."""
        rows = _rows(request)
        try:
            self.meta.take_change()
            self.meta.refuse_removal(rows)
        except RefusedError:
            return self._land(writer, request)

        def apply() -> None:
            if apply in writer.lagging:
                writer.lagging.remove(apply)
                self.leaving.remove(rows)
                self.lagged |= self.meta.matching(rows)
                self.meta.remove(rows)

        writer.lagging.append(apply)
        self.leaving.append(rows)
        self.kernel.after(seconds, apply)
        self._acknowledged(writer, request)
        return 200, {"session_id": "1", "num_received": len(rows), "num_invalid_entries": 0}

    def _land(self, writer: Writer, request: Request, *, late: bool = False) -> tuple[int, dict[str, Any]]:
        self._landing = (writer, late)
        if request.place.write and not late:
            self._before_request(writer, request)
        try:
            status, answer = self.meta.answer(request.method, request.url, request.body)
        finally:
            self._landing = None
        if status == 200 and request.place.write:
            self._acknowledged(writer, request)
        return status, answer

    def _woke(self, writer: Writer, request: Request) -> None:
        """Note that a writer wakes up so late that another may be at work: rule S8 until it has said so."""
        writer.zombie = True
        self.unsaid.append(writer)
        self.equal_to = None
        if request.method == "POST":
            self.excused |= _rows(request)
        for each in self.live():
            each.disturbed = each.disturbed or each is not writer

    # -- what must be true -------------------------------------------------------------------------------------------

    def _before_request(self, writer: Writer, request: Request) -> None:
        """Check the order of requests, and take the measure of the floor that a delta keeps."""
        for each in self.live():
            each.disturbed = each.disturbed or (each.settled and each is not writer)
        if writer.opened is None or not request.url.endswith("/users"):
            return
        entry = self.shadow.entries[writer.opened]
        if entry.opened is None or entry.rows is None:
            return
        before = {
            row
            for name in entry.opened["reads"]
            for row in self.shadow.entries[name].rows or ()
            if self.shadow.entries[name].adds
        }
        is_add = request.method == "POST"
        if (
            writer.strategy == "delete_insert"
            and is_add
            and not before <= writer.task.removed.get(writer.opened, set())
        ):
            self.violations.append("delete_insert: an add before the last removal was acknowledged")
        if writer.strategy == "delta" and writer.floor is None:
            around = connected(before - entry.rows, before | self.meta.rows | entry.rows, self.meta.manners.links)
            writer.floor = frozenset(self.meta.rows & entry.rows - around)

    def _acknowledged(self, writer: Writer, request: Request) -> None:
        rows = _rows(request)
        if request.url.endswith("replace") and writer.strategy != "replace":
            return
        if request.method == "POST":
            writer.added |= rows
            writer.added_last |= rows
        else:
            writer.added_last.clear()
            writer.task.removed.setdefault(writer.opened or "", set()).update(rows)

    def _changed(self) -> None:
        """Check what must be true at every instant: Meta has just changed who is in."""
        rows = self.meta.rows
        self.check_known()
        writer, late = self._landing or (None, True)
        if writer and not late:
            if writer.floor is not None and not writer.disturbed and not writer.zombie and not writer.floor <= rows:
                lost = people.named(writer.floor - rows)
                self.violations.append(f"delta: {lost}, who stay, are out for a while")
        elif self.equal_to is not None and writer not in self.unsaid:
            self._check_equal(*self.equal_to, "something that landed late undid a refresh that had succeeded")

    def check_known(self) -> None:
        """Check that the ledger knows everybody who is in."""
        if self.tainted or self.unsaid:
            return
        unknown = self.meta.rows - self.shadow.known - self.strangers - self.excused - self.lost_rows
        for rows in self.leaving:
            unknown -= rows
        if unknown:
            self.violations.append(f"{people.named(unknown)} are in the audience and the ledger does not know them")

    def _check_equal(self, rows: frozenset[Row], may_lack: Iterable[Row], told: str) -> None:
        missing, extra = rows - self.meta.rows - frozenset(may_lack), self.meta.rows - rows
        if missing or extra:
            self.violations.append(f"{told}: {people.named(missing)} missing, {people.named(extra)} too many")

    def _succeeded(self, writer: Writer) -> None:
        """Check what a try that succeeded promises."""
        self.successes += 1
        task = writer.task
        if writer.zombie:
            self.violations.append("a writer succeeded that had slept through its lease")
        if task.kind != "refresh":
            return
        rows = writer.rows
        if writer.opened and not writer.disturbed and rows != self.shadow.entries[writer.opened].rows:
            self.violations.append(f"{people.named(rows)} were to be sent, not those of {writer.opened} (L10)")
        if not rows and not task.options.get("allow_empty"):
            self.violations.append("a source without a row has emptied the audience (S7)")
        self._catch_up(writer)
        full = rows <= writer.added_last
        overdue = self._is_overdue() if writer.overdue is None else writer.overdue
        if writer.strategy == "replace":
            self.tainted = False
            self.unsaid = [each for each in self.unsaid if not each.ended]
            self.excused.clear()
            self.lost_rows.clear()
            self.strangers.clear()
            self.lost -= self._told(task.number)
            self.lost_people = False
        elif self.lost_people and not self.tainted:
            self.violations.append(f"a refresh by {writer.strategy} succeeded with a part of the ledger lost (L7)")
        if self.tainted or self.unsaid or writer.disturbed:
            return
        may_lack, self.lagged = self.lagged, frozenset()
        if not full and not overdue:
            may_lack |= self.meta.lost_by_links
        self._check_equal(rows, may_lack, f"after a refresh by {writer.strategy} that succeeded")
        self.equal_to = (rows, frozenset(may_lack))


class Wire:
    """Stands in for the client's transport."""

    timeout = TIMEOUT
    longest_flight = TIMEOUT + 30.0

    def __init__(self, world: World) -> None:
        self._world = world

    def exchange(self, request: Request) -> Answer:
        try:
            return self._world.exchange(request)
        except GraphTransientError:
            raise
        except Exception:  # noqa: BLE001 - a fault of the model, which the operators would take for one of Meta's
            self._world.violations.append(f"the model is broken: {traceback.format_exc()}")
            raise Crash from None

    def close(self) -> None:
        pass


class TaskInstance:
    """As much of a task instance as the operators use."""

    dag_id, task_id, map_index = "audiences", "send", -1

    def __init__(self, world: World, writer: Writer) -> None:
        self._world = world
        self._task = writer.task
        self.run_id = f"run-{writer.task.number}"
        self.try_number = writer.task.tries

    def xcom_push(self, key: str, value: Any) -> None:
        if self._task.kind == "refresh":
            self._world.xcom.setdefault(self._task.number, {})[key] = json.loads(json.dumps(value))

    def xcom_pull(self, **_options: Any) -> Any:
        return self._world.manifest_before(self._task.number)


def _rows(request: Request) -> set[Row]:
    return rows_of(json.loads(request.body or b"")["payload"])


def _answer(status: int, content: dict[str, Any]) -> Answer:
    return Answer(status, {}, json.dumps(content).encode())


@contextmanager
def watched_ledger(world_of: Callable[[], World]) -> Iterator[None]:
    """Let every write to the ledger pass through the world of the day."""
    create, put, delete = Store.create, Store.put, Store.delete

    def watched_create(self: Store, name: str, content: bytes) -> None:
        world = world_of()
        with world.ledger_write(name):
            create(self, name, content)
            _note(world, name, content)

    def watched_put(self: Store, name: str, source: Path) -> None:
        world = world_of()
        with world.ledger_write(name):
            put(self, name, source)
            _note(world, name, source)

    def watched_delete(self: Store, name: str) -> None:
        world = world_of()
        with world.ledger_write(name):
            delete(self, name)
            wrong = world.shadow.deleted(name)
            if wrong:
                world.violations.append(wrong)

    Store.create, Store.put, Store.delete = watched_create, watched_put, watched_delete
    try:
        yield
    finally:
        Store.create, Store.put, Store.delete = create, put, delete


def _note(world: World, name: str, content: bytes | Path) -> None:
    world.shadow.written(name, content)
    process = current()
    if process is not None and name.endswith((".open.json", ".json")) and "lease" not in name:
        writer = process.owner
        assert isinstance(writer, Writer)
        entry_id = name.partition(".")[0]
        if name.endswith(".open.json") and writer in world.unsaid:
            world.unsaid.remove(writer)
            world.excused -= writer.rows
        else:
            writer.opened = entry_id
            writer.settled = name.endswith(".settled.json")
            if writer.settled and writer.task.kind == "refresh":
                world.settled(writer)
    world.check_known()
