"""SQLite over the DB-API route, and what any other driver gets."""

from __future__ import annotations

import sqlite3
import threading
import time
import types
from contextlib import closing

import pytest
from airflow.providers.sqlite.hooks.sqlite import SqliteHook
from airflow.sdk import BaseHook, Connection

from airflow_provider_fbca.exceptions import OptionsError, SourceError, UsersError
from airflow_provider_fbca.warehouse import open_sql
from airflow_provider_fbca.warehouse.dbapi import DbApiReader
from airflow_provider_fbca.warehouse.pump import PumpedSource
from airflow_provider_fbca.warehouse.source import Query

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) AS i FROM n"


def rows_of(source) -> list[dict]:
    return [row for batch in source.batches() for row in batch.to_pylist()]


def counting(n: int) -> str:
    return f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {n}) SELECT i FROM n"


@pytest.fixture
def users(sqlite, tmp_path):
    """A table whose column holds, as SQLite allows, whatever type one puts in."""
    with closing(sqlite3.connect(tmp_path / "users.db")) as session, session:
        session.execute("CREATE TABLE users (id INTEGER, email TEXT, phone)")
        session.executemany(
            "INSERT INTO users VALUES (?, ?, ?)",
            [(1, "a@example.com", 6505551212.0), (2, "", "6505551212"), (3, None, 6505551212), (4, "d", b"650")],
        )
    return sqlite


def test_values_of_any_type_in_a_column_read_as_texts(users, texts_of):
    with open_sql("SELECT * FROM users ORDER BY id", sql_conn_id=users, batch_rows=1) as source:
        batches = list(source.batches())
    assert source.route == "dbapi (sqlite3 cursor)"
    assert [row for batch in batches for row in texts_of(batch)] == [
        {"id": "1", "email": "a@example.com", "phone": "6505551212"},
        {"id": "2", "email": "", "phone": "6505551212"},
        {"id": "3", "email": None, "phone": "6505551212"},
        {"id": "4", "email": "d", "phone": "650"},
    ]


def test_parameters_are_bound_by_place_and_name(users):
    for sql, parameters in [("id = ?", [2]), ("id = :id", {"id": 2})]:
        with open_sql(f"SELECT id FROM users WHERE {sql}", sql_conn_id=users, parameters=parameters) as source:
            assert rows_of(source) == [{"id": "2"}]


def test_an_empty_result_has_names_and_no_batches(users):
    with open_sql("SELECT id, email FROM users WHERE id > 9", sql_conn_id=users) as source:
        assert source.names == ("id", "email")
        assert list(source.batches()) == []


def test_a_failing_cell_in_mid_stream_is_not_quoted(sqlite, holds_no):
    sql = f"SELECT json_extract(CASE WHEN i = 500 THEN 'zoe.secret' ELSE '[]' END, '$.a') AS a FROM ({counting(1000)})"
    with open_sql(sql, sql_conn_id=sqlite, batch_rows=100) as source, pytest.raises(SourceError) as caught:
        rows_of(source)
    assert "SQLITE_ERROR" in str(caught.value)
    assert "400 rows" in str(caught.value)
    assert caught.value.permanent
    holds_no(caught.value, "zoe.secret")


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT 1 FROM nowhere", "SELECT nothing", "SELECT ?"])
def test_malformed_sql_is_permanent_and_told_for_names_and_batches_alike(sqlite, sql):
    with open_sql(sql, sql_conn_id=sqlite) as source:
        for read in (lambda: source.names, lambda: list(source.batches())):
            with pytest.raises(SourceError, match="'lite'") as caught:
                read()
            assert caught.value.permanent


@pytest.mark.parametrize(
    "sql", ["DELETE FROM users", "DELETE FROM users RETURNING id", "DROP TABLE users", "CREATE TABLE more (id)"]
)
def test_nothing_can_be_written(users, tmp_path, sql):
    with open_sql(sql, sql_conn_id=users) as source, pytest.raises(SourceError, match="SQLITE_READONLY") as caught:
        rows_of(source)
    assert caught.value.permanent
    with closing(sqlite3.connect(tmp_path / "users.db")) as session:
        assert session.execute("SELECT count(*) FROM users").fetchone() == (4,)


@pytest.mark.parametrize("sql", ["VACUUM INTO '{}'", "ATTACH '{}' AS other", "PRAGMA journal_mode = wal"])
def test_no_file_can_be_made_beside_the_database(users, tmp_path, sql):
    before = sorted(tmp_path.iterdir())
    with (
        open_sql(sql.format(tmp_path / "other.db"), sql_conn_id=users) as source,
        pytest.raises(SourceError, match="SQLITE_AUTH") as caught,
    ):
        rows_of(source)
    assert caught.value.permanent
    assert sorted(tmp_path.iterdir()) == before


def test_what_sqlite_tells_of_its_tables_can_be_read(users):
    with open_sql("SELECT name FROM pragma_table_info('users')", sql_conn_id=users) as source:
        assert {"name": "id"} in rows_of(source)


def test_a_database_that_the_session_attached_and_a_full_text_index_can_be_read(users, tmp_path):
    with closing(sqlite3.connect(tmp_path / "other.db")) as session:
        session.execute("CREATE VIRTUAL TABLE names USING fts5(name)")
        session.execute("INSERT INTO names VALUES ('Zoe Doe'), ('Max Roe')")
        session.commit()
    attach = f"ATTACH '{tmp_path / 'other.db'}' AS other"
    sql = "SELECT name FROM other.names WHERE names MATCH 'doe'"
    with open_sql(sql, sql_conn_id=users, session_sql=attach) as source:
        assert rows_of(source) == [{"name": "Zoe Doe"}]


def test_a_statement_that_gives_no_rows_is_named(users):
    with (
        open_sql("BEGIN", sql_conn_id=users) as source,
        pytest.raises(SourceError, match="gives no rows") as caught,
    ):
        source.names  # noqa: B018
    assert caught.value.permanent


def test_what_session_statements_write_is_never_committed(users, tmp_path):
    with open_sql("SELECT count(*) AS n FROM users", sql_conn_id=users, session_sql="DELETE FROM users") as source:
        assert rows_of(source) == [{"n": "0"}]
    with closing(sqlite3.connect(tmp_path / "users.db")) as session:
        assert session.execute("SELECT count(*) FROM users").fetchone() == (4,)


def test_text_that_is_no_utf8_is_not_quoted(users, tmp_path, holds_no):
    with closing(sqlite3.connect(tmp_path / "users.db")) as session, session:
        session.execute("UPDATE users SET email = CAST(x'ff7a6f652e736563726574' AS TEXT) WHERE id = 3")
    with open_sql("SELECT email FROM users", sql_conn_id=users) as source, pytest.raises(SourceError) as caught:
        rows_of(source)
    assert "sqlite3.OperationalError (not-UTF-8)" in str(caught.value)
    assert caught.value.permanent
    holds_no(caught.value, "zoe.secret")


def test_cancel_interrupts_a_running_query(sqlite):
    with open_sql(ENDLESS, sql_conn_id=sqlite) as source:
        threading.Timer(0.2, source.cancel).start()
        started = time.monotonic()
        with pytest.raises(SourceError, match="cancelled"):
            list(source.batches())
    assert time.monotonic() - started < 2


def test_a_source_that_is_closed_while_its_query_runs_lets_go_at_once(sqlite):
    source = open_sql(ENDLESS, sql_conn_id=sqlite)
    started = time.monotonic()
    source.close()
    source.close()
    assert time.monotonic() - started < 2
    with pytest.raises(SourceError, match="closed"):
        source.names  # noqa: B018


def test_an_unknown_connection_is_named(holds_no):
    with pytest.raises(SourceError, match="'nowhere'") as caught:
        open_sql("SELECT 1", sql_conn_id="nowhere")
    assert caught.value.permanent
    assert caught.value.__context__ is None


def test_a_connection_type_without_a_provider_is_named(connection):
    connection("odd", conn_type="no_such_type")
    with pytest.raises(SourceError, match="no_such_type"):
        open_sql("SELECT 1", sql_conn_id="odd")


def test_hook_parameters_that_the_hook_does_not_take_are_named(sqlite, monkeypatch):
    def strict(self, *, sqlite_conn_id):
        raise AssertionError

    monkeypatch.setattr(SqliteHook, "__init__", strict)
    with pytest.raises(OptionsError, match=r"'lite', of type 'sqlite', .* odd, schema") as caught:
        open_sql("SELECT 1 AS a", sql_conn_id=sqlite, sql_hook_params={"odd": 1, "schema": "x"})
    assert caught.value.__context__ is None


def test_batch_rows_below_one_are_refused(sqlite):
    with pytest.raises(OptionsError, match="batch_rows"):
        open_sql("SELECT 1", sql_conn_id=sqlite, batch_rows=0)


# -- hooks and drivers that no server here speaks -------------------------------------------------------------------


class RestHook(BaseHook):
    """A hook of something that is no database, as Databricks' REST one."""

    conn_type = "rest"


class SessionHook(BaseHook):
    """A hook whose connection is no DB-API one."""

    conn_type = "session"

    def get_conn(self):
        return object()


@pytest.mark.parametrize("hook", [RestHook, SessionHook])
def test_a_hook_of_no_database_is_named_with_its_connection_type(hook):
    with pytest.raises(SourceError, match=f"{hook.__name__}, of connection type '{hook.conn_type}'") as caught:
        PumpedSource(DbApiReader(hook(), Query("SELECT 1", None, "x")), remedy="")
    assert caught.value.permanent


class CountingCursor(sqlite3.Cursor):
    fetched = 0

    def fetchmany(self, size):
        rows = super().fetchmany(size)
        type(self).fetched += len(rows)
        return rows


class CountingHook:
    """A hook whose driver tells how much was fetched."""

    def get_conn(self):
        class Connection(sqlite3.Connection):
            def cursor(self):
                return super().cursor(CountingCursor)

        return sqlite3.connect(":memory:", factory=Connection)


def test_never_more_than_a_few_batches_are_fetched_ahead(eventually):
    CountingCursor.fetched = 0
    with PumpedSource(DbApiReader(CountingHook(), Query(counting(10_000), None, "x", 100)), remedy="") as source:
        batches = source.batches()
        for taken in range(1, 6):
            next(batches)
            # Two wait in the queue, one waits for room, and one is with the consumer.
            assert eventually(lambda taken=taken: CountingCursor.fetched == 100 * (taken + 3))
            time.sleep(0.05)
            assert CountingCursor.fetched == 100 * (taken + 3)
        batches.close()


class StuckConnection:
    """A driver that can only be stopped by closing its connection."""

    def __init__(self):
        self.closed = threading.Event()

    def cursor(self):
        return self

    def execute(self, sql):
        self.closed.wait(30)
        raise ConnectionResetError

    def rollback(self):
        raise ConnectionResetError

    def close(self):
        self.closed.set()


def test_an_unknown_driver_is_cancelled_by_closing_its_connection():
    stuck = StuckConnection()
    hook = types.SimpleNamespace(get_conn=lambda: stuck)
    with PumpedSource(DbApiReader(hook, Query("SELECT 1", None, "x")), remedy="") as source:
        threading.Timer(0.1, source.cancel).start()
        started = time.monotonic()
        with pytest.raises(SourceError, match="cancelled"):
            list(source.batches())
    assert time.monotonic() - started < 2
    assert stuck.closed.is_set()


def test_rows_as_mappings_are_read_too():
    class Cursor:
        description = (("a",), ("b",))
        rows = ({"a": 1, "b": 2},)

        def execute(self, sql):
            pass

        def fetchmany(self, size):
            rows, self.rows = self.rows, ()
            return rows

    hook = types.SimpleNamespace(
        get_conn=lambda: types.SimpleNamespace(cursor=Cursor, rollback=lambda: None, close=lambda: None)
    )
    with PumpedSource(DbApiReader(hook, Query("SELECT", None, "x")), remedy="") as source:
        assert rows_of(source) == [{"a": "1", "b": "2"}]


def test_a_document_is_refused_before_anything_is_sent():
    class Cursor:
        description = (("a",),)

        def execute(self, sql):
            pass

        def fetchmany(self, size):
            return [({"k": "zoe.secret"},)]

    hook = types.SimpleNamespace(
        get_conn=lambda: types.SimpleNamespace(cursor=Cursor, rollback=lambda: None, close=lambda: None)
    )
    with (
        PumpedSource(DbApiReader(hook, Query("SELECT", None, "x")), remedy="") as source,
        pytest.raises(UsersError, match="Column 'a' holds values of type dict"),
    ):
        rows_of(source)


def test_adbc_hooks_of_the_arrow_provider_can_be_read_row_by_row(connection, tmp_path):
    pytest.importorskip("airflow.providers.apache.arrow.hooks.adbc")
    extra = {"driver": "adbc_driver_sqlite", "dialect": "sqlite", "db_kwargs": {"uri": str(tmp_path / "a.db")}}
    connection("adbc", conn_type="adbc", extra=extra)
    with open_sql("SELECT 1 AS a, 'x' AS b", sql_conn_id="adbc", sql_route="dbapi") as source:
        assert rows_of(source) == [{"a": "1", "b": "x"}]
    assert source.route.startswith("dbapi (adbc")


def test_session_statements_run_before_the_query_in_its_session(sqlite):
    before = ["CREATE TEMP TABLE picked AS SELECT 7 AS id;", "UPDATE picked SET id = id + 1"]
    with open_sql("SELECT id FROM picked", sql_conn_id=sqlite, session_sql=before) as source:
        assert rows_of(source) == [{"id": "8"}]
    with open_sql("SELECT 1 AS id", sql_conn_id=sqlite, session_sql="PRAGMA cache_size = 100") as source:
        assert rows_of(source) == [{"id": "1"}]


def test_an_item_of_session_sql_is_one_statement(sqlite):
    with pytest.raises(SourceError, match=r"session_sql.* holds 2 statements"):
        open_sql("SELECT 1", sql_conn_id=sqlite, session_sql=["SELECT 1; SELECT 2"])


def test_a_query_that_takes_longer_than_its_timeout_is_cancelled(sqlite):
    with (
        open_sql(ENDLESS, sql_conn_id=sqlite, statement_timeout=0.3) as source,
        pytest.raises(SourceError, match=r"longer than its statement_timeout of 0.3 seconds") as caught,
    ):
        rows_of(source)
    assert not caught.value.permanent


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_timeout_is_above_zero(sqlite, seconds):
    with pytest.raises(OptionsError, match="statement_timeout"):
        open_sql("SELECT 1", sql_conn_id=sqlite, statement_timeout=seconds)


def test_the_route_can_be_forced(sqlite):
    with open_sql("SELECT 1 AS id", sql_conn_id=sqlite, sql_route="dbapi") as source:
        assert source.route == "dbapi (sqlite3 cursor)"
    with pytest.raises(OptionsError, match="sql_route is 'snowflake'"):
        open_sql("SELECT 1 AS id", sql_conn_id=sqlite, sql_route="snowflake")


@pytest.mark.parametrize(
    ("conn_type", "told"),
    [("snowflake", r"pip install 'airflow-provider-fbca\[snowflake\]'"), ("odd", "Install the Airflow provider")],
)
def test_a_connection_whose_provider_is_missing_says_what_to_install(connection, monkeypatch, conn_type, told):
    def missing(self, **_):
        raise ModuleNotFoundError("No module named 'airflow.providers.snowflake'")

    monkeypatch.setattr(Connection, "get_hook", missing)
    connection("bare", conn_type=conn_type)
    with pytest.raises(SourceError, match=told) as caught:
        open_sql("SELECT 1", sql_conn_id="bare")
    assert caught.value.permanent


def test_a_source_that_is_still_being_reached_can_be_stopped(eventually):
    reached, answer, stopped = threading.Event(), threading.Event(), threading.Event()

    class SilentHook:
        def get_conn(self):
            reached.set()
            answer.wait(30)
            return sqlite3.connect(":memory:")

    def stop():
        reached.wait(30)
        stopped.set()

    helper = threading.Thread(target=stop)
    helper.start()
    with pytest.raises(SourceError, match="cancelled after 0 rows") as caught:
        PumpedSource(DbApiReader(SilentHook(), Query("SELECT 1", None, "x")), remedy="", stopped=stopped)
    assert not caught.value.permanent
    helper.join()
    answer.set()
