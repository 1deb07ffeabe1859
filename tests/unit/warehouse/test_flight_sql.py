"""Flight SQL over the ADBC route: the real client and hook, with a server that sends what a test wants."""

from __future__ import annotations

import threading

import nasty
import pyarrow as pa
import pytest
from flight_server import serving

from airflow_provider_fbca.exceptions import SourceError
from airflow_provider_fbca.warehouse import open_sql

pytestmark = pytest.mark.clients

IDS = pa.schema([("id", pa.int64())])
BATCHES = 400


def batch(start: int = 0, rows: int = 25_000) -> pa.RecordBatch:
    return pa.record_batch([pa.array(range(start, start + rows))], schema=IDS)


def many():
    return (batch(i * 25_000) for i in range(BATCHES))


@pytest.fixture
def flight(connection):
    """Defines an ADBC connection to a server."""
    pytest.importorskip("adbc_driver_flightsql")

    def define(server) -> str:
        uri = f"grpc://127.0.0.1:{server.port}"
        db_kwargs = {"uri": uri, "adbc.flight.sql.authorization_header": "Bearer token_secret"}
        extra = {"driver": "adbc_driver_flightsql", "dialect": "flightsql", "db_kwargs": db_kwargs}
        return connection("flight", conn_type="adbc", extra=extra)

    return define


def test_the_nasty_table(flight):
    table = nasty.arrow()
    with serving(table.schema, lambda: iter(table.to_batches())) as server:
        with open_sql("SELECT * FROM nasty", sql_conn_id=flight(server)) as source:
            assert source.route == "adbc (Flight SQL)"
            nasty.check(source.batches())
        assert server.queries == ["SELECT * FROM nasty"]


def test_all_rows_arrive_once_and_in_order_in_batches_of_ours(flight):
    with (
        serving(IDS, lambda: (batch(i * 25_000) for i in range(3))) as server,
        open_sql("SELECT 1", sql_conn_id=flight(server), batch_rows=10_000) as source,
    ):
        batches = list(source.batches())
    assert [each.num_rows for each in batches] == [10_000, 10_000, 5_000] * 3
    assert [i for each in batches for i in each["id"].to_pylist()] == list(range(75_000))


def test_session_sql_is_run_first_and_read(flight):
    with serving(IDS, lambda: iter([batch(rows=1)])) as server:
        with open_sql("SELECT 1", sql_conn_id=flight(server), session_sql=["USE a", "SET b = 1"]) as source:
            assert sum(each.num_rows for each in source.batches()) == 1
        assert server.queries == ["USE a", "SET b = 1", "SELECT 1"]
        assert server.sent == 3


def test_closing_early_stops_the_server_which_was_never_far_ahead(flight):
    with serving(IDS, many) as server:
        with open_sql("SELECT 1", sql_conn_id=flight(server), batch_rows=10_000) as source:
            assert next(source.batches()).num_rows == 10_000
        assert server.ended.wait(2)
        assert server.sent < BATCHES / 4


def test_cancel_ends_a_query_that_the_server_does_not_answer(flight):
    with serving(IDS, many) as server:
        server.stall = True
        with open_sql("SELECT 1", sql_conn_id=flight(server)) as source:
            threading.Timer(0.3, source.cancel).start()
            with pytest.raises(SourceError, match="cancelled"):
                source.names  # noqa: B018
        assert server.ended.wait(2)


def test_cancel_ends_a_stream_that_stands_still(flight):
    going_on = threading.Event()

    def stuck():
        yield batch()
        going_on.wait(30)

    with serving(IDS, stuck) as server:
        try:
            with open_sql("SELECT 1", sql_conn_id=flight(server), batch_rows=25_000) as source:
                batches = source.batches()
                next(batches)
                threading.Timer(0.3, source.cancel).start()
                with pytest.raises(SourceError, match="cancelled"):
                    next(batches)
        finally:
            going_on.set()


def test_the_time_limit_ends_a_query_that_the_server_does_not_answer(flight):
    with serving(IDS, many) as server:
        server.stall = True
        with (
            open_sql("SELECT 1", sql_conn_id=flight(server), statement_timeout=0.4) as source,
            pytest.raises(SourceError, match="statement_timeout"),
        ):
            source.names  # noqa: B018
        assert server.ended.wait(2)


def test_an_error_in_mid_stream_is_told_by_its_status_and_not_quoted(flight, holds_no):
    def broken():
        yield batch()
        raise pa.ArrowInvalid("zoe.secret")

    with (
        serving(IDS, broken) as server,
        open_sql("SELECT 1", sql_conn_id=flight(server)) as source,
        pytest.raises(SourceError, match=r"after 25000 rows.*INVALID_ARGUMENT") as caught,
    ):
        list(source.batches())
    assert caught.value.permanent
    holds_no(caught.value, "secret")


def test_a_server_that_is_not_there_may_be_tried_again(flight, holds_no):
    with serving(IDS, many) as server:
        conn_id = flight(server)
    with open_sql("SELECT 1", sql_conn_id=conn_id) as source, pytest.raises(SourceError, match=r"\(IO\)") as caught:
        source.names  # noqa: B018
    assert not caught.value.permanent
    holds_no(caught.value, "secret")
