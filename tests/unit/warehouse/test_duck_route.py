"""DuckDB's own route."""

from __future__ import annotations

import threading
import time

import pytest

duckdb = pytest.importorskip("duckdb")
pytest.importorskip("airflow.providers.duckdb.hooks.duckdb")

from airflow_provider_fbca.exceptions import SourceError  # noqa: E402
from airflow_provider_fbca.warehouse import open_sql  # noqa: E402


def rows_of(source) -> list[dict]:
    return [row for batch in source.batches() for row in batch.to_pylist()]


def test_rows_come_as_arrow_with_their_types(duck):
    sql = "SELECT 'Zoë' AS name, '' AS empty, NULL::VARCHAR AS missing, 6505551212 AS phone, DATE '1991-10-12' AS born"
    with open_sql(sql, sql_conn_id=duck) as source:
        assert source.route == "duckdb"
        assert source.names == ("name", "empty", "missing", "phone", "born")
        (batch,) = source.batches()
    assert [str(kind) for kind in batch.schema.types] == ["string", "string", "string", "int64", "date32[day]"]
    assert batch["empty"].to_pylist() == [""]
    assert batch["missing"].to_pylist() == [None]


def test_batches_are_bounded_and_in_order(duck):
    with open_sql("SELECT i FROM range(25000) t(i) ORDER BY i", sql_conn_id=duck, batch_rows=2000) as source:
        batches = list(source.batches())
    assert max(batch.num_rows for batch in batches) <= 2048
    assert [row["i"] for batch in batches for row in batch.to_pylist()] == list(range(25000))


def test_a_large_result_streams(duck):
    sql = "SELECT md5(i::VARCHAR) AS a FROM range(100000000) t(i) WHERE i >= ?"
    started = time.monotonic()
    with open_sql(sql, sql_conn_id=duck, parameters=[1]) as source:
        assert next(source.batches()).num_rows > 0
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("? AS a, ? AS b", ["x' --", 2]),
        ("$1 AS a, $2 AS b", ["x' --", 2]),
        ("$a AS a, $b AS b", {"a": "x' --", "b": 2}),
    ],
)
def test_parameters_are_bound(duck, sql, parameters):
    with open_sql(f"SELECT {sql};", sql_conn_id=duck, parameters=parameters) as source:
        assert rows_of(source) == [{"a": "x' --", "b": 2}]


def test_an_empty_result_has_names_and_no_batches(duck):
    with open_sql("SELECT 1 AS a WHERE false", sql_conn_id=duck) as source:
        assert source.names == ("a",)
        assert list(source.batches()) == []


def test_duplicate_columns_are_named(duck):
    with open_sql("SELECT 1 AS a, 2 AS a", sql_conn_id=duck) as source, pytest.raises(SourceError, match="'a'"):
        source.names  # noqa: B018


@pytest.mark.parametrize(
    "sql", ["SELEC 'zoe.secret'", "SELECT 'zoe.secret' FROM nowhere", "SELECT 'zoe.secret'::INT AS a"]
)
def test_malformed_sql_is_permanent_and_not_quoted(duck, holds_no, sql):
    with open_sql(sql, sql_conn_id=duck) as source, pytest.raises(SourceError, match="'duck'") as caught:
        rows_of(source)
    assert caught.value.permanent
    holds_no(caught.value, "zoe.secret")


def test_a_cell_that_breaks_a_cast_in_mid_stream_is_not_quoted(duck, holds_no):
    sql = "SELECT (CASE WHEN i = 500000 THEN 'zoe.secret' ELSE '1' END)::INT AS a FROM range(1000000) t(i)"
    with open_sql(sql, sql_conn_id=duck) as source, pytest.raises(SourceError, match="Conversion Error") as caught:
        rows_of(source)
    assert caught.value.permanent
    holds_no(caught.value, "zoe.secret")


def test_the_transaction_cannot_write(connection, tmp_path):
    path = str(tmp_path / "kept.duckdb")
    with duckdb.connect(path) as session:
        session.execute("CREATE TABLE kept AS SELECT 1 AS a")
    connection("duckfile", conn_type="duckdb", host=path)
    with open_sql("DELETE FROM kept RETURNING a", sql_conn_id="duckfile") as source, pytest.raises(SourceError):
        rows_of(source)
    with duckdb.connect(path) as session:
        assert session.execute("SELECT count(*) FROM kept").fetchone() == (1,)


def test_cancel_interrupts_a_running_query(duck):
    sql = "SELECT count(*) AS n FROM range(10000000) a, range(10000000) b WHERE (a.range * b.range) % 7 = 3"
    with open_sql(sql, sql_conn_id=duck) as source:
        threading.Timer(0.3, source.cancel).start()
        started = time.monotonic()
        with pytest.raises(SourceError, match="cancelled"):
            list(source.batches())
    assert time.monotonic() - started < 2.5


def test_closing_early_frees_the_database(connection, tmp_path):
    path = str(tmp_path / "free.duckdb")
    connection("duckfile", conn_type="duckdb", host=path)
    with open_sql("SELECT i FROM range(10000000) t(i)", sql_conn_id="duckfile", batch_rows=100) as source:
        next(source.batches())
    with duckdb.connect(path, config={"threads": 1}) as session:
        session.execute("CREATE TABLE now_mine AS SELECT 1")
