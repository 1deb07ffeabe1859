"""What is COPY's own among the ways to read Postgres; what holds for both is in test_postgres_route.py."""

from __future__ import annotations

import datetime as dt
import os
import signal
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_fbca.exceptions import OptionsError, SourceError
from airflow_provider_fbca.identity.cells import read_cells
from airflow_provider_fbca.warehouse import open_sql, postgres_session
from airflow_provider_fbca.warehouse import postgres as postgres_route
from airflow_provider_fbca.warehouse.connections import hook_of
from airflow_provider_fbca.warehouse.postgres_columns import Form, made
from airflow_provider_fbca.warehouse.postgres_copy import CopyOut
from airflow_provider_fbca.warehouse.registry import route_for
from airflow_provider_fbca.warehouse.source import Query

ACTIVITY = "SELECT state, wait_event FROM pg_stat_activity WHERE application_name = 'fbca-test'"
ENDLESS = "SELECT repeat('x', 100) AS a FROM generate_series(1, 9000) a, generate_series(1, 9000) b"

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
ROWS = st.lists(
    st.tuples(
        st.none() | TEXTS | st.sampled_from(["\\N", "\\.", "", '"', '"",', "\r\n", "NULL", "\ufeff"]),
        st.none() | st.decimals(-(10**20), 10**20, places=6) | st.just(Decimal("NaN")),
        st.none() | st.floats(),
        st.none() | st.floats(width=32),
        st.none() | st.binary(),
        st.none() | st.booleans(),
        st.none() | st.dates(),
        st.none() | st.datetimes(),
        st.none() | st.datetimes().filter(lambda each: 1 < each.year < 9999),
        st.none() | st.times(),
        st.none() | st.timedeltas(min_value=dt.timedelta(-(10**6)), max_value=dt.timedelta(10**6)),
        st.none() | st.uuids().map(str),
    ),
    min_size=1,
    max_size=20,
)
TYPES = [
    *("text", "numeric", "float8", "float4", "bytea", "boolean"),
    *("date", "timestamp", "timestamptz", "time", "interval", "uuid"),
]
SQL = f"SELECT * FROM (VALUES {{}}) AS v ({', '.join(f'c_{name}' for name in TYPES)})"
ROW = f"({', '.join(f'%s::{name}' for name in TYPES)})"


def read(conn_id: str, sql: str, **options: object) -> pa.Table:
    with open_sql(sql, sql_conn_id=conn_id, **options) as source:
        return pa.Table.from_batches(source.batches())


def unmarked(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Give a column as it is, but for one of type numeric: that only as its texts, as the cursor does."""
    if not isinstance(column.type, pa.OpaqueType):
        return column
    return pa.chunked_array([read_cells(chunk, name="numeric", first_row=0).texts for chunk in column.chunks])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_whatever_the_values_copy_gives_them_as_the_named_cursor_does(postgres, rows):
    sql = SQL.format(", ".join([ROW] * len(rows)))
    options = {"parameters": [value for row in rows for value in row], "session_sql": "SET TIME ZONE 'Asia/Tokyo'"}
    copied = read(postgres, sql, sql_route="postgres-copy", **options)
    fetched = read(postgres, sql, sql_route="dbapi", **options)
    for name, column in zip(copied.column_names, map(unmarked, copied.columns), strict=True):
        # What the driver gives for NULLs alone has no type of its own.
        assert column.type == fetched[name].type or fetched[name].null_count == len(rows)
        assert repr(column.to_pylist()) == repr(fetched[name].to_pylist()), name


def test_nulls_and_texts_that_look_like_nulls_stay_apart_in_a_single_column(postgres):
    sql = "VALUES (NULL), (''), (E'\\\\N'), (E'\\\\.'), (NULL), ('NULL'), (E'\\n'), ('\"'), (NULL)"
    table = read(postgres, sql, sql_route="postgres-copy")
    assert table["column1"].to_pylist() == [None, "", "\\N", "\\.", None, "NULL", "\n", '"', None]


@pytest.mark.parametrize("megabytes", [1, 5, 20])
def test_a_cell_may_be_larger_than_any_buffer(postgres, megabytes):
    cell = f"CASE WHEN i % 2 = 0 THEN repeat('Zoë\n', {megabytes << 18}) END"
    table = read(postgres, f"SELECT i AS id, {cell} AS a FROM generate_series(1, 4) i")
    assert table["id"].to_pylist() == ["1", "2", "3", "4"]
    assert [cell and len(cell.encode()) for cell in table["a"].to_pylist()] == [None, 5 * (megabytes << 18)] * 2


def test_batches_are_no_larger_than_asked_and_all_rows_are_in_them_in_order(postgres):
    sql = "SELECT i AS id, repeat('x', 100) AS a FROM generate_series(1, 123457) i ORDER BY i"
    with open_sql(sql, sql_conn_id=postgres, batch_rows=1000) as source:
        assert source.route == "postgres-copy"
        batches = list(source.batches())
    assert max(batch.num_rows for batch in batches) == 1000
    assert [int(each) for batch in batches for each in batch["id"].to_pylist()] == list(range(1, 123458))


def test_the_server_waits_for_whoever_reads(postgres, admin, eventually):
    with open_sql(ENDLESS, sql_conn_id=postgres) as source:
        batches = source.batches()
        next(batches)
        assert eventually(lambda: admin(ACTIVITY) == [("active", "ClientWrite")])
        assert next(batches).num_rows


def test_no_more_is_read_than_there_is_room_for(eventually):
    class Endless:
        """A cursor of psycopg 2 whose COPY has no end."""

        megabytes = 0

        def copy_expert(self, sql, file):
            while True:
                file.write(b"x" * (1 << 20))
                self.megabytes += 1

    cursor = Endless()
    copy = CopyOut(cursor, "COPY")
    try:
        assert len(copy.read()) == 4 << 20
        # One portion was taken, two are ready and one waits for room, short of the row that made it full.
        assert eventually(lambda: cursor.megabytes == 4 * 4 - 1)
        assert not eventually(lambda: cursor.megabytes > 4 * 4 - 1, seconds=0.2)
        copy.read()
        assert eventually(lambda: cursor.megabytes == 5 * 4 - 1)
    finally:
        copy.stop()
    assert copy.is_over(1)


@pytest.mark.parametrize(
    "sql",
    [
        "VALUES ('a')",
        "WITH a AS (SELECT 'a' AS b) SELECT * FROM a ORDER BY b LIMIT 3",
        "((SELECT 'a') UNION ALL (SELECT 'a' WHERE false))",
        "SELECT 'a' -- as it ends",
        "/* a hint */ TABLE just_one",
        'SELECT \'a\' AS "say ""hi"", 100%s\n{}"',
    ],
)
def test_every_kind_of_query_can_be_copied(postgres, admin, sql):
    admin("CREATE TABLE IF NOT EXISTS just_one AS SELECT 'a' AS b")
    with open_sql(sql, sql_conn_id=postgres) as source:
        assert source.route == "postgres-copy"
        assert [row for batch in source.batches() for row in batch.columns[0].to_pylist()] == ["a"]


def test_a_domain_is_read_as_what_it_is_made_of(postgres, admin):
    admin("DROP DOMAIN IF EXISTS yes_or_no, digest")
    admin("CREATE DOMAIN yes_or_no AS boolean")
    admin("CREATE DOMAIN digest AS bytea")
    table = read(postgres, "SELECT true::yes_or_no AS a, '\\x00ff'::digest AS b", sql_route="postgres-copy")
    assert table.to_pylist() == [{"a": "true", "b": b"\x00\xff"}]


@pytest.mark.parametrize("cell", ["ROW(1, 'zoe.secret')", "int4range(1, 5)", "ARRAY[ROW(1)]", "NULL::text[]"])
def test_columns_of_many_values_are_refused_before_the_query_runs(postgres, holds_no, cell):
    sql = f"SELECT pg_sleep(60)::text AS slow, {cell} AS extra"
    with open_sql(sql, sql_conn_id=postgres) as source, pytest.raises(Exception, match="'extra'") as caught:
        source.names  # noqa: B018
    holds_no(caught.value, "zoe.secret")


def test_text_that_is_not_unicode_is_told_by_its_code(admin, connection, postgres_server, holds_no):
    admin("DROP DATABASE IF EXISTS bytes")
    admin("CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'")
    info = postgres_server.get_postmaster_info()
    connection("ascii", conn_type="postgres", host=str(info.socket_dir), login="postgres", schema="bytes")
    sql = "SELECT 'zoe.secret' || E'\\xff' AS a"
    with open_sql(sql, sql_conn_id="ascii") as source, pytest.raises(SourceError, match="22021") as caught:
        list(source.batches())
    assert caught.value.permanent
    holds_no(caught.value, "zoe.secret")


def test_a_query_is_cancelled_where_its_rows_cannot_be_read(postgres, admin, eventually, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(postgres_route, "made", fail)
    # The first row is a portion by itself, and the second keeps the server busy.
    cell = "CASE WHEN i = 1 THEN repeat('x', 18000000) ELSE pg_sleep(60)::text END"
    with open_sql(f"SELECT {cell} AS a FROM generate_series(1, 2) i", sql_conn_id=postgres) as source:
        with pytest.raises(SourceError, match="MemoryError"):
            next(source.batches())
        assert eventually(lambda: admin(ACTIVITY) == [], seconds=2)


@pytest.mark.parametrize("sql", ["SHOW server_version", "EXPLAIN SELECT 1"])
def test_what_copy_cannot_take_is_left_to_the_cursor(postgres, sql):
    assert route_for(hook_of(postgres, None), Query(sql, None, postgres)).name == "dbapi"


@pytest.mark.parametrize(
    "fields",
    [
        {"extra": {"redshift": True}},
        {"extra": {"iam": True, "redshift-serverless": True}},
        {"host": "shop.abc123.eu-west-1.redshift.amazonaws.com"},
        {"host": "team.123456789012.eu-west-1.redshift-serverless.amazonaws.com"},
    ],
)
def test_redshift_by_a_postgres_connection_is_left_to_the_cursor(connection, fields):
    connection("shift", conn_type="postgres", **fields)
    hook = hook_of("shift", None)
    assert route_for(hook, Query("SELECT 1", None, "shift")).name == "dbapi"
    with pytest.raises(OptionsError, match="Give one of: auto, dbapi"):
        route_for(hook, Query("SELECT 1", None, "shift"), "postgres-copy")


def test_a_hook_that_does_not_tell_its_connection_is_read_by_copy(monkeypatch, postgres, caplog):
    hook = hook_of(postgres, None)
    monkeypatch.setattr(type(hook), "connection", property(lambda self: 1 // 0))
    assert route_for(hook, Query("SELECT 1", None, postgres)).name == "postgres-copy"


@pytest.fixture
def looks_like_redshift(monkeypatch):
    """Lets the Postgres pass for the 8.0 that Redshift says it is."""
    monkeypatch.setattr(postgres_session, "_OLDEST_POSTGRES", 10**9)


def test_a_redshift_that_nobody_took_for_one_is_refused_with_the_route_to_take(postgres, looks_like_redshift):
    with open_sql("SELECT 1 AS a", sql_conn_id=postgres) as source, pytest.raises(SourceError) as caught:
        source.names  # noqa: B018
    assert "sql_route='dbapi'" in str(caught.value)
    assert caught.value.permanent


def test_redshift_by_a_postgres_connection_is_asked_for_a_thousand_rows_at_a_time(
    postgres, looks_like_redshift, admin, eventually
):
    sql = "SELECT i AS id, %s AS name FROM generate_series(1, 12500) i ORDER BY i"
    options = {"parameters": ["100%"], "sql_route": "dbapi", "batch_rows": 10_000}
    with open_sql(sql, sql_conn_id=postgres, **options) as source:
        batches = source.batches()
        first = next(batches)
        # One more batch is read ahead, of what is left.
        fetch = "SELECT query FROM pg_stat_activity WHERE application_name = 'fbca-test'"
        assert eventually(lambda: admin(fetch) in ([("FETCH FORWARD 1000 FROM fbca_users",)], []))
        found = [first, *batches]
    assert [batch.num_rows for batch in found] == [10_000, 2_500]
    assert [each for batch in found for each in batch["id"].to_pylist()] == [str(i) for i in range(1, 12_501)]
    assert found[0]["name"][0].as_py() == "100%"


BROKEN_LATE = "SELECT 1 / (300000 - i) AS a FROM generate_series(1, 400000) i"


@pytest.mark.parametrize("sql", ["SELECT 1 AS a", ENDLESS, "SELECT 1 / 0 AS a", BROKEN_LATE])
def test_nothing_stays_open_however_a_read_ends(postgres, admin, eventually, sql):
    def some() -> int:
        with open_sql(sql, sql_conn_id=postgres) as source, suppress(SourceError):
            next(source.batches())
        return len(list(Path("/proc/self/fd").iterdir()))

    # The first run imports and opens what stays for good.
    before = max(some(), some())
    assert eventually(lambda: some() <= before)
    assert eventually(lambda: admin(ACTIVITY) == [])


def test_a_server_that_stopped_answering_does_not_hold_the_reader(postgres, admin, eventually):
    backend = "SELECT pid FROM pg_stat_activity WHERE application_name = 'fbca-test' AND state = 'active'"
    with open_sql("SELECT pg_sleep(60)::text AS a", sql_conn_id=postgres) as source:
        assert source.names == ("a",)
        assert eventually(lambda: admin(backend))
        ((pid,),) = admin(backend)
        os.kill(pid, signal.SIGSTOP)
        try:
            source.close()
            assert eventually(lambda: not source._thread.is_alive())
        finally:
            os.kill(pid, signal.SIGCONT)
    assert eventually(lambda: admin(ACTIVITY) == [])


@pytest.mark.parametrize("cut", [slice(None), slice(1, None), slice(2, 3), slice(3, 3)])
def test_hexadecimal_texts_become_their_bytes_wherever_a_slice_begins(cut):
    values = [b"\x00\xff", None, b"", "Zoë".encode()]
    texts = pa.array([value if value is None else value.hex() for value in values])
    assert made(texts[cut], Form(arrow=pa.binary()), escaped=False).to_pylist() == values[cut]
