"""``fbca ledger show``, ``verify`` and ``repair``: they tell all, name nobody, and delete only what nothing needs."""

from __future__ import annotations

import json
import os
import time

import pyarrow.parquet as pq
import pytest
from airflow.sdk import ObjectStoragePath
from operator_tools import digests, emails, sha, traces_of

from airflow_provider_fbca.ledger import AudienceLedger, LeaseTerms

DAYS = 24 * 3600


def old(path, *, days=2.0):
    instant = time.time() - days * DAYS
    os.utime(path, (instant, instant))


@pytest.fixture
def damaged(run, root, audience):
    """A ledger of two uploads, and a function that damages a file of the first."""
    run("upload", audience, emails(*"ab"))
    run("upload", audience, emails(*"bc"))

    def damage(ending, change):
        path = min((root / audience).glob(f"*{ending}"))
        content = change(path.read_bytes())
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        return path.name

    return damage


# -- show ------------------------------------------------------------------------------------------------------------


def test_show_tells_what_may_be_in_why_and_since_when(run, show, audience, sandbox, root):
    run("refresh", audience, emails(*"abc"), strategy="delta")
    run("upload", audience, emails(*"cd"))
    run("remove", audience, emails("a"))
    told = show(audience)
    assert told["rows_at_most"] == 5
    assert told["ad_account_ids"] == [sandbox.ad_account_id]
    assert told["uri"] == f"file://{root}/{audience}"
    assert told["since"] == told["outstanding"][0]["opened_at"]
    assert [(entry["kind"], entry["rows"], entry["state"], entry["may_be_in"]) for entry in told["outstanding"]] == [
        ("refresh", 3, "settled", True),
        ("upload", 2, "settled", True),
        ("remove", 1, "settled", False),
    ]
    assert told["outstanding"][0]["owner"]["task_id"] == "send"
    assert (told["entries"], told["retired"], told["missing"], told["left_over"]) == (3, 0, [], [])
    assert told["size"] == sum(path.stat().st_size for path in (root / audience).iterdir())


def test_show_tells_a_run_that_did_not_finish(run, show, cli, audience, root, sandbox):
    run("upload", audience, emails("a"))
    for path in (root / audience).glob("*.settled.json"):
        path.unlink()
    assert [entry["state"] for entry in show(audience)["outstanding"]] == ["open"]
    assert "not finished" in cli("show").output


def test_show_tells_who_writes_now(run, show, cli, audience, root):
    run("upload", audience, emails("a"))
    ledger = AudienceLedger(ObjectStoragePath(f"file://{root}"), audience)
    with ledger.lease({"dag_id": "audiences", "task_id": "send"}, LeaseTerms(seconds=60, longest_flight=1)):
        assert show(audience)["lease"]["dag_id"] == "audiences"
        assert "writer      dag_id audiences" in cli("show").output
    assert show(audience)["lease"] is None


def test_show_and_verify_name_nobody(run, cli, audience):
    run("refresh", audience, emails("ann", "bob"))
    run("remove", audience, emails("bob"))
    told = "".join(cli(*command).output for command in (["show"], ["show", "--json"], ["verify"], ["verify", "--json"]))
    assert not [trace for person in ("ann", "bob") for trace in traces_of(f"{person}@example.com") if trace in told]


def test_show_of_an_empty_ledger(cli):
    assert "The ledger is empty" in cli("show").output


@pytest.mark.parametrize("command", ["show", "verify", "repair", "forget"])
def test_an_audience_that_the_ledger_does_not_have_is_told(cli, command):
    assert "no audience 123" in cli(command, "123", code=2).output


@pytest.mark.parametrize("command", ["show", "verify", "repair"])
def test_l1_without_a_place_of_the_ledger_the_line_to_set_is_told(cli, command, monkeypatch):
    monkeypatch.delenv("AIRFLOW__FBCA__LEDGER_URI")
    assert "AIRFLOW__FBCA__LEDGER_URI" in cli(command, code=1).output


def test_another_place_may_be_named(run, cli, audience, tmp_path):
    run("upload", audience, emails("a"), ledger_uri=f"file://{tmp_path}/elsewhere")
    assert "The ledger is empty" in cli("show").output
    assert audience in cli("show", "--ledger-uri", f"file://{tmp_path}/elsewhere").output


# -- verify ----------------------------------------------------------------------------------------------------------


def test_verify_finds_nothing_wrong_with_what_tasks_write(run, cli, audience):
    run("refresh", audience, emails(*"abc"), strategy="delta")
    run("refresh", audience, emails(*"bcd"), strategy="delta")
    run("upload", audience, emails("e"))
    told = json.loads(cli("verify", "--json").stdout)
    assert (told["audiences"], told["faults"], told["findings"]) == (1, 0, [])


DAMAGE = {
    "cut rows": (".rows.parquet", lambda content: content[:-1], "not the file that was written"),
    "empty rows": (".rows.parquet", lambda content: b"", "not the file that was written"),
    "flipped bit": (".rows.parquet", lambda content: content[:40] + bytes([content[40] ^ 1]) + content[41:], "not the"),
    "lost rows": (".rows.parquet", lambda content: None, "is missing"),
    "half a marker": (".open.json", lambda content: content[: len(content) // 2], "half written"),
    "empty marker": (".open.json", lambda content: b"", "half written"),
    "lost marker": (".open.json", lambda content: None, "is lost"),
    "marker of tomorrow": (".open.json", lambda content: content.replace(b'"format": 1', b'"format": 2'), "format 2"),
    "marker without fields": (".open.json", lambda content: b'{"format": 1}', "lacks fields"),
    "half a settled marker": (".settled.json", lambda content: content[:20], "half written"),
    "half a session": (".json", lambda content: content[:20], "half written"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_verify_names_every_damage_and_the_way_out(damaged, cli, damage):
    ending, change, told = DAMAGE[damage]
    name = damaged(ending, change)
    findings = [each for each in json.loads(cli("verify", "--json", code=1).stdout)["findings"] if each["is_fault"]]
    assert name in {each["file"] for each in findings}
    assert any(told in each["problem"] for each in findings)
    assert all(each["way_out"] for each in findings)


def test_verify_reads_rows_to_their_end_also_without_a_marker_to_compare(damaged, cli, root, audience):
    damaged(".open.json", lambda content: b"")
    name = damaged(".rows.parquet", lambda content: content[:8] + bytes(60) + content[68:])
    assert f"{name}" in cli("verify", code=1).output


def test_verify_finds_a_snapshot_with_other_rows_than_its_marker_says(damaged, cli):
    name = damaged(".open.json", lambda content: content.replace(b'"rows": 2', b'"rows": 3'))
    output = cli("verify", code=1).output
    assert name.replace("open.json", "rows.parquet") in output
    assert "has 2 rows, and its marker says 3" in output


def test_verify_finds_a_damaged_list_of_rows_added_again(run, cli, audience, root):
    run("refresh", audience, emails(*"ab"), strategy="delta")
    both = emails("b", "c").append_column("phone", [["+14155550101", "+14155550102"]])
    run("refresh", audience, both, strategy="delta")
    (again,) = (root / audience).glob("*.again.parquet")
    again.write_bytes(again.read_bytes()[:-1])
    assert again.name in cli("verify", code=1).output
    again.unlink()
    assert f"{again.name}: is missing" in cli("verify", code=1).output


def test_verify_names_entries_that_are_missing(run, cli, audience, root):
    run("upload", audience, emails("a"))
    lost = [path.name for path in (root / audience).glob("0000000001-*")]
    run("upload", audience, emails("b"))
    for name in lost:
        (root / audience / name).unlink()
    output = cli("verify", code=1).output
    assert f"{lost[0].partition('.')[0]}: is an entry that later ones were planned from" in output


def test_verify_notes_what_is_no_fault(run, cli, audience, root):
    run("upload", audience, emails("a"))
    for name in ("0000000009-0123abcd.rows.parquet", ".x.part", "README.txt"):
        (root / audience / name).write_bytes(b"?")
    told = json.loads(cli("verify", "--json").stdout)
    assert (told["faults"], len(told["findings"])) == (0, 3)


# -- repair ----------------------------------------------------------------------------------------------------------


def test_repair_deletes_what_nothing_needs_and_nothing_else(run, cli, audience, root, members, files):
    run("refresh", audience, emails(*"ab"))
    run("refresh", audience, emails(*"bc"))
    whole = files()
    (retired,) = {path.name.partition(".")[0] for path in (root / audience).glob("0000000001-*")}
    leftovers = [f"{retired}.rows.parquet", "0000000009-0123abcd.rows.parquet", ".x.part"]
    for name in leftovers:
        (root / audience / name).write_bytes(b"left")
        old(root / audience / name)
    output = cli("repair", "--yes").output
    assert all(f"delete {audience}/{name}" in output for name in leftovers)
    assert "3 files deleted" in output
    assert files() == whole
    run("refresh", audience, emails("d"))
    assert members(audience) == digests("d")


def test_repair_leaves_what_a_task_may_just_be_writing(run, cli, audience, root, files):
    run("upload", audience, emails("a"))
    for name in ("0000000009-0123abcd.rows.parquet", ".x.part"):
        (root / audience / name).write_bytes(b"new")
    before = files()
    assert "Nothing to delete" in cli("repair", "--yes").output
    assert files() == before


def test_repair_does_nothing_before_a_person_has_agreed(run, cli, audience, root, files):
    run("upload", audience, emails("a"))
    path = root / audience / "0000000009-0123abcd.rows.parquet"
    path.write_bytes(b"left")
    old(path)
    output = cli("repair", typed="n\n", code=1).output
    assert f"delete {audience}/{path.name}" in output
    assert path.exists()


def test_repair_tells_what_it_cannot_repair_and_the_way_out(damaged, cli, files):
    name = damaged(".rows.parquet", lambda content: content[:-1])
    before = files()
    output = cli("repair", "--yes", code=1).output
    assert "cannot be repaired here: FAULT" in output
    assert name in output
    assert "restore it from a backup" in output
    assert files() == before


@pytest.mark.kills
def test_l2_a_repair_that_is_killed_is_run_again_and_loses_nobody(run, cli, audience, root, kills, exposure):
    run("refresh", audience, emails(*"ab"))
    run("upload", audience, emails("c"))
    for number in (8, 9):
        path = root / audience / f"000000000{number}-0123abcd.rows.parquet"
        path.write_bytes(b"left")
        old(path)
    for _ in kills("write after", lambda: cli("repair", "--yes")):
        assert exposure(audience) == set(digests(*"abc"))
        for path in root.rglob("*-0123abcd.rows.parquet"):
            old(path)
        cli("repair", "--yes")
        assert exposure(audience) == set(digests(*"abc"))
        assert not list(root.rglob("*-0123abcd.rows.parquet"))
        cli("verify")


def test_the_ledger_that_is_shown_is_the_one_that_was_written(run, cli, audience, root):
    run("upload", audience, emails("a"))
    (rows,) = (root / audience).glob("*.rows.parquet")
    assert [cell.hex() for cell in pq.read_table(rows)["EMAIL"].to_pylist()] == [sha("a@example.com")]
