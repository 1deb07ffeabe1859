"""Rule L6: when the rows of the newest entry are surely in, and which of them are not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from ledger_rows import marker_of

from airflow_provider_fbca.ledger import Entry, History, SettledMarker, doubt_about, write_again
from airflow_provider_fbca.ledger.again import read_again

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SETTLED = SettledMarker(("0000000001-aa",), NOW.isoformat(), again=0, sent_all_at=(NOW - timedelta(days=6)).isoformat())
FIRST = Entry("0000000001-aa", marker_of(), replace(SETTLED, supersedes=()), has_rows=False)
NEWEST = Entry("0000000002-bb", marker_of(), SETTLED, has_rows=True)


def doubt(*entries, days=7, retention_days=None, now=NOW):
    return doubt_about(History(entries, frozenset()), retention_days=retention_days, resend_all_days=days, now=now)


def test_the_rows_of_a_refresh_that_retired_all_before_it_are_surely_in():
    assert doubt(FIRST, NEWEST) == ""
    assert doubt(FIRST) == ""


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ((), "nothing was sent"),
        ((FIRST, replace(NEWEST, settled=replace(SETTLED, supersedes=()))), "something else"),
        ((FIRST, replace(NEWEST, settled=None)), "something else"),
        ((replace(NEWEST, settled=None),), "not come to its end"),
        ((replace(NEWEST, opened=None),), "something else"),
        ((replace(NEWEST, opened=marker_of(kind="upload")),), "something else"),
        ((replace(NEWEST, opened=marker_of(kind="remove")),), "something else"),
        ((NEWEST, Entry("0000000003-cc", marker_of(kind="remove"), None, has_rows=True)), "something else"),
        ((replace(NEWEST, opened=marker_of(retention_days=9)),), "retention_days"),
        ((replace(NEWEST, settled=replace(SETTLED, again=None)),), "does not tell"),
        ((replace(NEWEST, settled=replace(SETTLED, sent_all_at=None)),), "too long ago"),
        ((replace(NEWEST, settled=replace(SETTLED, sent_all_at="soon")),), "too long ago"),
        ((replace(NEWEST, settled=replace(SETTLED, sent_all_at="2026-04-30T00:00:00")),), "too long ago"),
    ],
)
def test_any_doubt_is_told(entries, told):
    assert told in doubt(*entries)


def test_an_entry_that_retired_a_newer_one_is_in_doubt():
    older = replace(FIRST, settled=replace(SETTLED, supersedes=(NEWEST.id,)))
    assert "something else" in doubt(older, replace(NEWEST, settled=replace(SETTLED, supersedes=())))


def test_retention_and_age_now_are_in_doubt_too():
    assert "retention_days" in doubt(NEWEST, retention_days=30)
    assert doubt(NEWEST, retention_days=0) == ""
    assert "too long ago" in doubt(NEWEST, days=6)
    assert "too long ago" in doubt(NEWEST, days=0)
    assert doubt(NEWEST, days=6.001) == ""
    assert "too long ago" in doubt(NEWEST, now=NOW - timedelta(days=6, seconds=1))


# -- rows added again ------------------------------------------------------------------------------------------------


@pytest.fixture
def refreshed(ledger, snapshot_of, workdir):
    """Writes a settled refresh of four rows, two of them added again, and gives it as the history has it."""

    def write(flags=(True, False, False, True), **changes):
        flags = np.array(flags)
        rows = snapshot_of([{"EMAIL": name} for name in "abcd"], ["EMAIL"])
        places = write_again(workdir.file(f"places-{len(list(workdir.path.iterdir()))}"), flags)
        entry = ledger.begin(rows, places)
        entry.open(marker_of(digest=entry.digest, rows=4))
        marker = SettledMarker((), NOW.isoformat(), {}, again=int(flags.sum()), again_digest=entry.again_digest)
        entry.settle(replace(marker, **changes))
        return ledger.history().entries[-1]

    return write


def test_rows_added_again_come_back(ledger, refreshed, workdir):
    assert ledger.fetch_again(refreshed(), workdir).tolist() == [True, False, False, True]


def test_where_none_was_added_again_there_is_no_file(ledger, refreshed, workdir, root):
    entry = refreshed([False] * 4)
    assert ledger.fetch_again(entry, workdir).tolist() == [False] * 4
    assert not list(root.joinpath(ledger.audience_id).glob("*again*"))


@pytest.mark.parametrize(
    "changes", [{"again": None}, {"again": 1}, {"again": 3}, {"again_digest": None}, {"again_digest": "sha256:00"}]
)
def test_a_marker_that_does_not_fit_tells_nothing(ledger, refreshed, workdir, changes):
    assert ledger.fetch_again(refreshed(**changes), workdir) is None


@pytest.mark.parametrize("damage", [None, b"", b"PAR1" + bytes(40) + b"PAR1"])
def test_a_file_that_is_missing_or_another_tells_nothing(ledger, refreshed, workdir, root, damage):
    entry = refreshed()
    path = root.joinpath(ledger.audience_id, f"{entry.id}.again.parquet")
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    assert ledger.fetch_again(entry, workdir) is None


def test_entries_that_are_not_done_tell_nothing(ledger, refreshed, workdir):
    entry = refreshed()
    assert ledger.fetch_again(replace(entry, settled=None), workdir) is None
    assert ledger.fetch_again(replace(entry, opened=None), workdir) is None


def test_places_beyond_the_rows_tell_nothing(tmp_path):
    path = write_again(tmp_path / "places", np.array([False, True]))
    assert read_again(path, rows=1, count=1) is None
    assert read_again(path, rows=2, count=2) is None
    assert read_again(path, rows=2, count=1).tolist() == [False, True]
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_goes_with_the_rows_and_is_no_marker(ledger, refreshed, root, snapshot_of, workdir):
    entry = refreshed()
    ledger.discard_rows([entry.id])
    left = sorted(path.name for path in root.joinpath(ledger.audience_id).iterdir())
    assert left == [f"{entry.id}.open.json", f"{entry.id}.settled.json"]
    ledger.begin(snapshot_of([{"EMAIL": "z"}], ["EMAIL"]), write_again(workdir.file("never-sent"), np.array([True])))
    assert [each.id for each in ledger.history().entries] == [entry.id]
