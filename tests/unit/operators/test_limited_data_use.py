"""Limited Data Use, row by row and for all rows, from the source to the audience and the ledger."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from operator_tools import emails, sha

OPTIONS, COUNTRY, STATE = (f"DATA_PROCESSING_OPTIONS{end}" for end in ("", "_COUNTRY", "_STATE"))
COLUMNS = {"email": "EMAIL", "ldu": OPTIONS}
PLACES = {"c": COUNTRY, "s": STATE}


@pytest.fixture
def held(sandbox, audience):
    """Gives what the audience holds beside the e-mail, by the name before the @."""

    def by_name(*names):
        rows = {row.pop("EMAIL"): row for row in sandbox.members(audience)}
        return {name: rows.pop(sha(f"{name}@example.com"), None) for name in names} | rows

    return by_name


def users(names, cells, **columns):
    return pa.table({"email": emails(*names)["email"], "ldu": cells, **columns})


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([True, False, None]),
        pa.array(["LDU", "", None]),
        pa.array(["ldu", "no", "n/a"]),
        pa.array([1.0, 0.0, None]),
        pa.array([["LDU"], [], None], pa.list_(pa.string())),
        pa.array([["LDU"], [], None], pa.large_list(pa.string())),
        pa.array(['["LDU"]', "[]", "null"]),
        pa.array(["yes", "false", " "]).dictionary_encode(),
    ],
    ids=lambda cells: f"{cells.type} {cells[0]}",
)
@pytest.mark.parametrize("kind", ["upload", "refresh"])
def test_a_cell_limits_the_use_of_its_row_and_a_blank_does_not(run, held, kind, cells):
    run(kind, users("abc", cells), columns=COLUMNS)
    assert held("a", "b", "c") == {"a": {OPTIONS: ["LDU"]}, "b": {OPTIONS: []}, "c": {OPTIONS: []}}


def test_a_place_goes_along_and_one_that_is_not_known_is_left_to_meta(run, held):
    people = users("abcd", [True, True, True, False], c=[1, 0, 7, None], s=["1000", "0", "x", None])
    manifest = run("refresh", people, columns=COLUMNS | PLACES)
    assert held("a", "b", "c", "d") == {
        "a": {OPTIONS: ["LDU"], COUNTRY: 1, STATE: 1000},
        "b": {OPTIONS: ["LDU"], COUNTRY: 0, STATE: 0},
        "c": {OPTIONS: ["LDU"], COUNTRY: 0, STATE: 0},
        "d": {OPTIONS: [], COUNTRY: 0, STATE: 0},
    }
    assert manifest["keys"][COUNTRY] == {"filled": 2, "blank": 1, "invalid": {"not_a_data_processing_place": 1}}
    assert manifest["schema"] == ["EMAIL", OPTIONS, COUNTRY, STATE]


@pytest.mark.parametrize("cells", [["maybe", "LDU"], [["LDU", "CCPA"], ["LDU"]], [["LDU", None], ["LDU"]]])
def test_a_row_whose_cell_is_not_understood_is_not_sent_without_the_limit(run, held, cells):
    manifest = run("refresh", users("ab", cells), columns=COLUMNS)
    assert manifest["rejected"] == {"unreadable_data_processing_options": 1}
    assert held("a", "b") == {"a": None, "b": {OPTIONS: ["LDU"]}}


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (True, {OPTIONS: ["LDU"]}),
        ({"country": 1, "state": 1000}, {OPTIONS: ["LDU"], COUNTRY: 1, STATE: 1000}),
        ({"country": 0, "state": 0}, {OPTIONS: ["LDU"], COUNTRY: 0, STATE: 0}),
    ],
)
@pytest.mark.parametrize("kind", ["upload", "refresh"])
def test_an_option_limits_the_use_of_all_rows(run, held, kind, option, said):
    people = pa.table({"email": ["a@example.com", "bad", "b@example.com"]})
    manifest = run(kind, people, limited_data_use=option)
    assert held("a", "b") == {"a": said, "b": said}
    assert (manifest["rows"], manifest["rejected"]) == (2, {"unusable": 1})


@pytest.mark.parametrize(
    "option", [{}, {"country": 1}, {"country": 1, "state": 0}, {"country": 2, "state": 1000}, "LDU", ["LDU"], None, 1]
)
def test_an_impossible_place_is_refused(run, refused, option):
    refused(lambda: run("upload", emails("a"), limited_data_use=option), "`limited_data_use` is ", "Give True")


def test_option_and_column_together_are_refused(run, refused):
    told = f"`limited_data_use` is set, and columns feed {OPTIONS}."
    refused(lambda: run("upload", users("a", [True]), columns=COLUMNS, limited_data_use=True), told)


@pytest.mark.parametrize("columns", [PLACES, {"c": COUNTRY} | COLUMNS, {"s": STATE} | COLUMNS])
def test_half_of_it_is_refused(run, refused, columns):
    people = users("a", [True], c=[1], s=[1000])
    refused(lambda: run("upload", people, columns={"email": "EMAIL"} | columns), "half of what Limited Data Use needs")


def test_lists_are_read_as_nothing_else(run, refused):
    people = users("a", pa.array([["LDU"]]))
    refused(lambda: run("upload", people, columns={"email": "EMAIL", "ldu": "FN"}), "holds no identifier")


@pytest.mark.parametrize("how", ["column", "option"])
def test_a_change_of_it_is_no_other_person_and_reaches_meta(run, held, how):
    def refresh(on, **options):
        if how == "option":
            return run("refresh", emails("a", "b"), limited_data_use=on, strategy="delete_insert", **options)
        return run("refresh", users("ab", [on, False]), columns=COLUMNS, **options)

    refresh(False)
    refresh(True, max_removals=0)
    assert held("a", "b")["a"] == {OPTIONS: ["LDU"]}
    refresh(False, max_removals=0)
    assert held("a", "b")["a"] == ({} if how == "option" else {OPTIONS: []})


def test_the_ledger_keeps_it_and_a_removal_leaves_it_out(run, sandbox, held, ledger_folder):
    people = users("ab", [True, False], c=[1, 0], s=[1000, 0])
    run("upload", people, columns=COLUMNS | PLACES)
    [snapshot] = ledger_folder.rglob("*.rows.parquet")
    kept = pq.read_table(snapshot).select([OPTIONS, COUNTRY, STATE]).to_pylist()
    assert kept == [{OPTIONS: ["LDU"], COUNTRY: 1, STATE: 1000}, {OPTIONS: None, COUNTRY: 0, STATE: 0}]
    run("remove", users("a", ["perhaps"], c=[1], s=[1000]), columns=COLUMNS | PLACES)
    assert held("a", "b")["a"] is None
    run("remove", emails("b"), limited_data_use=True)
    assert sandbox.requests("remove_users")[-1]["rows"] == 1
    assert held() == {}


def test_rows_that_only_differ_in_it_are_one_and_the_first_counts(run, held):
    run("upload", users("aab", [True, False, False]), columns=COLUMNS)
    assert held("a", "b") == {"a": {OPTIONS: ["LDU"]}, "b": {OPTIONS: []}}


def test_rows_that_repeat_keep_their_lists_when_the_snapshot_is_written_anew(run, held):
    run("refresh", users("aabb", [False, True, True, False]), columns=COLUMNS)
    assert held("a", "b") == {"a": {OPTIONS: []}, "b": {OPTIONS: ["LDU"]}}


def test_a_column_of_the_full_name_is_taken_by_itself(run, held):
    run("upload", emails("a").append_column("limited_data_use", pa.array([True])))
    assert held("a") == {"a": {OPTIONS: ["LDU"]}}
