"""Snowflake's route: the real hook and connector, with a server that speaks Snowflake's HTTP."""

from __future__ import annotations

import datetime as dt
import inspect
import threading
import time
from contextlib import ExitStack
from decimal import Decimal
from importlib.metadata import version

import nasty
import pyarrow as pa
import pytest
from packaging.version import Version
from snowflake_server import SnowflakeServer, batch, column, text, whole
from wire import wire

pytestmark = pytest.mark.clients
pytest.importorskip("snowflake.connector")
hooks = pytest.importorskip("airflow.providers.snowflake.hooks.snowflake")
snowflake_version = Version(version("snowflake-connector-python")).release

from airflow_provider_fbca.exceptions import SourceError  # noqa: E402
from airflow_provider_fbca.warehouse import open_sql  # noqa: E402

SECRET = "zoe.secret@example.com"
TOKYO = dt.timezone(dt.timedelta(hours=9))


INT64 = pa.int64()


def ids(start: int, rows: int, kind: pa.DataType = INT64) -> pa.RecordBatch:
    return pa.record_batch([pa.array(range(start, start + rows), kind)], schema=pa.schema([whole("ID", kind)]))


ONE = ids(1, 1)


@pytest.fixture
def snowflake(connection, monkeypatch):
    """Starts a server and defines a connection to it."""
    with ExitStack() as servers:

        def define(server: SnowflakeServer, **extra: object) -> str:
            server.address, _ = servers.enter_context(wire(server.answer))
            place = {"protocol": "http", "host": "127.0.0.1", "port": int(server.address.rpartition(":")[2])}
            own = hooks.SnowflakeHook._get_conn_params
            monkeypatch.setattr(hooks.SnowflakeHook, "_get_conn_params", lambda hook: {**own(hook), **place})
            fields = {"login": "u", "password": "password_secret", "extra": {"account": "acme", **extra}}
            return connection("snow", conn_type="snowflake", **fields)

        yield define


def rows_of(source) -> list[dict]:
    return [row for batch in source.batches() for row in batch.to_pylist()]


def test_the_nasty_table(snowflake):
    table = batch(*(column(each.name.upper(), each.kind, nasty.values(each)) for each in nasty.TABLE))
    conn_id = snowflake(SnowflakeServer(table, zone="Asia/Tokyo"))
    with open_sql("SELECT * FROM nasty", sql_conn_id=conn_id) as source:
        assert source.route == "snowflake"
        nasty.check(source.batches())


def test_a_result_comes_chunk_by_chunk_whatever_the_width_of_each(snowflake):
    server = SnowflakeServer(ids(0, 100, pa.int8()), ids(100, 1000, pa.int16()), ids(1100, 40_000, pa.int32()))
    with open_sql("SELECT id FROM t", sql_conn_id=snowflake(server), batch_rows=500) as source:
        assert source.names == ("ID",)
        batches = list(source.batches())
    assert max(each.num_rows for each in batches) == 500
    assert [row["ID"] for each in batches for row in each.to_pylist()] == list(range(41_100))


def test_only_a_few_chunks_are_fetched_ahead(snowflake, eventually):
    server = SnowflakeServer(*(ids(i * 10, 10) for i in range(60)))
    with open_sql("SELECT id FROM t", sql_conn_id=snowflake(server), batch_rows=10) as source:
        batches = source.batches()
        next(batches)
        assert eventually(lambda: server.chunks_sent > 0)
        time.sleep(0.3)
        assert server.chunks_sent < 30
        batches.close()


def test_a_number_with_a_scale_keeps_all_its_digits(snowflake):
    values = [Decimal("12345678901234567.89"), Decimal("-0.05")]
    server = SnowflakeServer(batch(column("MONEY", "scaled", values), column("SMALL", "money", [Decimal("0.1")] * 2)))
    with open_sql("SELECT money FROM t", sql_conn_id=snowflake(server)) as source:
        (given,) = source.batches()
    assert given["MONEY"].to_pylist() == values
    assert given["SMALL"].to_pylist() == [Decimal("0.1000")] * 2


def test_dates_beyond_what_nanoseconds_hold_are_read(snowflake):
    days = [dt.datetime.fromisoformat(day) for day in ("2000-01-01", "9999-12-31", "0001-01-01")]
    server = SnowflakeServer(*(batch(column("AT", "timestamp", given)) for given in ([days[0]], days)))
    with open_sql("SELECT at FROM t", sql_conn_id=snowflake(server)) as source:
        batches = list(source.batches())
    assert [str(each.schema.field("AT").type) for each in batches] == ["timestamp[us]", "timestamp[us]"]
    assert [row["AT"] for each in batches for row in each.to_pylist()] == [days[0], *days]


def test_a_part_that_arrives_short_is_an_error(snowflake):
    server = SnowflakeServer(ids(0, 5), ids(5, 5))
    server.withheld = 2
    with open_sql("SELECT id FROM t", sql_conn_id=snowflake(server)) as source, pytest.raises(SourceError) as caught:
        rows_of(source)
    assert not caught.value.permanent


def test_timestamps_with_offsets_of_their_own_are_warned_of(snowflake, caplog):
    server = SnowflakeServer(batch(column("BORN", "offset", [dt.datetime(1991, 10, 12, tzinfo=TOKYO)])))
    with open_sql("SELECT born FROM t", sql_conn_id=snowflake(server)) as source:
        assert rows_of(source)[0]["BORN"].day == 11
    assert "Columns BORN of connection 'snow' are TIMESTAMP_TZ" in caplog.text


def test_an_empty_result_has_names_and_no_batches(snowflake):
    with open_sql("SELECT 1", sql_conn_id=snowflake(SnowflakeServer(ONE.slice(0, 0)))) as source:
        assert source.names == ("ID",)
        assert list(source.batches()) == []


def test_duplicate_columns_are_named(snowflake):
    server = SnowflakeServer(batch(column("A", "int", [1]), column("A", "int", [2])))
    with open_sql("SELECT 1", sql_conn_id=snowflake(server)) as source, pytest.raises(SourceError, match="'A'"):
        source.names  # noqa: B018


@pytest.mark.parametrize(
    ("sql", "parameters", "sent"),
    [
        ("SELECT * FROM t WHERE a LIKE '10%' AND b = %s", None, "SELECT * FROM t WHERE a LIKE '10%' AND b = %s"),
        ("SELECT * FROM t WHERE b = %s", ["it's"], "SELECT * FROM t WHERE b = 'it\\'s'"),
        ("SELECT * FROM t WHERE b = %(b)s", {"b": "it's"}, "SELECT * FROM t WHERE b = 'it\\'s'"),
    ],
)
def test_parameters_are_bound_by_the_connector(snowflake, sql, parameters, sent):
    server = SnowflakeServer(ONE)
    with open_sql(sql, sql_conn_id=snowflake(server), parameters=parameters) as source:
        rows_of(source)
    assert [each["sqlText"] for each in server.submitted] == [sent]


def test_parameters_stand_in_no_log_of_the_connector(snowflake, caplog):
    caplog.set_level("DEBUG")
    server = SnowflakeServer(ONE)
    with open_sql("SELECT %s", sql_conn_id=snowflake(server), parameters=["zoe.secret"]) as source:
        rows_of(source)
    assert "zoe.secret" in server.submitted[0]["sqlText"]
    assert "zoe.secret" not in caplog.text


def test_the_session_is_set_up_before_the_query_and_closed_after(snowflake):
    server = SnowflakeServer(ONE)
    role = "USE ROLE reader"
    with open_sql("SELECT 1", sql_conn_id=snowflake(server), session_sql=role, statement_timeout=2.5) as source:
        rows_of(source)
    *before, rollback = [statement.upper() for statement in server.statements]
    assert before == [
        "ALTER SESSION SET AUTOCOMMIT=FALSE",
        "ALTER SESSION SET QUERY_TAG = 'AIRFLOW-PROVIDER-FBCA'",
        "ALTER SESSION SET STATEMENT_TIMEOUT_IN_SECONDS = 3",
        "USE ROLE READER",
    ]
    assert rollback == "ROLLBACK"
    assert server.closed.is_set()
    assert not server.aborted.is_set()


def test_a_query_tag_of_the_connection_is_kept(snowflake):
    server = SnowflakeServer(ONE)
    conn_id = snowflake(server, session_parameters={"query_tag": "finance"})
    with open_sql("SELECT 1", sql_conn_id=conn_id) as source:
        rows_of(source)
    assert not [statement for statement in server.statements if "QUERY_TAG" in statement]


@pytest.mark.parametrize(
    ("code", "permanent"), [("002003", True), ("100038", True), ("000604", False), ("000630", False)]
)
def test_a_failing_query_is_told_by_its_code_and_not_quoted(snowflake, holds_no, code, permanent):
    server = SnowflakeServer(ONE)
    server.failure = (code, f"Numeric value '{SECRET}' is not recognized")
    with open_sql("SELECT 1", sql_conn_id=snowflake(server)) as source, pytest.raises(SourceError) as caught:
        rows_of(source)
    assert f"({int(code)})" in str(caught.value)
    assert caught.value.permanent is permanent
    holds_no(caught.value, "password_secret")
    assert SECRET not in str(caught.value) + repr(vars(caught.value))


def test_a_result_that_is_not_arrow_is_made_arrow_or_refused_with_the_way_out(snowflake):
    server = SnowflakeServer(pa.record_batch([pa.array(["x"])], schema=pa.schema([text("NAME")])))
    server.result_format = "json"
    with open_sql("SELECT 1", sql_conn_id=snowflake(server)) as source:
        if snowflake_version >= (5,):
            assert rows_of(source) == [{"NAME": "x"}]
            return
        with pytest.raises(SourceError, match="sql_route='dbapi'") as caught:
            rows_of(source)
    assert caught.value.permanent


def test_statements_whose_results_are_not_arrow_are_read_row_by_row(snowflake):
    server = SnowflakeServer(ONE)
    with open_sql("SHOW TABLES", sql_conn_id=snowflake(server)) as source:
        assert source.route == "dbapi (snowflake cursor)"
        assert rows_of(source) == [{"status": "done"}]


def test_cancelling_aborts_a_query_that_runs(snowflake):
    server = SnowflakeServer(ONE)
    server.done.clear()
    with open_sql("SELECT 1", sql_conn_id=snowflake(server)) as source:
        threading.Timer(0.5, source.cancel).start()
        with pytest.raises(SourceError, match="cancelled"):
            rows_of(source)
        assert server.aborted.wait(2)
    assert server.closed.is_set()


def test_closing_while_the_query_runs_aborts_it(snowflake, eventually):
    server = SnowflakeServer(ONE)
    server.done.clear()
    with open_sql("SELECT 1", sql_conn_id=snowflake(server)):
        assert eventually(lambda: server.submitted)
    assert server.aborted.is_set()
    assert server.closed.is_set()


def test_a_cancel_in_mid_stream_ends_the_read(snowflake):
    server = SnowflakeServer(*(ids(i, 1) for i in range(10)))
    server.may_send.clear()
    with open_sql("SELECT 1", sql_conn_id=snowflake(server)) as source:
        batches = source.batches()
        next(batches)
        threading.Timer(0.3, source.cancel).start()
        with pytest.raises(SourceError, match="cancelled after 1 rows"):
            list(batches)
        server.may_send.set()


def test_what_the_route_calls_is_there():
    from snowflake.connector import SnowflakeConnection
    from snowflake.connector.cursor import SnowflakeCursor
    from snowflake.connector.errors import ProgrammingError
    from snowflake.connector.result_batch import IterUnit, ResultBatch

    called = [
        (SnowflakeConnection.autocommit, [None, False], {}),
        (SnowflakeConnection.cursor, [None], {}),
        (SnowflakeConnection.rollback, [None], {}),
        (SnowflakeConnection.close, [None], {}),
        (SnowflakeConnection.is_still_running, ["status"], {}),
        (SnowflakeConnection.get_query_status_throw_if_error, [None, "id"], {}),
        (SnowflakeCursor.execute, [None, "sql"], {}),
        (SnowflakeCursor.execute_async, [None, "sql", ["value"]], {}),
        (SnowflakeCursor.query_result, [None, "id"], {}),
        (SnowflakeCursor.abort_query, [None, "id"], {}),
        (SnowflakeCursor.get_result_batches, [None], {}),
        (ResultBatch.create_iter, [None], {"connection": None, "iter_unit": IterUnit.TABLE_UNIT, "structure": "arrow"}),
    ]
    for method, arguments, named in called:
        inspect.signature(method).bind(*arguments, **named)
    assert {"description", "sfqid"} <= set(dir(SnowflakeCursor))
    assert "rowcount" in dir(ResultBatch) or "rowcount" in inspect.signature(ResultBatch).parameters
    assert isinstance(SnowflakeConnection.arrow_number_to_decimal, property)
    error = ProgrammingError("x", errno=2003, sqlstate="42S02")
    assert (error.errno, error.sqlstate) == (2003, "42S02")
