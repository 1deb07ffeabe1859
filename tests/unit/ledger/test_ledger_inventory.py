"""The files of a folder as the tools see them: names, sizes, ages, on a disk and on a store that is none."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ledger_rows import AUDIENCE

from airflow_provider_fbca.exceptions import LedgerError, LedgerPlaceError
from airflow_provider_fbca.ledger import AudienceLedger, Inventory, LeaseTerms, LedgerFile, audience_ids, unmarked


@pytest.fixture(params=["disk", "remote"])
def place(request, root, remote_root):
    return root if request.param == "disk" else remote_root


@pytest.fixture
def inventory(place):
    return Inventory(place, AUDIENCE)


def test_a_ledger_that_is_not_there_has_nothing(place, inventory):
    assert (audience_ids(place), inventory.files(), inventory.abandoned()) == ((), (), ())
    assert inventory.lease() == (0, None)


def test_only_folders_of_audiences_are_audiences(place):
    for name in ("12", "9", "erasures", "9x"):
        Inventory(place, name).create("0000000001-ab.open.json", b"{}")
    assert audience_ids(place) == ("9", "12")


def test_every_file_is_listed_with_its_size_and_what_it_is(place, write_entry, inventory):
    entry = write_entry(AudienceLedger(place, AUDIENCE), ["a"], supersedes=())
    inventory.create("note.txt", b"12345")
    files = {file.name: file for file in inventory.files()}
    assert list(files) == sorted(files)
    rows, note = files[f"{entry.id}.rows.parquet"], files["note.txt"]
    assert (rows.entry_id, rows.part, rows.holds_people) == (entry.id, "rows.parquet", True)
    assert not files[f"{entry.id}.open.json"].holds_people
    assert (note.entry_id, note.part, note.holds_people, note.size) == (None, "", False, 5)
    assert inventory.read([note]) == {"note.txt": b"12345"}
    assert timedelta(0) <= datetime.now(UTC) - inventory.modified(rows) + timedelta(seconds=1) < timedelta(minutes=5)
    assert rows.size > 100


def test_l2_rows_without_any_marker_are_told_from_others(place, write_entry, inventory):
    ledger = AudienceLedger(place, AUDIENCE)
    write_entry(ledger, ["a"], supersedes=())
    never_sent = write_entry(ledger, ["b"], opened=False)
    assert [file.name for file in unmarked(inventory.files())] == [f"{never_sent.id}.rows.parquet"]


def test_files_are_fetched_and_deleted(inventory, tmp_path):
    inventory.create("a", b"1")
    inventory.put("b", inventory.fetch(LedgerFile("a", 1), tmp_path / "copy"))
    assert inventory.read([LedgerFile("b", 1)]) == {"b": b"1"}
    assert inventory.delete([LedgerFile("a", 1), LedgerFile("gone", 1)]) == 2
    assert [file.name for file in inventory.files()] == ["b"]


def test_the_note_of_who_writes_is_read(root):
    inventory, ledger = Inventory(root, AUDIENCE), AudienceLedger(root, AUDIENCE)
    with ledger.lease({"task": "t"}, LeaseTerms(seconds=60, longest_flight=1)):
        assert inventory.lease().note.owner == {"task": "t"}
        assert any(file.is_lease for file in inventory.files())
    assert inventory.lease().note.is_released


def test_temporary_files_of_the_dead_are_told_from_those_of_the_living(root):
    inventory = Inventory(root, AUDIENCE)
    inventory.create("a", b"1")
    folder = Path(root.path) / AUDIENCE
    for name in (".dead.part", ".young.part"):
        (folder / name).write_bytes(b"")
    os.utime(folder / ".dead.part", (time.time() - 7200,) * 2)
    assert [file.name for file in inventory.abandoned()] == [".dead.part"]
    assert [file.name for file in inventory.files() if file.is_temporary] == [".dead.part", ".young.part"]


def test_a_place_that_cannot_be_listed_is_told(root):
    folder = Path(root.path)
    folder.parent.mkdir(parents=True)
    folder.write_text("no folder")
    with pytest.raises(LedgerPlaceError, match="NotADirectory"):
        Inventory(root, AUDIENCE).files()
    with pytest.raises(LedgerError):
        Inventory(root, AUDIENCE).modified(LedgerFile("a", 1))
