"""DuckDB's own route."""

from __future__ import annotations

import threading
import time

import psutil
import pytest

duckdb = pytest.importorskip("duckdb")
pytest.importorskip("airflow.providers.duckdb.hooks.duckdb")

from airflow_provider_fbca.exceptions import SourceError, UsersError  # noqa: E402
from airflow_provider_fbca.warehouse import open_arrow, open_sql  # noqa: E402


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


@pytest.mark.parametrize("parameters", [None, [1]])
def test_a_large_result_streams(duck, parameters):
    sql = "SELECT md5(i::VARCHAR) AS a, i AS b FROM range(20000000) t(i)" + (" WHERE i >= ?" if parameters else "")
    process = psutil.Process()
    before = process.memory_info().rss
    with open_sql(sql, sql_conn_id=duck, parameters=parameters) as source:
        batches = source.batches()
        for _ in range(20):
            assert next(batches).num_rows > 0
        # Its rows are more than a gigabyte.
        assert process.memory_info().rss - before < 300_000_000


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


def test_the_largest_unsigned_numbers_are_not_made_negative(duck, texts_of):
    largest = 2**128 - 1
    with open_sql(f'SELECT {largest}::UHUGEINT AS "a ""b""", 1 AS n', sql_conn_id=duck) as source:
        try:
            found = [row for batch in source.batches() for row in texts_of(batch)]
        except (SourceError, UsersError):
            # Before DuckDB 2, they are refused by the source or, as bytes, by whoever reads them.
            assert hasattr(duckdb.DuckDBPyConnection, "fetch_record_batch")
        else:
            assert found == [{'a "b"': str(largest), "n": "1"}]


def test_a_relation_s_largest_unsigned_numbers_are_not_made_negative(texts_of):
    with duckdb.connect() as session, open_arrow(session.sql(f"SELECT {2**128 - 1}::UHUGEINT AS a")) as source:
        (batch,) = source.batches()
    assert texts_of(batch) == [{"a": str(2**128 - 1)}]


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
    with (
        open_sql("DELETE FROM kept RETURNING a", sql_conn_id="duckfile") as source,
        pytest.raises(SourceError, match="TransactionContext Error") as caught,
    ):
        rows_of(source)
    assert caught.value.permanent
    with duckdb.connect(path) as session:
        assert session.execute("SELECT count(*) FROM kept").fetchone() == (1,)


@pytest.mark.parametrize(
    "sql", ["COPY (SELECT 1 AS a) TO '{}'", "copy (SELECT 1 AS a) TO '{}'", "EXPORT DATABASE '{}'"]
)
def test_no_file_is_written(duck, tmp_path, sql):
    written = tmp_path / "written"
    statement = sql.format(written)
    with open_sql(statement, sql_conn_id=duck) as source, pytest.raises(SourceError, match="writes files") as caught:
        rows_of(source)
    assert caught.value.permanent
    assert not written.exists()


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


def test_session_sql_comes_first(duck):
    session_sql = ["CREATE TABLE t AS SELECT 7 AS a", "SET TimeZone = 'Asia/Tokyo'"]
    sql = "SELECT a, current_setting('TimeZone') AS zone FROM t"
    with open_sql(sql, sql_conn_id=duck, session_sql=session_sql) as source:
        assert rows_of(source) == [{"a": 7, "zone": "Asia/Tokyo"}]


def test_the_time_limit_interrupts_a_running_query(duck):
    sql = "SELECT count(*) AS n FROM range(10000000) a, range(10000000) b WHERE (a.range * b.range) % 7 = 3"
    with (
        open_sql(sql, sql_conn_id=duck, statement_timeout=0.4) as source,
        pytest.raises(SourceError, match="statement_timeout"),
    ):
        rows_of(source)


@pytest.mark.parametrize(
    ("sql", "kind", "permanent"),
    [
        ("SELECT * FROM read_csv('/nowhere/zoe.secret')", "IO Error", False),
        ("SELECT error('zoe.secret')", "Invalid Input Error", True),
        ("SELECT list(md5(i::VARCHAR) || 'zoe.secret') AS a FROM range(30000000) t(i)", "Out of Memory Error", False),
    ],
)
def test_errors_are_told_by_their_kind(duck, holds_no, sql, kind, permanent):
    session_sql = ["SET memory_limit = '50MB'", "SET max_temp_directory_size = '0KB'"]
    with (
        open_sql(sql, sql_conn_id=duck, session_sql=session_sql) as source,
        pytest.raises(SourceError, match=kind) as caught,
    ):
        rows_of(source)
    assert caught.value.permanent is permanent
    holds_no(caught.value, "zoe.secret")


@pytest.fixture
def motherduck(connection, monkeypatch):
    """A connection to MotherDuck, and the addresses that were opened; a database in memory stands in for it."""
    opened = []
    connect = duckdb.connect

    def record(database, **options):
        opened.append(database)
        if "broken" in database:
            raise duckdb.IOException(f"IO Error: cannot reach {database}")
        return connect(":memory:", **options)

    monkeypatch.setattr(duckdb, "connect", record)
    for name in ("users", "broken"):
        connection(name, conn_type="duckdb", password="token.secret", schema=name)
    return opened


def test_motherduck_is_opened_with_its_token_which_shows_nowhere(motherduck, holds_no):
    with open_sql("SELECT 1 AS a", sql_conn_id="users") as source:
        assert source.route == "duckdb"
        assert rows_of(source) == [{"a": 1}]
    assert motherduck == ["md:users?motherduck_token=token.secret"]
    holds_no(ValueError(), "token.secret")


def test_a_motherduck_that_is_out_of_reach_may_be_tried_again(motherduck, holds_no):
    with pytest.raises(SourceError, match="IO Error") as caught:
        open_sql("SELECT 1 AS a", sql_conn_id="broken")
    assert len(motherduck) == 1
    assert not caught.value.permanent
    holds_no(caught.value, "token.secret")
