"""MariaDB over the DB-API route, with the drivers that come as wheels and a real server of Debian's."""

from __future__ import annotations

import gc
import threading
import time
from contextlib import closing

import pytest
from airflow.providers.common.sql.hooks.sql import DbApiHook
from servers import mariadb

from airflow_provider_fbca.exceptions import SourceError
from airflow_provider_fbca.warehouse import open_sql, sql

pymysql = pytest.importorskip("pymysql")
connector = pytest.importorskip("mysql.connector")

# pymysql reads on from a connection that was closed under it when its result is collected, and complains.
UNRAISABLE = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
ROWS = 200_000
MANY = f"SELECT seq AS id, CONCAT('p', seq, '@example.com') AS email FROM seq_1_to_{ROWS}"
PROCESSES = (
    "SELECT id FROM information_schema.processlist WHERE info LIKE '%seq_1_to%' AND info NOT LIKE '%processlist%'"
)


@pytest.fixture(scope="module")
def server():
    """A running MariaDB, stopped and deleted at the end."""
    with mariadb() as found:
        yield found


@pytest.fixture
def admin(server):
    """Runs SQL on the server beside what is tested, and gives the rows."""
    with closing(pymysql.connect(unix_socket=str(server), user="root", autocommit=True)) as session:

        def run(sql: str) -> tuple:
            with session.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall()

        yield run


@pytest.fixture(autouse=True)
def collected():
    """What a closed connection leaves behind is collected within its test, not in the middle of another."""
    yield
    gc.collect()


@pytest.fixture(params=["pymysql", "mysql.connector"])
def maria(request, server, monkeypatch):
    """A connection whose hook hands out each driver's connections, as providers for MySQL do."""

    class MariaHook(DbApiHook):
        conn_name_attr = "maria_conn_id"

        def get_conn(self):
            if request.param == "pymysql":
                return pymysql.connect(unix_socket=str(server), user="root", database="mysql", charset="utf8mb4")
            return connector.connect(unix_socket=str(server), user="root", database="mysql", charset="utf8mb4")

    # No wheel of a MySQL provider builds everywhere, so there is no connection type to find the hook by.
    monkeypatch.setattr(sql, "hook_of", lambda conn_id, hook_params: MariaHook())
    return "maria"


def test_values_become_text_whatever_their_type(maria):
    query = (
        "SELECT 'Zoë' AS name, '' AS empty, NULL AS missing, 14155550100 AS phone, 1.50 AS ratio, DATE '1991-10-12' d"
    )
    with open_sql(query, sql_conn_id=maria) as source:
        (batch,) = source.batches()
    expected = {"name": "Zoë", "empty": "", "missing": None, "phone": "14155550100", "ratio": "1.5", "d": "1991-10-12"}
    assert batch.to_pylist() == [expected]


def test_every_row_comes_once_and_in_order(maria):
    with open_sql(MANY, sql_conn_id=maria) as source:
        ids = [row for batch in source.batches() for row in batch.column("id").to_pylist()]
    assert ids == [str(number) for number in range(1, ROWS + 1)]


@UNRAISABLE
def test_closing_early_leaves_no_query_on_the_server(maria, admin, eventually):
    with open_sql(MANY.replace(str(ROWS), "100000000"), sql_conn_id=maria) as source:
        assert next(iter(source.batches())).num_rows == 10_000
    assert eventually(lambda: not admin(PROCESSES))


@UNRAISABLE
def test_cancelling_ends_a_query_that_blocks(maria, admin, eventually):
    source = open_sql("SELECT SLEEP(60) AS email", sql_conn_id=maria)
    threading.Timer(0.5, source.cancel).start()
    began = time.monotonic()
    with source, pytest.raises(SourceError):
        list(source.batches())
    assert time.monotonic() - began < 30
    assert eventually(lambda: not admin(PROCESSES.replace("seq_1_to", "SLEEP(60) AS")))


def test_a_malformed_query_fails_for_good_without_its_text(maria, holds_no):
    with (
        open_sql("SELECT secret@example.com FROMM people", sql_conn_id=maria) as source,
        pytest.raises(SourceError) as caught,
    ):
        list(source.batches())
    assert caught.value.permanent
    # Drivers before PyMySQL 1.2 attach MySQL's number, not the SQLSTATE.
    assert "(42000)" in str(caught.value) or "(1064)" in str(caught.value)
    holds_no(caught.value, "secret@example.com")


def test_parameters_are_bound_by_the_driver(maria):
    with open_sql("SELECT %s AS email", sql_conn_id=maria, parameters=["a'b@example.com"]) as source:
        (batch,) = source.batches()
    assert batch.to_pylist() == [{"email": "a'b@example.com"}]
