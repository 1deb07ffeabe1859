"""Databricks' route: the real hook and connector, with a server that speaks its Thrift over HTTP."""

from __future__ import annotations

import inspect
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import nasty
import pytest
from wire import wire

if TYPE_CHECKING:
    import pyarrow as pa

pytestmark = pytest.mark.clients
pytest.importorskip("databricks.sql")
hooks = pytest.importorskip("airflow.providers.databricks.hooks.databricks_sql")

from databricks_server import DatabricksServer, column, table  # noqa: E402

from airflow_provider_fbca.exceptions import SourceError  # noqa: E402
from airflow_provider_fbca.warehouse import open_sql  # noqa: E402

SECRET = "zoe.secret@example.com"


def ids(start: int, rows: int) -> pa.RecordBatch:
    return table(column("id", "bigint", list(range(start, start + rows))))


@pytest.fixture
def bricks(connection):
    """Starts a server and defines a connection to it."""
    with ExitStack() as servers:

        def define(server: DatabricksServer) -> str:
            server.address, _ = servers.enter_context(wire(server.answer))
            extra = {"http_path": "/sql/1", "_connection_uri": f"{server.address}/sql/1", "enable_telemetry": False}
            fields = {"host": "acme.cloud.databricks.com", "password": "token_secret", "extra": extra}
            return connection("bricks", conn_type="databricks", **fields)

        yield define


def rows_of(source) -> list[dict]:
    return [row for batch in source.batches() for row in batch.to_pylist()]


def test_the_nasty_table(bricks):
    part = table(*(column(each.name, each.kind, nasty.values(each)) for each in nasty.TABLE))
    with open_sql("SELECT * FROM nasty", sql_conn_id=bricks(DatabricksServer(part))) as source:
        assert source.route == "databricks"
        nasty.check(source.batches())


@pytest.mark.parametrize("in_files", [False, True])
def test_every_row_comes_once_and_in_order_in_batches_of_our_size(bricks, in_files):
    server = DatabricksServer(*(ids(i * 1000, 1000) for i in range(7)), in_files=in_files)
    with open_sql("SELECT id FROM t", sql_conn_id=bricks(server), batch_rows=300) as source:
        assert source.names == ("id",)
        batches = list(source.batches())
    assert max(batch.num_rows for batch in batches) <= 300
    assert [row["id"] for batch in batches for row in batch.to_pylist()] == list(range(7000))


def test_rows_are_fetched_only_as_they_are_wanted(bricks, eventually):
    server = DatabricksServer(*(ids(i * 10, 10) for i in range(100)))
    with open_sql("SELECT id FROM t", sql_conn_id=bricks(server), batch_rows=10) as source:
        batches = source.batches()
        next(batches)
        assert eventually(lambda: server.fetched == 4)  # one that was read, two that wait, one in the hand
        batches.close()


def test_an_empty_result_has_names_and_no_batches(bricks):
    with open_sql("SELECT 1", sql_conn_id=bricks(DatabricksServer(ids(0, 0)))) as source:
        assert source.names == ("id",)
        assert list(source.batches()) == []


def test_duplicate_columns_are_named(bricks):
    server = DatabricksServer(table(column("a", "int", [1]), column("a", "int", [2])))
    with open_sql("SELECT 1", sql_conn_id=bricks(server)) as source, pytest.raises(SourceError, match="'a'"):
        source.names  # noqa: B018


@pytest.mark.parametrize(("sql", "parameters"), [("SELECT :a", {"a": "it's"}), ("SELECT ?", ["it's"])])
def test_parameters_are_bound_by_the_server(bricks, sql, parameters):
    server = DatabricksServer(ids(0, 1))
    with open_sql(sql, sql_conn_id=bricks(server), parameters=parameters) as source:
        rows_of(source)
    (request,) = server.submitted
    assert request.statement == sql
    (parameter,) = request.parameters
    assert parameter.name == ("a" if isinstance(parameters, dict) else None)
    assert (parameter.type, parameter.value.stringValue) == ("STRING", "it's")


def test_parameters_stand_in_no_log_of_the_connector(bricks, caplog):
    caplog.set_level("DEBUG")
    server = DatabricksServer(ids(0, 1))
    with open_sql("SELECT ?", sql_conn_id=bricks(server), parameters=["zoe.secret"]) as source:
        rows_of(source)
    assert server.submitted[0].parameters[0].value.stringValue == "zoe.secret"
    assert "zoe.secret" not in caplog.text


def test_the_session_is_set_up_before_the_query_and_closed_after(bricks):
    server = DatabricksServer(ids(0, 1))
    zone = "SET TIME ZONE 'Asia/Tokyo'"
    with open_sql("SELECT 1", sql_conn_id=bricks(server), session_sql=zone, statement_timeout=2.5) as source:
        rows_of(source)
    assert server.statements == ["SET STATEMENT_TIMEOUT = 3", zone]
    assert server.closed.is_set()
    assert not server.cancelled.is_set()


@pytest.mark.parametrize(
    ("message", "code", "permanent"),
    [
        (f"[CAST_INVALID_INPUT] The value '{SECRET}' is malformed. SQLSTATE: 22018", "CAST_INVALID_INPUT", True),
        (f"[UNRESOLVED_COLUMN.WITH_SUGGESTION] {SECRET} SQLSTATE: 42703", "UNRESOLVED_COLUMN", True),
        (f"[INTERNAL_ERROR] {SECRET} SQLSTATE: XX000", "INTERNAL_ERROR", False),
        (SECRET, None, False),
    ],
)
def test_a_failing_query_is_told_by_its_condition_and_not_quoted(bricks, holds_no, message, code, permanent):
    server = DatabricksServer(ids(0, 1))
    server.failure = message
    with open_sql("SELECT 1", sql_conn_id=bricks(server)) as source, pytest.raises(SourceError) as caught:
        rows_of(source)
    assert f"ServerOperationError{f' ({code})' if code else ''}." in str(caught.value)
    assert caught.value.permanent is permanent
    holds_no(caught.value, "token_secret")
    assert SECRET not in str(caught.value) + repr(vars(caught.value))


def test_a_result_that_is_not_arrow_is_refused_with_the_way_out(bricks):
    server = DatabricksServer(ids(0, 1))
    server.in_text = True
    with open_sql("SELECT 1", sql_conn_id=bricks(server)) as source, pytest.raises(SourceError) as caught:
        rows_of(source)
    assert "sql_route='dbapi'" in str(caught.value)
    assert caught.value.permanent


def test_cancelling_cancels_a_statement_that_runs(bricks):
    server = DatabricksServer(ids(0, 1))
    server.done.clear()
    with open_sql("SELECT 1", sql_conn_id=bricks(server)) as source:
        threading.Timer(0.5, source.cancel).start()
        with pytest.raises(SourceError, match="cancelled"):
            rows_of(source)
        assert server.cancelled.wait(2)
    assert server.closed.is_set()


def test_closing_while_the_statement_runs_cancels_it(bricks, eventually):
    server = DatabricksServer(ids(0, 1))
    server.done.clear()
    with open_sql("SELECT 1", sql_conn_id=bricks(server)):
        assert eventually(lambda: server.submitted)
    assert server.cancelled.is_set()
    assert server.closed.is_set()


def test_a_cancel_in_mid_stream_ends_the_read_with_the_fetch_that_is_under_way(bricks):
    server = DatabricksServer(*(ids(i, 1) for i in range(100)))
    server.may_send.clear()
    with open_sql("SELECT 1", sql_conn_id=bricks(server), batch_rows=1) as source:
        batches = source.batches()
        next(batches)
        threading.Timer(0.3, source.cancel).start()
        # The connector sends one request after the other, a cancel too.
        threading.Timer(0.6, server.may_send.set).start()
        with pytest.raises(SourceError, match="cancelled after 1 rows"):
            list(batches)
    assert server.closed.is_set()
    assert server.fetched < 5


def test_what_the_route_calls_is_there():
    from databricks.sql.client import Connection, Cursor
    from databricks.sql.exc import Error, RequestError

    inspect.signature(Connection.cursor).bind(None)
    inspect.signature(Connection.close).bind(None)
    inspect.signature(Cursor.execute).bind(None, "sql")
    inspect.signature(Cursor.execute_async).bind(None, "sql", None)
    inspect.signature(Cursor.is_query_pending).bind(None)
    inspect.signature(Cursor.get_async_execution_result).bind(None)
    inspect.signature(Cursor.fetchmany_arrow).bind(None, 1)
    inspect.signature(Cursor.cancel).bind(None)
    inspect.signature(hooks.DatabricksSqlHook).bind(databricks_conn_id="x")
    assert isinstance(Cursor.description, property)
    assert RequestError("x", {"http-code": 503}).context == {"http-code": 503}
    assert issubclass(RequestError, Error)
