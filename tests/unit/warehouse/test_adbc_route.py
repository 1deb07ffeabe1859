"""ADBC's own route: the hook of Airflow's Arrow provider with the drivers of SQLite and Postgres on real databases."""

from __future__ import annotations

import gc
import sqlite3
import threading
from contextlib import closing

import nasty
import pyarrow as pa
import pytest
from test_nasty_table import POSTGRES, SQLITE, TOKYO

from airflow_provider_fbca.exceptions import SourceError, UsersError
from airflow_provider_fbca.identity import Preparer, resolve_mapping
from airflow_provider_fbca.warehouse import open_sql

ACTIVITY = "SELECT state, query FROM pg_stat_activity WHERE application_name = 'fbca-adbc'"
#: Types whose bytes, as Postgres sends them, are not their text.
BINARY = ("'10.0.0.1'::inet", "'65:66:67:68:69:70'::macaddr", "B'01100001'", "int4range(1, 2)", "'08:00+09'::timetz")


@pytest.fixture
def lite(connection, tmp_path):
    """An ADBC connection on a SQLite file, which ``tmp_path`` holds."""
    uri = f"file:{tmp_path}/users.db"
    extra = {"driver": "adbc_driver_sqlite", "dialect": "sqlite", "db_kwargs": {"uri": uri}}
    return connection("adbclite", conn_type="adbc", extra=extra)


@pytest.fixture
def users(tmp_path):
    """Fills a table of that file, ``users (a)``, whose cells may have any type."""

    def fill(*cells: object) -> None:
        with closing(sqlite3.connect(tmp_path / "users.db")) as session, session:
            session.execute("CREATE TABLE users (a)")
            session.executemany("INSERT INTO users VALUES (?)", [(cell,) for cell in cells])

    return fill


@pytest.fixture
def pg(postgres_server, connection):
    """An ADBC connection on the Postgres of the tests."""
    pytest.importorskip("adbc_driver_postgresql")
    uri = f"{postgres_server.get_uri()}&application_name=fbca-adbc"
    extra = {"driver": "adbc_driver_postgresql", "dialect": "postgresql", "db_kwargs": {"uri": uri}}
    return connection("adbcpg", conn_type="adbc", extra=extra)


def rows_of(source) -> list[dict]:
    return [row for batch in source.batches() for row in batch.to_pylist()]


def test_sqlite_gives_the_nasty_table(lite):
    with open_sql(nasty.query(SQLITE), sql_conn_id=lite) as source:
        assert source.route == "adbc (SQLite)"
        nasty.check(source.batches())


def test_batches_are_bounded_and_in_order(lite):
    sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25000) SELECT i FROM n"
    with open_sql(sql, sql_conn_id=lite, batch_rows=300) as source:
        batches = list(source.batches())
    assert max(batch.num_rows for batch in batches) == 300
    assert [row["i"] for batch in batches for row in batch.to_pylist()] == list(range(1, 25001))


def test_an_empty_result_has_names_and_no_batches(lite):
    with open_sql("SELECT 1 AS a WHERE false", sql_conn_id=lite) as source:
        assert source.names == ("a",)
        assert list(source.batches()) == []


def test_stream_cursor_and_connection_are_closed_and_not_left_to_be_found_unclosed(lite, recwarn):
    # What other tests have left is found now, and not below.
    gc.collect()
    recwarn.clear()
    with open_sql("SELECT 1 AS a", sql_conn_id=lite) as source:
        assert rows_of(source) == [{"a": 1}]
    del source
    gc.collect()
    assert [str(warning.message) for warning in recwarn if warning.category is ResourceWarning] == []


def test_duplicate_columns_are_named(lite):
    with open_sql("SELECT 1 AS a, 2 AS a", sql_conn_id=lite) as source, pytest.raises(SourceError, match="'a'"):
        source.names  # noqa: B018


def test_parameters_are_bound(lite):
    with open_sql("SELECT ? AS a, ? AS b", sql_conn_id=lite, parameters=["x' --", 2]) as source:
        assert rows_of(source) == [{"a": "x' --", "b": 2}]


@pytest.mark.parametrize("sql", ["DELETE FROM users RETURNING a", "DELETE FROM users"])
def test_sqlite_cannot_be_written(lite, users, tmp_path, sql):
    users("kept")
    with open_sql(sql, sql_conn_id=lite) as source, pytest.raises(SourceError):
        rows_of(source)
    with closing(sqlite3.connect(tmp_path / "users.db")) as session:
        assert session.execute("SELECT count(*) FROM users").fetchone() == (1,)


def test_session_sql_comes_first_and_to_its_end(lite):
    session_sql = ["CREATE TEMP TABLE t (a)", "INSERT INTO t VALUES (7), (8) RETURNING a"]
    with open_sql("SELECT a FROM t", sql_conn_id=lite, session_sql=session_sql) as source:
        assert rows_of(source) == [{"a": 7}, {"a": 8}]


@pytest.mark.parametrize(("first", "later"), [(None, "zoe.secret"), (1, "zoe.secret"), (1.5, "zoe.secret"), (1, 1.5)])
def test_a_type_that_sqlite_changes_late_is_told_with_the_way_out(lite, users, holds_no, first, later):
    users(*[first] * 20_000, later)
    with open_sql("SELECT a FROM users", sql_conn_id=lite) as source, pytest.raises(SourceError) as caught:
        rows_of(source)
    assert "several types" in str(caught.value)
    assert "connection of type sqlite" in str(caught.value)
    assert caught.value.permanent
    holds_no(caught.value, "zoe.secret")


@pytest.mark.parametrize("phone", [6505551212.0, -2.5, 1e-120])
def test_floats_that_sqlite_rounds_among_texts_are_refused(lite, users, phone):
    users("+1 650 555 1212", phone)
    with open_sql("SELECT a FROM users", sql_conn_id=lite) as source, pytest.raises(SourceError, match="several types"):
        rows_of(source)


@pytest.mark.parametrize(
    ("sql", "code"), [("SELEC 'zoe.secret'", "INVALID_ARGUMENT"), ("SELECT zoe_secret", "INVALID_ARGUMENT")]
)
def test_malformed_sql_is_permanent_and_not_quoted(lite, holds_no, sql, code):
    with open_sql(sql, sql_conn_id=lite) as source, pytest.raises(SourceError, match=code) as caught:
        source.names  # noqa: B018
    assert "'adbclite'" in str(caught.value)
    assert caught.value.permanent
    holds_no(caught.value, "secret")


def test_a_driver_that_is_not_there_is_told_without_its_address(connection, holds_no):
    extra = {"driver": "adbc_driver_sqlite", "db_kwargs": {"uri": "file:/nowhere/zoe.secret/users.db"}}
    connection("gone", conn_type="adbc", extra=extra)
    with pytest.raises(SourceError, match="'gone'") as caught:
        open_sql("SELECT 1 AS a", sql_conn_id="gone")
    holds_no(caught.value, "zoe.secret")


@pytest.mark.clients
@pytest.mark.parametrize("rows", [1, 10_000])
def test_postgres_gives_the_nasty_table(pg, admin, rows):
    admin("DO $$ BEGIN CREATE TYPE color AS ENUM ('red', 'blue'); EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    # Of an address, the driver gives the bytes that travelled.
    sql = nasty.query({**POSTGRES, "inet": "host(CAST({q} AS inet))"})
    with open_sql(sql, sql_conn_id=pg, session_sql=TOKYO, batch_rows=rows) as source:
        assert source.route == "adbc (PostgreSQL)"
        nasty.check(source.batches())


@pytest.mark.clients
@pytest.mark.parametrize("cell", [*BINARY, "'1.50'::money"])
def test_a_type_whose_bytes_are_not_its_text_is_refused_by_column(pg, holds_no, cell):
    preparer = Preparer(resolve_mapping(["a", "email"], {"a": ["EXTERN_ID"], "email": ["EMAIL"]}))
    with open_sql(f"SELECT {cell} AS a, 'zoe@example.com' AS email", sql_conn_id=pg) as source:
        (batch,) = source.batches()
    with pytest.raises(UsersError, match="'a'") as caught:
        preparer.prepare(batch)
    holds_no(caught.value, "fg")


@pytest.mark.clients
@pytest.mark.parametrize("cell", BINARY)
def test_such_a_type_does_no_harm_where_no_key_is_made_of_it(pg, cell):
    preparer = Preparer(resolve_mapping(["a", "email"], {"email": ["EMAIL"]}))
    with open_sql(f"SELECT {cell} AS a, 'zoe@example.com' AS email", sql_conn_id=pg) as source:
        (batch,) = source.batches()
    assert preparer.prepare(batch).num_rows == 1


@pytest.mark.clients
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_timestamps_show_the_day_of_the_session(pg, texts_of, zone):
    sql = f"SELECT '1991-10-12 00:00:00 {zone}'::timestamptz AS born"
    with open_sql(sql, sql_conn_id=pg, session_sql=f"SET TIME ZONE '{zone}'") as source:
        (batch,) = source.batches()
    assert texts_of(batch) == [{"born": "1991-10-12 00:00:00"}]


@pytest.mark.clients
def test_a_session_zone_without_a_name_is_refused_only_where_it_matters(pg):
    with (
        open_sql("SELECT now() AS a", sql_conn_id=pg, session_sql="SET TIME ZONE 9") as source,
        pytest.raises(SourceError, match="time zone") as caught,
    ):
        rows_of(source)
    assert caught.value.permanent
    with open_sql("SELECT 1 AS a", sql_conn_id=pg, session_sql="SET TIME ZONE 9") as source:
        assert rows_of(source) == [{"a": 1}]


@pytest.mark.clients
def test_postgres_does_not_take_parameters_since_they_end_the_streaming(pg, holds_no):
    sql = "SELECT $1 AS a"
    with (
        open_sql(sql, sql_conn_id=pg, parameters=["zoe.secret"]) as source,
        pytest.raises(SourceError, match="connection of type postgres") as caught,
    ):
        source.names  # noqa: B018
    assert caught.value.permanent
    holds_no(caught.value, "zoe.secret")


@pytest.mark.clients
def test_a_large_result_of_postgres_streams(pg, admin, eventually):
    before = pa.total_allocated_bytes()
    sql = "SELECT repeat('x', 1000) AS a FROM generate_series(1, 2000000)"
    with open_sql(sql, sql_conn_id=pg, batch_rows=500) as source:
        batches = source.batches()
        assert next(batches).num_rows == 500
        assert next(batches).num_rows == 500
        assert pa.total_allocated_bytes() - before < 50_000_000
        assert admin(ACTIVITY)[0][0] == "active"
    assert eventually(lambda: admin(ACTIVITY) == [], seconds=2)


@pytest.mark.clients
def test_a_comment_at_the_end_of_a_query_is_a_comment(pg):
    with open_sql("SELECT 1 AS a -- all", sql_conn_id=pg) as source:
        assert rows_of(source) == [{"a": 1}]


@pytest.mark.clients
def test_the_transaction_of_postgres_cannot_write(pg, admin):
    admin("CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS a")
    admin("CREATE OR REPLACE FUNCTION wipe() RETURNS int LANGUAGE sql AS 'DELETE FROM kept RETURNING 1'")
    with open_sql("SELECT wipe() AS a", sql_conn_id=pg) as source, pytest.raises(SourceError, match="25006") as caught:
        rows_of(source)
    assert caught.value.permanent
    assert admin("SELECT count(*) FROM kept") == [(1,)]


@pytest.mark.clients
def test_the_session_of_postgres_cannot_write_after_its_own_commit(pg, admin):
    admin("CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS a")
    admin("CREATE OR REPLACE FUNCTION wipe() RETURNS int LANGUAGE sql AS 'DELETE FROM kept RETURNING 1'")
    with (
        open_sql("SELECT wipe() AS a", sql_conn_id=pg, session_sql="COMMIT") as source,
        pytest.raises(SourceError, match="25006"),
    ):
        rows_of(source)
    assert admin("SELECT count(*) FROM kept") == [(1,)]


@pytest.mark.clients
def test_postgres_is_told_the_time_limit(pg):
    sql = "SELECT current_setting('statement_timeout') AS a"
    with open_sql(sql, sql_conn_id=pg, statement_timeout=7.5) as source:
        assert rows_of(source) == [{"a": "7500ms"}]


@pytest.mark.clients
def test_types_that_only_postgres_names_are_read_where_their_bytes_are_text(pg, texts_of):
    sql = """
        SELECT 'Zoë'::cstring AS a, 1.500::numeric AS b, 6505551212.00::numeric(20,2) AS c, 'x'::name AS d,
               'NaN'::numeric AS e
    """
    with open_sql(sql, sql_conn_id=pg) as source:
        (batch,) = source.batches()
    assert texts_of(batch) == [{"a": "Zoë", "b": "1.5", "c": "6505551212", "d": "x", "e": None}]


@pytest.mark.clients
def test_a_cell_that_breaks_a_cast_in_mid_stream_is_told_by_its_code(pg, holds_no):
    sql = """
        SELECT (CASE WHEN i = 900000 THEN 'zoe.secret@example.com' ELSE '1' END)::int AS n
        FROM generate_series(1, 1000000) i
    """
    with open_sql(sql, sql_conn_id=pg) as source, pytest.raises(SourceError, match="22P02") as caught:
        rows_of(source)
    assert "rows" in str(caught.value)
    assert "after 0 rows" not in str(caught.value)
    assert caught.value.permanent
    holds_no(caught.value, "zoe.secret")


@pytest.mark.clients
def test_cancel_ends_a_blocked_query_at_the_server(pg, admin, eventually):
    with open_sql("SELECT pg_sleep(60)::text AS a", sql_conn_id=pg) as source:
        assert eventually(lambda: any("pg_sleep" in sql for _, sql in admin(ACTIVITY)))
        threading.Timer(0.1, source.cancel).start()
        with pytest.raises(SourceError, match="cancelled"):
            rows_of(source)
    assert eventually(lambda: admin(ACTIVITY) == [], seconds=2)


@pytest.mark.clients
def test_a_connection_killed_by_the_server_may_be_tried_again(pg, admin, eventually):
    with open_sql("SELECT pg_sleep(60)::text AS a", sql_conn_id=pg) as source:
        assert eventually(lambda: any("pg_sleep" in sql for _, sql in admin(ACTIVITY)))
        admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fbca-adbc'")
        with pytest.raises(SourceError, match="'adbcpg'") as caught:
            rows_of(source)
    assert not caught.value.permanent
