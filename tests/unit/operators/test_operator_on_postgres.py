"""A refresh whose query runs on a real Postgres: the database dies in the midst of it, or the task is told to stop."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from operator_tools import digests
from servers import postgres

from airflow_provider_fbca.exceptions import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

psycopg = pytest.importorskip("psycopg")
hooks = pytest.importorskip("airflow.providers.postgres.hooks.postgres")

ROUTES = pytest.mark.parametrize("route", ["postgres-copy", "dbapi"])
DRIVERS = pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
# psycopg 2 gives no code of an error that ends its connection.
CODES = {"psycopg": ["psycopg.errors.AdminShutdown (57P01)"], "psycopg2": ["psycopg2.OperationalError"]}
LOST = ["psycopg.OperationalError", "psycopg2.OperationalError", "psycopg2.DatabaseError"]
STREAMED = 200_000
# Sleeps once it has given as many rows, as long as the table says so.
SQL = f"""
    SELECT name || '@example.com' AS email, CASE WHEN place = {STREAMED} AND slow THEN pg_sleep(600)::text END AS nap
    FROM people, hurry ORDER BY place
"""
ACTIVITY = "SELECT wait_event FROM pg_stat_activity WHERE application_name = 'fbca-test' AND state = 'active'"
SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'fbca-test'"


class Database:
    """A Postgres of the wheel's, and what tests do there."""

    def __init__(self, server: Any) -> None:
        self.server = server

    @property
    def connection(self) -> str:
        info = self.server.get_postmaster_info()
        fields = {"host": str(info.socket_dir), "login": "postgres", "schema": "postgres"}
        return json.dumps({"conn_type": "postgres", **fields, "extra": {"application_name": "fbca-test"}})

    def run(self, *statements: str) -> list[tuple]:
        """Run SQL and give the rows of the last statement."""
        with closing(psycopg.connect(self.server.get_uri(), autocommit=True)) as session:
            for sql in statements:
                cursor = session.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def fill(self, *names: str, more: int = 0, slow: bool) -> None:
        """Make the table hold these people, and as many more."""
        self.run(
            "DROP TABLE IF EXISTS people, hurry",
            "CREATE TABLE people AS SELECT 'p' || i AS name, i AS place FROM generate_series(1, 0) i",
            *(f"INSERT INTO people VALUES ('{name}', {-place})" for place, name in enumerate(names)),
            f"INSERT INTO people SELECT 'p' || i, i FROM generate_series(1, {more}) i",
            "CREATE INDEX ON people (place)",
            f"CREATE TABLE hurry AS SELECT {slow} AS slow",
            "ANALYZE",
            "CHECKPOINT",
        )


@pytest.fixture(scope="module")
def _database() -> Iterator[Database]:
    with postgres() as server:
        yield Database(server)


@pytest.fixture
def database(_database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database as the connection ``pg``."""
    monkeypatch.setenv("AIRFLOW_CONN_PG", _database.connection)
    return _database


def wait_until(true: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.02)
    return bool(true())


@contextmanager
def struck(database: Database, strike: Callable[[], None]) -> Iterator[None]:
    """Strike once the query has given its rows and sleeps."""

    def when_asleep() -> None:
        if wait_until(lambda: database.run(ACTIVITY) == [("PgSleep",)], seconds=60):
            strike()

    thread = threading.Thread(target=when_asleep)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def check_a_death(
    database: Database, strike: Callable[[], None], told: Sequence[str], *, tools: Any, route: str
) -> None:
    run, members, writes, files, history = tools
    database.fill("ann", "bob", slow=False)
    options = {"sql": SQL, "sql_conn_id": "pg", "sql_route": route, "columns": {"email": "EMAIL"}}
    run("refresh", strategy="replace", **options)
    before = members(), writes(), files()
    assert before[0] == digests("ann", "bob")

    database.fill(more=300_000, slow=True)
    with struck(database, strike), pytest.raises(SourceError) as caught:
        run("refresh", **options)
    assert type(caught.value) is SourceError
    assert not caught.value.permanent
    text = str(caught.value)
    assert any(name in text for name in told)
    assert re.search("Reading users from connection 'pg', after [1-9][0-9]* rows", text)
    assert "@example.com" not in text
    # Nothing of it was sent, and the ledger does not say that anything may have been.
    assert (members(), writes(), files()) == before
    assert [entry.settled is not None for entry in history().entries] == [True]


@pytest.fixture
def tools(run, members, writes, files, history) -> tuple:
    return run, members, writes, files, history


@ROUTES
@DRIVERS
def test_a_session_that_is_ended_in_mid_stream_fails_the_task_and_nothing_is_sent(
    database, tools, members, run, monkeypatch, route, driver
):
    monkeypatch.setattr(hooks, "USE_PSYCOPG3", driver == "psycopg")
    end = f"SELECT pg_terminate_backend(pid) FROM ({SESSIONS}) s"
    check_a_death(database, lambda: database.run(end), CODES[driver], tools=tools, route=route)

    database.fill("bob", "cid", slow=False)
    run("refresh", sql=SQL, sql_conn_id="pg", sql_route=route, columns={"email": "EMAIL"})
    assert members() == digests("bob", "cid")


@ROUTES
@DRIVERS
def test_a_server_that_is_killed_in_mid_stream_fails_the_task_and_nothing_is_sent(
    tools, members, run, monkeypatch, route, driver
):
    monkeypatch.setattr(hooks, "USE_PSYCOPG3", driver == "psycopg")
    with postgres() as server:
        database = Database(server)
        monkeypatch.setenv("AIRFLOW_CONN_PG", database.connection)
        check_a_death(database, lambda: kill(server), LOST, tools=tools, route=route)

        server.ensure_postgres_running()
        database.fill("bob", "cid", slow=False)
        run("refresh", sql=SQL, sql_conn_id="pg", sql_route=route, columns={"email": "EMAIL"})
        assert members() == digests("bob", "cid")


def kill(server: Any) -> None:
    """Kill a whole Postgres at once, as a machine that loses its power does."""
    postmaster = psutil.Process(server.get_pid())
    family = [postmaster, *postmaster.children(recursive=True)]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=30)


#: As much of task processes as matters here: Airflow 3.3 answers SIGTERM with ``on_kill`` and goes on with ``execute``.
TASKS = """
import json, os, signal, sys
from airflow.providers.postgres.hooks import postgres
from airflow_provider_fbca.operators.custom_audience import FacebookRefreshAudienceOperator
from operator_tools import FakeTaskInstance

signal.signal(signal.SIGTERM, lambda *_: task.on_kill())
for line in sys.stdin:
    given = json.loads(line)
    os.environ.update(given["environment"])
    postgres.USE_PSYCOPG3 = given["driver"] == "psycopg"
    task = FacebookRefreshAudienceOperator(task_id="refresh", sql_conn_id="pg", **given["options"])
    try:
        task.execute({"ti": FakeTaskInstance({})})
    except Exception as error:
        print("ended with", type(error).__name__, flush=True)
"""
ENDLESS = {
    "blocked": "SELECT 'a@example.com' AS email, pg_sleep(600)::text AS nap",
    "streaming": "SELECT i || '@example.com' AS email FROM generate_series(1, 30000) i, generate_series(1, 9000)",
}


@pytest.fixture(scope="module")
def tasks() -> Iterator[subprocess.Popen[str]]:
    """A process that runs one task after the other."""
    here = Path(__file__)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here.parents[3]), str(here.parent)])}
    command = [sys.executable, "-c", TASKS]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        yield process
        process.kill()


@ROUTES
@DRIVERS
@pytest.mark.parametrize("doing", list(ENDLESS))
def test_a_task_that_is_told_to_stop_ends_its_query_within_two_seconds(
    database, tasks, audience, ledger_folder, sandbox, route, driver, doing
):
    options = {"audience_id": audience, "ledger_uri": f"file://{ledger_folder}", "sql": ENDLESS[doing]}
    environment = {name: os.environ[name] for name in ("AIRFLOW_CONN_PG", "AIRFLOW_CONN_FBCA_DEFAULT")}
    given = {"driver": driver, "environment": environment, "options": options | {"sql_route": route}}
    tasks.stdin.write(json.dumps(given) + "\n")
    tasks.stdin.flush()
    assert wait_until(lambda: queries(database), seconds=60)
    if doing == "streaming":
        # By then, rows have come through to where the task keeps them.
        time.sleep(0.5)
    assert database.run(SESSIONS)

    tasks.send_signal(signal.SIGTERM)
    assert wait_until(lambda: not database.run(SESSIONS), seconds=2)
    ended = next(line for line in tasks.stdout if line.startswith("ended with"))
    assert ended.split()[-1] in {"StoppedError", "SourceError"}
    assert sandbox.requests("add_users") == []


def queries(database: Database) -> list[str]:
    """Give what the task's session runs once it has come to its query."""
    sql = "SELECT query FROM pg_stat_activity WHERE application_name = 'fbca-test'"
    return [query for (query,) in database.run(sql) if query.startswith(("COPY", "FETCH", "DECLARE"))]
