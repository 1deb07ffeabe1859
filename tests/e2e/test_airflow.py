"""The whole way through real Airflow processes: after each history, the audience holds exactly the query's rows.

One Airflow per metadata database, since the two order a task's earlier XComs differently.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import sqlite3
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow_process import Airflow, running
from people import KEYS, Person, hashed_rows, held_rows, person
from servers import postgres, sqlalchemy_url

from airflow_provider_fbca.sandbox import Settings
from airflow_provider_fbca.sandbox.settings import Token
from airflow_provider_fbca.sandbox.testing import Sandbox, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

EXAMPLES = Path(__file__).parents[2] / "dags_examples"
TOKEN = "EAABe2eTokenOfNobody0123456789abcdefXYZ"
SECRET = "e2e0secret0of0nobody0123456789ab"
ACCOUNT = "100000000000001"

#: A refresh that somebody triggers; what differs between the DAGs is filled in.
MANUAL = """
import os
from datetime import datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG

from airflow_provider_fbca.operators.custom_audience import FacebookRefreshAudienceOperator


def note_process(context):
    Path("{folder}/task.pid").write_text(str(os.getpid()))


with DAG("{dag_id}", schedule=None, start_date=datetime(2025, 1, 1), max_active_runs=1):
    FacebookRefreshAudienceOperator(
        task_id="refresh",
        audience_id="{audience_id}",
        sql="SELECT email, phone, first_name, last_name, city, zip, country FROM active_customers",
        sql_conn_id="{dag_id}",
        batch_size=5,
        max_concurrency=1,
        retries={retries},
        retry_delay=timedelta(seconds=1),
        on_execute_callback=note_process,
    )
"""


@dataclass
class Case:
    """A DAG with an audience and a warehouse of its own."""

    dag_id: str
    audience_id: str
    folder: Path
    everyone: set[Person] = field(default_factory=set)
    people: list[Person] = field(default_factory=list)

    @property
    def connection(self) -> str:
        return json.dumps({"conn_type": "sqlite", "host": str(self.folder / "warehouse.db")})

    def fill(self, *people: Person) -> None:
        """Make the warehouse hold these people and nobody else."""
        self.everyone |= set(people)
        self.people = list(people)
        columns = ", ".join(KEYS)
        marks = ", ".join("?" * len(KEYS))
        with closing(sqlite3.connect(self.folder / "warehouse.db")) as warehouse, warehouse:
            warehouse.execute(f"CREATE TABLE IF NOT EXISTS active_customers ({columns})")
            warehouse.execute("DELETE FROM active_customers")
            rows = [one.values() for one in people]
            warehouse.executemany(f"INSERT INTO active_customers ({columns}) VALUES ({marks})", rows)


@dataclass
class Stage:
    """An Airflow with its sandbox, ledger and DAGs."""

    folder: Path
    airflow: Airflow
    sandbox: Sandbox
    cases: dict[str, Case]
    stop: Callable[[], None]
    dump: Callable[[], Iterator[tuple[str, bytes]]]

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    def assert_equal(self, case: Case) -> None:
        """The audience holds exactly the rows of the query."""
        held = held_rows(self.sandbox.members(case.audience_id))
        assert held == hashed_rows(case.people), self.airflow.last_words()

    def outstanding(self, case: Case) -> set[str]:
        """Ids of the ledger's entries that are not retired, by its files alone."""
        folder = self.ledger / case.audience_id
        opened = {path.name.removesuffix(".open.json") for path in folder.glob("*.open.json")}
        settled = [json.loads(path.read_text()) for path in folder.glob("*.settled.json")]
        return opened - {entry for marker in settled for entry in marker["supersedes"]}

    def assert_settled(self, case: Case, run_id: str) -> None:
        """Members, manifest and ledger agree that the newest entry is all there is."""
        self.assert_equal(case)
        manifest = self.airflow.xcom(case.dag_id, run_id, "refresh")
        assert manifest == self.airflow.xcom(case.dag_id, run_id, "refresh", f"fbca_upload:{case.audience_id}")
        newest = max(path.name for path in (self.ledger / case.audience_id).glob("*.open.json"))
        entry = newest.removesuffix(".open.json")
        assert manifest["entry"]["id"] == entry
        assert [each["id"] for each in manifest["outstanding"]] == [entry]
        assert manifest["rows"] == len(case.people)
        assert self.outstanding(case) == {entry}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp(request.param)
    home = folder / "airflow"
    (home / "dags").mkdir(parents=True)
    settings = Settings(tokens={TOKEN: Token(accounts=(ACCOUNT,))}, app_secret=SECRET)
    with ExitStack() as everything:
        sandbox = everything.enter_context(serve(settings))
        database, dump = everything.enter_context(_DATABASES[request.param](home))
        names = ("fbca_daily_refresh", "history", "killed_then_retried", "killed_for_good", "left_behind")
        cases = {name: _case(folder, name, sandbox) for name in names}
        sandbox.change(require_proof=True)
        _write_dags(home / "dags", cases)
        environment = {
            "AIRFLOW__FBCA__LEDGER_URI": f"file://{folder}/ledger",
            "AIRFLOW_CONN_FBCA_DEFAULT": sandbox.connection_json,
            "AIRFLOW_CONN_WAREHOUSE": cases["fbca_daily_refresh"].connection,
            "AIRFLOW_VAR_FBCA_AUDIENCE_ID": cases["fbca_daily_refresh"].audience_id,
            **{f"AIRFLOW_CONN_{name.upper()}": case.connection for name, case in cases.items()},
        }
        process = everything.enter_context(ExitStack())
        airflow = process.enter_context(running(home, database, environment, set(cases)))
        for name in cases.keys() - {"fbca_daily_refresh"}:
            airflow.set_paused(name, paused=False)
        yield Stage(folder, airflow, sandbox, cases, process.close, dump)


def test_example_on_a_schedule_keeps_the_audience_equal_to_the_query(stage: Stage) -> None:
    case = stage.cases["fbca_daily_refresh"]
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
        stage.airflow.wait_for(lambda known=known: _new_success(stage, case, known), "a scheduled run to succeed")
        stage.airflow.set_paused(case.dag_id, paused=True)
        stage.airflow.wait_for_quiet(case.dag_id)
        stage.assert_equal(case)
    runs = stage.airflow.runs(case.dag_id)
    assert {run["run_type"] for run in runs} == {"scheduled"}
    assert sum(run["state"] == "success" for run in runs) >= len(days)
    assert len(stage.outstanding(case)) == 1


def test_each_refresh_finds_what_was_sent_whatever_order_the_runs_come_in(stage: Stage) -> None:
    case = stage.cases["history"]
    dates = [None, "2025-11-10T00:00:00Z", "2025-11-05T00:00:00Z", None, "2025-11-12T00:00:00Z"]
    runs = []
    for number, date in enumerate(dates):
        case.fill(*(person(100 + number + offset) for offset in range(7)))
        run_id, state = stage.airflow.run(case.dag_id, logical_date=date)
        assert state == "success", stage.airflow.last_words()
        stage.assert_settled(case, run_id)
        runs.append(run_id)

    # The second batch of additions is refused: five people of this run are in the audience, and its manifest is not.
    stage.sandbox.fault("graph", operation="add_users", nth=2, code=100, status=400, is_transient=False)
    case.fill(*(person(200 + offset) for offset in range(12)))
    _, state = stage.airflow.run(case.dag_id)
    assert state == "failed"
    assert len(stage.sandbox.members(case.audience_id)) == 5
    assert len(stage.outstanding(case)) == 2

    case.fill(*(person(103 + offset) for offset in range(9)))
    run_id, state = stage.airflow.run(case.dag_id)
    assert state == "success", stage.airflow.last_words()
    stage.assert_settled(case, run_id)

    # Of a run cleared long after it, Airflow shows no later XCom.
    case.fill(*(person(107 + offset) for offset in range(6)))
    assert stage.airflow.clear(case.dag_id, runs[1]) == "success", stage.airflow.last_words()
    stage.assert_settled(case, runs[1])

    case.fill(*(person(100 + offset) for offset in range(3)))
    run_id, state = stage.airflow.run(case.dag_id)
    assert state == "success", stage.airflow.last_words()
    stage.assert_settled(case, run_id)


def test_task_killed_in_the_middle_is_made_good_by_its_retry(stage: Stage) -> None:
    case = stage.cases["killed_then_retried"]
    case.fill(*(person(300 + offset) for offset in range(7)))
    run_id, state = stage.airflow.run(case.dag_id)
    assert state == "success", stage.airflow.last_words()

    case.fill(*(person(304 + offset) for offset in range(13)))
    run_id = stage.airflow.trigger(case.dag_id)
    _kill_while_adding(stage, case)
    assert stage.airflow.wait_for_run(case.dag_id, run_id) == "success", stage.airflow.last_words()
    assert stage.airflow.tries(case.dag_id, run_id, "refresh") == 2
    stage.assert_settled(case, run_id)


def test_task_killed_for_good_is_made_good_by_the_next_run(stage: Stage) -> None:
    case = stage.cases["killed_for_good"]
    case.fill(*(person(400 + offset) for offset in range(7)))
    _, state = stage.airflow.run(case.dag_id)
    assert state == "success", stage.airflow.last_words()

    case.fill(*(person(410 + offset) for offset in range(13)))
    run_id = stage.airflow.trigger(case.dag_id)
    _kill_while_adding(stage, case)
    assert stage.airflow.wait_for_run(case.dag_id, run_id) == "failed"
    assert len(stage.outstanding(case)) == 2

    # Whoever only the killed run had added must go.
    case.fill(*(person(403 + offset) for offset in range(4)))
    run_id, state = stage.airflow.run(case.dag_id)
    assert state == "success", stage.airflow.last_words()
    stage.assert_settled(case, run_id)


def test_nothing_secret_or_personal_is_left_behind(stage: Stage) -> None:
    """Runs last, since it stops Airflow: its home, its database, the ledger and the temporary folder are searched."""
    case = stage.cases["left_behind"]
    case.fill(*(person(500 + offset) for offset in range(12)))
    _, state = stage.airflow.run(case.dag_id)
    assert state == "success"
    stage.sandbox.fault("graph", operation="add_users", nth=2, code=100, status=400, is_transient=False)
    case.fill(*(person(506 + offset) for offset in range(12)))
    _, state = stage.airflow.run(case.dag_id)
    assert state == "failed"
    run_id, state = stage.airflow.run(case.dag_id)
    assert state == "success"
    stage.assert_settled(case, run_id)
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
    snapshots = {path.name.removesuffix(".rows.parquet") for path in stage.ledger.rglob("*.parquet")}
    assert snapshots == set().union(*(stage.outstanding(each) for each in stage.cases.values()))
    assert {path.stat().st_mode & 0o077 for path in stage.ledger.rglob("*")} == {0}


def _new_success(stage: Stage, case: Case, known: set[str]) -> bool:
    runs = [run for run in stage.airflow.runs(case.dag_id) if run["dag_run_id"] not in known]
    assert all(run["state"] != "failed" for run in runs), stage.airflow.last_words()
    assert not stage.airflow.waits_for_a_retry(case.dag_id), stage.airflow.last_words()
    return any(run["state"] == "success" for run in runs)


def _kill_while_adding(stage: Stage, case: Case) -> None:
    """Let the second batch of additions land without an answer, and kill the task that waits for it."""
    (case.folder / "task.pid").unlink()
    stage.sandbox.fault("timeout", when="after", operation="add_users", nth=2, seconds=60)

    def hangs() -> bool:
        sent = {one.hashed() for one in case.people}
        return len(sent & set(held_rows(stage.sandbox.members(case.audience_id)))) >= 10

    stage.airflow.wait_for(hangs, "the second batch to land")
    os.kill(int((case.folder / "task.pid").read_text()), signal.SIGKILL)


def _case(folder: Path, name: str, sandbox: Sandbox) -> Case:
    place = folder / name
    place.mkdir()
    case = Case(name, sandbox.create_audience(name), place)
    case.fill()
    return case


def _write_dags(folder: Path, cases: dict[str, Case]) -> None:
    example = (EXAMPLES / "daily_refresh.py").read_text()
    assert example.count('schedule="@daily"') == 1
    (folder / "example.py").write_text(example.replace('schedule="@daily"', "schedule=timedelta(seconds=5)"))
    for name, case in cases.items():
        if name != "fbca_daily_refresh":
            retries = 1 if name == "killed_then_retried" else 0
            text = MANUAL.format(dag_id=name, audience_id=case.audience_id, folder=case.folder, retries=retries)
            (folder / f"{name}.py").write_text(text)


class _Sqlite:
    """Metadata in a file of Airflow's home."""

    def __init__(self, home: Path) -> None:
        self._file = home / "airflow.db"

    def __enter__(self) -> tuple[str, Callable[[], Iterator[tuple[str, bytes]]]]:
        return f"sqlite:///{self._file}", self._dump

    def __exit__(self, *error: object) -> None:
        pass

    def _dump(self) -> Iterator[tuple[str, bytes]]:
        yield self._file.name, self._file.read_bytes()


class _Postgres:
    """Metadata in a Postgres of its own."""

    def __init__(self, home: Path) -> None:
        del home
        self._stack = ExitStack()

    def __enter__(self) -> tuple[str, Callable[[], Iterator[tuple[str, bytes]]]]:
        self._server = self._stack.enter_context(postgres())
        self._server.psql("CREATE DATABASE airflow")
        return sqlalchemy_url(self._server, "airflow", driver="psycopg2"), self._dump

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def _dump(self) -> Iterator[tuple[str, bytes]]:
        import psycopg

        with closing(psycopg.connect(self._server.get_uri("airflow"))) as session:
            session.execute("SET bytea_output = 'escape'")
            tables = session.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            for (table,) in tables:
                rows = session.execute(f'SELECT whole::text FROM "{table}" AS whole').fetchall()
                yield table, "\n".join(row for (row,) in rows).encode()


_DATABASES: dict[str, Callable[[Path], Any]] = {"sqlite": _Sqlite, "postgres": _Postgres}
