"""Postgres by both of its routes, with both drivers of its hook and a real server."""

from __future__ import annotations

import datetime as dt
import os
import re
import signal
import threading
import time
from functools import partial

import pytest

from airflow_provider_fbca.exceptions import SourceError, UsersError
from airflow_provider_fbca.warehouse import open_sql as open_sql_by_any

ACTIVITY = "SELECT state, query FROM pg_stat_activity WHERE application_name = 'fbca-test'"


@pytest.fixture(params=["postgres-copy", "dbapi"])
def open_sql(request):
    """Opens a query by each route."""
    return partial(open_sql_by_any, sql_route=request.param)


def rows_of(source) -> list[dict]:
    return [row for batch in source.batches() for row in batch.to_pylist()]


def test_every_type_becomes_the_text_of_its_value(open_sql, postgres, texts_of):
    sql = """
        SELECT 'Zoë' AS name, '' AS empty, NULL::text AS missing, '02108'::text AS zip, 14155550100::numeric AS phone,
               6505551212.0::float8 AS float_phone, 1.50::numeric AS ratio, true AS flag, DATE '1991-10-12' AS born,
               TIMESTAMP '1991-10-12 00:00:00' AS born_at, '6a2f41a3-c54c-fce8-32d2-0324e1c32e22'::uuid AS id,
               '\\x6162'::bytea AS bytes, 1e-7::float8 AS small, 'NaN'::float8 AS nan, 1.1::float4 AS single,
               '{"b": 1,  "a": [null]}'::json AS json, '{"b": 1,  "a": [null]}'::jsonb AS jsonb,
               '10.0.0.1'::inet AS inet, '10.0.0.0/8'::cidr AS cidr, 'ab'::char(4) AS padded,
               'NaN'::numeric AS no_number, 'Infinity'::numeric AS endless, -0.00::numeric AS zero,
               1e20::numeric AS large, TIMESTAMPTZ '1991-10-12 00:00:00.5+00' AS zoned
    """
    with open_sql(sql, sql_conn_id=postgres) as source:
        (batch,) = source.batches()
    assert texts_of(batch) == [
        {
            "name": "Zoë",
            "empty": "",
            "missing": None,
            "zip": "02108",
            "phone": "14155550100",
            "float_phone": "6505551212",
            "ratio": "1.5",
            "flag": "true",
            "born": "1991-10-12",
            "born_at": "1991-10-12 00:00:00",
            "id": "6a2f41a3-c54c-fce8-32d2-0324e1c32e22",
            "bytes": "ab",
            "small": "0.0000001",
            "nan": None,
            "single": "1.1",
            "json": '{"b": 1,  "a": [null]}',
            "jsonb": '{"a": [null], "b": 1}',
            "inet": "10.0.0.1",
            "cidr": "10.0.0.0/8",
            "padded": "ab  ",
            "no_number": None,
            "endless": "inf",
            "zero": "0",
            "large": "100000000000000000000",
            "zoned": "1991-10-12 00:00:00.5",
        }
    ]


def test_a_timestamp_keeps_the_day_of_the_session_zone(open_sql, postgres, connection):
    sql = "SELECT TIMESTAMPTZ '1991-10-12 00:00+09' AS born_at"
    with open_sql(sql, sql_conn_id=postgres, sql_hook_params={"options": "-c timezone=Asia/Tokyo"}) as source:
        assert rows_of(source) == [{"born_at": "1991-10-12 00:00:00"}]


@pytest.mark.parametrize("zone", ["'<-05>+05'", "'EST5EDT,M3.2.0,M11.1.0'", "-5", "'America/St_Johns'"])
def test_a_zone_that_only_the_server_knows_is_kept_too(open_sql, postgres, admin, zone):
    cell = "TIMESTAMPTZ '1991-12-12 02:30:00.25+00'"
    admin(f"SET TIME ZONE {zone}")
    ((written,),) = admin(f"SELECT ({cell})::timestamp::text")
    with open_sql(f"SELECT {cell} AS born_at", sql_conn_id=postgres, session_sql=f"SET TIME ZONE {zone}") as source:
        assert rows_of(source) == [{"born_at": written}]


def test_a_named_cursor_fetches_rows_only_as_they_are_wanted(postgres, admin, eventually):
    sql = "SELECT i::text AS id FROM generate_series(1, 1000000) i"
    with open_sql_by_any(sql, sql_conn_id=postgres, sql_route="dbapi", batch_rows=100) as source:
        assert "named cursor" in source.route
        batches = source.batches()
        assert next(batches).num_rows == 100
        assert eventually(lambda: admin(ACTIVITY)[0][0] == "idle in transaction")
        assert "fbca_users" in admin(ACTIVITY)[0][1]
        assert "FETCH" in admin(ACTIVITY)[0][1]
        assert next(batches)["id"][0].as_py() == "101"
        batches.close()


def test_all_rows_arrive_once_and_in_order(open_sql, postgres):
    sql = "SELECT i AS id FROM generate_series(1, 25001) i ORDER BY i"
    with open_sql(sql, sql_conn_id=postgres) as source:
        ids = [row["id"] for row in rows_of(source)]
    assert ids == [str(i) for i in range(1, 25002)]


def test_names_are_known_before_rows_and_without_any(open_sql, postgres):
    with open_sql("SELECT 1 AS a, 2 AS b WHERE false", sql_conn_id=postgres) as source:
        assert source.names == ("a", "b")
        assert list(source.batches()) == []


def test_duplicate_columns_are_named(open_sql, postgres):
    with (
        open_sql("SELECT 1 AS email, 2 AS phone, 3 AS email", sql_conn_id=postgres) as source,
        pytest.raises(SourceError, match="'email'") as caught,
    ):
        source.names  # noqa: B018
    assert caught.value.permanent


@pytest.mark.parametrize("parameters", [["x' OR '1'='1", 7], {"name": "x' OR '1'='1", "n": 7}])
def test_parameters_are_bound(open_sql, postgres, parameters):
    places = ("%s", "%s") if isinstance(parameters, list) else ("%(name)s", "%(n)s")
    sql = f"SELECT {places[0]}::text AS name, {places[1]}::int AS n, '100%%' AS share"
    with open_sql(sql, sql_conn_id=postgres, parameters=parameters) as source:
        assert rows_of(source) == [{"name": "x' OR '1'='1", "n": "7", "share": "100%"}]


def test_without_parameters_a_percent_sign_is_itself(open_sql, postgres):
    with open_sql("SELECT 'a%sb' AS a WHERE 'ab' LIKE 'a%';  -- done", sql_conn_id=postgres) as source:
        assert rows_of(source) == [{"a": "a%sb"}]


def test_a_cell_that_breaks_a_cast_in_mid_stream_is_not_quoted(open_sql, postgres, holds_no):
    sql = """
        SELECT (CASE WHEN i = 5000 THEN 'zoe.secret@example.com' ELSE '1' END)::int AS n
        FROM generate_series(1, 100000) i
    """
    with open_sql(sql, sql_conn_id=postgres, batch_rows=1000) as source, pytest.raises(SourceError) as caught:
        rows_of(source)
    holds_no(caught.value, "zoe.secret")
    assert "22P02" in str(caught.value)
    assert "'pg'" in str(caught.value)
    assert re.search("after 4[0-9]{3} rows", str(caught.value))
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT 'zoe.secret' FROM", "42601"),
        ("SELECT 'zoe.secret' FROM nowhere", "42P01"),
        ("SELECT zoe_secret", "42703"),
    ],
)
def test_malformed_sql_is_told_by_its_code(open_sql, postgres, holds_no, sql, code):
    with open_sql(sql, sql_conn_id=postgres) as source, pytest.raises(SourceError, match=code) as caught:
        source.names  # noqa: B018
    assert caught.value.permanent
    holds_no(caught.value, "secret")


def test_parameters_that_do_not_fit_are_not_quoted(open_sql, postgres, holds_no):
    sql = "SELECT %s::int AS n"
    with (
        open_sql(sql, sql_conn_id=postgres, parameters=["zoe.secret"]) as source,
        pytest.raises(SourceError) as caught,
    ):
        rows_of(source)
    holds_no(caught.value, "zoe.secret")
    assert caught.value.permanent


def test_the_transaction_cannot_write(open_sql, postgres, admin):
    admin("CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS a")
    admin("CREATE OR REPLACE FUNCTION wipe() RETURNS int LANGUAGE sql AS 'DELETE FROM kept RETURNING 1'")
    with (
        open_sql("SELECT wipe() AS a", sql_conn_id=postgres) as source,
        pytest.raises(SourceError, match="25006") as caught,
    ):
        rows_of(source)
    assert caught.value.permanent
    assert admin("SELECT count(*) FROM kept") == [(1,)]


@pytest.mark.parametrize("before", ["COMMIT", "ROLLBACK", "END", "COMMIT AND CHAIN", "START TRANSACTION READ WRITE"])
def test_nothing_can_be_written_after_statements_that_end_the_transaction(open_sql, postgres, admin, before):
    admin("CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS a")
    admin("CREATE OR REPLACE FUNCTION wipe() RETURNS int LANGUAGE sql AS 'DELETE FROM kept RETURNING 1'")
    with (
        open_sql("SELECT wipe() AS a", sql_conn_id=postgres, session_sql=["SELECT 1", before]) as source,
        pytest.raises(SourceError, match="25006"),
    ):
        rows_of(source)
    assert admin("SELECT count(*) FROM kept") == [(1,)]
    with open_sql("SELECT a FROM kept", sql_conn_id=postgres, session_sql=before) as source:
        assert rows_of(source) == [{"a": "1"}]


def test_statements_that_change_the_encoding_change_neither_parameters_nor_values(open_sql, postgres):
    sql = "SELECT %s::text AS name, length('日本') AS n, 'Zoë' = U&'Zo\\00EB' AS same"
    options = {"parameters": ["Zoë 日本"], "session_sql": "SET client_encoding TO 'latin1'"}
    with open_sql(sql, sql_conn_id=postgres, **options) as source:
        assert rows_of(source) == [{"name": "Zoë 日本", "n": "2", "same": "true"}]


@pytest.mark.parametrize("cell", ["ARRAY['zoe.secret']", "ARRAY['\"zoe.secret\"'::jsonb]", "numrange(1, 6505551212)"])
def test_a_cell_of_many_values_is_refused_by_column_and_type(open_sql, postgres, holds_no, cell):
    with open_sql(f"SELECT {cell} AS extra", sql_conn_id=postgres) as source, pytest.raises(UsersError) as caught:
        rows_of(source)
    assert "'extra'" in str(caught.value)
    holds_no(caught.value, "zoe.secret")
    holds_no(caught.value, "6505551212")


def test_closing_early_leaves_nothing_at_the_server(open_sql, postgres, admin, eventually):
    sql = "SELECT repeat('x', 100) AS a FROM generate_series(1, 5000000)"
    with open_sql(sql, sql_conn_id=postgres, batch_rows=500) as source:
        next(source.batches())
        started = time.monotonic()
    source.close()
    assert time.monotonic() - started < 2
    assert eventually(lambda: admin(ACTIVITY) == [])


def test_dropping_the_iterator_closes_too(open_sql, postgres, admin, eventually):
    source = open_sql("SELECT i AS a FROM generate_series(1, 5000000) i", sql_conn_id=postgres, batch_rows=500)
    for _ in source.batches():
        break
    assert eventually(lambda: admin(ACTIVITY) == [])


def test_cancel_ends_a_blocked_query_for_consumer_and_server(open_sql, postgres, admin, eventually):
    with open_sql("SELECT pg_sleep(60)::text AS a", sql_conn_id=postgres) as source:
        assert eventually(lambda: any(state == "active" for state, _ in admin(ACTIVITY)))
        threading.Timer(0.1, source.cancel).start()
        started = time.monotonic()
        with pytest.raises(SourceError, match="cancelled") as caught:
            next(source.batches())
        assert time.monotonic() - started < 2
    assert not caught.value.permanent
    source.cancel()
    assert eventually(lambda: admin(ACTIVITY) == [], seconds=2)


def test_cancel_ends_a_query_that_streams(open_sql, postgres, admin, eventually):
    with open_sql(
        "SELECT i AS a FROM generate_series(1, 9000) i, generate_series(1, 9000) j", sql_conn_id=postgres
    ) as source:
        batches = source.batches()
        next(batches)
        source.cancel()
        with pytest.raises(SourceError, match="cancelled"):
            next(batches)
        assert eventually(lambda: admin(ACTIVITY) == [], seconds=2)


def test_a_query_that_takes_too_long_is_ended_and_may_be_tried_again(open_sql, postgres, admin, eventually):
    with open_sql("SELECT pg_sleep(60)::text AS a", sql_conn_id=postgres, statement_timeout=0.3) as source:
        with pytest.raises(SourceError) as caught:
            rows_of(source)
        assert eventually(lambda: admin(ACTIVITY) == [], seconds=2)
    assert not caught.value.permanent


def test_the_server_knows_how_long_a_statement_may_take(open_sql, postgres):
    sql = "SELECT current_setting('statement_timeout') AS a"
    with open_sql(sql, sql_conn_id=postgres, statement_timeout=7.5) as source:
        assert rows_of(source) == [{"a": "7500ms"}]


@pytest.mark.parametrize("statement", ["SET DateStyle TO 'SQL, DMY'", "SET extra_float_digits TO -15"])
@pytest.mark.parametrize(
    "options", ["-c client_encoding=latin1", "-c bytea_output=escape -c IntervalStyle=sql_standard"]
)
def test_how_values_are_written_is_not_up_to_the_session(open_sql, postgres, texts_of, statement, options):
    sql = """
        SELECT 'Zoe\u0308 \u65e5\u672c' AS name, DATE '1991-10-02' AS born, TIMESTAMP '1991-10-02 08:30:00.25' AS seen,
               0.1::float8 + 0.2::float8 AS sum, '\\x6162'::bytea AS bytes
    """
    options = {"options": options}
    with open_sql(sql, sql_conn_id=postgres, sql_hook_params=options, session_sql=statement) as source:
        (batch,) = source.batches()
    assert texts_of(batch) == [
        {
            "name": "Zoe\u0308 \u65e5\u672c",
            "born": "1991-10-02",
            "seen": "1991-10-02 08:30:00.25",
            "sum": "0.30000000000000004",
            "bytes": "ab",
        }
    ]


@pytest.mark.parametrize("style", ["postgres", "sql_standard", "iso_8601"])
def test_an_interval_is_read_however_the_session_writes_it(open_sql, postgres, style):
    sql = "SELECT INTERVAL '-1 day 02:03:04.5' AS a, TIME '23:59:59.25' AS b"
    with open_sql(sql, sql_conn_id=postgres, session_sql=f"SET IntervalStyle TO {style}") as source:
        assert rows_of(source) == [
            {
                "a": dt.timedelta(days=-1, hours=2, minutes=3, seconds=4.5),
                "b": dt.time(23, 59, 59, 250_000),
            }
        ]


def test_a_signal_handler_can_cancel_while_the_main_thread_waits(open_sql, postgres):
    with open_sql("SELECT pg_sleep(60)::text AS a", sql_conn_id=postgres) as source:
        before = signal.signal(signal.SIGUSR1, lambda *_: source.cancel())
        try:
            sender = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
            sender.start()
            started = time.monotonic()
            with pytest.raises(SourceError, match="cancelled"):
                rows_of(source)
            assert time.monotonic() - started < 2
        finally:
            sender.join()
            signal.signal(signal.SIGUSR1, before)


def test_a_connection_killed_by_the_server_may_be_tried_again(open_sql, postgres, admin, eventually):
    with open_sql("SELECT pg_sleep(60)::text AS a", sql_conn_id=postgres) as source:
        assert eventually(lambda: any(state == "active" for state, _ in admin(ACTIVITY)))
        admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fbca-test'")
        with pytest.raises(SourceError, match="'pg'") as caught:
            rows_of(source)
    assert not caught.value.permanent


def test_a_server_that_is_not_there_may_be_tried_again(open_sql, connection, holds_no, tmp_path):
    pytest.importorskip("airflow.providers.postgres.hooks.postgres")
    connection("gone", conn_type="postgres", host=str(tmp_path), login="zoe_secret", password="pass_secret")
    with pytest.raises(SourceError, match="'gone'") as caught:
        open_sql("SELECT 1 AS a", sql_conn_id="gone")
    assert not caught.value.permanent
    holds_no(caught.value, "_secret")


def test_a_hook_with_dictionary_rows_gives_the_same(open_sql, postgres, postgres_server, connection):
    info = postgres_server.get_postmaster_info()
    extra = {"cursor": "dictcursor"}
    connection(
        "pgdict", conn_type="postgres", host=str(info.socket_dir), login="postgres", schema="postgres", extra=extra
    )
    with open_sql("SELECT 1 AS a, 'x' AS b", sql_conn_id="pgdict") as source:
        assert rows_of(source) == [{"a": "1", "b": "x"}]
