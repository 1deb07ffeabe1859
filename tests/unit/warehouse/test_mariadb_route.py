"""MariaDB over the DB-API route: a real server of Debian's, the provider's own hook, and all drivers of MySQL."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from airflow_provider_fbca.exceptions import SourceError, UsersError
from airflow_provider_fbca.warehouse import mysql, open_sql, sql
from airflow_provider_fbca.warehouse.mysql import Session, kill_query
from airflow_provider_fbca.warehouse.pump import PumpedSource

pymysql = pytest.importorskip("pymysql")
pytest.importorskip("mysql.connector")

# pymysql reads on from a connection that was closed under it when its result is collected, and complains.
UNRAISABLE = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
ROWS = 200_000
MANY = f"SELECT seq AS id, CONCAT('p', seq, '@example.com') AS email FROM seq_1_to_{ROWS}"
ENDLESS = MANY.replace(str(ROWS), "100000000000")
PROCESSES = (
    "SELECT id FROM information_schema.processlist WHERE (info LIKE '%seq_1_to_%' OR info LIKE '%SLEEP(60)%') "
    "AND info NOT LIKE '%processlist%'"
)
DRIVERS = [pytest.param(name, marks=pytest.mark.clients) for name in ("mysqlclient", "mysql-connector-python")]
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def admin(mariadb_port):
    """Runs SQL on the server beside what is tested, and gives the rows."""
    with closing(pymysql.connect(host="127.0.0.1", port=mariadb_port, user="root", autocommit=True)) as session:

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


@pytest.fixture(params=[*DRIVERS, "pymysql"])
def maria(request, mariadb_port, maria_of, monkeypatch):
    """A connection with each driver: the provider's hook has the first two, hooks of other packages the third."""
    if request.param != "pymysql":
        return maria_of(request.param)

    class PyMySqlHook:
        def get_conn(self):
            return pymysql.connect(host="127.0.0.1", port=mariadb_port, user="root", database="mysql")

    monkeypatch.setattr(sql, "hook_of", lambda conn_id, hook_params: PyMySqlHook())
    return "maria"


def rows_of(source) -> list[dict]:
    return [row for batch in source.batches() for row in batch.to_pylist()]


def test_values_become_text_whatever_their_type(maria, admin, texts_of):
    admin("CREATE DATABASE IF NOT EXISTS odd CHARACTER SET utf8mb4")
    admin("""
        CREATE OR REPLACE TABLE odd.types (
            flag TINYINT(1), bit1 BIT(1), bit10 BIT(10), year YEAR, document JSON, color ENUM('red', 'blue'),
            day DATE, at DATETIME, at_micros DATETIME(6), stamp TIMESTAMP NULL, ratio DECIMAL(20, 4), name VARCHAR(50),
            name_bin VARCHAR(50) COLLATE utf8mb4_bin, latin VARCHAR(9) CHARACTER SET latin1, bytes BLOB,
            fixed BINARY(3), text TEXT, real4 FLOAT, phone DOUBLE, big BIGINT UNSIGNED, padded CHAR(8),
            filled INT(8) ZEROFILL
        )
    """)
    admin("SET sql_mode = ''")
    admin("""
        INSERT INTO odd.types VALUES
            (1, b'1', b'1000000001', 1991, '{"a": 1}', 'red', '1991-10-12', '1991-10-12 00:00:00',
             '1991-10-12 08:30:00.25', '1991-10-12 00:00:00', 16505551212.5000, 'Zoë 🚀', 'Zoë 🚀', 'é', 'é', 'a\\0b',
             '🚀', 0.1, 16505551212, 18446744073709551615, 'ab', 42),
            (0, b'0', b'0', 0, '{}', '', '0000-00-00', '0000-00-00 00:00:00', '1991-00-00 01:02:03', '0000-00-00', -0.5,
             '', '', '', '', '', '', -2, 0, 0, '', 0)
    """)
    with open_sql("SELECT * FROM odd.types", sql_conn_id=maria) as source:
        (batch,) = source.batches()
    first, second = texts_of(batch)
    assert list(first.values()) == [
        *("1", "1", "513", "1991", '{"a": 1}', "red", "1991-10-12", "1991-10-12 00:00:00", "1991-10-12 08:30:00.25"),
        *("1991-10-12 00:00:00", "16505551212.5", "Zoë 🚀", "Zoë 🚀", "é", "é", "a\0b", "🚀", "0.1", "16505551212"),
        *("18446744073709551615", "ab", "42"),
    ]
    # Dates that are none are nothing.
    assert list(second.values()) == [
        *("0", "0", "0", "0", "{}", "", None, None, None, None, "-0.5", "", "", "", "", "\0\0\0", "", "-2", "0", "0"),
        *("", "0"),
    ]


def test_members_of_a_set_are_never_sent_in_an_order_of_chance(maria, admin):
    admin("CREATE DATABASE IF NOT EXISTS odd")
    admin("CREATE OR REPLACE TABLE odd.sets AS SELECT CAST(NULL AS CHAR(9)) AS kinds")
    admin("ALTER TABLE odd.sets MODIFY kinds SET('b', 'a', 'c')")
    admin("UPDATE odd.sets SET kinds = 'a,c'")
    with open_sql("SELECT kinds FROM odd.sets", sql_conn_id=maria) as source:
        if "mysql-connector" in source.route:
            with pytest.raises(UsersError, match="'kinds' holds values of type set"):
                rows_of(source)
        else:
            assert rows_of(source) == [{"kinds": "a,c"}]
    with open_sql("SELECT CAST(kinds AS CHAR) AS kinds FROM odd.sets", sql_conn_id=maria) as source:
        assert rows_of(source) == [{"kinds": "a,c"}]


def test_times_keep_their_type(maria):
    with open_sql("SELECT TIME '-12:30:00' AS t", sql_conn_id=maria) as source:
        (batch,) = source.batches()
    assert str(batch.schema.field("t").type) == "duration[us]"


def test_the_session_is_that_of_session_sql_and_speaks_utf8_all_the_same(maria):
    before = ["SET NAMES latin1", "SET time_zone = '+09:00'", "CREATE TEMPORARY TABLE picked AS SELECT 7 AS id"]
    before += ["SELECT 1", "UPDATE picked SET id = 8"]
    query = "SELECT id, FROM_UNIXTIME(687193200) AS born, '🚀' AS name FROM picked"
    with open_sql(query, sql_conn_id=maria, session_sql=before) as source:
        assert rows_of(source) == [{"id": "8", "born": "1991-10-12 00:00:00", "name": "🚀"}]


@pytest.mark.clients
@pytest.mark.parametrize("cursor", ["dictcursor", "ssdictcursor"])
def test_a_connection_whose_cursors_give_mappings_gives_the_same(maria_of, connection, mariadb_port, cursor):
    maria_of("mysqlclient")
    connection("maria", conn_type="mysql", host="127.0.0.1", port=mariadb_port, login="root", extra={"cursor": cursor})
    query = "SELECT 1 AS a, 'x' AS b"
    with open_sql(query, sql_conn_id="maria", session_sql="SELECT 1", statement_timeout=60) as source:
        assert rows_of(source) == [{"a": "1", "b": "x"}]


def test_every_row_comes_once_and_in_order(maria):
    with open_sql(MANY, sql_conn_id=maria) as source:
        ids = [row for batch in source.batches() for row in batch.column("id").to_pylist()]
    assert ids == [str(number) for number in range(1, ROWS + 1)]


@pytest.mark.parametrize("parameters", [["a'b@example.com"], {"email": "a'b@example.com"}])
def test_parameters_are_bound_by_the_driver(maria, parameters):
    place = "%s" if isinstance(parameters, list) else "%(email)s"
    with open_sql(f"SELECT {place} AS email", sql_conn_id=maria, parameters=parameters) as source:
        assert rows_of(source) == [{"email": "a'b@example.com"}]
    with open_sql("SELECT '100%' AS share", sql_conn_id=maria) as source:
        assert rows_of(source) == [{"share": "100%"}]


@pytest.mark.parametrize("before", ["SET autocommit = 1", "START TRANSACTION", "SET autocommit = 0"])
@pytest.mark.parametrize("query", ["DELETE FROM kept.rows", "SELECT kept.wipe() AS a", "CALL kept.commit_and_wipe()"])
def test_nothing_can_be_written(maria, admin, query, before):
    admin("CREATE DATABASE IF NOT EXISTS kept")
    admin("CREATE OR REPLACE TABLE kept.rows AS SELECT 1 AS a")
    admin("CREATE OR REPLACE FUNCTION kept.wipe() RETURNS INT BEGIN DELETE FROM kept.rows; RETURN 1; END")
    admin("CREATE OR REPLACE PROCEDURE kept.commit_and_wipe() BEGIN COMMIT; DELETE FROM kept.rows; SELECT 1 AS a; END")
    with (
        open_sql(query, sql_conn_id=maria, session_sql=before) as source,
        pytest.raises(SourceError, match=r"1792|25006") as caught,
    ):
        rows_of(source)
    assert caught.value.permanent
    assert admin("SELECT COUNT(*) FROM kept.rows") == ((1,),)


def test_the_server_ends_a_query_at_its_timeout(maria, monkeypatch):
    # Without the one of ours, which ends it at the same time.
    monkeypatch.setattr(sql, "PumpedSource", lambda reader, **_: PumpedSource(reader, remedy=""))
    with (
        open_sql("SELECT SLEEP(5) AS email", sql_conn_id=maria, statement_timeout=0.3) as source,
        pytest.raises(SourceError, match=r"1969|70100") as caught,
    ):
        rows_of(source)
    assert not caught.value.permanent


def test_a_server_that_lacks_a_setting_is_read_without_it(maria, monkeypatch, caplog):
    monkeypatch.setattr(mysql, "_timeout", lambda connection, seconds: "SET SESSION no_such_setting = 1")
    with open_sql("SELECT 1 AS id", sql_conn_id=maria, statement_timeout=60) as source:
        assert rows_of(source) == [{"id": "1"}]
    assert "does not know 'SET SESSION no_such_setting = 1'" in caplog.text


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 'zoe.secret' FROMM people",
        "SELECT zoe_secret",
        "SELECT * FROM zoe_secret",
        "SELECT zoe_secret(1)",
        "SELECT a AS a FROM (SELECT 'zoe_secret' AS a) x JOIN (SELECT 1 AS a) y",
        "SELECT 18446744073709551615 + 1 AS zoe_secret",
    ],
)
def test_a_malformed_query_fails_for_good_without_its_text(maria, holds_no, query):
    with open_sql(query, sql_conn_id=maria) as source, pytest.raises(SourceError) as caught:
        rows_of(source)
    assert caught.value.permanent
    holds_no(caught.value, "secret")


@pytest.mark.parametrize(
    ("after", "told"), [("SELECT 2 AS a", "more than one result"), ("SELECT * FROM odd.none_such", "1146|42S02")]
)
@UNRAISABLE
def test_what_a_procedure_gives_after_its_first_result_is_not_left_out_in_silence(maria, admin, after, told):
    admin("CREATE DATABASE IF NOT EXISTS odd")
    admin(f"CREATE OR REPLACE PROCEDURE odd.some() BEGIN SELECT 1 AS a; {after}; END")
    with open_sql("CALL odd.some()", sql_conn_id=maria) as source, pytest.raises(SourceError, match=told) as caught:
        rows_of(source)
    assert caught.value.permanent


def test_a_procedure_that_selects_once_is_read(maria, admin):
    admin("CREATE DATABASE IF NOT EXISTS odd")
    admin("CREATE OR REPLACE PROCEDURE odd.one() BEGIN SELECT 1 AS a UNION SELECT 2; END")
    with open_sql("CALL odd.one()", sql_conn_id=maria) as source:
        assert rows_of(source) == [{"a": "1"}, {"a": "2"}]


@pytest.mark.parametrize("kill", ["KILL QUERY", "KILL CONNECTION"])
@UNRAISABLE
def test_a_stream_that_the_server_ends_is_never_taken_for_the_end_of_the_rows(maria, admin, kill):
    with open_sql(ENDLESS, sql_conn_id=maria) as source:
        batches = source.batches()
        next(batches)
        admin(f"{kill} {admin(PROCESSES)[0][0]}")
        with pytest.raises(SourceError, match="Reading users") as caught:
            for _ in batches:
                pass
    assert not caught.value.permanent


@UNRAISABLE
def test_the_server_waits_for_whoever_reads_for_longer_than_it_would_by_itself(maria, admin):
    ((before,),) = admin("SELECT @@GLOBAL.net_write_timeout")
    admin("SET GLOBAL net_write_timeout = 1")
    try:
        with open_sql(ENDLESS, sql_conn_id=maria, batch_rows=1000) as source:
            batches = source.batches()
            next(batches)
            time.sleep(2)
            # More than what was on its way to the client.
            assert sum(next(batches).num_rows for _ in range(1000)) == 1_000_000
    finally:
        admin(f"SET GLOBAL net_write_timeout = {before}")


@UNRAISABLE
def test_closing_early_leaves_no_query_on_the_server(maria, admin, eventually):
    with open_sql(ENDLESS, sql_conn_id=maria) as source:
        assert next(source.batches()).num_rows == 10_000
    assert eventually(lambda: not admin(PROCESSES))


@UNRAISABLE
@pytest.mark.parametrize("before", [(), ("SELECT SLEEP(60)",)])
def test_cancelling_ends_a_query_that_blocks_also_one_of_the_session(maria, admin, eventually, before):
    with open_sql("SELECT SLEEP(60) AS email", sql_conn_id=maria, session_sql=before) as source:
        assert eventually(lambda: admin(PROCESSES))
        threading.Timer(0.1, source.cancel).start()
        with pytest.raises(SourceError, match="cancelled"):
            rows_of(source)
        assert eventually(lambda: not admin(PROCESSES), seconds=2)


class OneConnection:
    """A hook that hands out one connection made before."""

    def __init__(self, connection):
        self._connection = connection

    def get_conn(self):
        return self._connection


def test_a_session_of_another_server_is_left_alone(mariadb_port, admin, caplog):
    def connect():
        return pymysql.connect(host="127.0.0.1", port=mariadb_port, user="root")

    with closing(connect()) as victim:
        number = victim.thread_id()
        slept = []

        def sleep():
            with victim.cursor() as cursor:
                cursor.execute("SELECT SLEEP(1), 'SLEEP(60)'")
                slept.append(cursor.fetchone()[0])

        thread = threading.Thread(target=sleep)
        thread.start()
        kill_query(OneConnection(connect()), Session("elsewhere", number), "connection 'x'")
        thread.join()
        # One that is killed gives 1.
        assert slept == [0]
    assert "Another server answered at connection 'x'" in caplog.text


READER = """
import signal, sys
from airflow_provider_fbca.warehouse import open_sql

with open_sql(sys.argv[1], sql_conn_id="maria") as source:
    signal.signal(signal.SIGTERM, lambda *_: source.cancel())
    print("reading", flush=True)
    for _ in source.batches():
        pass
"""


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("query", ["SELECT SLEEP(60) AS email", ENDLESS])
def test_after_a_kill_signal_the_query_is_gone_within_two_seconds(maria_of, admin, eventually, driver, query):
    maria_of(driver)
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, query],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert "reading\n" in reader.stdout
        assert eventually(lambda: admin(PROCESSES), seconds=30)
        reader.send_signal(signal.SIGTERM)
        assert eventually(lambda: not admin(PROCESSES), seconds=2)
        _, error = reader.communicate(timeout=30)
        assert "was cancelled" in error
    finally:
        reader.kill()
        reader.communicate()
