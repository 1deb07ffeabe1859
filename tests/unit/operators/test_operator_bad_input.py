"""Bad input: an error that a person can act on, that quotes nobody, and nothing sent to Meta."""

from __future__ import annotations

import json
import sqlite3

import duckdb
import pyarrow as pa
import pytest
from operator_tools import emails, sha, traces_of

from airflow_provider_fbca.compat import AirflowFailException
from airflow_provider_fbca.exceptions import FbcaError
from airflow_provider_fbca.operators.custom_audience import (
    FacebookCreateCustomAudienceOperator,
    FacebookDeleteCustomAudienceOperator,
)

NAME = "zaphod.beeblebrox"
PERSON = f"{NAME}@example.com"
KINDS = pytest.mark.parametrize("kind", ["upload", "remove", "refresh"])


@pytest.fixture
def connection(monkeypatch, sandbox):
    """Changes the default connection."""

    def change(**fields):
        extra = json.loads(sandbox.connection_json)["extra"] | fields.pop("extra", {})
        content = json.loads(sandbox.connection_json) | fields | {"extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_FBCA_DEFAULT", json.dumps(content))

    return change


@pytest.fixture
def lite(monkeypatch, tmp_path):
    """A SQLite database with a table of one person, as connection ``lite``."""
    with sqlite3.connect(tmp_path / "users.db") as database:
        database.execute("CREATE TABLE users (email TEXT, worth TEXT)")
        database.execute("INSERT INTO users VALUES (?, 'lots')", [PERSON])
    monkeypatch.setenv("AIRFLOW_CONN_LITE", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "users.db")}))
    return {"sql_conn_id": "lite"}


def test_no_credentials(run, refused, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_FBCA_DEFAULT")
    refused(
        lambda: run("upload", emails("a")),
        "There is no connection 'fbca_default'",
        "Admin > Connections",
        "FB_ACCESS_TOKEN",
    )


def test_a_connection_without_a_token(run, refused, connection):
    connection(password="")
    refused(lambda: run("upload", emails("a")), "access_token is missing", "Admin > Connections")


@pytest.mark.parametrize("wrong", ["act_abc", "12-34", "https://x/act_1"])
def test_an_account_id_of_a_wrong_form(run, refused, connection, wrong):
    refused(lambda: run("upload", emails("a"), ad_account_id=wrong), "ad account id consists of digits", "act_")
    connection(extra={"ad_account_id": wrong})
    refused(lambda: run("upload", emails("a")), "ad_account_id is not an ad account id", "Admin > Connections")


@pytest.mark.parametrize("wrong", ["", "None", "abc", "12/34", "../1", "act_12"])
@KINDS
def test_an_audience_id_of_a_wrong_form(run, refused, kind, wrong):
    refused(lambda: run(kind, emails("a"), audience_id=wrong), "audience id consists of digits", "Ads Manager")


def test_an_unknown_audience(run, refused, audience):
    refused(lambda: run("refresh", emails("a"), audience_id="120219999999999999"), "does not exist", "Check the id")


def test_an_audience_of_another_account(run, refused, audience):
    refused(lambda: run("refresh", emails("a"), ad_account_id="act_100000000000002"), audience, "belongs to ad account")


def test_terms_that_nobody_accepted(run, refused, sandbox):
    sandbox.change(tos_accepted=False)
    refused(lambda: run("upload", emails("a")), "terms are not accepted", "business.facebook.com")


def test_an_expired_token(run, refused, sandbox, connection):
    sandbox.put_token("expired-token-123456", [sandbox.ad_account_id], expires_in=-1)
    connection(password="expired-token-123456")
    refused(lambda: run("upload", emails("a")), "access token", "new access token")


def test_a_wrong_token(run, refused, connection):
    connection(password="wrong-token-123456")
    refused(lambda: run("upload", emails("a")), "access token", "new access token")


def test_a_token_that_ends_in_the_middle_leaves_the_entry_open(run, sandbox, history):
    sandbox.fault("graph", operation="add_users", code=190, subcode=463, is_transient=False, status=400)
    with pytest.raises(AirflowFailException, match="expired"):
        run("upload", emails("a"))
    assert len(history().exposure) == 1


@KINDS
def test_a_column_that_the_users_do_not_have(run, refused, kind):
    refused(
        lambda: run(kind, emails("a"), columns={"emial": "EMAIL"}),
        "names 'emial'",
        "Their columns are 'email'",
        "Did you mean",
    )


def test_a_key_that_is_none(run, refused):
    refused(lambda: run("upload", emails("a"), columns={"email": "MAIL"}), "is no key", "The keys are EMAIL")


@KINDS
def test_no_column_that_finds_a_person(run, refused, kind):
    refused(lambda: run(kind, pa.table({"colour": ["red"]})), "'colour'", "Needed is a column for EMAIL")
    refused(lambda: run(kind, pa.table({"city": ["Rome"]})), "do not find a person", "Needed")


def test_a_value_based_audience_without_worths(run, refused, sandbox):
    audience = sandbox.create_audience("Worth", is_value_based=True)
    refused(lambda: run("upload", emails("a"), audience_id=audience), "no column feeds LOOKALIKE_VALUE", "Map a column")


@pytest.mark.parametrize("given", [None, [], {"email": [PERSON]}, PERSON, 7, [{"email": PERSON}]])
def test_a_callable_that_gives_no_arrow(run, refused, given):
    told = refused(lambda: run("upload", lambda: given), "is not Arrow data", "__arrow_c_stream__")
    assert PERSON not in told


def test_a_table_without_columns(run, refused):
    refused(lambda: run("upload", pa.table({})), "have no columns")


def test_a_callable_that_wants_what_the_context_lacks(run, refused):
    refused(lambda: run("upload", lambda moon: None), "wants moon", "functools.partial")


@KINDS
def test_a_query_that_gives_nobody(run, lite, refused, kind, writes):
    if kind == "remove":
        assert run(kind, sql="SELECT email FROM users WHERE 0", **lite)["removed"] == 0
        assert writes() == []
    else:
        refused(
            lambda: run(kind, sql="SELECT email FROM users WHERE 0", **lite), "gave no usable row", "Correct the query"
        )


def test_a_malformed_query(run, lite, refused):
    told = refused(lambda: run("refresh", sql=f"SELEKT email FROM users WHERE email = '{PERSON}'", **lite), "'lite'")
    assert PERSON not in told


def test_a_database_connection_that_does_not_exist(run, refused):
    refused(lambda: run("upload", sql="SELECT 1 AS email", sql_conn_id="nowhere"), "nowhere", kind=Exception)


def test_creating_and_deleting_fail_fast_too(sandbox, audience):
    from operator_tools import FakeTaskInstance

    context = {"ti": FakeTaskInstance({})}
    with pytest.raises(AirflowFailException, match="if_exists is 'perhaps'"):
        FacebookCreateCustomAudienceOperator(task_id="c", name="x", if_exists="perhaps").execute(context)
    with pytest.raises(AirflowFailException, match="if_exists='reuse'"):
        FacebookCreateCustomAudienceOperator(task_id="c", name="Test audience", if_exists="fail").execute(context)
    with pytest.raises(AirflowFailException, match="does not exist"):
        FacebookDeleteCustomAudienceOperator(task_id="d", audience_id="99", ignore_missing=False).execute(context)
    FacebookDeleteCustomAudienceOperator(task_id="d", audience_id="99").execute(context)
    FacebookDeleteCustomAudienceOperator(task_id="d", audience_id=audience).execute(context)
    assert sandbox.audiences() == []


# -- what a failure shows --------------------------------------------------------------------------------------------


class PanicException(BaseException):
    """What libraries written in Rust raise, past ``except Exception``."""


def raising(error):
    def users():
        ann = PERSON  # a local of the frame that raises
        raise error(f"cannot use {ann}")

    return users


def chained():
    try:
        {}[PERSON]
    except KeyError as error:
        raise ValueError(sha(PERSON)) from error


def grouped():
    raise ExceptionGroup(PERSON, [ValueError(PERSON)])


def broken_stream():
    schema = pa.schema([("email", pa.string())])

    def batches():
        yield pa.record_batch([pa.array(["a@example.com"] * 3)], schema=schema)
        raise ValueError(f"row of {PERSON}")

    return pa.RecordBatchReader.from_batches(schema, batches())


def cast_in_arrow():
    return pa.table({"email": [PERSON]}).cast(pa.schema([("email", pa.int64())]))


def cast_in_duckdb():
    # Breaks in the middle of the stream: the cell is far behind the first batch.
    return duckdb.sql(
        f"SELECT CAST(CASE WHEN range < 50000 THEN range::VARCHAR ELSE '{PERSON}' END AS INTEGER) AS extern_id"
        " FROM range(50001)"
    )


def not_utf8():
    cell = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\x1e\0\0\0"), pa.py_buffer(b"\xff" + PERSON.encode())]
    )
    return pa.table({"email": cell})


def nested():
    return pa.table({"email": [[PERSON]]})


CALLABLES = {
    "ValueError": raising(ValueError),
    "RuntimeError": raising(RuntimeError),
    "panic": raising(PanicException),
    "chained": chained,
    "group": grouped,
    "broken stream": broken_stream,
    "cast in Arrow": cast_in_arrow,
    "cast in DuckDB": cast_in_duckdb,
    "bytes that are no text": not_utf8,
    "a list": nested,
}


@pytest.fixture
def shows_nobody(everything_told, sandbox):
    """Checks that a failure names neither the person, in any form, nor a token or secret."""

    def check(error):
        told = everything_told(error)
        for trace in (*traces_of(PERSON), sandbox.token, sandbox.app_secret):
            assert trace not in told
        return told

    return check


@KINDS
@pytest.mark.parametrize("users", CALLABLES.values(), ids=CALLABLES)
def test_a_source_that_breaks_shows_nobody(run, shows_nobody, writes, files, kind, users):
    with pytest.raises((AirflowFailException, FbcaError)) as caught:
        run(kind, users)
    assert caught.value.__cause__ is caught.value.__context__ is None
    shows_nobody(caught.value)
    assert writes() == files() == []


def test_what_broke_in_a_callable_is_told_by_class_and_line(run, shows_nobody):
    with pytest.raises(FbcaError) as caught:
        run("upload", CALLABLES["ValueError"])
    assert "users_callable failed with ValueError at test_operator_bad_input.py:" in str(caught.value)
    assert not caught.value.permanent


def test_what_a_callable_says_to_airflow_reaches_airflow(run):
    try:
        from airflow.sdk.exceptions import AirflowSkipException
    except ImportError:  # Airflow 3.1
        from airflow.exceptions import AirflowSkipException

    with pytest.raises(AirflowSkipException, match="no file today"):
        run("upload", lambda: (_ for _ in ()).throw(AirflowSkipException("no file today")))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT json(email) AS email FROM users",
        f"SELECT email FROM users WHERE json('{PERSON}')",
        f"SELECT '{PERSON}' FROM",
        "SELECT email, email FROM users",
        "SELECT abs(-9223372036854775808) AS email FROM users",
    ],
)
def test_a_database_that_breaks_shows_nobody(run, lite, shows_nobody, writes, files, sql):
    with pytest.raises((AirflowFailException, FbcaError)) as caught:
        run("refresh", sql=sql, **lite)
    assert caught.value.__cause__ is caught.value.__context__ is None
    told = shows_nobody(caught.value)
    assert "lite" in told
    assert writes() == files() == []


def test_duckdb_breaks_without_showing_anybody(run, shows_nobody, monkeypatch, tmp_path):
    pytest.importorskip("airflow.providers.duckdb.hooks.duckdb", reason="the route by hook is the warehouse's own test")
    monkeypatch.setenv("AIRFLOW_CONN_DUCK", json.dumps({"conn_type": "duckdb"}))
    with pytest.raises((AirflowFailException, FbcaError)) as caught:
        run("refresh", sql=f"SELECT CAST('{PERSON}' AS INTEGER) AS email", sql_conn_id="duck")
    shows_nobody(caught.value)


FAULTS = {
    "refused": {"kind": "graph", "code": 100, "is_transient": False, "status": 400},
    "token": {"kind": "graph", "code": 190, "is_transient": False, "status": 401},
    "throttled": {"kind": "graph", "code": 80003, "is_transient": True, "wait_minutes": 180},
    "dropped": {"kind": "drop", "count": 20},
    "bad gateway": {"kind": "server_error", "count": 20},
    "empty": {"kind": "empty", "count": 20},
}


@KINDS
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_request_that_fails_shows_nobody(run, sandbox, no_waits, shows_nobody, kind, fault):
    run("upload", emails(NAME))
    sandbox.fault(path="/users", **fault)
    with pytest.raises((AirflowFailException, FbcaError)) as caught:
        run(kind, emails(NAME))
    assert caught.value.__cause__ is caught.value.__context__ is None
    shows_nobody(caught.value)


def test_a_run_that_succeeds_shows_nobody_either(run, everything_told, sandbox):
    run("upload", emails(NAME))
    run("refresh", emails(NAME, "b"), strategy="delete_insert")
    run("remove", emails(NAME))
    told = everything_told(None)
    assert "Plan: remove 1 rows" in told
    assert "Sent 1 of 3 rows" in told  # a line at DEBUG
    for trace in (*traces_of(PERSON), sandbox.token, sandbox.app_secret):
        assert trace not in told


@pytest.mark.parametrize("failing", ["put", "create", "names"])
def test_a_ledger_that_fails_shows_nobody(run, shows_nobody, monkeypatch, tmp_path, failing):
    from airflow_provider_fbca.ledger import store

    def refuse(*_, **__):
        raise OSError(f"{PERSON} {sha(PERSON)}")

    run("upload", emails("a"))
    target = {"put": (store.shutil, "copyfileobj"), "create": (store.os, "link"), "names": (store.Path, "iterdir")}[
        failing
    ]
    with monkeypatch.context() as patch:
        patch.setattr(*target, refuse)
        with pytest.raises(FbcaError) as caught:
            run("refresh", emails(NAME))
    assert not caught.value.permanent
    shows_nobody(caught.value)
