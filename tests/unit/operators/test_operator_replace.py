"""The strategy ``replace`` over the real operators and a local Graph API, and what it is the way out of."""

from __future__ import annotations

import shutil

import pytest
from operator_tools import digests, emails, sha

from airflow_provider_fbca.compat import AirflowFailException
from airflow_provider_fbca.exceptions import LedgerError

OLD, NEW, OTHER = "abcdef", "defghi", "ehjk"
SMALL = {"batch_size": 2, "max_concurrency": 1}


@pytest.fixture
def replace(run):
    return lambda users, **options: run("refresh", users, strategy="replace", **options)


def test_a_replace_is_one_list_and_nobody_is_removed(run, replace, members, writes):
    run("refresh", emails(*OLD))
    manifest = replace(emails(*NEW), **SMALL)
    assert writes() == ["add_users"] + ["replace_users"] * 3
    assert members() == digests(*NEW)
    assert (manifest["strategy"], manifest["added"], manifest["removed"], manifest["rows"]) == ("replace", 6, 0, 6)
    assert [each["id"] for each in manifest["outstanding"]] == [manifest["entry"]["id"]]


def test_after_a_replace_all_are_surely_in(run, replace, members):
    replace(emails(*OLD))
    manifest = run("refresh", emails(*NEW))
    assert (manifest["removed"], manifest["added"]) == (3, 3)
    assert members() == digests(*NEW)


def test_a_replace_by_nobody_is_refused_before_anything_is_sent(run, replace, refused):
    run("refresh", emails(*OLD))
    refused(lambda: replace(emails(), allow_empty=True), "Meta takes no empty list", 'strategy="delta"')


def test_the_guards_count_who_leaves_by_a_replace(run, replace, refused):
    run("refresh", emails(*OLD))
    refused(lambda: replace(emails(*NEW), max_removals=2), "3 rows would leave", "max_removals=2")


def test_s7_a_store_that_fails_for_a_while_lets_no_replace_past_its_guards(run, replace, refused, monkeypatch):
    run("refresh", emails(*OLD))
    monkeypatch.setattr("airflow_provider_fbca.ledger.store.shutil.copyfile", _fails)
    refused(lambda: replace(emails(*NEW), max_removals=2), "cannot be read", kind=LedgerError)


def _fails(*_):
    raise TimeoutError


def test_plan_only_tells_what_a_replace_would_do(run, replace, writes):
    run("refresh", emails(*OLD))
    report = replace(emails(*NEW), plan_only=True)
    assert (report["would_add"], report["would_remove"], report["leaving"], report["rows"]) == (6, 0, 3, 6)
    assert writes() == ["add_users"]


# -- the way out -----------------------------------------------------------------------------------------------------


def test_l11_a_replace_clears_strangers_and_the_next_refresh_goes_on(run, replace, refused, members, sandbox, audience):
    sandbox.seed(audience, [{"EMAIL": sha("stranger@example.com")}])
    refused(lambda: run("refresh", emails("a")), 'strategy="replace"', "fbca ledger adopt")
    replace(emails(*OLD))
    assert members() == digests(*OLD)
    run("refresh", emails(*NEW))
    assert members() == digests(*NEW)


def test_l7_a_replace_retires_what_is_missing_and_the_next_refresh_goes_on(
    run, replace, refused, members, ledger_folder
):
    run("refresh", emails(*OLD))
    lost = run("upload", emails("x"))["entry"]["id"]
    run("upload", emails("y"))
    for file in ledger_folder.rglob(f"{lost}*"):
        file.unlink()
    refused(lambda: run("refresh", emails(*NEW)), "lacks 1 entries", lost, 'strategy="replace"')
    replace(emails(*NEW))
    assert members() == digests(*NEW)
    run("refresh", emails(*OTHER))
    assert members() == digests(*OTHER)


def test_l7_a_ledger_that_was_lost_whole_is_replaced(run, replace, refused, members, ledger_folder):
    run("refresh", emails(*OLD))
    shutil.rmtree(ledger_folder)
    refused(lambda: run("refresh", emails(*NEW)), "lacks 1 entries")
    replace(emails(*NEW))
    run("refresh", emails(*OTHER))
    assert members() == digests(*OTHER)


def test_a_snapshot_that_is_damaged_stops_no_replace(run, replace, members, ledger_folder):
    run("refresh", emails(*OLD))
    (snapshot,) = ledger_folder.rglob("*.rows.parquet")
    snapshot.write_bytes(b"damaged")
    with pytest.raises(AirflowFailException, match="not the file that was written"):
        run("refresh", emails(*NEW))
    replace(emails(*NEW))
    assert members() == digests(*NEW)
