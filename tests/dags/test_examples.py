"""Every example parses, and does in Airflow what it says."""

from __future__ import annotations

import csv
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from airflow.sdk import BaseHook
from dagbags import DagBag
from metadata import database, in_process_airflow
from people import KEYS, Person, hashed_rows, held_rows, person, sha256

from airflow_provider_fbca.sandbox.testing import Sandbox, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import DAG

# A failing example would wait for its retries, minutes each.
pytestmark = pytest.mark.timeout(240)

EXAMPLES = Path(__file__).parents[2] / "dags_examples"
DAG_IDS = {
    "any_warehouse": "fbca_any_warehouse",
    "create_upload_refresh": "fbca_create_upload_refresh",
    "daily_refresh": "fbca_daily_refresh",
    "many_audiences": "fbca_many_audiences",
    "users_from_python": "fbca_users_from_python",
    "wait_for_meta": "fbca_wait_for_meta",
}


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The metadata database of this module's runs."""
    with database("sqlite", tmp_path_factory.mktemp("metadata")) as url, in_process_airflow(url):
        yield


@pytest.fixture(scope="module")
def served() -> Iterator[Sandbox]:
    with serve() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(served: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A new sandbox, and the connections and settings that the examples ask for."""
    served.reset()
    monkeypatch.setenv("AIRFLOW_CONN_FBCA_DEFAULT", served.connection_json)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", f'{{"conn_type": "duckdb", "host": "{tmp_path}/warehouse.duckdb"}}')
    monkeypatch.setenv("AIRFLOW__FBCA__LEDGER_URI", f"file://{tmp_path}/ledger")
    return served


@pytest.fixture
def fill(tmp_path: Path) -> Any:
    """Makes a table of the warehouse hold some people and nobody else."""

    def put(table: str, *people: Person) -> list[Person]:
        with closing(duckdb.connect(str(tmp_path / "warehouse.duckdb"))) as warehouse:
            warehouse.execute(f"CREATE OR REPLACE TABLE {table} ({', '.join(f'{name} VARCHAR' for name in KEYS)})")
            if people:
                marks = ", ".join("?" * len(KEYS))
                warehouse.executemany(f"INSERT INTO {table} VALUES ({marks})", [one.values() for one in people])
        return list(people)

    return put


@pytest.fixture
def audience_id(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> str:
    """The audience that the examples' variable names."""
    created = sandbox.create_audience()
    monkeypatch.setenv("AIRFLOW_VAR_FBCA_AUDIENCE_ID", created)
    return created


def load(name: str) -> DagBag:
    return DagBag(dag_folder=str(EXAMPLES / f"{name}.py"))


def run(name: str) -> None:
    """Run an example as a manual run, which has no logical date."""
    dag: DAG = load(name).dags[DAG_IDS[name]]
    assert str(dag.test(logical_date=None).state) == "success"


def test_every_example_is_tested_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(DAG_IDS)


@pytest.mark.parametrize("name", DAG_IDS)
def test_example_parses_without_connections_or_warnings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(conn_id: str) -> None:
        raise AssertionError(f"connection {conn_id} was looked up while parsing")

    monkeypatch.setattr(BaseHook, "get_connection", refuse)
    found = load(name)
    assert found.import_errors == {}
    assert not any(found.captured_warnings.values())
    (dag,) = found.dags.values()
    assert dag.dag_id == DAG_IDS[name]
    assert dag.tags
    assert dag.doc_md
    assert {task.owner for task in dag.tasks} == {"marketing"}
    assert dag.max_active_runs == 1


@pytest.mark.usefixtures("metadata")
def test_daily_refresh_makes_the_audience_equal_to_the_query(sandbox: Sandbox, fill: Any, audience_id: str) -> None:
    for numbers in (range(6), range(4, 9)):
        people = fill("active_customers", *map(person, numbers))
        run("daily_refresh")
        assert held_rows(sandbox.members(audience_id)) == hashed_rows(people)


@pytest.mark.usefixtures("metadata")
def test_any_warehouse_takes_customers_from_sql_and_opt_outs_from_files(
    sandbox: Sandbox, fill: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = tmp_path / "opt-outs"
    exports.mkdir()
    monkeypatch.setenv("AIRFLOW_VAR_FBCA_OPT_OUTS_URI", f"file://{exports}/*.csv")
    for customers, opted_out in ((range(6), (20, 21)), (range(3, 9), (21, 22, 23))):
        people = fill("people", *map(person, customers))
        fill("old", *map(person, (30, 31)))
        dated = ("SELECT *, DATE '2026-01-01' AS last_order FROM people", "SELECT *, DATE '2025-12-31' FROM old")
        with closing(duckdb.connect(str(tmp_path / "warehouse.duckdb"))) as warehouse:
            warehouse.execute(f"CREATE OR REPLACE TABLE customers AS {' UNION ALL '.join(dated)}")
        for place, number in enumerate(opted_out):
            with (exports / f"{place}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([KEYS, person(number).values()])
        run("any_warehouse")
        audiences = {each["name"]: sandbox.members(each["id"]) for each in sandbox.audiences()}
        assert held_rows(audiences["Customers"]) == hashed_rows(people)
        assert held_rows(audiences["Opted out"]) == hashed_rows(map(person, opted_out))


@pytest.mark.usefixtures("metadata")
def test_create_upload_refresh_makes_one_audience_and_follows_the_query(sandbox: Sandbox, fill: Any) -> None:
    for signups, customers in ((range(3), range(1, 6)), (range(8, 9), range(4, 8)), ((), range(5, 7))):
        fill("new_signups", *map(person, signups))
        people = fill("active_customers", *map(person, customers))
        run("create_upload_refresh")
        (audience,) = sandbox.audiences()
        assert audience["name"] == "Active customers"
        assert held_rows(sandbox.members(audience["id"])) == hashed_rows(people)


@pytest.mark.usefixtures("metadata")
def test_many_audiences_splits_one_list_by_country(sandbox: Sandbox, fill: Any) -> None:
    for numbers in (range(12), range(5, 14)):
        countries = ("US", "DE", "BR")
        people = fill("active_customers", *(person(number, countries[number % 3]) for number in numbers))
        run("many_audiences")
        audiences = {each["name"].rpartition(" ")[2]: each["id"] for each in sandbox.audiences()}
        assert set(audiences) == set(countries)
        for country, audience in audiences.items():
            expected = hashed_rows(one for one in people if one.country == country)
            assert held_rows(sandbox.members(audience)) == expected


@pytest.mark.usefixtures("metadata")
def test_users_from_python_uploads_what_the_callable_returns(sandbox: Sandbox, audience_id: str) -> None:
    run("users_from_python")
    expected = [
        (
            ("EMAIL", sha256(f"reader{number}@example.com")),
            ("EXTERN_ID", str(number)),
            ("PHONE", sha256(f"4917012345{number:02d}")),
        )
        for number in range(1, 51)
    ]
    assert held_rows(sandbox.members(audience_id)) == sorted(expected)


@pytest.mark.usefixtures("metadata")
def test_wait_for_meta_goes_on_once_meta_is_done(sandbox: Sandbox, fill: Any, audience_id: str) -> None:
    for numbers in (range(120), range(10, 130), range(10, 130)):
        people = fill("active_customers", *map(person, numbers))
        run("wait_for_meta")
        assert held_rows(sandbox.members(audience_id)) == hashed_rows(people)
