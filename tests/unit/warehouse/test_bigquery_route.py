"""BigQuery's route: the real hook and clients, with servers that speak its HTTP and its gRPC."""

from __future__ import annotations

import datetime as dt
import inspect
import sys
import threading
from contextlib import ExitStack
from decimal import Context, Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import nasty
import pytest
from bigquery_server import BigQueryServer, column, table
from hypothesis import given
from hypothesis import strategies as st
from wire import wire

if TYPE_CHECKING:
    import pyarrow as pa

pytestmark = pytest.mark.clients
bigquery = pytest.importorskip("google.cloud.bigquery")
storage = pytest.importorskip("google.cloud.bigquery_storage")
pytest.importorskip("airflow.providers.google.cloud.hooks.bigquery")

from airflow_provider_fbca.exceptions import OptionsError, SourceError  # noqa: E402
from airflow_provider_fbca.warehouse import open_sql  # noqa: E402
from airflow_provider_fbca.warehouse.bigquery import BigQueryReader, query_parameters  # noqa: E402

SECRET = "zoe.secret@example.com"


def ids(start: int, rows: int) -> pa.RecordBatch:
    return table(column("id", "bigint", list(range(start, start + rows))))


def nasty_table() -> pa.RecordBatch:
    return table(*(column(each.name, each.kind, nasty.values(each)) for each in nasty.TABLE))


@pytest.fixture
def big(connection, monkeypatch):
    """Starts both servers and defines a connection to them."""
    with ExitStack() as servers:

        def define(server: BigQueryServer, conn_type: str = "gcpbigquery", **extra: object) -> str:
            url, _ = servers.enter_context(wire(server.answer))
            monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", url)
            address = servers.enter_context(server.storage())
            real = storage.BigQueryReadClient

            def over_loopback(**named: object) -> storage.BigQueryReadClient:
                import grpc

                inspect.signature(real).bind(**named)
                return real(transport=real.get_transport_class("grpc")(channel=grpc.insecure_channel(address)))

            monkeypatch.setattr(storage, "BigQueryReadClient", over_loopback)
            extra = {"project": "acme", "is_anonymous": True, **extra}
            return connection("big", conn_type=conn_type, extra=extra)

        yield define


def rows_of(source) -> list[dict]:
    return [row for batch in source.batches() for row in batch.to_pylist()]


def query_of(job: dict) -> dict:
    return job["configuration"]["query"]


def test_the_nasty_table_over_the_storage_api(big):
    server = BigQueryServer(nasty_table())
    with open_sql("SELECT * FROM nasty", sql_conn_id=big(server)) as source:
        assert source.route == "bigquery"
        nasty.check(source.batches())
    assert server.messages_sent == 1


def test_the_nasty_table_over_rest(big):
    server = BigQueryServer(nasty_table())
    server.storage_is_refused = True
    with open_sql("SELECT * FROM nasty", sql_conn_id=big(server)) as source:
        nasty.check(source.batches())


@pytest.mark.parametrize("refused", [False, True])
def test_every_row_comes_once_in_batches_of_our_size(big, refused):
    server = BigQueryServer(*(ids(i * 1000, 1000) for i in range(12)))
    server.storage_is_refused = refused
    with open_sql("SELECT id FROM t", sql_conn_id=big(server), batch_rows=300) as source:
        assert source.names == ("id",)
        batches = list(source.batches())
    assert max(batch.num_rows for batch in batches) == 300
    assert sorted(row["id"] for batch in batches for row in batch.to_pylist()) == list(range(12_000))


def test_where_the_storage_api_is_refused_rest_takes_over_and_says_how_to_allow_it(big, caplog, holds_no):
    server = BigQueryServer(ids(0, 3))
    server.storage_is_refused = True
    with open_sql("SELECT id FROM t", sql_conn_id=big(server)) as source:
        assert [row["id"] for row in rows_of(source)] == [0, 1, 2]
    assert "bigquery.readsessions.create" in caplog.text


def test_without_the_client_of_the_storage_api_rest_is_taken_and_said_so(big, monkeypatch, caplog):
    server = BigQueryServer(ids(0, 3))
    conn_id = big(server)
    monkeypatch.setitem(sys.modules, "google.cloud.bigquery_storage", None)
    with open_sql("SELECT id FROM t", sql_conn_id=conn_id) as source:
        assert [row["id"] for row in rows_of(source)] == [0, 1, 2]
    assert server.messages_sent == 0
    assert "google-cloud-bigquery-storage is not installed" in caplog.text


def test_messages_are_taken_only_as_they_are_wanted(big, eventually):
    wide = table(column("id", "text", ["x" * 1_000_000]))
    server = BigQueryServer(*([wide] * 300))
    with open_sql("SELECT id FROM t", sql_conn_id=big(server)) as source:
        batches = source.batches()
        next(batches)
        seen = -1
        while seen != server.messages_sent:
            seen = server.messages_sent
            threading.Event().wait(0.5)
        assert seen < 100
        batches.close()
    assert server.streams_asked == 2


def test_an_empty_result_has_names_and_no_batches(big):
    with open_sql("SELECT 1 AS id", sql_conn_id=big(BigQueryServer(ids(0, 0)))) as source:
        assert source.names == ("id",)
        assert list(source.batches()) == []


def test_duplicate_columns_are_named(big):
    server = BigQueryServer(table(column("a", "int", [1]), column("a", "int", [2])))
    with open_sql("SELECT 1", sql_conn_id=big(server)) as source, pytest.raises(SourceError, match="'a'"):
        source.names  # noqa: B018


@pytest.mark.parametrize("conn_type", ["gcpbigquery", "google_cloud_platform"])
def test_a_job_is_in_standard_sql_labelled_and_limited_as_the_connection_says(big, conn_type):
    server = BigQueryServer(ids(0, 1))
    limits = {"query": {"maximumBytesBilled": "1000", "useLegacySql": True}}
    conn_id = big(server, conn_type, api_resource_configs=limits, labels={"team": "crm"}, location="EU")
    with open_sql("SELECT 1", sql_conn_id=conn_id, statement_timeout=1.5) as source:
        rows_of(source)
    (job,) = server.jobs
    assert query_of(job)["useLegacySql"] is False
    assert query_of(job)["maximumBytesBilled"] == "1000"
    assert job["configuration"]["labels"] == {"team": "crm", "client": "airflow-provider-fbca"}
    assert job["configuration"]["jobTimeoutMs"] == "1500"
    assert job["jobReference"]["location"] == "EU"
    assert [query_of(each)["query"] for each in server.dry_runs] == ["SELECT 1"]


@pytest.mark.parametrize("kind", ["UPDATE", "SCRIPT", "CREATE_TABLE_AS_SELECT"])
def test_what_is_no_select_is_refused_before_it_runs(big, kind):
    server = BigQueryServer(ids(0, 1))
    server.statement_type = kind
    with open_sql("SELECT 1", sql_conn_id=big(server)) as source, pytest.raises(SourceError, match=kind) as caught:
        rows_of(source)
    assert caught.value.permanent
    assert server.jobs == []


def test_parameters_are_bound_by_the_server(big):
    server = BigQueryServer(ids(0, 1))
    with open_sql("SELECT @a", sql_conn_id=big(server), parameters={"a": "it's", "b": [1, 2]}) as source:
        rows_of(source)
    for job in (*server.dry_runs, *server.jobs):
        assert query_of(job)["parameterMode"] == "NAMED"
        assert query_of(job)["queryParameters"] == [
            {"name": "a", "parameterType": {"type": "STRING"}, "parameterValue": {"value": "it's"}},
            {
                "name": "b",
                "parameterType": {"type": "ARRAY", "arrayType": {"type": "INT64"}},
                "parameterValue": {"arrayValues": [{"value": "1"}, {"value": "2"}]},
            },
        ]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("x", "STRING"),
        (True, "BOOL"),
        (7, "INT64"),
        (0.5, "FLOAT64"),
        (Decimal("1.5"), "NUMERIC"),
        (Decimal("1E-10"), "BIGNUMERIC"),
        (Decimal("1E-9"), "NUMERIC"),
        (Decimal(10) ** 29, "BIGNUMERIC"),
        (Decimal(10**29 - 1), "NUMERIC"),
        (dt.date(2020, 1, 1), "DATE"),
        (dt.datetime.fromisoformat("2020-01-01T00:00:00"), "DATETIME"),
        (dt.datetime.fromisoformat("2020-01-01T00:00:00+09:00"), "TIMESTAMP"),
        (dt.time(1), "TIME"),
        (b"x", "BYTES"),
        (None, "STRING"),
    ],
)
def test_a_parameter_has_the_type_of_its_value(value, kind):
    (positional,) = query_parameters([value])
    (named,) = query_parameters({"x": value})
    (many,) = query_parameters([[value, value]])
    assert (positional.name, positional.type_) == (None, kind)
    assert (named.name, named.type_) == ("x", kind)
    assert many.array_type == kind
    assert positional.to_api_repr()["parameterType"] == {"type": kind}


@given(st.integers(-(10**40), 10**40), st.integers(-5, 45))
def test_a_decimal_is_numeric_exactly_where_it_fits(digits, scale):
    (parameter,) = query_parameters([Decimal(digits).scaleb(-scale, Context(prec=100))])
    billionths = Fraction(digits, 1) / Fraction(10) ** scale * 10**9
    fits = billionths.denominator == 1 and abs(billionths) < 10**38
    assert parameter.type_ in ({"NUMERIC", "BIGNUMERIC"} if fits else {"BIGNUMERIC"})
    if fits and digits % 10:
        assert parameter.type_ == "NUMERIC"


@pytest.mark.parametrize("value", [{"a": 1}, object(), [1, "zoe.secret"]])
def test_a_parameter_of_no_type_is_named_without_its_value(value):
    with pytest.raises(OptionsError, match="who") as caught:
        query_parameters({"who": value})
    assert "zoe.secret" not in str(caught.value)


def test_statements_before_the_query_share_its_session_which_is_ended(big):
    server = BigQueryServer(ids(0, 1))
    before = ["SET @@time_zone = 'Asia/Tokyo'", "CREATE TEMP TABLE t AS SELECT 1"]
    with open_sql("SELECT id FROM t", sql_conn_id=big(server), session_sql=before) as source:
        rows_of(source)
    queries = [query_of(job) for job in server.jobs]
    assert [query["query"] for query in queries] == [*before, "SELECT id FROM t", "CALL BQ.ABORT_SESSION()"]
    assert queries[0]["createSession"] is True
    of_session = [{"key": "session_id", "value": "session-1"}]
    assert [query.get("connectionProperties") for query in queries] == [None, *[of_session] * 3]
    assert query_of(server.dry_runs[0])["connectionProperties"] == of_session


def test_the_session_is_ended_also_where_the_job_cannot_be_cancelled(big, monkeypatch):
    def refuse(self, **_):
        raise ConnectionError

    server = BigQueryServer(ids(0, 1))
    server.at_once = 1
    monkeypatch.setattr(BigQueryReader, "cancel", refuse)
    with open_sql("SELECT 1", sql_conn_id=big(server), session_sql="SELECT 2") as source:
        rows_of(source)
    assert query_of(server.jobs[-1])["query"] == "CALL BQ.ABORT_SESSION()"


@pytest.mark.parametrize(
    ("reason", "permanent"),
    [
        ("invalidQuery", True),
        ("notFound", True),
        ("accessDenied", True),
        ("quotaExceeded", False),
        ("stopped", False),
    ],
)
def test_a_failing_query_is_told_by_its_reason_and_not_quoted(big, holds_no, reason, permanent):
    server = BigQueryServer(ids(0, 1))
    server.failure = {"reason": reason, "message": f"Bad double value: {SECRET}"}
    with open_sql("SELECT 1", sql_conn_id=big(server)) as source, pytest.raises(SourceError) as caught:
        rows_of(source)
    assert f"({reason})" in str(caught.value)
    assert caught.value.permanent is permanent
    holds_no(caught.value, SECRET)


def test_cancelling_cancels_the_job_that_runs(big):
    server = BigQueryServer(ids(0, 1))
    server.done.clear()
    with open_sql("SELECT 1", sql_conn_id=big(server)) as source:
        threading.Timer(0.5, source.cancel).start()
        with pytest.raises(SourceError, match="cancelled"):
            rows_of(source)
        assert server.cancelled.wait(2)


def test_closing_while_the_query_runs_cancels_it(big, eventually):
    server = BigQueryServer(ids(0, 1))
    server.done.clear()
    with open_sql("SELECT 1", sql_conn_id=big(server)):
        assert eventually(lambda: server.jobs)
    assert server.cancelled.is_set()


def test_a_cancel_in_mid_stream_ends_the_read(big, eventually):
    server = BigQueryServer(*(ids(i, 1) for i in range(10)))
    server.at_once = 1
    with open_sql("SELECT 1", sql_conn_id=big(server)) as source:
        batches = source.batches()
        next(batches)
        threading.Timer(0.3, source.cancel).start()
        with pytest.raises(SourceError, match="cancelled after 1 rows"):
            list(batches)
        assert eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("fbca-users")])
    assert not server.cancelled.is_set()  # its job was over


def test_what_the_route_calls_is_there():
    from airflow.providers.google.cloud.hooks.bigquery import BigQueryHook
    from google.api_core.exceptions import Forbidden, PermissionDenied

    of_rows = {"bqstorage_client": None, "max_queue_size": 1, "max_stream_count": 1}
    inspect.signature(bigquery.table.RowIterator.to_arrow_iterable).bind(None, **of_rows)
    inspect.signature(bigquery.table._EmptyRowIterator.to_arrow_iterable).bind(None, **of_rows)
    inspect.signature(bigquery.Client.query).bind(None, "sql", job_config=None, job_retry=None)
    inspect.signature(bigquery.job.QueryJob.cancel).bind(None, retry=None, timeout=1)
    inspect.signature(bigquery.job.QueryJob.result).bind(None)
    inspect.signature(BigQueryHook.get_client).bind(None, project_id="p", location=None)
    assert {"statement_type", "session_info"} <= set(dir(bigquery.job.QueryJob))
    assert issubclass(PermissionDenied, Forbidden)
