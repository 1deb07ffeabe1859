"""An Airflow with its sandbox, its ledger and its DAGs, each of these with an audience and a warehouse of its own."""

from __future__ import annotations

import json
import sqlite3
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from airflow_process import Airflow, running
from kill_switch import Deaths
from people import KEYS, Person, Row, hashed_rows, held_rows
from servers import postgres, sqlalchemy_url

from airflow_provider_fbca.sandbox import Settings
from airflow_provider_fbca.sandbox.settings import Token
from airflow_provider_fbca.sandbox.testing import Sandbox, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

EXAMPLES = Path(__file__).parents[2] / "dags_examples"
EXAMPLE = "fbca_daily_refresh"
TOKEN = "EAABe2eTokenOfNobody0123456789abcdefXYZ"
SECRET = "e2e0secret0of0nobody0123456789ab"
ACCOUNT = "100000000000001"
#: Of a request. Short, and the leases with it: a retry waits until the lease of a killed try has run out.
TIMEOUT_SECONDS = 2

#: A refresh; what differs between the DAGs is filled in.
_REFRESH = """
from datetime import datetime, timedelta

from airflow.sdk import DAG, Asset
from kill_switch import KillSwitch

from airflow_provider_fbca.operators.custom_audience import FacebookRefreshAudienceOperator

with DAG("{dag_id}", schedule={schedule}, start_date=datetime(2020, 1, 1), max_active_runs=1):
    FacebookRefreshAudienceOperator(
        task_id="refresh",
        audience_id="{audience_id}",
        sql="SELECT email, phone, first_name, last_name, city, zip, country FROM active_customers",
        sql_conn_id="{dag_id}",
        batch_size=5,
        max_concurrency=1,
        retry_delay=timedelta(seconds=1),
        on_execute_callback=KillSwitch("{folder}"),
        **{options},
    )
"""


@dataclass(frozen=True)
class Kind:
    """What a DAG is like.

    :param schedule: as Python.
    :param options: of its refresh.
    """

    schedule: str = "None"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Case:
    """A DAG with an audience and a warehouse of its own."""

    dag_id: str
    audience_id: str
    folder: Path
    everyone: set[Person] = field(default_factory=set)
    people: list[Person] = field(default_factory=list)

    @property
    def deaths(self) -> Deaths:
        return Deaths(self.folder)

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

    def held(self, case: Case) -> list[Row]:
        """The rows that the audience holds."""
        return held_rows(self.sandbox.members(case.audience_id))

    def assert_equal(self, case: Case) -> None:
        """The audience holds exactly the rows of the query."""
        assert self.held(case) == hashed_rows(case.people), self.airflow.last_words()

    def outstanding(self, case: Case) -> set[str]:
        """Ids of the ledger's entries that are not retired, by its files alone."""
        folder = self.ledger / case.audience_id
        opened = {path.name.removesuffix(".open.json") for path in folder.glob("*.open.json")}
        settled = [json.loads(path.read_text()) for path in folder.glob("*.settled.json")]
        return opened - {entry for marker in settled for entry in marker["supersedes"]}

    def known(self, case: Case) -> set[Row]:
        """The rows that may be in the audience as far as the ledger knows, by its files alone."""
        paths = [self.ledger / case.audience_id / f"{entry}.rows.parquet" for entry in self.outstanding(case)]
        return {row for path in paths for row in _rows(path)}

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

    def assert_refreshes(self, case: Case, *, logical_date: str | None = None) -> str:
        """Run a manual run, check all that :meth:`assert_settled` does, and return its id."""
        run_id, state = self.airflow.run(case.dag_id, logical_date=logical_date)
        assert state == "success", self.airflow.last_words()
        self.assert_settled(case, run_id)
        return run_id


@contextmanager
def staged(
    folder: Path, database: str, kinds: Mapping[str, Kind], *, parallel: int = 4, lease_seconds: int = 12
) -> Iterator[Stage]:
    """Start everything, the example of the daily refresh included, and stop it at the end.

    :param folder: an empty one.
    :param database: of the metadata, ``sqlite`` or ``postgres``.
    :param kinds: DAG -> what it is like. Those without a schedule of time are not paused.
    :param parallel: how many tasks may run at once.
    :param lease_seconds: of every task; on a busy machine a short one may be lost.
    """
    home = folder / "airflow"
    (home / "dags").mkdir(parents=True)
    settings = Settings(tokens={TOKEN: Token(accounts=(ACCOUNT,))}, app_secret=SECRET)
    with ExitStack() as everything:
        sandbox = everything.enter_context(serve(settings))
        url, dump = everything.enter_context(_DATABASES[database](home))
        cases = {name: _case(folder, name, sandbox) for name in (EXAMPLE, *kinds)}
        sandbox.change(require_proof=True)
        _write_dags(home / "dags", cases, kinds)
        environment = {
            "AIRFLOW__CORE__PARALLELISM": str(parallel),
            "AIRFLOW__FBCA__LEDGER_URI": f"file://{folder}/ledger",
            "AIRFLOW__FBCA__LEASE_SECONDS": str(lease_seconds),
            "AIRFLOW__FBCA__DEFER_AFTER_SECONDS": "3",
            "AIRFLOW_CONN_FBCA_DEFAULT": _quick_connection(sandbox),
            "AIRFLOW_CONN_WAREHOUSE": cases[EXAMPLE].connection,
            "AIRFLOW_VAR_FBCA_AUDIENCE_ID": cases[EXAMPLE].audience_id,
            **{f"AIRFLOW_CONN_{name.upper()}": case.connection for name, case in cases.items()},
        }
        process = everything.enter_context(ExitStack())
        airflow = process.enter_context(running(home, url, environment, set(cases)))
        for name, kind in kinds.items():
            if "@" not in kind.schedule:
                airflow.set_paused(name, paused=False)
        yield Stage(folder, airflow, sandbox, cases, process.close, dump)


def _rows(path: Path) -> list[Row]:
    """The rows of a snapshot, in the form in which an audience holds them."""
    try:
        rows = pq.read_table(path).drop_columns("row_id").to_pylist()
    except FileNotFoundError:
        # Retired since its markers were read, so nobody of it alone is in the audience.
        return []
    return [tuple(sorted((key, cell.hex()) for key, cell in row.items() if cell)) for row in rows]


def _quick_connection(sandbox: Sandbox) -> str:
    """The sandbox's connection, with a timeout that suits a short lease."""
    connection = json.loads(sandbox.connection_json)
    connection["extra"]["timeout"] = TIMEOUT_SECONDS
    return json.dumps(connection)


def _case(folder: Path, name: str, sandbox: Sandbox) -> Case:
    place = folder / name
    place.mkdir()
    case = Case(name, sandbox.create_audience(name), place)
    case.fill()
    return case


def _write_dags(folder: Path, cases: Mapping[str, Case], kinds: Mapping[str, Kind]) -> None:
    example = (EXAMPLES / "daily_refresh.py").read_text()
    assert example.count('schedule="@daily"') == 1
    (folder / "example.py").write_text(example.replace('schedule="@daily"', "schedule=timedelta(seconds=5)"))
    for name, kind in kinds.items():
        details = {"dag_id": name, "audience_id": cases[name].audience_id, "folder": cases[name].folder}
        text = _REFRESH.format(schedule=kind.schedule, options=dict(kind.options), **details)
        (folder / f"{name}.py").write_text(text)


class _Sqlite:
    """Metadata in a file of Airflow's home."""

    def __init__(self, home: Path) -> None:
        self._file = home / "airflow.db"

    def __enter__(self) -> tuple[str, Callable[[], Iterator[tuple[str, bytes]]]]:
        # Whoever reads does not keep the scheduler from writing. The file remembers it.
        with closing(sqlite3.connect(self._file)) as metadata:
            metadata.execute("PRAGMA journal_mode = WAL")
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
