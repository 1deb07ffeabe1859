"""Value-based audiences: LOOKALIKE_VALUE from the source to the audience and the ledger."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from operator_tools import emails, sha

KINDS = pytest.mark.parametrize("kind", ["upload", "refresh"])
MAPPED = {"email": "EMAIL", "worth": "LOOKALIKE_VALUE"}


@pytest.fixture
def audience(sandbox):
    return sandbox.create_audience(is_value_based=True)


@pytest.fixture
def plain(sandbox):
    """An audience that is not value-based."""
    return sandbox.create_audience()


@pytest.fixture
def worths(sandbox, audience):
    return lambda: {row["EMAIL"]: row["LOOKALIKE_VALUE"] for row in sandbox.members(audience)}


def valued(**worth):
    return emails(*worth).append_column("worth", pa.array(list(worth.values())))


def hashed(**worth):
    return {sha(f"{name}@example.com"): value for name, value in worth.items()}


@KINDS
@pytest.mark.parametrize(
    "cells",
    [[44.5, 0.0, 140.0], ["44.5", "0", "1.4e2"], [Decimal("44.50"), Decimal("0.00"), Decimal("140.00")]],
    ids=["floats", "text", "decimals"],
)
def test_values_are_sent_as_numbers(run, worths, kind, cells):
    run(kind, valued(**dict(zip("abc", cells, strict=True))), columns=MAPPED)
    assert worths() == hashed(a=44.5, b=0, c=140)
    assert {type(value) for value in worths().values()} <= {int, float}


@KINDS
def test_rows_without_a_usable_value_are_rejected(run, worths, kind):
    people = valued(a=1.5, b=-1.0, c=float("nan"), d=float("inf"), e=None)
    manifest = run(kind, people, columns=MAPPED)
    assert manifest["rejected"] == {"no_lookalike_value": 4}
    assert worths() == hashed(a=1.5)


@KINDS
def test_a_value_based_audience_needs_a_column_of_values(run, refused, kind):
    refused(lambda: run(kind, emails("a")), "value-based and no column feeds LOOKALIKE_VALUE", "Map a column")


@KINDS
def test_a_column_that_was_mapped_is_refused_by_an_audience_that_is_not_value_based(run, refused, plain, kind):
    told = ("the audience is not value-based", "is_value_based=True")
    refused(lambda: run(kind, valued(a=1.0), columns=MAPPED, audience_id=plain), *told)


@KINDS
def test_a_column_that_only_its_name_gives_away_is_left_out_and_the_log_says_so(
    run, sandbox, plain, kind, everything_told
):
    run(kind, emails("a").append_column("ltv", pa.array([1.0])), audience_id=plain)
    assert sandbox.members(plain) == [{"EMAIL": sha("a@example.com")}]
    assert "LOOKALIKE_VALUE is not sent, since the audience is not value-based." in everything_told(None)


def test_changed_values_reach_meta_and_nobody_leaves(run, worths):
    run("refresh", valued(a=1.0, b=2.0), columns=MAPPED)
    run("refresh", valued(a=3.5, b=2.0), columns=MAPPED, max_removals=0)
    assert worths() == hashed(a=3.5, b=2)
    run("upload", valued(b=9.0), columns=MAPPED)
    assert worths() == hashed(a=3.5, b=9)


def test_people_leave_a_value_based_audience(run, worths):
    run("refresh", valued(a=1.0, b=2.0, c=3.0), columns=MAPPED)
    manifest = run("refresh", valued(b=2.0, c=3.0), columns=MAPPED, max_removals=1)
    assert (manifest["rows"], worths()) == (2, hashed(b=2, c=3))


@pytest.mark.parametrize(
    ("people", "columns"),
    [(emails("b"), None), (valued(b=None), MAPPED), (valued(b=2.0), MAPPED)],
    ids=["no column", "no value", "value"],
)
def test_a_removal_needs_no_value_and_sends_none(run, sandbox, worths, ledger_folder, people, columns):
    run("upload", valued(a=1.0, b=2.0), columns=MAPPED)
    manifest = run("remove", people, columns=columns)
    assert (manifest["removed"], manifest["schema"], worths()) == (1, ["EMAIL"], hashed(a=1))


def test_a_removal_takes_the_mapping_of_an_upload_whatever_the_audience_is(run, sandbox, plain):
    run("upload", emails("a", "b"), audience_id=plain)
    run("remove", valued(a=1.0), columns=MAPPED, audience_id=plain)
    assert sandbox.members(plain) == [{"EMAIL": sha("b@example.com")}]


def test_the_ledger_keeps_values_and_the_first_of_equal_rows_counts(run, worths, ledger_folder):
    people = pa.table({"email": ["a@example.com", "A@example.com "], "worth": [1.25, 7.0]})
    manifest = run("refresh", people, columns=MAPPED)
    assert (manifest["rows"], worths()) == (1, hashed(a=1.25))
    [snapshot] = ledger_folder.rglob("*.rows.parquet")
    assert pq.read_table(snapshot).column("LOOKALIKE_VALUE").to_pylist() == [1.25]
