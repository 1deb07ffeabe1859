"""Values of drivers as text, statements, error codes and routes: the small parts."""

from __future__ import annotations

import datetime as dt
import enum
import importlib
import logging
import threading
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_fbca.exceptions import GuardError, OptionsError, SourceError, UsersError
from airflow_provider_fbca.identity.cells import read_cells
from airflow_provider_fbca.warehouse.cursors import driver_of
from airflow_provider_fbca.warehouse.dbapi import DbApiReader
from airflow_provider_fbca.warehouse.duck import DuckReader
from airflow_provider_fbca.warehouse.errors import code_of, is_permanent, told
from airflow_provider_fbca.warehouse.polling import wait_while
from airflow_provider_fbca.warehouse.registry import DBAPI, ROUTES, Route, route_for
from airflow_provider_fbca.warehouse.source import Query
from airflow_provider_fbca.warehouse.statement import first_word, single_statement
from airflow_provider_fbca.warehouse.text import text_batch, text_column


class Color(enum.StrEnum):
    RED = "red"


QUERY = Query("SELECT 1", None, "x")
#: Types of Arrow that hold values of Python's beyond those that it would choose itself.
_ARROW = {int: pa.decimal256(76, 0), Decimal: pa.decimal128(38, 9)}
TOKYO = dt.timezone(dt.timedelta(hours=9))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", ""),
        (" Zoë ", " Zoë "),
        (None, None),
        (0, "0"),
        (-7, "-7"),
        (14155550100, "14155550100"),
        (6505551212.0, "6505551212"),
        (1e22, "10000000000000000000000"),
        (2108.0, "2108"),
        (-0.0, "0"),
        (1.5, "1.5"),
        (1e-7, "0.0000001"),
        (float("nan"), None),
        (float("inf"), "inf"),
        (Decimal("14155550100.000000000"), "14155550100"),
        (Decimal("1E+3"), "1000"),
        (Decimal(100), "100"),
        (Decimal("-0.00"), "0"),
        (Decimal("0.10"), "0.1"),
        (Decimal("NaN"), None),
        (Decimal("Infinity"), "inf"),
        (True, "true"),
        (False, "false"),
        (dt.date(1991, 10, 12), "1991-10-12"),
        (dt.datetime(1991, 10, 12), "1991-10-12 00:00:00"),  # noqa: DTZ001  a zone is what some columns lack
        (dt.datetime(1991, 10, 12, 8, 30, 0, 250_000, tzinfo=TOKYO), "1991-10-12 08:30:00.25"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("é".encode(), "é"),
        (bytearray(b"ab"), "ab"),
        (memoryview(b"ab"), "ab"),
        (Color.RED, "red"),
    ],
)
def test_a_value_becomes_text(value, text):
    # Beside a text, since a column of floats or of bytes alone is handed on as it is.
    assert text_column("a", [value, None, "x"]).to_pylist() == [text, None, "x"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.5, 2.0], pa.float64()),
        ([b"ab", b"\xff"], pa.binary()),
        ([memoryview(b"ab"), memoryview(b"\xff")], pa.binary()),
        ([dt.time(8, 30)], pa.time64("us")),
        ([dt.timedelta(1)], pa.duration("us")),
    ],
)
def test_a_column_whose_reader_has_to_know_its_type_keeps_it(values, kind):
    assert text_column("a", [*values, None]).equals(pa.array([*values, None], kind))


@given(
    st.one_of(
        st.integers(),
        st.floats(-(2.0**52), 2.0**52),
        st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=9),
        st.booleans(),
        st.dates(),
        st.datetimes(),
        st.binary(max_size=8).map(lambda raw: raw.hex().encode()),
        st.uuids(),
        st.text(),
    )
)
def test_a_value_of_python_and_the_same_of_arrow_read_the_same(value):
    own = pa.array([value.bytes], pa.uuid()) if isinstance(value, UUID) else pa.array([value], _ARROW.get(type(value)))
    of_driver = text_column("a", [value, "x"])
    assert read_cells(own, name="a", first_row=0).texts[0].as_py() == of_driver[0].as_py()


@given(
    st.one_of(
        st.lists(st.none() | values)
        for values in (
            st.integers(),
            st.booleans(),
            st.dates(),
            st.datetimes(),
            st.datetimes(timezones=st.just(TOKYO)),
            st.datetimes() | st.datetimes(timezones=st.just(TOKYO)),
            st.decimals(allow_nan=False, allow_infinity=False, places=3),
            st.text(),
        )
    )
)
def test_a_column_reads_as_its_values_do_one_by_one(values):
    one_by_one = [text_column("a", [value, "x"])[0].as_py() for value in values]
    assert text_column("a", values).to_pylist() == one_by_one
    assert text_column("a", values).type == pa.string()


def test_types_may_mix_and_batches_keep_one_schema():
    first = text_batch(("a", "b"), [(1, None), ("x", None)])
    second = text_batch(("a", "b"), [(None, Decimal("2.50"))])
    assert first.schema == second.schema
    assert first.to_pylist() == [{"a": "1", "b": None}, {"a": "x", "b": None}]
    assert second.to_pylist() == [{"a": None, "b": "2.5"}]


def test_integers_of_numpy_are_integers():
    numpy = pytest.importorskip("numpy")
    assert text_column("a", [numpy.int64(7), numpy.float64(7.0)]).to_pylist() == ["7", "7"]


@pytest.mark.parametrize("value", [{"zoe": 1}, ["zoe"], ("zoe",), {"zoe"}, object(), 1j])
def test_a_type_that_has_no_one_text_is_named(value):
    with pytest.raises(UsersError, match=f"Column 'extra' holds values of type {type(value).__name__},") as caught:
        text_column("extra", ["a", value])
    assert "zoe" not in str(caught.value)


@pytest.mark.parametrize("value", [b"\xffzoe", "\ud800zoe", memoryview(b"\xffzoe")])
def test_text_that_is_no_unicode_leaves_no_trace_of_itself(value, holds_no):
    with pytest.raises(UsersError, match="'raw'") as caught:
        text_column("raw", [value, "x"])
    holds_no(caught.value, "zoe")


@pytest.mark.parametrize(
    ("sql", "statement"),
    [
        ("SELECT 1", "SELECT 1"),
        (" SELECT 1 ;\n", "SELECT 1"),
        ("SELECT 1;;  -- done; really\n/* ; */", "SELECT 1"),
        ("; SELECT 1", "SELECT 1"),
        ("-- all; users\nSELECT 1;", "-- all; users\nSELECT 1"),
        ("SELECT /*+ PARALLEL(8) */ 1", "SELECT /*+ PARALLEL(8) */ 1"),
        ("SELECT ';', \"a;b\", 'it''s;'", "SELECT ';', \"a;b\", 'it''s;'"),
        ("SELECT $$a;b$$, $x$;$x$;", "SELECT $$a;b$$, $x$;$x$"),
        ("WITH a AS (SELECT 1) SELECT * FROM a;", "WITH a AS (SELECT 1) SELECT * FROM a"),
    ],
)
def test_one_statement_passes_without_its_end(sql, statement):
    assert single_statement(sql, origin="x") == statement


@pytest.mark.parametrize("sql", ["SELECT 'zoe'; SELECT 2", "DELETE FROM zoe; -- x\nSELECT 1;"])
def test_more_than_one_statement_is_refused(sql):
    with pytest.raises(SourceError, match="holds 2 statements") as caught:
        single_statement(sql, origin="connection 'x'")
    assert caught.value.permanent
    assert "zoe" not in str(caught.value)


@pytest.mark.parametrize("sql", ["", " ;\n", "-- nothing", "/* nothing */;"])
def test_no_statement_is_refused(sql):
    with pytest.raises(SourceError, match="no statement"):
        single_statement(sql, origin="x")


def driver_error(module: str, name: str, *args: object, base: type = Exception, **attributes: object) -> BaseException:
    error = type(name, (base,), {"__module__": module})(*args)
    for key, value in attributes.items():
        setattr(error, key, value)
    return error


@pytest.mark.parametrize(
    ("error", "code", "permanent"),
    [
        (driver_error("psycopg.errors", "UndefinedTable", "zoe", sqlstate="42P01"), "42P01", True),
        (driver_error("psycopg2.errors", "DivisionByZero", "zoe", pgcode="22012"), "22012", True),
        (driver_error("psycopg2.errors", "AdminShutdown", "zoe", pgcode="57P01"), "57P01", False),
        (driver_error("psycopg2.errors", "SerializationFailure", "zoe", pgcode="40001"), "40001", False),
        (driver_error("psycopg2", "OperationalError", "zoe", pgcode=None), None, False),
        (driver_error("redshift_connector.error", "ProgrammingError", {"C": "42P01", "M": "zoe"}), "42P01", True),
        (driver_error("redshift_connector.error", "ProgrammingError", {"C": "57014", "M": "zoe"}), "57014", False),
        (driver_error("redshift_connector.error", "InterfaceError", {"M": "zoe"}), None, False),
        (driver_error("sqlite3", "OperationalError", "zoe", sqlite_errorname="SQLITE_BUSY"), "SQLITE_BUSY", False),
        (driver_error("sqlite3", "OperationalError", "zoe", sqlite_errorname="SQLITE_ERROR"), "SQLITE_ERROR", True),
        (driver_error("MySQLdb", "ProgrammingError", 1146, "zoe"), "1146", True),
        (driver_error("MySQLdb", "OperationalError", 2013, "zoe"), "2013", False),
        (driver_error("pymysql.err", "OperationalError", 1054, "zoe"), "1054", True),
        (driver_error("mysql.connector.errors", "IntegrityError", "zoe", errno=1052, sqlstate="23000"), "23000", True),
        (driver_error("mysql.connector.errors", "Error", "zoe", errno=1203, sqlstate="42000"), "42000", False),
        (driver_error("mysql.connector.errors", "Error", "zoe", errno=1226, sqlstate="42000"), "42000", False),
        (driver_error("mysql.connector.errors", "DatabaseError", "zoe", errno=1317, sqlstate="70100"), "70100", False),
        (driver_error("sqlite3", "OperationalError", "Could not decode to UTF-8 column 'zoe'"), "not-UTF-8", True),
        (driver_error("mysql.connector.errors", "DataError", "zoe", errno=1264, sqlstate="22003"), "22003", True),
        (driver_error("pyodbc", "ProgrammingError", "42S02", "zoe"), "42S02", True),
        (
            driver_error("oracledb", "DatabaseError", driver_error("oracledb", "E", full_code="ORA-00942")),
            "ORA-00942",
            False,
        ),
        (driver_error("trino.exceptions", "TrinoUserError", "zoe"), None, False),
        (
            driver_error("snowflake.connector.errors", "ProgrammingError", "zoe", errno=2003, sqlstate="n/a"),
            "2003",
            True,
        ),
        (
            driver_error("snowflake.connector.errors", "ProgrammingError", "zoe", errno=1003, sqlstate="42000"),
            "42000",
            True,
        ),
        (
            driver_error("snowflake.connector.errors", "ProgrammingError", "zoe", errno=630, sqlstate="n/a"),
            "630",
            False,
        ),
        (driver_error("snowflake.connector.errors", "ProgrammingError", "zoe", errno=390114), "390114", False),
        (driver_error("snowflake.connector.errors", "OperationalError", "zoe", errno=250001), "250001", False),
        (driver_error("snowflake.connector.errors", "DatabaseError", "zoe", errno=-1), "-1", False),
        (
            driver_error("google.api_core", "BadRequest", "zoe", code=400, errors=[{"reason": "invalid"}]),
            "invalid",
            True,
        ),
        (
            driver_error("google.api_core", "Forbidden", "zoe", code=403, errors=[{"reason": "rateLimitExceeded"}]),
            "rateLimitExceeded",
            False,
        ),
        (driver_error("google.api_core", "NotFound", "zoe", code=404, errors=[]), "404", True),
        (driver_error("google.api_core", "TooManyRequests", "zoe", code=429), "429", False),
        (driver_error("google.api_core", "ServiceUnavailable", "zoe", code=503), "503", False),
        (driver_error("google.auth.exceptions", "TransportError", "zoe"), None, False),
        (driver_error("databricks.sql.exc", "ServerOperationError", "[A_B.C] zoe SQLSTATE: 42P01"), "A_B", True),
        (driver_error("databricks.sql.exc", "ServerOperationError", "[A_B] SQLSTATE: 42P01 zoe"), "A_B", False),
        (driver_error("databricks.sql.exc", "ServerOperationError", "[zoe] SQLSTATE: 57014"), None, False),
        (driver_error("databricks.sql.exc", "RequestError", "zoe", context={"http-code": 503}), "503", False),
        (driver_error("databricks.sql.exc", "RequestError", "zoe", context={"http-code": "zoe"}), None, False),
        (driver_error("_duckdb", "ConversionException", "Conversion Error: zoe"), "Conversion Error", True),
        (driver_error("_duckdb", "IOException", "IO Error: zoe"), "IO Error", False),
        (OSError("Conversion Error: Could not convert string 'zoe'"), "Conversion Error", True),
        (OSError("zoe Error: no"), None, False),
        (ConnectionResetError(104, "zoe"), "104", False),
        (FileNotFoundError(2, "zoe"), "2", False),
        (PermissionError(13, "zoe"), "13", True),
        (ValueError("zoe"), None, True),
        (TypeError("zoe"), None, True),
        (KeyError("zoe12"), None, True),
        (driver_error("custom", "Odd", "x", sqlstate="zoe is not a code, but a value"), None, False),
        (MemoryError(), None, False),
    ],
)
def test_an_error_is_told_by_its_class_and_code(error, code, permanent):
    assert code_of(error) == code
    assert is_permanent(error) is permanent
    failure = told(error, doing="Reading", remedy="Look.")
    assert isinstance(failure, SourceError)
    assert failure.permanent is permanent
    assert "zoe" not in str(failure)
    assert type(error).__name__ in str(failure)


def test_an_error_of_ours_passes_without_what_led_to_it():
    def refuse():
        try:
            int("zoe")
        except ValueError:
            raise GuardError("refused")  # noqa: B904  the context is what is tested

    with pytest.raises(GuardError) as caught:
        refuse()
    failure = told(caught.value, doing="Reading", remedy="")
    assert str(failure) == "refused"
    assert failure.__context__ is None
    assert failure.__traceback__ is None


def hook_class(name: str, *bases: type) -> type:
    module, _, kind = name.rpartition(".")
    return type(kind, bases, {"__module__": module})


def test_a_hook_is_read_by_the_route_nearest_to_its_class():
    query = Query("SELECT 1", None, "x")
    dbapi = hook_class("airflow.providers.common.sql.hooks.sql.DbApiHook")
    duck = hook_class("airflow.providers.duckdb.hooks.duckdb.DuckDBHook", dbapi)
    community = hook_class("duckdb_provider.hooks.duckdb_hook.DuckDBHook", dbapi)
    own = hook_class("my.hooks.OurDuckHook", duck)
    other = hook_class("my.hooks.OurHook", dbapi)
    for kind, reader in ((duck, DuckReader), (community, DuckReader), (own, DuckReader), (other, DbApiReader)):
        assert route_for(kind(), query).reader is reader
    assert route_for(object(), query) is DBAPI


def test_a_route_that_declines_a_query_leaves_it_to_the_next(monkeypatch):
    from airflow_provider_fbca.warehouse import registry

    dbapi = hook_class("airflow.providers.common.sql.hooks.sql.DbApiHook")
    own = hook_class("my.hooks.OurHook", dbapi)
    picky = Route("picky", ("my.hooks.OurHook",), DuckReader, accepts=lambda _, query: query.parameters is None)
    monkeypatch.setattr(registry, "ROUTES", (picky, *ROUTES))
    assert route_for(own(), Query("SELECT 1", None, "x")) is picky
    assert route_for(own(), Query("SELECT 1", [1], "x")) is DBAPI


@pytest.mark.parametrize("inside", [False, True])
def test_a_missing_module_is_told_with_what_installs_it(inside):
    def connect():
        try:
            importlib.import_module("no_such_driver.core")
        except ImportError:
            if not inside:
                raise
            raise RuntimeError("You do not have it.")  # noqa: B904  as hooks do

    with pytest.raises((ImportError, RuntimeError)) as caught:
        connect()
    failure = told(caught.value, doing="Reaching 'x'", remedy="Look.", install="Run: pip install it")
    assert str(failure) == "Reaching 'x' failed, since no_such_driver is not installed. Run: pip install it"
    assert failure.permanent


def test_a_route_can_be_forced_if_it_reads_the_hook():
    dbapi = hook_class("airflow.providers.common.sql.hooks.sql.DbApiHook")
    duck = hook_class("airflow.providers.duckdb.hooks.duckdb.DuckDBHook", dbapi)
    assert route_for(duck(), QUERY, "auto").name == "duckdb"
    assert route_for(duck(), QUERY, "dbapi") is DBAPI
    with pytest.raises(OptionsError, match=r"'duckdb', which cannot read.*'x'.*Give one of: auto, dbapi\."):
        route_for(dbapi(), QUERY, "duckdb")
    with pytest.raises(OptionsError, match="Give one of: auto, duckdb, dbapi"):
        route_for(duck(), QUERY, "dukc")


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("select 1", "SELECT"),
        ("/* hint */ ((WITH a AS (SELECT 1) TABLE a))", "WITH"),
        ("-- all\n TABLE people", "TABLE"),
        ("VALUES (1)", "VALUES"),
        ("SHOW TABLES", "SHOW"),
        ("FROM people", "FROM"),
        ("'SELECT'", ""),
    ],
)
def test_the_word_that_a_statement_begins_with(sql, word):
    assert first_word(sql) == word


@pytest.mark.parametrize(
    ("module", "label"),
    [
        ("psycopg2.extensions", "psycopg2 named cursor"),
        ("psycopg", "psycopg named cursor"),
        ("MySQLdb.connections", "mysqlclient SSCursor"),
        ("pymysql.connections", "pymysql SSCursor"),
        ("mysql.connector.connection_cext", "mysql-connector unbuffered cursor"),
        ("pymssql._pymssql", "pymssql cursor"),
        ("google.cloud.bigquery.dbapi.connection", "BigQuery cursor"),
        ("psycopg_like", "psycopg_like cursor"),
        ("trino.dbapi", "trino cursor"),
    ],
)
def test_a_driver_is_told_by_where_its_connection_comes_from(module, label):
    assert driver_of(hook_class(f"{module}.Connection")()).label == label
    assert driver_of(hook_class("my.Connection", hook_class(f"{module}.Connection"))()).is_bounded or "mssql" in label


def test_a_driver_that_reads_whole_results_is_warned_of(caplog):
    class Connection:
        def cursor(self):
            return None

    Connection.__module__ = "pymssql._pymssql"
    hook = type("Hook", (), {"get_conn": lambda self: Connection()})()
    reader = DbApiReader(hook, Query("SELECT 1", None, "red"))
    with caplog.at_level(logging.WARNING):
        reader.connect()
    assert "'red' reads whole results" in caplog.text


def test_a_wait_for_a_query_ends_with_the_query():
    states = iter([True, True, False])
    wait_while(lambda: next(states), cancelled=threading.Event())
    assert list(states) == []


def test_a_wait_for_a_query_ends_when_it_is_cancelled_though_its_server_runs_on():
    cancelled = threading.Event()
    threading.Timer(0.1, cancelled.set).start()
    with pytest.raises(SourceError, match="cancelled"):
        wait_while(lambda: True, cancelled=cancelled)
