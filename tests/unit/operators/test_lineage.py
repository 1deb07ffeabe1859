"""What a task tells Airflow's hook lineage, on the collector of the Airflow at hand."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector
from airflow.sdk import Asset
from operator_tools import TaskDeferred, emails

from airflow_provider_fbca.compat import AIRFLOW_V_3_2_PLUS, AirflowFailException, hook_lineage_collector
from airflow_provider_fbca.exceptions import FbcaError
from airflow_provider_fbca.operators.custom_audience import FacebookRefreshAudienceOperator

if AIRFLOW_V_3_2_PLUS:
    from airflow.sdk import lineage, plugins_manager
else:
    from airflow.lineage import hook as lineage


@pytest.fixture
def collected(monkeypatch):
    """Has Airflow collect lineage as it does for a plugin that reads it, and gives inputs, outputs and queries."""
    if AIRFLOW_V_3_2_PLUS:
        monkeypatch.setattr(plugins_manager, "get_hook_lineage_readers_plugins", lambda: [object])
        lineage.get_hook_lineage_collector.cache_clear()
    else:
        monkeypatch.setattr(lineage, "_hook_lineage_collector", lineage.HookLineageCollector())

    def collect() -> tuple[list[str], list[str], list[Any]]:
        found = get_hook_lineage_collector().collected_assets
        uris = [[info.asset.uri for info in infos] for infos in (found.inputs, found.outputs)]
        return *uris, [(info.key, info.context, info.value) for info in found.extra]

    yield collect
    if AIRFLOW_V_3_2_PLUS:
        lineage.get_hook_lineage_collector.cache_clear()


@pytest.fixture
def output(sandbox, audience) -> str:
    (known,) = sandbox.audiences()
    return f"fbca://{known['account_id']}/{audience}"


@pytest.fixture
def sql(tmp_path, monkeypatch) -> dict[str, Any]:
    """Options of a query with a parameter, on a database with one person."""
    monkeypatch.setenv("AIRFLOW_CONN_LITE", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "users.db")}))
    with closing(sqlite3.connect(tmp_path / "users.db")) as database, database:
        database.execute("CREATE TABLE users AS SELECT 'a@example.com' AS email, 'zoe_secret' AS segment")
    query = "SELECT email FROM users WHERE segment = ?"
    return {"sql": query, "sql_conn_id": "lite", "parameters": ["zoe_secret"]}


@pytest.mark.parametrize("kind", ["upload", "remove", "refresh"])
def test_a_query_is_the_input_and_the_audience_the_output(run, collected, output, sql, kind):
    run(kind, **sql)
    inputs, outputs, [(key, context, value)] = collected()
    assert (inputs, outputs) == ([], [output])
    assert (key, type(context).__name__, context.sqlite_conn_id) == ("sql_job", "SqliteHook", "lite")
    assert value == {"sql": sql["sql"]}


def test_no_parameter_gets_into_it(run, collected, sql):
    run("upload", **sql)
    assert "zoe_secret" not in repr(get_hook_lineage_collector().__dict__)


def test_files_are_the_input_by_their_uri(run, collected, output, tmp_path):
    pq.write_table(emails("a"), tmp_path / "users.parquet")
    for uri in (f"file://{tmp_path}/users.parquet", f"{tmp_path}/users.parquet", f"file://{tmp_path}/*.parquet"):
        run("upload", users_uri=uri)
    inputs, outputs, queries = collected()
    assert inputs == [f"file://{tmp_path}/users.parquet"] * 2 + [f"file://{tmp_path}/*.parquet"]
    assert (outputs, queries) == ([output] * 3, [])


def test_credentials_in_a_uri_stay_out_of_it(run, collected, output, monkeypatch):
    from airflow.sdk.io import attach
    from fsspec.implementations.memory import MemoryFileSystem

    attach("memory", "zoe_secret", fs=MemoryFileSystem())
    with MemoryFileSystem().open("/people/users.csv", "wb") as file:
        file.write(b"email\na@example.com\n")
    run("upload", users_uri="memory://zoe_secret@people/users.csv")
    MemoryFileSystem().rm("/people", recursive=True)
    inputs, outputs, _ = collected()
    assert (inputs, outputs) == (["memory://people/users.csv"], [output])


def test_of_a_callable_there_is_no_input(run, collected, output):
    run("upload", emails("a"))
    assert collected() == ([], [output], [])


def test_a_refresh_that_had_nothing_to_send_is_told_all_the_same(run, collected, output, sql):
    run("refresh", **sql)
    run("refresh", **sql)
    assert collected()[1] == [output] * 2


def test_what_was_not_sent_is_not_told(run, collected):
    run("refresh", emails("a"), plan_only=True)
    with pytest.raises(AirflowFailException):
        run("upload", emails("a"), min_rows=2)
    assert not get_hook_lineage_collector().has_collected


def test_a_task_that_waited_in_the_triggerer_tells_it_in_its_last_process(run, collected, output, sql):
    with pytest.raises(TaskDeferred) as put_off:
        run("refresh", **sql, wait_until_ready=True, deferrable=True)
    # The process is another by then, which knows nothing of what this one has collected.
    collector = get_hook_lineage_collector()
    collector._outputs.clear()
    operator = FacebookRefreshAudienceOperator(task_id="send", audience_id="1", **sql)
    operator.finish({}, {"status": "ready"}, **put_off.value.kwargs)
    assert collected()[1] == [output]


def test_nothing_is_collected_where_nobody_reads_it():
    assert hook_lineage_collector() is None


def test_lineage_that_breaks_fails_no_task(run, collected, monkeypatch, everything_told, members):
    def breaks(*args, **options):
        raise FbcaError("zoe_secret")

    monkeypatch.setattr(lineage.HookLineageCollector, "add_output_asset", breaks)
    run("upload", emails("a"))
    assert len(members()) == 1
    told = everything_told(None)
    assert "The lineage of the task was not reported (FbcaError)." in told
    assert "zoe_secret" not in told


def test_openlineage_has_a_converter_for_the_audience(monkeypatch):
    if AIRFLOW_V_3_2_PLUS:
        from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime as Manager
    else:
        from airflow.providers_manager import ProvidersManager as Manager
    monkeypatch.setattr("airflow.providers.common.compat.openlineage.facet.Dataset", SimpleNamespace)
    asset = Asset("fbca://12/34")
    assert asset.normalized_uri == "fbca://12/34"
    dataset = Manager().asset_to_openlineage_converters["fbca"](asset, None)
    assert (dataset.namespace, dataset.name) == ("fbca://12", "34")
