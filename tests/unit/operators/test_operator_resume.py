"""A retry goes on where an earlier try of its run stopped (rule L10)."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_tools import FakeTaskInstance, digests, emails, killed

from airflow_provider_fbca.exceptions import FbcaError
from airflow_provider_fbca.hooks.custom_audience import FacebookCustomAudienceHook
from airflow_provider_fbca.operators import run as run_module
from airflow_provider_fbca.operators.acknowledged import Acknowledged, places_in

OLD, NEW, OTHER = "abcdef", "defghi", "ehjk"
SMALL = {"batch_size": 2, "max_concurrency": 1}


@pytest.fixture
def from_file(run, tmp_path):
    """Runs an operator on a file of users: ``from_file("refresh", "abc")``; without names the file stays as it is."""
    file = tmp_path / "users.parquet"

    def execute(kind, names=None, **options):
        if names is not None:
            pq.write_table(emails(*names), file)
        return run(kind, users_uri=f"file://{file}", **SMALL | options)

    return execute


@pytest.fixture
def reads(monkeypatch):
    """Counts how often a source is read."""
    counted = []
    read = run_module.read_users
    monkeypatch.setattr(run_module, "read_users", lambda *args, **options: counted.append(1) or read(*args, **options))
    return counted


@pytest.fixture
def fails_at(sandbox, no_waits):
    """Makes the nth request from now on fail, and all that follow."""

    def arrange(nth, when="before"):
        sandbox.fault("graph", path="/users", nth=nth, count=50, when=when, code=2, is_transient=True, status=500)

    return arrange


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("strategy", "nth", "total"),
    [*(("delta", nth, 4) for nth in range(1, 5)), *(("delete_insert", nth, 6) for nth in range(1, 7))],
)
def test_l10_a_retry_sends_only_what_was_not_acknowledged_and_does_not_read_again(
    from_file, fails_at, sandbox, reads, members, history, strategy, nth, total, when
):
    from_file("refresh", OLD)
    fails_at(nth, when)
    with pytest.raises(FbcaError):
        from_file("refresh", NEW, strategy=strategy)
    sandbox.clear_faults()
    begun, reads[:] = history().entries[-1].id, []
    before = len(sandbox.requests())
    manifest = from_file("refresh", strategy=strategy)
    resent = [each for each in sandbox.requests()[before:] if each["operation"].endswith("_users")]
    assert len(resent) == total - nth + 1
    assert manifest["entry"]["id"] == begun
    assert reads == []
    assert members() == digests(*NEW)
    assert len(history().outstanding) == 1
    # Whoever comes next sees it as a refresh like any other.
    from_file("refresh", OTHER)
    assert members() == digests(*OTHER)


def test_l11_the_first_refresh_of_all_is_resumed_though_the_audience_is_empty_no_more(
    from_file, fails_at, sandbox, reads, members
):
    fails_at(2)
    with pytest.raises(FbcaError):
        from_file("refresh", NEW)
    sandbox.clear_faults()
    reads.clear()
    from_file("refresh")
    assert reads == []
    assert members() == digests(*NEW)


def test_s7_plan_only_reports_and_resumes_nothing(from_file, fails_at, sandbox, members, history, writes):
    from_file("refresh", OLD)
    fails_at(3)
    with pytest.raises(FbcaError):
        from_file("refresh", NEW)
    sandbox.clear_faults()
    sent, entries = writes(), history().entries
    report = from_file("refresh", plan_only=True)
    # Of the entry that is open nothing is surely in: all of it counts, and all would be sent.
    assert (report["plan_only"], report["would_add"], report["present"]) == (True, len(NEW), len({*OLD, *NEW}))
    assert (writes(), history().entries) == (sent, entries)


@pytest.mark.parametrize("kind", ["upload", "remove"])
def test_l10_uploads_and_removals_are_resumed_too(from_file, fails_at, sandbox, reads, members, kind):
    from_file("refresh", "abcdef")
    fails_at(2)
    with pytest.raises(FbcaError):
        from_file(kind, "abcxyz")
    sandbox.clear_faults()
    reads.clear()
    before = len(sandbox.requests())
    from_file(kind)
    assert len([each for each in sandbox.requests()[before:] if each["operation"].endswith("_users")]) == 2
    assert reads == []
    assert members() == digests(*("abcdefxyz" if kind == "upload" else "def"))


def _older(history, ledger_folder, **changes):
    """Change the open marker of the last entry."""
    (file,) = ledger_folder.rglob(f"{history().entries[-1].id}.open.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_l10_the_manifest_of_a_resumed_run_tells_what_its_source_gave(from_file, fails_at, sandbox):
    whole = from_file("upload", NEW)
    fails_at(2)
    with pytest.raises(FbcaError):
        from_file("refresh", NEW, strategy="delete_insert")
    sandbox.clear_faults()
    manifest = from_file("refresh", strategy="delete_insert")
    same = ("schema", "keys", "rejected", "rows", "added")
    assert {name: manifest[name] for name in same} == {name: whole[name] for name in same}


def test_l10_a_run_that_was_cleared_after_its_source_was_corrected_sends_the_new_rows(
    from_file, fails_at, sandbox, members, history
):
    from_file("refresh", OLD)
    fails_at(3)
    with pytest.raises(FbcaError):
        from_file("refresh", NEW)
    sandbox.clear_faults()
    from_file("refresh", OTHER)
    assert members() == digests(*OTHER)
    assert len(history().entries) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"columns": {"email": "EMAIL"}}, {"default_country": "US"}, {"transliterate": True},
        {"hashed": {"EMAIL": False}}, {"limited_data_use": True}, {"strategy": "delete_insert"},
        {"resend_all_days": 1}, {"max_removals": 10}, {"allow_empty": True}, {"min_rows": 2},
        {"max_invalid_ratio": 0.5}, {"max_removal_ratio": 0.9},
    ],
    ids=str,
)  # fmt: skip
def test_l10_with_another_option_the_source_is_read_again(
    from_file, fails_at, sandbox, reads, members, history, options
):
    from_file("refresh", OLD)
    fails_at(3)
    with pytest.raises(FbcaError):
        from_file("refresh", NEW)
    sandbox.clear_faults()
    reads.clear()
    from_file("refresh", **options)
    assert reads == [1]
    assert len(history().entries) == 3
    assert members() == digests(*NEW)


@pytest.mark.parametrize(
    "other", [{"run_id": "run-2"}, {"task_id": "another"}, {"dag_id": "another"}, {"map_index": 3}], ids=str
)
def test_l10_another_run_task_or_map_index_begins_anew(
    from_file, fails_at, sandbox, reads, members, monkeypatch, other
):
    from_file("refresh", OLD)
    fails_at(3)
    with pytest.raises(FbcaError):
        from_file("refresh", NEW)
    sandbox.clear_faults()
    reads.clear()
    for name, value in other.items():
        monkeypatch.setattr(FakeTaskInstance, name, value)
    from_file("refresh")
    assert reads == [1]
    assert members() == digests(*NEW)


def test_l10_another_try_and_another_size_of_batches_go_on(from_file, fails_at, sandbox, reads, members, monkeypatch):
    from_file("refresh", OLD)
    fails_at(4)
    with pytest.raises(FbcaError):
        from_file("refresh", NEW)
    sandbox.clear_faults()
    reads.clear()
    monkeypatch.setattr(FakeTaskInstance, "try_number", 2)
    from_file("refresh", batch_size=3, max_concurrency=2)
    assert reads == []
    assert members() == digests(*NEW)


def test_l6_an_entry_tells_the_retention_of_the_audience_at_its_settling(
    from_file, fails_at, sandbox, reads, members, audience, history
):
    from_file("refresh", OLD)
    fails_at(3)
    with pytest.raises(FbcaError):
        from_file("refresh", NEW, strategy="delete_insert")
    sandbox.clear_faults()
    reads.clear()
    FacebookCustomAudienceHook().update_audience(audience, retention_days=30)
    from_file("refresh", strategy="delete_insert")
    assert reads == [1]
    assert history().entries[-1].opened.retention_days == 30
    assert members() == digests(*NEW)


def test_l10_after_a_day_the_source_is_read_again(from_file, fails_at, sandbox, reads, history, ledger_folder, members):
    from_file("refresh", OLD)
    fails_at(3)
    with pytest.raises(FbcaError):
        from_file("refresh", NEW)
    sandbox.clear_faults()
    reads.clear()
    opened_at = datetime.fromisoformat(history().entries[-1].opened.opened_at) - timedelta(hours=24)
    _older(history, ledger_folder, opened_at=opened_at.isoformat())
    from_file("refresh")
    assert reads == [1]
    assert members() == digests(*NEW)


@pytest.mark.parametrize(
    "change", [{"left_behind": True}, {"plan": "another"}, {"plan": None}, {"fingerprint": None}], ids=str
)
def test_l10_what_is_no_entry_of_the_same_plan_stays_exposure(
    from_file, fails_at, sandbox, reads, history, ledger_folder, members, change
):
    from_file("refresh", OLD)
    fails_at(3)
    with pytest.raises(FbcaError):
        from_file("refresh", NEW)
    sandbox.clear_faults()
    reads.clear()
    _older(history, ledger_folder, **change)
    from_file("refresh")
    assert reads == [1]
    assert members() == digests(*NEW)
    assert len(history().entries) == 3


def test_l10_an_entry_that_is_not_the_newest_is_not_resumed(run, from_file, fails_at, sandbox, reads, members):
    from_file("refresh", OLD)
    fails_at(3)
    with pytest.raises(FbcaError):
        from_file("refresh", NEW)
    sandbox.clear_faults()
    run("upload", emails("late"))
    reads.clear()
    from_file("refresh")
    assert reads == [1]
    assert members() == digests(*NEW)


def test_l10_a_replace_is_sent_from_its_beginning_in_a_new_session(from_file, sandbox, no_waits, reads, members):
    sandbox.fault("graph", path="/usersreplace", nth=2, count=50, code=2, is_transient=True, status=500)
    with pytest.raises(FbcaError):
        from_file("refresh", NEW, strategy="replace")
    sandbox.clear_faults()
    reads.clear()
    from_file("refresh", strategy="replace")
    assert reads == [1]
    sandbox.advance(2 * 3600)
    assert members() == digests(*NEW)


def test_l10_what_a_function_gives_is_asked_for_again(run, fails_at, sandbox, reads, members):
    run("refresh", emails(*OLD), **SMALL)
    fails_at(3)
    with pytest.raises(FbcaError):
        run("refresh", emails(*NEW), **SMALL)
    sandbox.clear_faults()
    reads.clear()
    run("refresh", emails(*NEW), **SMALL)
    assert reads == [1]
    assert members() == digests(*NEW)


@pytest.mark.kills
@pytest.mark.parametrize("place", ["request before", "request after", "write before", "write after"])
@pytest.mark.parametrize("strategy", ["delta", "delete_insert"])
def test_l10_a_retry_after_a_kill_at_any_request_or_write_ends_equal(
    from_file, members, history, monkeypatch, place, strategy
):
    from_file("refresh", OLD)
    nth = 1
    while killed(place, nth, lambda: from_file("refresh", NEW, strategy=strategy)):
        from_file("refresh", strategy=strategy)
        assert members() == digests(*NEW)
        assert len(history().outstanding) == 1
        from_file("refresh", OLD)
        assert members() == digests(*OLD)
        nth += 1
    assert nth > 4


def test_l10_a_refused_removal_is_resumed_with_its_new_plan(from_file, fails_at, sandbox, reads, members):
    from_file("refresh", OLD)
    sandbox.change(minimum_people=4)
    # remove, refused; add everybody (two batches), then the third fails.
    fails_at(5)
    with pytest.raises(FbcaError):
        from_file("refresh", "uvwxyz")
    sandbox.clear_faults()
    reads.clear()
    from_file("refresh")
    assert reads == []
    assert members() == digests(*"uvwxyz")


# -- ranges ----------------------------------------------------------------------------------------------------------

ranges = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)).map(lambda pair: (pair[0], sum(pair))), max_size=8)


@given(ranges, st.integers(0, 40))
def test_acknowledged_ranges_are_the_positions_that_were_put_in(found, total):
    acknowledged = Acknowledged(found)
    positions = {place for first, end in found for place in range(first, end)}
    assert {place for first, end in acknowledged.ranges for place in range(first, end)} == positions
    assert all(
        before[1] < after[0] for before, after in zip(acknowledged.ranges, acknowledged.ranges[1:], strict=False)
    )
    gaps = acknowledged.gaps(total)
    assert [place for first, end in gaps for place in range(first, end)] == sorted(set(range(total)) - positions)


@given(ranges, st.integers(0, 40), st.integers(0, 40), st.integers(0, 10))
def test_places_in_gaps_are_those_of_the_rows_that_were_left(found, total, first, count):
    gaps = Acknowledged(found).gaps(total)
    left = [place for start, end in gaps for place in range(start, end)]
    places = [place for start, end in places_in(gaps, first, first + count) for place in range(start, end)]
    assert places == left[first : first + count]


@settings(max_examples=30, deadline=None)
@given(ranges, st.integers(1, 30))
def test_rows_without_ranges_are_all_others(tmp_path_factory, found, size):
    from airflow_provider_fbca.ledger import RowSets, SnapshotWriter, WorkDir

    with WorkDir() as workdir:
        schema = pa.schema([("EMAIL", pa.binary(32))])
        digests_of = [bytes([number]) * 32 for number in range(size)]
        with SnapshotWriter(workdir.file("users.parquet"), schema) as writer:
            writer.write(pa.record_batch([pa.array(digests_of, pa.binary(32))], schema=schema))
            rows = RowSets(workdir).all_of(writer.finish())
        left = rows.without(found)
        gone = {place for first, end in found for place in range(first, end)}
        cells = [cell for batch in left.batches() for cell in batch["EMAIL"].to_pylist()]
        assert cells == [cell for place, cell in enumerate(digests_of) if place not in gone]
        assert (left.digest() == rows.digest()) == (left.count == rows.count)


# -- ids of an app or a page -----------------------------------------------------------------------------------------


def test_l10_rows_of_ids_are_begun_anew_when_the_page_was_corrected(
    run, sandbox, no_waits, reads, history, monkeypatch, tmp_path
):
    """They meant nothing under the page before, also those that Meta has acknowledged."""

    def page(number):
        connection = json.loads(sandbox.connection_json)
        connection["extra"] |= {"page_id": number}
        monkeypatch.setenv("AIRFLOW_CONN_FBCA_DEFAULT", json.dumps(connection))

    pq.write_table(pa.table({"pageuid": ["11", "12", "13", "14"]}), tmp_path / "ids.parquet")
    options = {"users_uri": f"file://{tmp_path}/ids.parquet", **SMALL}
    page("1001")
    sandbox.fault("graph", path="/users", nth=2, count=50, code=2, is_transient=True, status=500)
    with pytest.raises(FbcaError):
        run("refresh", **options)
    sandbox.clear_faults()
    reads.clear()
    page("1002")
    assert run("refresh", **options)["added"] == 4
    assert reads == [1]
    page("1003")
    assert run("refresh", **options)["added"] == 4  # and nobody counts as surely in
    assert run("refresh", **options)["added"] == 0
