"""What XCom tells a refresh of its earlier runs, history by history: it removes the right people, or says why not.

Each on SQLite and on Postgres, which give a task's earlier XComs in different orders. What takes a scheduler (runs
without a logical date, asset events, backfills, cleared runs, killed tries) is in ``tests/e2e/test_airflow.py``.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow import settings
from airflow.cli.cli_parser import get_parser
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from dagbags import DagBag, publish
from metadata import database, in_process_airflow
from people import KEYS, Person, hashed_rows, held_rows, person
from sqlalchemy import func, insert, select, text

from airflow_provider_fbca.sandbox.testing import Sandbox, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)

_HEAD = """
from datetime import datetime

from airflow.sdk import DAG, task

from airflow_provider_fbca.operators.custom_audience import (
    FacebookRefreshAudienceOperator,
    FacebookUploadUsersOperator,
)


def users(audience_id):
    return {{"audience_id": audience_id, "users_uri": f"file://{folder}/{{audience_id}}.parquet"}}


with DAG(
    "{dag_id}",
    schedule=None,
    start_date=datetime(2025, 1, 1),
    default_args={{"batch_size": 5, "max_concurrency": 1}},
):
"""
_REFRESH = """
    FacebookRefreshAudienceOperator(task_id="{task_id}", **users("{audience_id}"))
"""
_UPLOAD = """
    FacebookUploadUsersOperator(task_id="upload", **users("{audience_id}"))
"""
_MAPPED = """
    @task
    def audiences(dag_run=None):
        return [users(each) for each in dag_run.conf["audiences"]]

    FacebookRefreshAudienceOperator.partial(task_id="refresh").expand_kwargs(audiences())
"""
_BY_HAND = """
    @task
    def handed(dag_run=None):
        return dag_run.conf["manifest"]

    FacebookRefreshAudienceOperator(task_id="refresh", previous_upload=handed(), **users("{audience_id}"))
"""
_FIRST_DAY = datetime(2025, 3, 1, tzinfo=UTC)


class Watched(httpx.BaseTransport):
    """The way to the Execution API; keeps what it answers to look-ups of earlier XComs.

    :param transport: the way itself.
    """

    def __init__(self, transport: httpx.BaseTransport) -> None:
        self._transport = transport
        self.answers: list[bytes] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._transport.handle_request(request)
        if "include_prior_dates=true" in str(request.url).lower():
            self.answers.append(response.read())
        return response


@dataclass
class Airflow:
    """A DAG folder, a sandbox and a ledger of one test."""

    folder: Path
    sandbox: Sandbox
    watched: Watched
    told: Callable[[], str]
    days: int = field(default=0)

    @property
    def prefix(self) -> str:
        """What the ids of this test's DAGs begin with; the metadata is that of other tests, too."""
        return f"{self.folder.name}_"

    def write(self, body: str, name: str = "tracked", **details: str) -> None:
        """Write the file of a DAG."""
        dags = self.folder / "dags"
        dags.mkdir(exist_ok=True)
        details = {"dag_id": self.prefix + name, "task_id": "refresh"} | details
        (dags / f"{name}.py").write_text((_HEAD + body).format(folder=self.folder, **details))
        publish()

    def fill(self, audience_id: str, numbers: range) -> list[Person]:
        """Make the source of an audience hold some people and nobody else."""
        people = [person(number) for number in numbers]
        columns = zip(*(one.values() for one in people), strict=True)
        table = pa.table({name: pa.array(cells, pa.string()) for name, cells in zip(KEYS, columns, strict=True)})
        pq.write_table(table, self.folder / f"{audience_id}.parquet")
        return people

    def run(self, name: str = "tracked", **conf: Any) -> str:
        """Run a DAG for the next day and return its state."""
        self.watched.answers.clear()
        self.told()
        self.days += 1
        (dag,) = DagBag(dag_folder=str(self.folder / "dags" / f"{name}.py")).dags.values()
        return str(dag.test(logical_date=_FIRST_DAY + timedelta(days=self.days), run_conf=conf).state)

    def refresh(self, audience_id: str, numbers: range, name: str = "tracked", **conf: Any) -> dict[str, Any]:
        """Refresh with some people, check that the audience holds them and nobody else, and return the manifest."""
        people = self.fill(audience_id, numbers)
        assert self.run(name, **conf) == "success"
        self.assert_holds(audience_id, people)
        return self.xcoms(audience_id)[-1]

    def refused(self, audience_id: str, numbers: range, name: str = "tracked", **conf: Any) -> str:
        """Refresh with some people, check that it fails with nothing sent, and return what the log tells."""
        before = self.sandbox.members(audience_id), len(self.sandbox.requests("add_users"))
        self.fill(audience_id, numbers)
        assert self.run(name, **conf) == "failed"
        assert (self.sandbox.members(audience_id), len(self.sandbox.requests("add_users"))) == before
        return self.told()

    def assert_holds(self, audience_id: str, people: list[Person]) -> None:
        """The audience holds these people and nobody else."""
        assert held_rows(self.sandbox.members(audience_id)) == hashed_rows(people)

    def found(self) -> list[Any]:
        """What the look-ups of the last run gave, all together."""
        return [each for answer in self.watched.answers for each in json.loads(answer)]

    def xcoms(self, audience_id: str) -> list[Any]:
        """The manifests that the metadata holds of an audience, oldest first."""
        query = select(XComModel.value).where(XComModel.key == f"fbca_upload:{audience_id}")
        query = query.where(XComModel.dag_id.startswith(self.prefix, autoescape=True))
        with create_session(scoped=False) as session:
            values = session.scalars(query.order_by(XComModel.timestamp)).all()
        return [json.loads(value) if isinstance(value, str) else value for value in values]

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def watched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp(request.param)
    with database(request.param, folder) as url, in_process_airflow(url) as api, pytest.MonkeyPatch.context() as patch:
        transport = Watched(api.transport)
        patch.setattr(api, "transport", transport)
        yield transport


@pytest.fixture(scope="module")
def served() -> Iterator[Sandbox]:
    with serve() as sandbox:
        yield sandbox


@pytest.fixture
def airflow(served: Sandbox, watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Airflow:
    served.reset()
    monkeypatch.setenv("AIRFLOW_CONN_FBCA_DEFAULT", served.connection_json)
    monkeypatch.setenv("AIRFLOW__FBCA__LEDGER_URI", f"file://{tmp_path}/ledger")
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", f"{tmp_path}/dags")
    monkeypatch.setattr(settings, "DAGS_FOLDER", f"{tmp_path}/dags")
    # A file that changes within half a minute is the changed one at once.
    monkeypatch.setenv("AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL", "0")
    monkeypatch.setattr(settings, "MIN_SERIALIZED_DAG_UPDATE_INTERVAL", 0, raising=False)
    return Airflow(tmp_path, served, watched, lambda: "".join(capfd.readouterr()))


@pytest.fixture
def audience(airflow: Airflow) -> str:
    """An audience, and the file of a DAG that refreshes it."""
    created = airflow.sandbox.create_audience()
    airflow.write(_REFRESH, audience_id=created)
    return created


def test_l7_first_run_finds_nothing_and_leaves_its_manifest(airflow: Airflow, audience: str) -> None:
    manifest = airflow.refresh(audience, range(6))
    assert airflow.found() == []
    assert airflow.xcoms(audience) == [manifest]
    (entry,) = {path.name.partition(".")[0] for path in airflow.ledger.rglob("*.open.json")}
    assert manifest["entry"]["id"] == entry


def test_l7_third_run_is_given_a_list_of_manifests_and_removes_who_left(airflow: Airflow, audience: str) -> None:
    manifests = [airflow.refresh(audience, numbers) for numbers in (range(6), range(3, 9), range(5, 12))]
    assert sorted(each["entry"]["id"] for each in airflow.found()) == [each["entry"]["id"] for each in manifests[:2]]
    assert len({each["entry"]["id"] for each in manifests}) == 3


def test_l7_run_after_a_failed_one_removes_whom_that_had_added(airflow: Airflow, audience: str) -> None:
    airflow.refresh(audience, range(6))
    airflow.sandbox.fault("graph", operation="add_users", nth=2, code=200, status=400, is_transient=False)
    newcomers = airflow.fill(audience, range(10, 24))
    assert airflow.run() == "failed"
    held = held_rows(airflow.sandbox.members(audience))
    assert set(held) & set(hashed_rows(newcomers)), "the failed run added nobody"
    assert len(airflow.xcoms(audience)) == 1
    airflow.refresh(audience, range(4, 9))


def test_l7_renamed_task_finds_no_manifest_and_removes_who_left(airflow: Airflow, audience: str) -> None:
    airflow.refresh(audience, range(6))
    airflow.refresh(audience, range(4, 9))
    airflow.write(_REFRESH, audience_id=audience, task_id="renamed")
    airflow.refresh(audience, range(7, 12))
    assert airflow.found() == []


def test_l7_mapped_tasks_whose_list_changes_order_keep_their_audiences_apart(airflow: Airflow) -> None:
    airflow.write(_MAPPED)
    audiences = [airflow.sandbox.create_audience(name) for name in ("one", "two", "three")]
    for turn, order in enumerate(([0, 1, 2], [2, 0, 1], [1], [2, 1, 0])):
        named = [audiences[index] for index in order]
        filled = {
            each: airflow.fill(each, range(100 * index + 3 * turn, 100 * index + 3 * turn + 7))
            for index, each in zip(order, named, strict=True)
        }
        assert airflow.run(audiences=named) == "success"
        for each, people in filled.items():
            airflow.assert_holds(each, people)
    assert {each["audience_id"] for each in airflow.found()} == set(audiences)
    assert sorted(len(json.loads(answer)) for answer in airflow.watched.answers) == [2, 2, 3]


def test_l7_manifest_passed_by_hand_from_another_dag(airflow: Airflow) -> None:
    audience, other = (airflow.sandbox.create_audience(name) for name in ("one", "two"))
    airflow.write(_UPLOAD, "uploads", audience_id=audience)
    airflow.write(_UPLOAD, "uploads_elsewhere", audience_id=other)
    airflow.write(_BY_HAND, audience_id=audience)
    uploaded = airflow.refresh(audience, range(6), "uploads")
    elsewhere = airflow.refresh(other, range(6), "uploads_elsewhere")

    reason = airflow.refused(audience, range(4, 9), manifest=elsewhere)
    assert f"is of audience {other}" in reason
    reason = airflow.refused(audience, range(4, 9), manifest={"rows": 6})
    assert "is not the manifest of an upload" in reason
    lost = {"id": "0000000099-0123abcd", "digest": None}
    reason = airflow.refused(audience, range(4, 9), manifest=uploaded | {"outstanding": [lost]})
    assert lost["id"] in reason

    airflow.refresh(audience, range(4, 9), manifest=uploaded)
    assert airflow.found() == []


def test_l7_ledger_that_moved_stops_the_refresh_until_its_files_follow(
    airflow: Airflow, audience: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    airflow.refresh(audience, range(6))
    airflow.refresh(audience, range(4, 9))
    assert airflow.refresh(audience, range(4, 9))["entry"] is None, "there was nothing to send"
    moved = airflow.folder / "moved"
    monkeypatch.setenv("AIRFLOW__FBCA__LEDGER_URI", f"file://{moved}")
    reason = airflow.refused(audience, range(7, 12))
    assert f"They were written to file://{airflow.ledger}/{audience}" in reason
    assert "Point ledger_uri to where the ledger is" in reason
    shutil.rmtree(moved, ignore_errors=True)
    airflow.ledger.rename(moved)
    airflow.refresh(audience, range(7, 12))


def test_l7_ledger_that_lost_its_newest_entry_stops_the_refresh(airflow: Airflow, audience: str) -> None:
    airflow.refresh(audience, range(6))
    lost = airflow.refresh(audience, range(4, 9))["entry"]["id"]
    for path in airflow.ledger.rglob(f"{lost}.*"):
        path.unlink()
    assert lost in airflow.refused(audience, range(7, 12))


def test_l7_manifests_deleted_by_airflow_db_clean_are_not_missed(airflow: Airflow, audience: str) -> None:
    airflow.refresh(audience, range(6))
    airflow.refresh(audience, range(4, 9))
    _clean_xcoms()
    assert airflow.xcoms(audience) == []
    airflow.refresh(audience, range(7, 12))
    assert airflow.found() == []


def test_l11_ledger_that_moved_and_manifests_deleted_by_airflow_db_clean_stop_the_refresh(
    airflow: Airflow, audience: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    airflow.refresh(audience, range(6))
    _clean_xcoms()
    monkeypatch.setenv("AIRFLOW__FBCA__LEDGER_URI", f"file://{airflow.folder}/moved")
    assert "had been filled before this ledger began" in airflow.refused(audience, range(4, 9))


def test_l7_look_up_stays_small_with_500_audiences_and_1000_earlier_runs(airflow: Airflow) -> None:
    airflow.write(_MAPPED)
    audience = airflow.sandbox.create_audience()
    manifest = airflow.refresh(audience, range(6), audiences=[audience])
    _seed_xcoms(f"{airflow.prefix}tracked", int(audience), manifest, audiences=500, runs=1000)
    airflow.days += 1100
    airflow.refresh(audience, range(4, 9), audiences=[audience])

    (answer,) = airflow.watched.answers
    assert len(json.loads(answer)) == 1001
    assert {each["audience_id"] for each in airflow.found()} == {audience}
    assert len(answer) < 1001 * 1500


def _clean_xcoms() -> None:
    """Delete all XComs as an operator of Airflow would."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    command = ["db", "clean", "--tables", "xcom", "--clean-before-timestamp", tomorrow, "--skip-archive", "--yes"]
    options = get_parser().parse_args(command)
    options.func(options)


def _seed_xcoms(dag_id: str, first: int, manifest: dict[str, Any], *, audiences: int, runs: int) -> None:
    """Put the XComs of earlier runs of the mapped task into the metadata, as many as it says.

    The audience itself has whole manifests; those of the others, whose ids follow its own, are none, so that a refresh
    which is given one fails.
    """
    days = [_FIRST_DAY + timedelta(days=10 + number) for number in range(runs)]
    earlier = [
        {
            "dag_id": dag_id,
            "run_id": f"scheduled__{day.isoformat()}",
            "run_type": "scheduled",
            "state": "success",
            "logical_date": day,
            "run_after": day,
        }
        for day in days
    ]
    # The task instances, which the rows refer to, have no part in a look-up: a million rows less.
    is_postgres = settings.engine.dialect.name == "postgresql"
    without_references = "SET session_replication_role = replica" if is_postgres else "PRAGMA foreign_keys = OFF"
    with settings.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(without_references))
        connection.execute(insert(DagRun.__table__), earlier)
        rows = """
            INSERT INTO xcom (dag_run_id, task_id, map_index, key, dag_id, run_id, value, timestamp)
            WITH RECURSIVE audience (number) AS
                (SELECT 0 UNION ALL SELECT number + 1 FROM audience WHERE number < :last)
            SELECT id, 'refresh', number, 'fbca_upload:' || (:first + number), dag_id, run_id,
                CASE number WHEN 0 THEN {manifest} ELSE {nothing} END, run_after
            FROM dag_run, audience WHERE dag_id = :dag_id AND run_type = 'scheduled'
        """
        json_of = "CAST({} AS jsonb)" if is_postgres else "{}"
        statement = rows.format(manifest=json_of.format(":manifest"), nothing=json_of.format("'{}'"))
        values = {"dag_id": dag_id, "first": first, "last": audiences - 1, "manifest": json.dumps(manifest)}
        connection.execute(text(statement), values)
        counted = connection.execute(select(func.count()).select_from(XComModel)).scalar_one()
        connection.invalidate()
    assert counted > audiences * runs
