"""What a task says of rows that Meta refuses: all others go through, and then it fails with their numbers."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from operator_tools import emails, sha, traces_of

from airflow_provider_fbca.compat import AirflowFailException

ONE_BY_ONE = {"batch_size": 1, "max_concurrency": 1}


def refuse(sandbox, operation, nth):
    sandbox.fault("graph", operation=operation, nth=nth, code=100, is_transient=False, status=400)


def held(sandbox, audience):
    return {row["EMAIL"] for row in sandbox.members(audience)}


@pytest.mark.parametrize("strategy", ["delta", "delete_insert", "replace"])
def test_refused_rows_are_told_by_their_numbers_in_the_snapshot_and_nothing_else(
    run, sandbox, audience, ledger_folder, everything_told, strategy
):
    refuse(sandbox, "replace_users" if strategy == "replace" else "add_users", 3)
    with pytest.raises(AirflowFailException) as caught:
        run("refresh", emails(*"abcde"), strategy=strategy, **ONE_BY_ONE)
    sandbox.advance(60)
    assert held(sandbox, audience) == {sha(f"{name}@example.com") for name in "abde"}
    [rows] = ledger_folder.rglob("*.rows.parquet")
    entry = rows.name.removesuffix(".rows.parquet")
    told = everything_told(caught.value)
    assert f"1 of the rows by themselves and took all others; rows of the snapshot of ledger entry {entry}" in told
    assert "(numbers from 1): 3. Meta refused" in told
    assert not [trace for trace in traces_of("c@example.com")[2:] if trace in told]


def test_refused_removals_are_told_by_the_entry_that_had_added_them(run, sandbox, audience, everything_told):
    first = run("upload", emails("a", "b"))["entry"]["id"]
    refuse(sandbox, "remove_users", 2)
    with pytest.raises(AirflowFailException, match=f"ledger entry {first} \\(numbers from 1\\): 2"):
        run("refresh", emails("new"), **ONE_BY_ONE)
    assert held(sandbox, audience) == {sha("b@example.com")}


def test_rows_that_meta_neither_takes_nor_removes_leave_by_a_replace(run, sandbox, audience):
    refuse(sandbox, "add_users", 2)
    with pytest.raises(AirflowFailException):
        run("refresh", emails(*"abc"), **ONE_BY_ONE)
    for _ in range(2):
        refuse(sandbox, "remove_users", 1)
        with pytest.raises(AirflowFailException, match='strategy="replace"'):
            run("refresh", emails("a", "c"), **ONE_BY_ONE)
    run("refresh", emails("a", "c"), strategy="replace")
    run("refresh", emails("c", "d"))
    assert held(sandbox, audience) == {sha("c@example.com"), sha("d@example.com")}


def test_the_next_refresh_mends_it(run, sandbox, audience):
    run("upload", emails(*"abc"))
    refuse(sandbox, "remove_users", 2)
    with pytest.raises(AirflowFailException):
        run("refresh", emails("c", "d"), **ONE_BY_ONE)
    run("refresh", emails("c", "d"))
    assert held(sandbox, audience) == {sha("c@example.com"), sha("d@example.com")}


def test_after_a_resume_they_are_told_by_their_numbers_in_the_snapshot_too(run, sandbox, audience, tmp_path):
    file = tmp_path / "users.parquet"
    pq.write_table(emails(*"abcdef"), file)
    sandbox.fault("graph", operation="add_users", nth=3, code=200, is_transient=False, status=400)
    with pytest.raises(AirflowFailException):
        run("refresh", users_uri=f"file://{file}", **ONE_BY_ONE)
    refuse(sandbox, "add_users", 2)
    with pytest.raises(AirflowFailException, match=r"\(numbers from 1\): 4\. Meta refused"):
        run("refresh", users_uri=f"file://{file}", **ONE_BY_ONE)
    assert held(sandbox, audience) == {sha(f"{name}@example.com") for name in "abcef"}
    # What is left of it is one row.
    refuse(sandbox, "add_users", 1)
    with pytest.raises(AirflowFailException, match=r"\(numbers from 1\): 4\. Meta refused"):
        run("refresh", users_uri=f"file://{file}", **ONE_BY_ONE)
    run("refresh", users_uri=f"file://{file}", **ONE_BY_ONE)
    assert held(sandbox, audience) == {sha(f"{name}@example.com") for name in "abcdef"}
    assert len(sandbox.requests("add_users")) == 3 + 4 + 1 + 1


def test_refused_removals_of_several_entries_are_told_by_each_of_them(run, sandbox, audience):
    first, second = (run("upload", emails(*names))["entry"]["id"] for names in ("abc", "bde"))
    for nth in (2, 4):
        refuse(sandbox, "remove_users", nth)
    told = rf"entry {first} \(numbers from 1\): 2; rows of the snapshot of ledger entry {second} \(numbers from 1\): 2"
    with pytest.raises(AirflowFailException, match=told):
        run("refresh", emails("new"), **ONE_BY_ONE)
    assert held(sandbox, audience) == {sha(f"{name}@example.com") for name in "bd"}
