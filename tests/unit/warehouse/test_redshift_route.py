"""Redshift by its own driver, which speaks Postgres' protocol, so that a real Postgres answers it here."""

from __future__ import annotations

import threading
import time

import pytest

from airflow_provider_fbca.exceptions import SourceError
from airflow_provider_fbca.warehouse import open_sql

pytestmark = pytest.mark.clients

# The driver tells the server no name of its own.
ACTIVITY = "SELECT query FROM pg_stat_activity WHERE application_name = '' AND backend_type = 'client backend'"


def rows_of(source) -> list[dict]:
    return [row for batch in source.batches() for row in batch.to_pylist()]


@pytest.fixture(autouse=True)
def nothing_left(admin, eventually):
    """Every session is gone from the server with its test."""
    yield
    assert eventually(lambda: others(admin) == [], seconds=2)


def others(admin) -> list[str]:
    return [query for (query,) in admin(ACTIVITY) if query != ACTIVITY]


def test_rows_are_fetched_a_thousand_at_a_time_and_only_as_they_are_wanted(redshift, admin, eventually):
    sql = "SELECT i::text AS id FROM generate_series(1, 1000000) i ORDER BY i"
    with open_sql(sql, sql_conn_id=redshift, batch_rows=2500) as source:
        assert source.route == "redshift"
        batches = source.batches()
        first = next(batches)
        assert first["id"].to_pylist() == [str(i) for i in range(1, 2501)]
        assert eventually(lambda: others(admin) == ["FETCH FORWARD 500 FROM fbca_users"])
        assert next(batches)["id"][0].as_py() == "2501"
        batches.close()


def test_all_rows_arrive_once_and_in_order(redshift):
    sql = "SELECT i AS id FROM generate_series(1, 12001) i ORDER BY i"
    with open_sql(sql, sql_conn_id=redshift) as source:
        assert source.names == ("id",)
        assert [row["id"] for row in rows_of(source)] == [str(i) for i in range(1, 12002)]


def test_names_are_known_without_rows(redshift):
    with open_sql("SELECT 1 AS a, 2 AS b WHERE false", sql_conn_id=redshift) as source:
        assert source.names == ("a", "b")
        assert rows_of(source) == []


def test_parameters_are_bound(redshift):
    # Unlike others, the driver leaves the text between quotes alone.
    sql = "SELECT %s::varchar AS name, %s::int AS n, '100%' AS share"
    with open_sql(sql, sql_conn_id=redshift, parameters=["x' OR '1'='1", 7]) as source:
        assert rows_of(source) == [{"name": "x' OR '1'='1", "n": "7", "share": "100%"}]


def test_parameters_stand_in_no_log_of_the_driver(redshift, caplog):
    caplog.set_level("DEBUG")
    with open_sql("SELECT %s::varchar AS name", sql_conn_id=redshift, parameters=["zoe.secret"]) as source:
        assert rows_of(source) == [{"name": "zoe.secret"}]
    assert "zoe.secret" not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith("redshift_connector")]


def test_without_parameters_a_percent_sign_is_itself(redshift):
    with open_sql("SELECT 'a%sb' AS a WHERE 'ab' LIKE 'a%'", sql_conn_id=redshift) as source:
        assert rows_of(source) == [{"a": "a%sb"}]


def test_timestamps_are_in_the_zone_of_the_session(redshift):
    sql = "SELECT TIMESTAMPTZ '1991-10-12 00:00+09' AS born_at, NULL::timestamptz AS never"
    with open_sql(sql, sql_conn_id=redshift, session_sql="SET TIME ZONE 'Asia/Tokyo'") as source:
        assert rows_of(source) == [{"born_at": "1991-10-12 00:00:00", "never": None}]


def test_a_zone_that_python_does_not_know_is_an_error_only_where_it_matters(redshift):
    zone = {"sql_conn_id": redshift, "session_sql": "SET TIME ZONE INTERVAL '+09:00' HOUR TO MINUTE"}
    with open_sql("SELECT 1 AS a", **zone) as source:
        assert rows_of(source) == [{"a": "1"}]
    with open_sql("SELECT now() AS a", **zone) as source, pytest.raises(SourceError, match="time zone") as caught:
        rows_of(source)
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT 'zoe.secret' FROM", "42601"),
        ("SELECT 'zoe.secret' FROM nowhere", "42P01"),
        ("SELECT CASE WHEN i = 5000 THEN 'zoe.secret' ELSE '1' END::int AS a FROM generate_series(1, 9000) i", "22P02"),
    ],
)
def test_what_the_server_says_of_an_error_is_told_by_its_code_alone(redshift, holds_no, sql, code):
    with open_sql(sql, sql_conn_id=redshift) as source, pytest.raises(SourceError, match=code) as caught:
        rows_of(source)
    assert caught.value.permanent
    holds_no(caught.value, "zoe.secret")


def test_nothing_is_written(redshift, admin):
    admin("CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS a")
    sql = "WITH gone AS (DELETE FROM kept RETURNING a) SELECT a FROM gone"
    with open_sql(sql, sql_conn_id=redshift) as source, pytest.raises(SourceError) as caught:
        rows_of(source)
    assert caught.value.permanent
    assert admin("SELECT count(*) FROM kept") == [(1,)]


def test_closing_early_leaves_nothing_at_the_server(redshift, admin, eventually):
    sql = "SELECT repeat('x', 100) AS a FROM generate_series(1, 9000) a, generate_series(1, 9000) b"
    with open_sql(sql, sql_conn_id=redshift, batch_rows=500) as source:
        next(source.batches())
    assert eventually(lambda: others(admin) == [], seconds=2)


@pytest.mark.parametrize(
    "sql", ["SELECT pg_sleep(60)::text AS a", "SELECT pg_sleep(0.01 * i)::text AS a FROM generate_series(1, 5000) i"]
)
def test_cancel_ends_a_query_for_consumer_and_server(redshift, admin, eventually, sql):
    with open_sql(sql, sql_conn_id=redshift) as source:
        assert eventually(lambda: any("fbca_users" in query for query in others(admin)))
        threading.Timer(0.1, source.cancel).start()
        started = time.monotonic()
        with pytest.raises(SourceError, match="cancelled") as caught:
            rows_of(source)
        assert eventually(lambda: others(admin) == [], seconds=2)
        assert time.monotonic() - started < 4
    assert not caught.value.permanent


def test_the_server_knows_how_long_a_statement_may_take(redshift):
    sql = "SELECT current_setting('statement_timeout') AS a"
    with open_sql(sql, sql_conn_id=redshift, statement_timeout=7.5) as source:
        assert rows_of(source) == [{"a": "7500ms"}]


def test_a_connection_killed_by_the_server_may_be_tried_again(redshift, admin, eventually):
    with open_sql("SELECT pg_sleep(60)::text AS a", sql_conn_id=redshift) as source:
        assert eventually(lambda: any("fbca_users" in query for query in others(admin)))
        admin(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND query LIKE '%fbca_users%'"
        )
        with pytest.raises(SourceError, match=r"'rs'.*InterfaceError") as caught:
            rows_of(source)
    assert not caught.value.permanent


def test_the_driver_has_what_is_used_of_it():
    driver = pytest.importorskip("redshift_connector")
    for name in ("cursor", "rollback", "close"):
        assert callable(getattr(driver.Connection, name))
    for name in ("execute", "fetchall"):
        assert callable(getattr(driver.Cursor, name))
    assert isinstance(driver.Cursor.description, property)
    assert driver.paramstyle == "format"
