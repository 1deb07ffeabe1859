"""The ``delta`` strategy over a local Graph API: only what changed is sent, and the members are the query's rows."""

from __future__ import annotations

import json
import secrets
import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pyarrow as pa
import pytest
from airflow.sdk import ObjectStoragePath
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from operator_tools import OPERATORS, FakeTaskInstance, digests, emails, sha

from airflow_provider_fbca.compat import AirflowFailException
from airflow_provider_fbca.exceptions import FbcaError, StoppedError
from airflow_provider_fbca.graph.api import GraphApi
from airflow_provider_fbca.graph.upload import UserUploader
from airflow_provider_fbca.ledger import AudienceLedger
from airflow_provider_fbca.operators.run import AudienceRun
from airflow_provider_fbca.sandbox import errors, uploads
from airflow_provider_fbca.sandbox.sessions import Session

REAL_PAUSE = AudienceRun._pause
OLD, NEW = "abcdef", "defghi"
SMALL = {"batch_size": 2, "max_concurrency": 1}
COLUMNS = ("email", "phone", "extern_id")
#: Who leaves, and two who are connected to them: by a phone number, and through that by an id.
LEAVER, LINKED, FAR = ("e1", "1", None), (None, "1", "x1"), (None, None, "x1")
OTHERS = [(name, None, None) for name in ("o1", "o2", "o3")]


def people(*rows):
    """A table of rows of a name, a digit of a phone number, and an id."""
    cells = [
        (name and f"{name}@example.com", digit and f"+1415555010{digit}", extern_id) for name, digit, extern_id in rows
    ]
    return pa.table({key: pa.array([row[n] for row in cells], pa.string()) for n, key in enumerate(COLUMNS)})


def stored(*rows):
    """What the sandbox holds of such rows."""
    return sorted(
        json.dumps(
            ({"EMAIL": sha(f"{name}@example.com")} if name else {})
            | ({"PHONE": sha(f"1415555010{digit}")} if digit else {})
            | ({"EXTERN_ID": extern_id} if extern_id else {}),
            sort_keys=True,
        )
        for name, digit, extern_id in set(rows)
    )


@pytest.fixture
def held(sandbox, audience):
    """Gives the rows that the audience holds."""
    return lambda: sorted(json.dumps(row, sort_keys=True) for row in sandbox.members(audience))


@pytest.fixture
def refresh(run):
    """Runs a refresh by ``delta``."""
    return lambda users, **options: run("refresh", users, **{"strategy": "delta"} | options)


@pytest.fixture
def change_marker(history, ledger_folder, audience):
    """Changes fields of a marker of the newest entry, as another version or another day would have written it."""

    def change(kind, **fields):
        path = ledger_folder / audience / f"{history().entries[-1].id}.{kind}.json"
        content = json.loads(path.read_text()) | fields
        path.write_text(json.dumps({name: value for name, value in content.items() if value != "absent"}))

    return change


@pytest.fixture
def ended_sessions_take_more(monkeypatch):
    """Lets a late batch land though its session was ended meanwhile: nothing says that Meta refuses it."""
    session_of = uploads._session_of

    def find_or_begin(world, account_id, audience_id, place):
        try:
            return session_of(world, account_id, audience_id, place)
        except errors.GraphError:
            return Session(place.session_id, audience_id, "users", started_at=world.clock.now())

    monkeypatch.setattr(uploads, "_session_of", find_or_begin)


def sent(manifest):
    return manifest["removed"], manifest["added"]


# -- what is sent ----------------------------------------------------------------------------------------------------


def test_only_what_changed_is_sent(refresh, members, sandbox, writes):
    assert sent(refresh(emails(*OLD))) == (0, 6)
    assert sent(refresh(emails(*NEW))) == (3, 3)
    assert writes() == ["add_users", "remove_users", "add_users"]
    assert [each["rows"] for each in sandbox.requests() if each["operation"] in {"add_users", "remove_users"}] == [
        6, 3, 3,
    ]  # fmt: skip
    assert members() == digests(*NEW)


def test_an_unchanged_query_sends_nothing_and_settles(refresh, writes, history, members, files):
    refresh(emails(*OLD))
    before = writes()
    for _ in range(3):
        assert sent(refresh(emails(*reversed(OLD)))) == (0, 0)
    assert writes() == before
    assert len(history().outstanding) == 1
    assert history().outstanding[0].settled
    assert len([name for name in files() if name.endswith("parquet")]) == 1
    assert members() == digests(*OLD)


def test_the_audience_never_falls_below_the_overlap(refresh, members, monkeypatch):
    refresh(emails(*OLD), **SMALL)
    seen = []
    send = GraphApi.send

    def spy(self, *args, **options):
        answer = send(self, *args, **options)
        seen.append(set(members()))
        return answer

    monkeypatch.setattr(GraphApi, "send", spy)
    refresh(emails(*NEW), **SMALL)
    assert len(seen) == 4
    assert all(each >= set(digests(*"def")) for each in seen)
    assert all(each <= set(digests(*OLD, *NEW)) for each in seen)


def test_a_plan_alone_stores_and_sends_nothing(refresh, refused, files, writes):
    refresh(emails(*OLD))
    before = files(), writes()
    report = refresh(emails(*NEW), plan_only=True)
    assert (report["would_remove"], report["would_add"], report["leaving"], report["present"]) == (3, 3, 3, 6)
    assert (files(), writes()) == before
    refused(lambda: refresh(emails("a"), max_removals=4), "5 rows would leave")
    refused(lambda: refresh(emails("a"), max_removal_ratio=0.5), "5 of 6 rows would leave")
    refused(lambda: refresh(emails()), "gave no usable row")


def test_an_audience_may_be_emptied_and_filled_again(refresh, members):
    refresh(emails(*OLD))
    assert sent(refresh(emails(), allow_empty=True)) == (6, 0)
    assert members() == []
    assert sent(refresh(emails(), allow_empty=True)) == (0, 0)
    assert sent(refresh(emails(*NEW))) == (0, 6)
    assert members() == digests(*NEW)


# -- S2: cells beside the identifiers --------------------------------------------------------------------------------


def test_s2_a_change_of_worth_is_added_and_nothing_removed(refresh, sandbox):
    audience = sandbox.create_audience("Worth", is_value_based=True)

    def worth(**values):
        table = {"email": [f"{name}@example.com" for name in values], "lookalike_value": list(values.values())}
        return refresh(pa.table(table), audience_id=audience)

    assert sent(worth(a=1, b=2, c=3)) == (0, 3)
    assert sent(worth(a=1, b=20, c=3)) == (0, 1)
    assert sent(worth(a=1, b=20, c=3)) == (0, 0)
    rows = {row["EMAIL"]: float(row["LOOKALIKE_VALUE"]) for row in sandbox.members(audience)}
    assert rows == {sha("a@example.com"): 1.0, sha("b@example.com"): 20.0, sha("c@example.com"): 3.0}


def test_s2_a_changed_schema_is_a_plain_difference(refresh, held):
    refresh(people(("a", "1", None), ("b", None, None)))
    assert sent(refresh(people(("a", "1", None), ("b", None, None)).select(["phone", "email"]))) == (0, 0)
    assert sent(refresh(emails("a", "b"))) == (1, 1)
    assert held() == stored(("a", None, None), ("b", None, None))


# -- S3: who shares a person with a removed row ----------------------------------------------------------------------


def test_s3_whoever_is_connected_to_a_removed_row_is_added_again_and_once_more_next_time(refresh, held, files):
    refresh(people(LEAVER, LINKED, FAR, *OTHERS))
    assert sent(refresh(people(LINKED, FAR, *OTHERS))) == (1, 2)
    assert held() == stored(LINKED, FAR, *OTHERS)
    assert len([name for name in files() if name.endswith("again.parquet")]) == 1
    assert sent(refresh(people(LINKED, FAR, *OTHERS))) == (0, 2)
    assert sent(refresh(people(LINKED, FAR, *OTHERS))) == (0, 0)
    assert not [name for name in files() if name.endswith("again.parquet")]
    assert held() == stored(LINKED, FAR, *OTHERS)


def test_s3_connections_run_through_rows_that_leave_and_of_other_entries(run, refresh, held):
    run("upload", people(LEAVER, ("e2", None, "x2")))
    run("upload", people((None, "1", "x2"), ("e2", None, None), *OTHERS))
    run("upload", people(("e2", None, None)))
    assert sent(refresh(people(("e2", None, None), *OTHERS)))[0] == 3
    assert held() == stored(("e2", None, None), *OTHERS)
    assert sent(refresh(people(("e2", None, None), *OTHERS))) == (0, 1)


def test_s3_a_person_who_changed_stays_with_the_new_row_alone_and_is_sent_once_more(refresh, held):
    refresh(people(("a", "1", None), *OTHERS))
    assert sent(refresh(people(("a", "2", None), *OTHERS))) == (1, 1)
    assert held() == stored(("a", "2", None), *OTHERS)
    assert sent(refresh(people(("a", "2", None), *OTHERS))) == (0, 1)
    assert sent(refresh(people(("a", "2", None), *OTHERS))) == (0, 0)


# -- L6: surely in ---------------------------------------------------------------------------------------------------


def test_l6_after_an_upload_or_a_removal_all_is_sent(run, refresh, members):
    refresh(emails(*OLD))
    run("upload", emails("u"))
    assert sent(refresh(emails(*OLD))) == (1, 6)
    run("remove", emails("a"))
    assert sent(refresh(emails(*OLD))) == (0, 6)
    assert members() == digests(*OLD)
    assert sent(refresh(emails(*OLD))) == (0, 0)


def test_l6_after_a_delete_insert_that_removed_all_is_sent(run, refresh, members):
    run("refresh", emails(*OLD), strategy="delete_insert")
    assert sent(refresh(emails(*OLD))) == (0, 0)
    run("refresh", emails(*OLD), strategy="delete_insert")
    assert sent(refresh(emails(*NEW))) == (3, 6)
    run("refresh", emails(*OLD), strategy="delete_insert")
    assert members() == digests(*OLD)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", range(1, 5))
def test_l6_after_a_run_that_failed_all_is_sent(refresh, sandbox, members, history, nth, when):
    refresh(emails(*OLD), **SMALL)
    sandbox.fault("graph", path="/users", nth=nth, when=when, code=200, is_transient=False, status=400)
    with pytest.raises(AirflowFailException):
        refresh(emails(*NEW), **SMALL)
    assert len(history().exposure) == 2
    assert sent(refresh(emails(*OLD), **SMALL)) == (3, 6)
    assert members() == digests(*OLD)
    assert sent(refresh(emails(*OLD), **SMALL)) == (0, 0)


def days_ago(days):
    return (datetime.now(UTC) - timedelta(days=days)).isoformat()


def test_l6_all_is_sent_once_the_last_time_is_too_long_ago_however_many_refreshes_came_since(
    refresh, history, change_marker
):
    refresh(emails(*OLD))
    change_marker("settled", sent_all_at=days_ago(6.9))
    refresh(emails(*NEW))
    (entry,) = history().outstanding
    assert entry.settled.sent_all_at < days_ago(6.8)
    assert sent(refresh(emails(*NEW))) == (0, 0)
    change_marker("settled", sent_all_at=days_ago(7.1))
    assert sent(refresh(emails(*NEW))) == (0, 6)
    assert sent(refresh(emails(*NEW))) == (0, 0)
    change_marker("settled", sent_all_at=days_ago(1))
    assert sent(refresh(emails(*NEW), resend_all_days=1)) == (0, 6)
    assert sent(refresh(emails(*NEW), resend_all_days=0)) == (0, 6)


@pytest.mark.parametrize("days", [-1, float("nan")])
def test_l6_an_impossible_number_of_days_is_refused(refresh, refused, days):
    refused(lambda: refresh(emails("a"), resend_all_days=days), "resend_all_days")


def test_l6_of_an_audience_with_retention_all_is_sent(refresh, sandbox, change_marker):
    audience = sandbox.create_audience("Short", retention_days=30)
    for _ in range(2):
        assert sent(refresh(emails(*OLD), audience_id=audience)) == (0, 6)


def test_l6_of_an_audience_that_had_retention_all_is_sent(refresh, change_marker):
    refresh(emails(*OLD))
    change_marker("open", retention_days=30)
    assert sent(refresh(emails(*OLD))) == (0, 6)


@pytest.mark.parametrize(
    "fields",
    [
        {"again": "absent"},
        {"again": "2"},
        {"again": 3},
        {"again": True},
        {"again": -1},
        {"again_digest": None},
        {"again_digest": "absent"},
        {"sent_all_at": "absent"},
        {"sent_all_at": "yesterday"},
        {"sent_all_at": "2026-01-01T00:00:00"},
        {"sent_all_at": 7},
        {"sent_all_at": "2999-01-01T00:00:00+00:00"},
    ],
    ids=repr,
)
def test_l6_nobody_is_surely_in_where_the_marker_does_not_tell(refresh, change_marker, fields, held):
    refresh(people(LEAVER, LINKED, FAR, *OTHERS))
    refresh(people(LINKED, FAR, *OTHERS))
    change_marker("settled", **fields)
    assert sent(refresh(people(LINKED, FAR, *OTHERS))) == (0, 5)
    assert held() == stored(LINKED, FAR, *OTHERS)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "other"])
def test_l6_nobody_is_surely_in_where_the_rows_added_again_are_not_known(refresh, ledger_folder, damage):
    refresh(people(LEAVER, LINKED, FAR, *OTHERS))
    refresh(people(LINKED, FAR, *OTHERS))
    (path,) = ledger_folder.rglob("*.again.parquet")
    content = path.read_bytes()
    path.unlink()
    if damage == "other":
        pa.parquet.write_table(pa.table({"place": [0, 1]}), path)
    elif damage != "missing":
        path.write_bytes(content[: len(content) // 2 if damage == "cut" else 0])
    assert sent(refresh(people(LINKED, FAR, *OTHERS))) == (0, 5)


# -- L9: unknown outcomes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waiting", [True, False])
@pytest.mark.parametrize("strategy", ["delta", "delete_insert"])
def test_l9_a_removal_that_lands_late_takes_nobody_out_who_was_added_after_it(
    refresh, sandbox, held, no_waits, waits, ended_sessions_take_more, monkeypatch, strategy, waiting
):
    if not waiting:  # so it is the wait that keeps them in
        monkeypatch.setattr(UserUploader, "wait_out_flights", lambda self: None)
    before, after = [("a", "1", None), *OTHERS], [("a", "2", None), *OTHERS]
    refresh(people(*before))
    sandbox.fault("drop", operation="remove_users", when="late", lands_after=80)
    refresh(people(*after), strategy=strategy)
    sandbox.advance(600)
    assert (held() == stored(*after)) is waiting
    # Our own clock stood still, so the second half waits too.
    assert len(waits) == (2 if waiting else 0)
    assert all(80 < seconds <= 90 for seconds in waits)


@pytest.mark.parametrize("kind", ["upload", "remove", "refresh"])
def test_l9_success_is_told_when_nothing_can_land_any_more(run, sandbox, history, no_waits, waits, kind):
    run("upload", emails("a", "b"))
    operation = "remove_users" if kind == "remove" else "add_users"
    sandbox.fault("drop", operation=operation, when="late", lands_after=80)
    run(kind, emails("a"))
    assert waits
    assert history().entries[-1].settled


def test_l9_nobody_waits_where_all_was_answered(refresh, waits):
    refresh(emails(*OLD))
    refresh(emails(*NEW))
    assert waits == []


def test_l9_a_wait_ends_when_the_task_is_told_to_stop():
    stopped = threading.Event()
    run = SimpleNamespace(_stopped=stopped, _lease=None)
    run.check_stop = lambda: AudienceRun.check_stop(run)
    run._go_on = lambda: AudienceRun._go_on(run)
    threading.Timer(0.2, stopped.set).start()
    began = time.monotonic()
    with pytest.raises(StoppedError):
        REAL_PAUSE(run, 60)
    assert time.monotonic() - began < 5


def test_l9_a_wait_lasts_as_long_as_it_should():
    run = SimpleNamespace(_go_on=lambda: None)
    began = time.monotonic()
    REAL_PAUSE(run, 0.7)
    assert 0.7 <= time.monotonic() - began < 5


# -- S5: refused removals --------------------------------------------------------------------------------------------


def test_s5_where_too_few_would_remain_the_new_people_go_in_first(refresh, sandbox, held, writes):
    refresh(people(LEAVER, *OTHERS))
    sandbox.change(minimum_people=3)
    new = [LINKED, FAR, ("n1", None, None), ("n2", None, None), ("n3", None, None)]
    refresh(people(*new))
    assert writes() == ["add_users", "remove_users", "add_users", "remove_users", "add_users"]
    assert held() == stored(*new)
    assert [each["rows"] for each in sandbox.requests("add_users")] == [4, 5, 5]
    assert sent(refresh(people(*new))) == (0, 2)
    assert sent(refresh(people(*new))) == (0, 0)


def test_s5_still_refused_it_tells_what_was_done_and_what_to_do(refresh, sandbox, members, history):
    refresh(emails(*OLD))
    sandbox.change(minimum_people=4)
    with pytest.raises(AirflowFailException) as caught:
        refresh(emails("x", "y"), batch_size=1, max_concurrency=1)
    assert "too few people would remain" in str(caught.value)
    assert "4 of 6 rows had been removed before that, and all 2 rows of the source were added" in str(caught.value)
    assert 'Use strategy="replace"' in str(caught.value)
    assert len(history().exposure) == 2
    sandbox.change(minimum_people=0)
    refresh(emails("x", "y"))
    assert members() == digests("x", "y")


def test_s5_a_full_send_comes_after_the_removal_too_for_whom_only_meta_links_to_it(refresh, sandbox, members):
    sandbox.link({"EMAIL": sha("a@example.com")}, {"EMAIL": sha("d@example.com")})
    refresh(emails(*OLD))
    sandbox.change(minimum_people=4)
    refresh(emails(*NEW), resend_all_days=0)
    assert members() == digests(*NEW)


def test_s5_delete_insert_fails_and_names_the_strategy_that_can(run, refresh, sandbox, members):
    run("refresh", emails(*OLD))
    sandbox.change(minimum_people=4)
    with pytest.raises(AirflowFailException) as caught:
        run("refresh", emails(*NEW), strategy="delete_insert", **SMALL)
    assert "2 of 6 rows had been removed before that, and nothing was added" in str(caught.value)
    assert 'strategy="delta"' in str(caught.value)
    refresh(emails(*NEW))
    assert members() == digests(*NEW)


def test_s5_a_removal_alone_that_is_refused_tells_what_was_done(run, sandbox):
    run("upload", emails(*OLD))
    sandbox.change(minimum_people=4)
    with pytest.raises(AirflowFailException, match="2 of 3 rows had been removed before that") as caught:
        run("remove", emails(*"abc"), batch_size=1, max_concurrency=1)
    assert "Add people first, or remove fewer." in str(caught.value)


# -- anything at all -------------------------------------------------------------------------------------------------


row = st.tuples(
    st.sampled_from([None, "a", "b", "c"]), st.sampled_from([None, "1", "2"]), st.sampled_from([None, "x1", "x2"])
).filter(any)
valued = st.dictionaries(row, st.sampled_from([1, 2]), max_size=6)
fault = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["graph", "drop"]),
            "when": st.sampled_from(["before", "after", "late"]),
            "nth": st.integers(1, 4),
        }
    ),
)
step = st.tuples(
    st.sampled_from(["upload", "remove", "delta", "delta", "delta", "delete_insert"]), valued, st.integers(1, 4), fault
)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(step, min_size=1, max_size=5), st.sampled_from(["delta", "delta", "delete_insert"]), valued)
def test_after_any_history_a_refresh_that_succeeds_leaves_the_querys_rows(
    sandbox, tmp_path, no_waits, ended_sessions_take_more, steps, last, final
):
    audience = sandbox.create_audience("Any", is_value_based=True)
    folder, xcom = f"file://{tmp_path}/{secrets.token_hex(4)}", {}
    ledger = AudienceLedger(ObjectStoragePath(folder), audience)

    def go(kind, rows, batch_size):
        options = {} if kind in {"upload", "remove"} else {"strategy": kind, "allow_empty": True}
        users = people(*rows).append_column("lookalike_value", pa.array(rows.values(), pa.int64()))
        operator = OPERATORS[kind if kind in OPERATORS else "refresh"](
            task_id="send",
            audience_id=audience,
            ledger_uri=folder,
            users_callable=lambda: users,
            min_rows=0,
            batch_size=batch_size,
            max_concurrency=1,
            **options,
        )
        operator.execute({"ti": FakeTaskInstance(xcom)})

    def check(rows):
        held = {}
        for each in sandbox.members(audience):
            held[json.dumps({key: each[key] for key in each if key != "LOOKALIKE_VALUE"}, sort_keys=True)] = float(
                each["LOOKALIKE_VALUE"]
            )
        assert held == {stored(each)[0]: float(value) for each, value in rows.items()}

    for kind, rows, batch_size, spoiled in steps:
        if spoiled:
            # What lands late after a failure is for the next task's lease to wait for: only where tries go on here.
            late = spoiled["when"] == "late"
            options = {"lands_after": 80} if late else {}
            faulty = spoiled | ({"kind": "drop"} if late else {})
            if faulty["kind"] == "graph":
                options |= {"code": 100, "is_transient": False, "status": 400}
            sandbox.fault(path="/users", **faulty, **options)
        try:
            go(kind, rows, batch_size)
        except (FbcaError, AirflowFailException):
            assert spoiled
        else:
            if kind not in {"upload", "remove"}:
                check(rows)
        sandbox.clear_faults()
    assert not ledger.history().missing
    go(last, final, 3)
    check(final)
    before = len(sandbox.requests())
    go("delta", final, 3)
    go("delta", final, 3)
    check(final)
    assert before < len(sandbox.requests())
