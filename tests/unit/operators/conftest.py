"""The operators as a task runs them, against a local Graph API, with a ledger on disk and XCom in a dictionary."""

from __future__ import annotations

import json
import logging
import os
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from airflow.sdk import ObjectStoragePath
from operator_tools import KILLS, OPERATORS, FakeTaskInstance
from witness import Witness

from airflow_provider_fbca.compat import AirflowFailException
from airflow_provider_fbca.graph.throttle import forget_budgets
from airflow_provider_fbca.ledger import AudienceLedger
from airflow_provider_fbca.ledger.lease import boot_clock
from airflow_provider_fbca.sandbox.audience import Audience
from airflow_provider_fbca.sandbox.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from operator_tools import TaskDeferred
    from witness import Member


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves it to the kernel when files get to the disk: a killed process loses nothing that the kernel has."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def _kills(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """Tells the test run how many children of the test were killed."""
    KILLS.clear()
    yield
    if KILLS:
        record_property("kills", len(KILLS))


@pytest.fixture(autouse=True)
def waits(_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Lets a task's waits pass at once, on the clocks of its lease and the sandbox too, and gives their seconds.

    Those for a lease that a dead task has left are not among them.
    """
    from airflow_provider_fbca.operators.run import AudienceRun

    waited: list[float] = []
    passed = 0.0

    def pause(self: AudienceRun, seconds: float) -> None:
        nonlocal passed
        self._go_on()
        passed += seconds
        if self._lease:
            waited.append(seconds)
            self._lease.renew()
        _sandbox.advance(seconds)

    monkeypatch.setattr(AudienceRun, "_pause", pause)
    # Whoever waits for a lease need not look every other second.
    monkeypatch.setattr("airflow_provider_fbca.ledger.lease._LOOK_SECONDS", 60.0)
    take = AudienceLedger.lease
    clocked = {"clock": lambda: boot_clock() + passed}
    monkeypatch.setattr(AudienceLedger, "lease", lambda *args, **options: take(*args, **options | clocked))
    return waited


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not pause between its tries."""
    from airflow_provider_fbca.graph.delivery import Delivery

    monkeypatch.setattr(Delivery, "_pause", lambda self, seconds: None)


@pytest.fixture
def audience(sandbox: Any) -> str:
    return sandbox.create_audience()


@pytest.fixture
def ledger_folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def xcom() -> dict[str, Any]:
    """What the task's XCom holds."""
    return {}


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of temporary files, in memory where there is one: a disk takes longer to delete spill than a task."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with TemporaryDirectory(dir=memory, prefix="fbca-tests-") as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        yield Path(folder)


@pytest.fixture
def run(audience: str, ledger_folder: Path, xcom: dict[str, Any], scratch: Path) -> Callable[..., Any]:
    """Runs an operator once: ``run("refresh", table, **options)``; or, after it was put off, goes on with it."""

    def execute(kind: str, users: Any = None, *, after: TaskDeferred | None = None, **options: Any) -> Any:
        options = {"audience_id": audience, "ledger_uri": f"file://{ledger_folder}"} | options
        if users is not None:
            options["users_callable"] = users if callable(users) else lambda: users
        operator = OPERATORS[kind](task_id="send", **options)
        before = set(scratch.rglob("task-*"))
        context = {"ti": FakeTaskInstance(xcom)}
        # Each would be a process of its own, which knows of no limit that another has met.
        forget_budgets()
        try:
            if after is None:
                return operator.execute(context)
            # Between the two processes Airflow keeps the arguments in its database.
            left = json.loads(json.dumps(after.kwargs)) | {"event": None}
            return operator.resume_execution(after.method_name, left, context)
        finally:
            assert set(scratch.rglob("task-*")) <= before

    return execute


@pytest.fixture
def members(sandbox: Any, audience: str) -> Callable[..., Any]:
    """Gives the e-mail digests that the audience holds, sorted."""
    return lambda: sorted(row["EMAIL"] for row in sandbox.members(audience))


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch, ledger_folder: Path, audience: str) -> Iterator[Witness]:
    """Looks before and after everything that the sandbox does: each request, and whatever falls due."""
    witness = Witness(ledger_folder / audience)

    def watch(owner: type, name: str, audiences: Callable[[Any], Iterable[Audience]]) -> None:
        act = getattr(owner, name)

        def watched(self: Any, *args: Any) -> Any:
            for each in audiences(self):
                witness.look(each, f"before {name}")
            result = act(self, *args)
            for each in audiences(self):
                witness.look(each, f"after {name}")
            return result

        monkeypatch.setattr(owner, name, watched)

    watch(World, "tick", lambda world: list(world.audiences.values()))
    for change in ("_apply", "_finish_replace"):
        watch(Audience, change, lambda audience: [audience])
    yield witness
    assert witness.looks
    assert witness.seen == []


@pytest.fixture
def in_audience(sandbox: Any, audience: str) -> Callable[[], set[Member]]:
    return lambda: {frozenset(row.items()) for row in sandbox.members(audience)}


@pytest.fixture
def history(ledger_folder: Path, audience: str) -> Callable[..., Any]:
    return lambda: AudienceLedger(ObjectStoragePath(f"file://{ledger_folder}"), audience).history()


@pytest.fixture
def files(ledger_folder: Path) -> Callable[[], list[str]]:
    """Gives the names of all files of the ledger but those of its lease."""

    def names() -> list[str]:
        found = (path.name for path in ledger_folder.rglob("*") if path.is_file())
        return sorted(name for name in found if not name.endswith(".lease.json"))

    return names


@pytest.fixture
def writes(sandbox: Any) -> Callable[[], list[str]]:
    """Gives the calls so far that sent people."""
    return lambda: [each["operation"] for each in sandbox.requests() if each["operation"].endswith("_users")]


@pytest.fixture
def refused(writes: Any, files: Any) -> Callable[..., str]:
    """Checks that a run fails for good, before anything is marked or sent, and gives the error's text."""

    def check(execute: Callable[[], Any], *told: str, kind: type[Exception] = AirflowFailException) -> str:
        before = writes(), files()
        with pytest.raises(kind) as caught:
            execute()
        text = str(caught.value)
        for part in told:
            assert part in text
        assert (writes(), files()) == before
        return text

    return check


@pytest.fixture
def everything_told(caplog: Any, capfd: Any) -> Iterator[Callable[..., str]]:
    """Gives all that a failure shows: its traceback, what it hangs on to, and the logs of every logger at DEBUG."""
    caplog.set_level(logging.DEBUG)
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))

    def collect(error: BaseException | None) -> str:
        parts = []
        seen: list[BaseException] = []
        while error is not None and error not in seen:
            seen.append(error)
            parts += ["".join(traceback.format_exception(error)), repr(error.args), repr(vars(error))]
            error = error.__cause__ or error.__context__
        printed = capfd.readouterr()
        records = [repr(vars(record)) for record in caplog.records]
        return "\n".join([*parts, caplog.text, *records, printed.out, printed.err])

    yield collect
    structlog.configure(wrapper_class=before)
