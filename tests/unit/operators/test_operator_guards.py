"""Guards (rule S7), the manifest, and unusual options."""

from __future__ import annotations

import datetime as dt
import hashlib
import json

import pyarrow as pa
import pytest
from operator_tools import digests, emails, sha

from airflow_provider_fbca.compat import AirflowFailException

HALF_BAD = pa.table({"email": ["a@example.com", "no address", "b@example.com", None]})
NOBODY = pa.table({"email": pa.array([None, "no address"])})


# -- guards ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["upload", "refresh"])
@pytest.mark.parametrize("users", [emails(), NOBODY], ids=["no row", "no usable row"])
def test_a_source_without_a_usable_row_is_refused(run, refused, kind, users):
    refused(lambda: run(kind, users), "gave no usable row", "min_rows=1", "Nothing was sent")


def test_an_empty_source_may_empty_an_audience_only_where_that_was_said(run, refused, members):
    run("refresh", emails("a", "b"))
    refused(lambda: run("refresh", emails()), "allow_empty=True")
    refused(lambda: run("refresh", emails(), min_rows=0), "allow_empty=True")
    refused(lambda: run("refresh", NOBODY, allow_empty=True), "gave no usable row")
    refused(lambda: run("refresh", emails(), min_rows=0, max_removals=1, allow_empty=True), "2 rows would leave")
    manifest = run("refresh", emails(), allow_empty=True, min_rows=5)
    assert (manifest["rows"], manifest["removed"], manifest["added"]) == (0, 2, 0)
    assert members() == []


def test_an_empty_audience_may_be_refreshed_with_nothing(run, writes, history):
    run("refresh", emails(), allow_empty=True)
    assert writes() == []
    assert history().entries == ()


@pytest.mark.parametrize("kind", ["upload", "remove", "refresh"])
def test_too_few_rows_are_refused(run, refused, kind):
    refused(lambda: run(kind, emails("a", "b"), min_rows=3), "gave 2 usable rows", "min_rows=3")
    run(kind, emails("a", "b", "c"), min_rows=3)


@pytest.mark.parametrize("kind", ["upload", "remove", "refresh"])
def test_too_many_unusable_rows_are_refused(run, refused, kind):
    refused(lambda: run(kind, HALF_BAD, max_invalid_ratio=0.49), "2 of 4 rows cannot be used", "max_invalid_ratio=0.49")
    run(kind, HALF_BAD, max_invalid_ratio=0.5)


def test_too_many_who_would_leave_are_refused(run, refused, members):
    run("refresh", emails(*"abcdefghij"))
    rest = emails(*"abcdefg", "new")
    told = refused(lambda: run("refresh", rest, max_removals=2), "3 rows would leave", "max_removals=2")
    assert "did not finish" not in told
    refused(lambda: run("refresh", rest, max_removal_ratio=0.29), "3 of 10 rows would leave", "max_removal_ratio=0.29")
    refused(lambda: run("refresh", rest, max_removals=0), "max_removals=0")
    run("refresh", rest, max_removals=3, max_removal_ratio=0.3)
    assert members() == digests(*"abcdefg", "new")


def test_guards_count_who_leaves_for_good_and_not_who_is_removed_and_added_again(run, writes):
    run("refresh", emails("a", "b"))
    run("refresh", emails("a", "b", "c"), max_removals=0, max_removal_ratio=0, strategy="delete_insert")
    assert "remove_users" in writes()


def test_the_error_says_when_a_run_that_died_inflates_who_would_leave(run, refused, sandbox, members):
    run("refresh", emails(*"abcd"))
    sandbox.fault("graph", operation="add_users", code=200, is_transient=False, status=400)
    with pytest.raises(AirflowFailException):
        run("refresh", emails("a", "w", "x", "y", "z"))
    told = "4 of them were sent, if at all, by runs that did not finish."
    refused(lambda: run("refresh", emails(*"abc"), max_removals=4), "5 rows would leave", told)
    refused(lambda: run("refresh", emails(*"abc"), max_removal_ratio=0.1), "5 of 8 rows would leave", told)
    run("refresh", emails(*"abc"), max_removals=5)
    assert members() == digests(*"abc")


def test_a_removal_counts_all_its_rows(run, refused):
    run("upload", emails(*"abcd"))
    refused(lambda: run("remove", emails(*"abc"), max_removals=2), "3 rows would leave", "max_removals=2")
    run("remove", emails(*"abc"), max_removals=3)


@pytest.mark.parametrize("kind", ["upload", "remove", "refresh"])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("min_rows", -1), ("max_invalid_ratio", -0.1), ("max_invalid_ratio", 1.5), ("max_invalid_ratio", float("nan")),
        ("batch_size", 0), ("batch_size", 10_001), ("max_concurrency", 0),
    ],
)  # fmt: skip
def test_an_impossible_option_is_told_before_anything_is_looked_at(run, refused, sandbox, kind, option, value):
    refused(lambda: run(kind, emails("a"), **{option: value}), f"{option} is {value}.")
    assert sandbox.requests("read_audience") == []


@pytest.mark.parametrize(
    ("option", "value"),
    [("max_removals", -1), ("max_removal_ratio", 2), ("max_removal_ratio", -1), ("strategy", "magic")],
)
def test_an_impossible_option_of_a_refresh_is_told_too(run, refused, option, value):
    refused(lambda: run("refresh", emails("a"), **{option: value}), f"{option} is ")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "has none"),
        ({"sql": "SELECT 1"}, "sql is given without sql_conn_id"),
        ({"sql": "SELECT 1", "sql_conn_id": "x", "users_uri": "file:///x"}, "has sql and users_uri"),
        ({"users_callable": 7}, "users_callable cannot be called"),
    ],
)
def test_a_task_needs_one_whole_source(run, refused, options, told):
    refused(lambda: run("upload", **options), told)


SQL = {"sql": "SELECT 1", "sql_conn_id": "x"}


@pytest.mark.parametrize("source", [{"users_uri": "file:///x"}, {"users_callable": list}])
@pytest.mark.parametrize(
    ("option", "value"),
    [("parameters", [1]), ("session_sql", "SET x"), ("statement_timeout", 60), ("sql_route", "dbapi")],
)
def test_options_of_a_query_need_a_query(run, refused, sandbox, source, option, value):
    refused(lambda: run("upload", **source, **{option: value}), f"The task has {option}, but no sql.")
    assert sandbox.requests("read_audience") == []


def test_options_of_a_query_that_say_nothing_need_none(run):
    run("upload", emails("a"), parameters={}, session_sql=[], statement_timeout=None, sql_route="auto")


@pytest.mark.parametrize("kind", ["upload", "remove", "refresh"])
@pytest.mark.parametrize(
    "timeout", [0, -1, -0.5, float("nan"), float("inf"), True, "60", dt.timedelta(0), dt.timedelta(seconds=-1)]
)
def test_an_impossible_time_limit_is_told_before_anything_is_looked_at(run, refused, sandbox, kind, timeout):
    refused(lambda: run(kind, **SQL, statement_timeout=timeout), f"statement_timeout is {timeout!r}.")
    assert sandbox.requests("read_audience") == []


def test_a_route_that_does_not_exist_is_told_with_those_that_do(run, refused, sandbox):
    refused(lambda: run("upload", **SQL, sql_route="pigeon"), "sql_route is 'pigeon'", "auto, ", "dbapi")
    assert sandbox.requests("read_audience") == []


@pytest.mark.parametrize("statements", [7, {"SET x": 1}, [7], ["SET x", None]])
def test_session_sql_is_text(run, refused, sandbox, statements):
    refused(lambda: run("upload", **SQL, session_sql=statements), "session_sql is no statement.")
    assert sandbox.requests("read_audience") == []


# -- the manifest ----------------------------------------------------------------------------------------------------

FIELDS = {
    "audience_id", "ad_account_id", "schema", "strategy", "rows", "added", "removed", "received", "invalid",
    "rejected", "keys", "session_ids", "entry", "digest", "outstanding", "uploaded_at", "run_id",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["upload", "remove", "refresh"])
def test_the_manifest_tells_counts_and_ids_and_nobody(run, sandbox, audience, history, ledger_folder, kind):
    before = run("upload", emails("x"))
    users = pa.table(
        {
            "email": ["ann@example.com", "bob@example.com", "no address", "ann@example.com"],
            "first_name": ["Ann", "Bob", None, "Ann"],
            "extern_id": ["c-77123", None, None, "c-77123"],
        }
    )
    manifest = run(kind, users)
    text = json.dumps(manifest, allow_nan=False)
    assert json.loads(text) == manifest
    assert set(manifest) == FIELDS
    assert len(text) < 2000
    for value in ("ann@example.com", "bob@example.com", "ann", "bob", "no address", "c-77123", "x@example.com"):
        for trace in (hashlib.sha256(value.encode()).hexdigest(), *([value] if len(value) > 3 else [])):
            assert trace.lower() not in text.lower()
    (entry,) = history().entries[1:]
    members = 0 if kind == "remove" else 2
    assert manifest | {"uploaded_at": "", "digest": "", "received": 0} == {
        "audience_id": audience,
        "ad_account_id": sandbox.ad_account_id,
        "schema": ["EMAIL", "FN", "EXTERN_ID"],
        "strategy": "delta" if kind == "refresh" else None,
        "rows": members,
        "added": members,
        "removed": {"upload": 0, "remove": 2, "refresh": 1}[kind],
        "received": 0,
        "invalid": 0,
        "rejected": manifest["rejected"],
        "keys": {
            "EMAIL": {"filled": 3, "blank": 0, "invalid": {"not_an_email": 1}},
            "FN": {"filled": 3, "blank": 1, "invalid": {}},
            "EXTERN_ID": {"filled": 2, "blank": 2, "invalid": {}},
        },
        "session_ids": manifest["session_ids"],
        "entry": {"id": entry.id, "uri": f"file://{ledger_folder}/{audience}/{entry.id}.rows.parquet"},
        "digest": "",
        "outstanding": [
            *([] if kind == "refresh" else [{"id": before["entry"]["id"], "digest": before["digest"]}]),
            {"id": entry.id, "digest": entry.digest},
        ],
        "uploaded_at": "",
        "run_id": "run-1",
    }
    assert sum(manifest["rejected"].values()) == 1
    assert manifest["digest"] == entry.digest
    assert manifest["uploaded_at"] == entry.settled.settled_at
    assert manifest["received"] == manifest["added"] + manifest["removed"]
    assert entry.opened.owner == {
        "dag_id": "audiences", "task_id": "send", "run_id": "run-1", "map_index": -1, "try_number": 1,
    }  # fmt: skip


def test_the_markers_and_session_notes_hold_nobody(run, ledger_folder):
    run("upload", emails("ann"))
    run("refresh", emails("ann", "bob"))
    for marker in ledger_folder.rglob("*.json"):
        text = marker.read_text()
        for name in ("ann", "bob"):
            assert f"{name}@" not in text
            assert sha(f"{name}@example.com") not in text


# -- unusual options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "size", "requests"), [(3, 1, 3), (6, 3, 2), (7, 3, 3), (1, 10_000, 1)])
def test_batches_of_any_size_carry_everybody(run, sandbox, members, rows, size, requests):
    names = [f"p{n}" for n in range(rows)]
    run("upload", emails(*names), batch_size=size)
    assert members() == digests(*names)
    sent = sandbox.requests("add_users")
    assert sorted(each["batch_seq"] for each in sent) == list(range(1, requests + 1))
    assert [each["batch_seq"] for each in sent if each["last_batch_flag"]] == [requests]


def test_rows_that_repeat_are_sent_once(run, sandbox, members):
    manifest = run("upload", emails(*"abcabc"))
    assert manifest["added"] == manifest["received"] == 3
    assert members() == digests(*"abc")


def test_people_known_by_an_id_of_their_own_alone_come_and_go(run, sandbox, audience):
    run("refresh", pa.table({"extern_id": ["1", "zwei", "3"]}))
    run("remove", pa.table({"extern_id": pa.array([3])}))
    run("refresh", pa.table({"extern_id": ["zwei", "vier"]}))
    assert sorted(row["EXTERN_ID"] for row in sandbox.members(audience)) == ["vier", "zwei"]


def test_several_columns_may_feed_one_key_and_one_column_several(run, sandbox, audience):
    users = pa.table(
        {
            "work": [None, "b@example.com"],
            "home": ["a@example.com", "x@example.com"],
            "born": ["1990-02-03", "1991-04-05"],
        }
    )
    run("refresh", users, columns={"work": "EMAIL", "home": "email", "born": "DOB"})
    rows = {row["EMAIL"]: row for row in sandbox.members(audience)}
    assert set(rows) == {sha("a@example.com"), sha("b@example.com")}
    assert rows[sha("a@example.com")]["DOBY"] == sha("1990")


def test_digests_in_the_source_are_sent_as_they_are(run, members):
    run("refresh", pa.table({"email": [sha("a@example.com").upper(), sha("b@example.com")]}), hashed={"EMAIL": True})
    run("refresh", emails("b"))
    assert members() == digests("b")


def test_a_callable_gets_the_context_keys_that_it_names(run, members):
    def users(ti):
        return emails(ti.run_id)

    run("refresh", users)
    assert members() == digests("run-1")


def test_one_operator_object_may_run_again(run, members):
    """As a retry in the same process would."""
    users = [emails("a"), emails("b")]
    for expected in ("a", "b"):
        run("refresh", users.pop(0))
        assert members() == digests(expected)


def test_plan_only_tells_what_a_person_wants_to_know(run):
    run("refresh", emails(*"abcdefg"))
    report = run("refresh", emails(*"efghi"), plan_only=True, batch_size=2, max_removals=3)
    assert {name: report[name] for name in ("would_remove", "would_add", "kept", "present", "rows", "requests")} == {
        "would_remove": 4,
        "would_add": 2,
        "kept": 3,
        "present": 7,
        "rows": 5,
        "requests": 3,
    }
    assert report["minutes_at_rate_limit"] == 0
    assert "4 rows would leave the audience, more than max_removals=3" in report["would_be_refused"]
    assert run("refresh", emails(*"efghi"), plan_only=True)["would_be_refused"] is None
