"""Trino over the DB-API route: its real client and hook, with a coordinator that a test answers for."""

from __future__ import annotations

import base64
import inspect
import threading

import nasty
import pytest
import trino_coordinator
from trino_coordinator import HANGS, Result, error

from airflow_provider_fbca.exceptions import SourceError, UsersError
from airflow_provider_fbca.warehouse import open_sql

pytestmark = pytest.mark.clients

#: Kind of the nasty table -> Trino's type, and how its protocol writes a value.
TYPES = {
    "text": ("varchar", str),
    "int": ("integer", int),
    "bigint": ("bigint", int),
    "decimal": ("decimal(20,0)", str),
    "scaled": ("decimal(38,9)", lambda text: f"{text}.000000000"),
    "huge": ("decimal(38,0)", str),
    "money": ("decimal(18,4)", lambda text: format(float(text), ".4f")),
    "float": ("double", float),
    "nan": ("double", float),
    "bool": ("boolean", lambda text: text == "true"),
    "date": ("date", str),
    "timestamp": ("timestamp(6)", str),
    "zoned": ("timestamp(3) with time zone", lambda text: f"{text}.000 Asia/Tokyo"),
    "uuid": ("uuid", str),
    "json": ("json", str),
    "inet": ("ipaddress", str),
    "bytes": ("varbinary", lambda text: base64.b64encode(text.encode()).decode()),
    "digest": ("varbinary", lambda text: base64.b64encode(bytes.fromhex(text)).decode()),
    "char": ("char(8)", lambda text: text.ljust(8)),
}


@pytest.fixture
def coordinator(connection):
    """A running coordinator, and the connection ``tri`` that leads to it."""
    with trino_coordinator.running() as started:
        connection("tri", conn_type="trino", host="127.0.0.1", port=started.port, login="me")
        yield started


def rows_of(source) -> list[dict]:
    return [row for batch in source.batches() for row in batch.to_pylist()]


def pages(count: int, rows: int) -> Result:
    return Result({"id": "bigint"}, [[[page * rows + row] for row in range(rows)] for page in range(count)])


@pytest.mark.parametrize("rows", [1, 10_000])
def test_the_nasty_table_reads_as_through_every_route(coordinator, rows):
    columns = {column.name: TYPES.get(column.kind, TYPES["text"]) for column in nasty.TABLE}

    def cell(column: nasty.Column, row: int):
        text = (column.texts[0], None, *column.texts[1:])[row]
        if text is None:
            return "NaN" if column.kind == "nan" and row != 1 else None
        return columns[column.name][1](text)

    table = [[cell(column, row) for column in nasty.TABLE] for row in range(nasty.ROWS)]
    coordinator.results = [Result({name: kind for name, (kind, _) in columns.items()}, [[], table[:2], [], table[2:]])]
    with open_sql("SELECT * FROM nasty", sql_conn_id="tri", batch_rows=rows) as source:
        nasty.check(source.batches())
    assert source.route == "dbapi (trino cursor)"


def test_pages_are_asked_for_only_as_their_rows_are_wanted(coordinator):
    coordinator.results = [pages(51, 1_000)]
    with open_sql("SELECT id FROM many", sql_conn_id="tri", batch_rows=500) as source:
        assert source.names == ("id",)
        assert next(source.batches()).num_rows == 500
    # Four batches are of two pages; the client asks for one more, to tell Trino that the one before has come.
    assert coordinator.pages() <= 4


def test_every_row_comes_once_and_in_order_and_a_query_read_to_its_end_is_not_cancelled(coordinator):
    coordinator.results = [pages(7, 1_000)]
    with open_sql("SELECT id FROM many", sql_conn_id="tri", batch_rows=300) as source:
        assert [row["id"] for row in rows_of(source)] == [str(number) for number in range(7_000)]
    assert "DELETE" not in coordinator.requests


def test_closing_early_cancels_the_query(coordinator):
    coordinator.results = [pages(51, 1_000)]
    with open_sql("SELECT id FROM many", sql_conn_id="tri", batch_rows=500) as source:
        next(source.batches())
    assert coordinator.requests[-1] == "DELETE"


@pytest.mark.parametrize("first", [[], [[1], [2]]])
def test_a_cancel_reaches_the_coordinator_while_a_page_is_waited_for(coordinator, eventually, first):
    coordinator.results = [Result({"id": "bigint"}, [first, HANGS])]
    with open_sql("SELECT id FROM slow", sql_conn_id="tri") as source:
        assert coordinator.blocked.wait(10)
        threading.Timer(0.1, source.cancel).start()
        with pytest.raises(SourceError, match="cancelled"):
            rows_of(source)
        assert eventually(lambda: "DELETE" in coordinator.requests, seconds=2)


def test_an_empty_result_has_names_and_no_batches(coordinator):
    coordinator.results = [Result({"id": "bigint", "email": "varchar"}, [[], []])]
    with open_sql("SELECT id, email FROM nobody", sql_conn_id="tri") as source:
        assert source.names == ("id", "email")
        assert list(source.batches()) == []


def test_the_session_has_its_own_settings_and_the_time_limit(coordinator):
    coordinator.results = [pages(1, 1)]
    before = "SET SESSION join_distribution_type = 'BROADCAST'"
    with open_sql("SELECT 1", sql_conn_id="tri", session_sql=before, statement_timeout=90.5) as source:
        rows_of(source)
    assert coordinator.statements == [before, "SET SESSION query_max_run_time = '90500ms'", "SELECT 1"]
    assert coordinator.sessions[-1] == "join_distribution_type=BROADCAST,query_max_run_time=90500ms"


def test_parameters_are_bound_and_nowhere_told(coordinator, holds_no):
    coordinator.results = [Result({"id": "bigint"}, [error("DIVISION_BY_ZERO", "USER_ERROR", "zoe.secret / 0")])]
    sql, parameters = "SELECT id FROM p WHERE email = ? AND n = ?", ["zoe.secret'", 7]
    with (
        open_sql(sql, sql_conn_id="tri", parameters=parameters) as source,
        pytest.raises(SourceError) as caught,
    ):
        rows_of(source)
    assert coordinator.statements[-1] == f"EXECUTE IMMEDIATE '{sql}' USING 'zoe.secret''',7"
    holds_no(caught.value, "zoe.secret")


def test_parameters_by_name_fail_for_good(coordinator):
    with (
        open_sql("SELECT :a", sql_conn_id="tri", parameters={"a": 1}) as source,
        pytest.raises(SourceError) as caught,
    ):
        rows_of(source)
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("name", "kind", "permanent"),
    [
        ("SYNTAX_ERROR", "USER_ERROR", True),
        ("INVALID_CAST_ARGUMENT", "USER_ERROR", True),
        ("ADMINISTRATIVELY_KILLED", "USER_ERROR", False),
        ("EXCEEDED_TIME_LIMIT", "INSUFFICIENT_RESOURCES", False),
        ("SERVER_SHUTTING_DOWN", "INTERNAL_ERROR", False),
        ("HIVE_METASTORE_ERROR", "EXTERNAL", False),
    ],
)
def test_an_error_in_mid_stream_is_told_by_its_name_and_not_quoted(coordinator, holds_no, name, kind, permanent):
    coordinator.results = [
        Result({"id": "bigint"}, [[[i] for i in range(500)]] * 3 + [error(name, kind, "zoe.secret")])
    ]
    with (
        open_sql("SELECT id FROM many", sql_conn_id="tri", batch_rows=100) as source,
        pytest.raises(SourceError, match=rf"\({name}\)") as caught,
    ):
        rows_of(source)
    assert caught.value.permanent is permanent
    holds_no(caught.value, "zoe.secret")


@pytest.mark.parametrize(
    ("kind", "value"),
    [("array(varchar)", ["zoe.secret"]), ("map(varchar,varchar)", {"a": "zoe.secret"}), ("row(part varchar)", ["zoe"])],
)
def test_values_of_many_parts_are_refused_by_column_and_type(coordinator, holds_no, kind, value):
    coordinator.results = [Result({"extra": kind}, [[[value]]])]
    with open_sql("SELECT extra", sql_conn_id="tri") as source, pytest.raises(UsersError, match="'extra'") as caught:
        rows_of(source)
    holds_no(caught.value, "zoe.secret")


def test_a_coordinator_that_is_not_there_may_be_tried_again(connection, holds_no):
    connection("tri", conn_type="trino", host="127.0.0.1", port=1, login="zoe_secret")
    with (
        open_sql("SELECT 1", sql_conn_id="tri") as source,
        pytest.raises(SourceError, match="TrinoConnectionError") as caught,
    ):
        rows_of(source)
    assert not caught.value.permanent
    holds_no(caught.value, "zoe_secret")


def test_the_client_has_what_the_route_calls():
    dbapi = pytest.importorskip("trino.dbapi")
    for owner, method, names in (
        (dbapi.Connection, "cursor", []),
        (dbapi.Connection, "close", []),
        (dbapi.Connection, "rollback", []),
        (dbapi.Cursor, "execute", ["operation", "params"]),
        (dbapi.Cursor, "fetchmany", ["size"]),
        (dbapi.Cursor, "fetchall", []),
        (dbapi.Cursor, "cancel", []),
    ):
        assert list(inspect.signature(getattr(owner, method)).parameters)[1 : 1 + len(names)] == names
    assert isinstance(dbapi.Cursor.description, property)
    for name in ("error_name", "error_type"):
        assert isinstance(getattr(dbapi.trino.exceptions.TrinoQueryError, name), property)
