"""Each fault of Meta's at each operation: the audience ends exactly right, or the task fails as documented.

``tests/fault_matrix.py`` has the table of what is promised, and prints the matrix of what came of it.
"""

from __future__ import annotations

import json
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fault_matrix
import pyarrow.parquet as pq
import pytest
from operator_tools import OPERATORS, FakeTaskInstance
from witness import as_members, person, query

from airflow_provider_fbca.compat import AirflowFailException
from airflow_provider_fbca.exceptions import FbcaError
from airflow_provider_fbca.graph.api import GraphApi
from airflow_provider_fbca.graph.errors import RULES
from airflow_provider_fbca.graph.retry import RetryPolicy
from airflow_provider_fbca.graph.throttle import forget_budgets
from airflow_provider_fbca.graph.upload import UserUploader
from airflow_provider_fbca.operators import rim
from airflow_provider_fbca.operators.custom_audience import FacebookCreateCustomAudienceOperator
from airflow_provider_fbca.sandbox.faults import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fault_matrix import Cell
    from witness import Person

REFRESHES = ("delta", "delete_insert", "replace")
# Who leaves shares a phone number with somebody who stays, so that the latter is added again.
SHARED = {"a": 1, "d": 1, "i": 2, "h": 2}
OLD, NEW, LEAVING, OTHER = (
    [person(name, SHARED.get(name)) for name in names] for names in ("abcdef", "defghi", "bcexyz", "aehjk")
)
SENT = {"upload": NEW, "remove": LEAVING, **dict.fromkeys(REFRESHES, NEW)}
EXPECTED: dict[str, list[Person]] = {
    "upload": [*OLD, *NEW],
    "remove": [each for each in OLD if each not in LEAVING],
    **dict.fromkeys(REFRESHES, NEW),
}
#: When a call lands whose answer was given up, in timeouts: not long before the longest flight is over.
LATE = 1.5
#: Longer than Meta needs for anything.
SETTLED_SECONDS = 3 * 3600
ANSWER_SECONDS = 20.0
CONCURRENCY = 2
NAME = "Made by a task"


@dataclass
class Tasks:
    """Runs tasks on one audience, each as Airflow would run a try of it.

    :param audience: its id.
    :param ledger: folder of the ledger.
    :param file: where the rows of a run lie.
    :param scratch: folder of temporary files.
    :param noted: the errors that came to the rim, as they were before Airflow's own took their place.
    :param xcom: of the task that sends.
    :param returned: what the last task returned.
    """

    audience: str
    ledger: Path
    file: Path
    scratch: Path
    noted: list[FbcaError]
    xcom: dict[str, Any] = field(default_factory=dict)
    returned: Any = None

    def send(self, operation: str, rows: list[Person], **owner: Any) -> FbcaError | None:
        """Run an operation that sends people; returns the error of this package that it failed with."""
        pq.write_table(query(rows), self.file)
        kind = "refresh" if operation in REFRESHES else operation
        strategy = {"strategy": operation} if kind == "refresh" else {}
        operator = OPERATORS[kind](
            task_id="send",
            audience_id=self.audience,
            users_uri=f"file://{self.file}",
            ledger_uri=f"file://{self.ledger}",
            batch_size=2,
            max_concurrency=CONCURRENCY,
            **strategy,
        )
        return self._outcome(operator, **owner)

    def create(self, **owner: Any) -> FbcaError | None:
        """Find or create an audience."""
        return self._outcome(FacebookCreateCustomAudienceOperator(task_id="create", name=NAME), **owner)

    def _outcome(self, operator: Any, **owner: Any) -> FbcaError | None:
        ti = FakeTaskInstance(self.xcom)
        vars(ti).update(owner)
        # Each would be a process of its own, which knows of no limit that another has met.
        forget_budgets()
        raised: Exception | None = None
        try:
            self.returned = operator.execute({"ti": ti})
        except (FbcaError, AirflowFailException) as error:
            raised = error
        assert not list(self.scratch.rglob("task-*"))
        noted = self.noted.pop() if self.noted else None
        assert not self.noted
        assert str(raised) == str(noted)
        # Airflow retries all but this.
        assert isinstance(raised, AirflowFailException) == bool(noted and noted.permanent)
        return noted


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[FbcaError]:
    """The errors that come to the rim."""
    seen: list[FbcaError] = []
    original = rim.without_values

    @contextmanager
    def noting(what: str) -> Iterator[None]:
        try:
            with original(what):
                yield
        except FbcaError as error:
            seen.append(error)
            raise

    monkeypatch.setattr(rim, "without_values", noting)
    return seen


@pytest.fixture
def connect(sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the connection's timeout."""

    def set_timeout(seconds: float) -> None:
        connection = json.loads(sandbox.connection_json)
        connection["extra"]["timeout"] = seconds
        monkeypatch.setenv("AIRFLOW_CONN_FBCA_DEFAULT", json.dumps(connection))

    set_timeout(ANSWER_SECONDS)
    return set_timeout


@pytest.fixture
def tasks(
    sandbox: Any,
    audience: str,
    ledger_folder: Path,
    tmp_path: Path,
    noted: list[FbcaError],
    connect: Callable[[float], None],
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Tasks:
    """Runs tasks whose pauses pass at once, on the clocks of the client and the sandbox."""
    passed = 0.0

    def sleep(seconds: float) -> None:
        nonlocal passed
        passed += seconds
        sandbox.advance(seconds)

    def clock() -> float:
        return time.monotonic() + passed

    for kind in (GraphApi, UserUploader):
        monkeypatch.setitem(kind.__init__.__kwdefaults__, "clock", clock)
    policy = partial(RetryPolicy, attempts=3, sleep=sleep)
    monkeypatch.setattr("airflow_provider_fbca.graph.api.RetryPolicy", policy)
    monkeypatch.setattr("airflow_provider_fbca.graph.transport.MAX_ANSWER_BYTES", fault_matrix.MAX_ANSWER_BYTES)
    return Tasks(audience, ledger_folder, tmp_path / "users.parquet", scratch, noted)


@pytest.fixture(scope="module")
def past() -> dict[str, tuple[Path, dict[str, Any]]]:
    """Audience -> the ledger and XCom that its old rows have led to."""
    return {}


@pytest.fixture
def begun(tasks: Tasks, past: Any, sandbox: Any, tmp_path_factory: pytest.TempPathFactory) -> Tasks:
    """Tasks whose audience has the old rows already."""
    if tasks.audience in past:
        ledger, xcom = past[tasks.audience]
        shutil.copytree(ledger, tasks.ledger)
        tasks.xcom |= xcom
        sandbox.seed(tasks.audience, [dict(member) for member in as_members(OLD)])
    else:
        assert tasks.send("delta", OLD) is None
        kept = shutil.copytree(tasks.ledger, tmp_path_factory.mktemp("past") / "ledger")
        past[tasks.audience] = kept, dict(tasks.xcom)
    return tasks


@pytest.mark.parametrize("operation", fault_matrix.SENDING)
def test_a_run_without_a_fault_sends_as_many_requests_as_the_table_says(begun, in_audience, writes, operation):
    before = len(writes())
    assert begun.send(operation, SENT[operation]) is None
    assert len(writes()) - before == fault_matrix.REQUESTS[operation]
    assert in_audience() == as_members(EXPECTED[operation])


@pytest.fixture
def outcome_of(sandbox: Any, connect: Callable[[float], None], record_property: Any) -> Callable[..., FbcaError | None]:
    """Runs a task under the fault of a cell, notes what came of it for the matrix, and compares it with the promise."""

    def check(cell: Cell, task: Callable[[], FbcaError | None], **target: Any) -> FbcaError | None:
        count = 1 if cell.often == "once" else 1000
        options = {"when": cell.when, "lands_after": LATE * cell.case.timeout, "nth": cell.nth, "count": count}
        sandbox.fault(**target | options | cell.case.fault)
        connect(cell.case.timeout)
        error = task()
        connect(ANSWER_SECONDS)
        sandbox.clear_faults()
        outcome = type(error) if error else None
        record_property("cell", (cell.name, fault_matrix.word(outcome)))
        assert outcome is cell.promised
        struck = sum(each["fault"] == cell.case.fault["kind"] for each in sandbox.requests())
        assert struck
        # What fails where it is struck once is not tried again: it cannot help, or must not be sent twice.
        if cell.case.outcome(cell.operation, "once"):
            assert struck <= cell.case.fault.get("count", 1 if cell.operation in {"create", "checks"} else CONCURRENCY)
        return error

    return check


SENDING, CREATING = [], []
for _cell in fault_matrix.cells():
    (CREATING if _cell.operation == "create" else SENDING).append(_cell)


@pytest.mark.matrix
@pytest.mark.parametrize("cell", SENDING, ids=lambda cell: cell.name)
def test_people_are_exactly_right_or_the_task_fails_as_promised(
    begun, sandbox, in_audience, history, witness, outcome_of, cell
):
    operation = "delta" if cell.operation == "checks" else cell.operation
    # What Meta says about the token is looked at as well, but not needed.
    target = {"path": r"/(act_)?\d+$"} if cell.operation == "checks" else {"path": "/users"}
    before = history()
    error = outcome_of(cell, lambda: begun.send(operation, SENT[operation]), **target)
    if error is None:
        assert all(entry.settled for entry in history().entries)
        assert in_audience() == as_members(EXPECTED[operation])
    elif cell.operation == "checks":
        assert history() == before
    else:
        *_, newest = history().outstanding
        assert newest.id not in {entry.id for entry in before.entries}
        assert not newest.settled
    if error and not error.permanent:
        assert begun.send(operation, SENT[operation], try_number=2) is None
        assert in_audience() == as_members(EXPECTED[operation])
    assert begun.send(REFRESHES[cell.nth % 3], OTHER, run_id="run-2") is None
    assert in_audience() == as_members(OTHER)
    sandbox.advance(SETTLED_SECONDS)
    assert in_audience() == as_members(OTHER)
    assert len(history().exposure) == 1


@pytest.mark.matrix
@pytest.mark.parametrize("cell", CREATING, ids=lambda cell: cell.name)
def test_there_is_one_audience_or_the_task_fails_as_promised(tasks, sandbox, outcome_of, cell):
    def made() -> list[str]:
        return [each["id"] for each in sandbox.audiences() if each["name"] == NAME]

    error = outcome_of(cell, tasks.create, operation="create_audience")
    assert len(made()) <= 1
    # Airflow waits for minutes before it tries again; by then Meta has done what it was to do.
    sandbox.advance(LATE * cell.case.timeout)
    if error is None:
        assert [tasks.returned] == made()
    for try_number in (2, 3):
        assert tasks.create(try_number=try_number) is None
        assert [tasks.returned] == made()


def test_the_document_shows_what_is_promised():
    document = (Path(fault_matrix.__file__).parent.parent / "docs" / "faults.md").read_text()
    assert fault_matrix.promised() in document


def test_every_kind_of_fault_and_every_kind_of_error_is_in_the_matrix():
    assert {case.fault["kind"] for case in fault_matrix.CASES} == KINDS.keys()
    outcomes = {cell.promised for cell in fault_matrix.cells()}
    assert outcomes >= {rule.error for rule in RULES}
