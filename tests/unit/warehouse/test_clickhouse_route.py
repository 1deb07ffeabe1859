"""ClickHouse's own route: the real client and hook over HTTP, on the real engine behind a small server of the tests."""

from __future__ import annotations

import threading
from contextlib import closing
from urllib.request import urlopen

import nasty
import pyarrow as pa
import pytest
from servers import clickhouse as clickhouse_server_of_its_own

from airflow_provider_fbca.exceptions import SourceError, UsersError
from airflow_provider_fbca.identity import Preparer, resolve_mapping
from airflow_provider_fbca.warehouse import open_sql

pytestmark = pytest.mark.clients

CLICKHOUSE = {
    "text": "CAST({q} AS Nullable(String))",
    "int": "CAST({q} AS Nullable(Int32))",
    "bigint": "CAST({q} AS Nullable(Int64))",
    "decimal": "CAST({q} AS Nullable(Decimal(20, 0)))",
    "scaled": "CAST({q} AS Nullable(Decimal(38, 9)))",
    "huge": "CAST({q} AS Nullable(Int128))",
    "money": "CAST({q} AS Nullable(Decimal(18, 4)))",
    "float": "CAST({q} AS Nullable(Float64))",
    "nan": "CAST('nan' AS Nullable(Float64))",
    "bool": "CAST({q} AS Nullable(Bool))",
    "date": "CAST({q} AS Nullable(Date32))",
    "timestamp": "CAST({q} AS Nullable(DateTime64(3)))",
    "zoned": "CAST(CAST({q} AS Nullable(DateTime64(6, 'Asia/Tokyo'))) AS Nullable(DateTime64(6)))",
    "uuid": "CAST({q} AS Nullable(UUID))",
    "enum": "CAST({q} AS Nullable(Enum8('red' = 1, 'blue' = 2)))",
    "inet": "CAST({q} AS Nullable(IPv4))",
    "bytes": "unhex({x})",
    "digest": "CAST(unhex({x}) AS Nullable(FixedString(32)))",
    "char": "CAST({q} AS Nullable(FixedString(8)))",
    "backslash": "\\\\",
}
TOKYO = "SET session_timezone = 'Asia/Tokyo'"


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("airflow.providers.clickhousedb.hooks.clickhouse")
    with clickhouse_server_of_its_own() as port:
        yield port


@pytest.fixture
def click(server, connection):
    """A connection to it."""
    return connection("click", conn_type="clickhouse", host="127.0.0.1", port=server)


@pytest.fixture
def running(server):
    """Gives how many queries that hold a text are at work."""
    clickhouse_connect = pytest.importorskip("clickhouse_connect")
    with closing(clickhouse_connect.get_client(host="127.0.0.1", port=server)) as client:

        def count(text: str) -> int:
            sql = "SELECT count() FROM system.processes WHERE query LIKE {text:String} AND query NOT LIKE '%processes%'"
            return client.query(sql, parameters={"text": f"%{text}%"}).result_rows[0][0]

        yield count


def rows_of(source) -> list[dict]:
    return [row for batch in source.batches() for row in batch.to_pylist()]


@pytest.mark.parametrize("rows", [1, 10_000])
def test_the_nasty_table(click, rows):
    # Of a union, ClickHouse gives the rows in any order.
    sql = f"SELECT * FROM ({nasty.query(CLICKHOUSE)}) ORDER BY row_id"
    with open_sql(sql, sql_conn_id=click, session_sql=TOKYO, batch_rows=rows) as source:
        assert source.route == "clickhouse"
        nasty.check(source.batches())


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("toDateTime('1991-10-12 00:00:00', 'America/New_York')", "1991-10-12 00:00:00"),
        ("toDateTime64('1991-10-12 00:00:00.5', 9, 'Asia/Tokyo')", "1991-10-12 00:00:00.5"),
        ("toDateTime64('1991-10-12 10:20:30', 0, 'Asia/Tokyo')", "1991-10-12 10:20:30"),
        ("toDateTime64('1991-10-12 10:20:30', 3, 'Asia/Tokyo')", "1991-10-12 10:20:30"),
        ("toDate('1991-10-12')", "1991-10-12"),
        ("CAST('blue' AS LowCardinality(Nullable(String)))", "blue"),
        ("CAST('blue' AS Enum16('red' = 1, 'blue' = 300))", "blue"),
        ("CAST('12345678901234567890123456789012345678901' AS Int256)", "12345678901234567890123456789012345678901"),
        ("toUInt64('18446744073709551615')", "18446744073709551615"),
        ("toIPv6('2001:db8::1')", "2001:db8::1"),
        ("toBFloat16(1.5)", "1.5"),
        ("toFixedString('ab', 16)", "ab"),
        ("toFixedString('zoe@example.com', 32)", "zoe@example.com"),
        ("toFixedString(unhex(repeat('ab', 31) || '00'), 32)", "ab" * 31 + "00"),
        ('CAST(\'{"a": "b"}\' AS JSON)', '{"a":"b"}'),
        ("CAST(5, 'SimpleAggregateFunction(max, Int64)')", "5"),
        ("CAST(toDate('1991-10-12'), 'SimpleAggregateFunction(max, Date)')", "1991-10-12"),
    ],
)
def test_types_are_shown_as_clickhouse_shows_them(click, texts_of, sql, text):
    with open_sql(f"SELECT {sql} AS `a \\` b`, 'x' AS c", sql_conn_id=click) as source:
        (batch,) = source.batches()
    assert texts_of(batch) == [{"a ` b": text, "c": "x"}]


def test_a_timestamp_without_a_zone_of_its_own_is_shown_in_that_of_the_session(click, texts_of):
    sql = "SELECT fromUnixTimestamp(687193200) AS a, fromUnixTimestamp64Milli(687193200250) AS b"
    with open_sql(sql, sql_conn_id=click, session_sql=TOKYO) as source:
        (batch,) = source.batches()
    assert texts_of(batch) == [{"a": "1991-10-12 00:00:00", "b": "1991-10-12 00:00:00.25"}]


@pytest.mark.parametrize(
    "cell",
    ["[1, 2]", "map('a', 'b')", "(1, 'x')", "CAST(['a'], 'SimpleAggregateFunction(groupArrayArray, Array(String))')"],
)
def test_a_type_without_a_text_is_refused_by_column_where_a_key_is_made_of_it(click, cell):
    with open_sql(f"SELECT {cell} AS a, 'zoe@example.com' AS email", sql_conn_id=click) as source:
        (batch,) = source.batches()
    assert Preparer(resolve_mapping(["a", "email"], {"email": ["EMAIL"]})).prepare(batch).num_rows == 1
    with pytest.raises(UsersError, match="'a'"):
        Preparer(resolve_mapping(["a", "email"], {"a": ["EXTERN_ID"], "email": ["EMAIL"]})).prepare(batch)


def test_a_string_that_is_no_text_is_refused_by_column_and_row(click, holds_no):
    with open_sql("SELECT 'secret' || unhex('ff00') AS a", sql_conn_id=click) as source:
        (batch,) = source.batches()
    with pytest.raises(UsersError, match=r"'a'.*row 1") as caught:
        Preparer(resolve_mapping(["a"], {"a": ["EXTERN_ID"]})).prepare(batch)
    holds_no(caught.value, "secret")


@pytest.mark.parametrize("places", ["{a:String} AS a, {b:Int32} AS b", "%(a)s AS a, toInt32(%(b)s) AS b"])
def test_parameters_are_bound_and_stand_in_no_url(click, server, places, holds_no):
    parameters = {"a": "zoe.secret' --", "b": 2}
    with open_sql(f"SELECT {places};", sql_conn_id=click, parameters=parameters) as source:
        assert rows_of(source) == [{"a": b"zoe.secret' --", "b": 2}]
    holds_no(ValueError(), "zoe.secret")
    with urlopen(f"http://127.0.0.1:{server}/seen") as seen:
        assert b"zoe.secret" not in seen.read()


def test_without_parameters_a_percent_sign_is_itself(click):
    with open_sql("SELECT 'a%sb' AS a WHERE 'ab' LIKE 'a%' -- all", sql_conn_id=click) as source:
        assert rows_of(source) == [{"a": b"a%sb"}]


def test_all_rows_arrive_once_in_batches_of_ours(click):
    with open_sql("SELECT number AS a FROM numbers(200001)", sql_conn_id=click, batch_rows=10_000) as source:
        batches = list(source.batches())
    assert max(batch.num_rows for batch in batches) == 10_000
    assert sorted(a for batch in batches for a in batch["a"].to_pylist()) == list(range(200_001))


def test_an_empty_result_has_names_and_no_batches(click):
    with open_sql("SELECT 1 AS a, now() AS b WHERE 0", sql_conn_id=click) as source:
        assert source.names == ("a", "b")
        assert list(source.batches()) == []


def test_duplicate_columns_are_named(click):
    with (
        open_sql("SELECT a, a FROM (SELECT 1 AS a)", sql_conn_id=click) as source,
        pytest.raises(SourceError, match="'a'"),
    ):
        source.names  # noqa: B018


def test_an_endless_result_streams_and_ends_at_the_server_when_closed(click, running, eventually):
    before = pa.total_allocated_bytes()
    sql = "SELECT toString(number) AS a, 'endless' AS b FROM system.numbers"
    with open_sql(sql, sql_conn_id=click) as source:
        batches = source.batches()
        for _ in range(50):
            assert next(batches).num_rows > 0
        assert pa.total_allocated_bytes() - before < 50_000_000
        assert running("endless") == 1
    assert eventually(lambda: running("endless") == 0, seconds=2)


def test_cancel_ends_a_query_that_does_not_answer(click, running, eventually):
    sql = "SELECT count() AS mute FROM system.numbers"
    with open_sql(sql, sql_conn_id=click) as source:
        assert eventually(lambda: running("mute") == 1)
        threading.Timer(0.1, source.cancel).start()
        with pytest.raises(SourceError, match="cancelled"):
            source.names  # noqa: B018
        assert eventually(lambda: running("mute") == 0, seconds=2)


def test_cancel_ends_a_result_that_stands_still_even_where_no_kill_reaches_the_query(click):
    with open_sql("SELECT number AS a FROM numbers(200000) -- stall", sql_conn_id=click) as source:
        threading.Timer(0.5, source.cancel).start()
        with pytest.raises(SourceError, match=r"cancelled after [1-9]"):
            rows_of(source)
        assert not source._thread.is_alive()


def test_the_query_is_told_to_read_only_and_for_how_long(click):
    sql = "SELECT getSetting('readonly') AS a, toString(getSetting('max_execution_time')) AS b"
    with open_sql(sql, sql_conn_id=click, statement_timeout=6.5) as source:
        assert rows_of(source) == [{"a": 2, "b": b"7"}]


def test_a_user_who_may_change_no_setting_can_read(server, connection):
    connection("reader", conn_type="clickhouse", host="127.0.0.1", port=server, login="reader")
    with open_sql("SELECT getSetting('readonly') AS a, now() AS b", sql_conn_id="reader") as source:
        assert [row["a"] for row in rows_of(source)] == [1]


@pytest.mark.parametrize(
    "sql", ["INSERT INTO FUNCTION null('a Int8') SELECT 1", "CREATE TABLE kept (a Int8) ENGINE = Memory"]
)
def test_a_statement_that_writes_is_refused(click, sql):
    with open_sql(sql, sql_conn_id=click) as source, pytest.raises(SourceError, match=r"\(62\)") as caught:
        rows_of(source)
    assert caught.value.permanent


@pytest.mark.parametrize("has_session", [True, False])
def test_session_sql_comes_first_and_holds(server, connection, has_session):
    extra = {"client_kwargs": {"autogenerate_session_id": has_session}}
    click = connection("click", conn_type="clickhouse", host="127.0.0.1", port=server, extra=extra)
    session_sql = ["SET max_block_size = 123", TOKYO]
    sql = "SELECT toString(getSetting('max_block_size')) AS a, timezone() AS b"
    with open_sql(sql, sql_conn_id=click, session_sql=session_sql) as source:
        assert rows_of(source) == [{"a": b"123", "b": b"Asia/Tokyo"}]


def test_a_session_that_the_server_does_not_know_any_more_is_an_error(click):
    with (
        open_sql("SELECT 1 AS a", sql_conn_id=click, session_sql=f"{TOKYO} -- forget") as source,
        pytest.raises(SourceError, match=r"\(372\)") as caught,
    ):
        rows_of(source)
    assert not caught.value.permanent


@pytest.mark.parametrize(
    ("sql", "code"), [("SELEC 'zoe.secret'", 62), ("SELECT 'zoe.secret' FROM nowhere", 60), ("SELECT zoe_secret", 47)]
)
def test_malformed_sql_is_told_by_its_code(click, holds_no, sql, code):
    with open_sql(sql, sql_conn_id=click) as source, pytest.raises(SourceError, match=rf"\({code}\)") as caught:
        source.names  # noqa: B018
    assert caught.value.permanent
    holds_no(caught.value, "secret")


def test_an_error_in_mid_stream_is_told_by_its_code(click, holds_no):
    sql = "SELECT toInt32(if(number = 900000, 'zoe.secret', '1')) AS a FROM numbers(1000000)"
    with (
        open_sql(sql, sql_conn_id=click) as source,
        pytest.raises(SourceError, match=r"after [1-9]\d+ rows.*\(6\)") as caught,
    ):
        rows_of(source)
    assert caught.value.permanent
    holds_no(caught.value, "zoe.secret")


def test_a_result_that_ends_before_its_end_is_an_error(click):
    with (
        open_sql("SELECT number AS a FROM numbers(1000000) -- cut", sql_conn_id=click) as source,
        pytest.raises(SourceError, match="ended early") as caught,
    ):
        rows_of(source)
    assert not caught.value.permanent


def test_a_server_that_is_not_there_may_be_tried_again(connection, holds_no):
    pytest.importorskip("airflow.providers.clickhousedb.hooks.clickhouse")
    connection("gone", conn_type="clickhouse", host="127.0.0.1", port=1, login="zoe_secret", password="pass_secret")
    with pytest.raises(SourceError, match="'gone'") as caught:
        open_sql("SELECT 1 AS a", sql_conn_id="gone")
    assert not caught.value.permanent
    holds_no(caught.value, "_secret")
