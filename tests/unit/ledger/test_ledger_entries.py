"""What entries add up to: retired, outstanding, exposure, missing; and that no damage is passed over."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from ledger_rows import AUDIENCE, digest, marker_of, table_of

from airflow_provider_fbca.exceptions import LedgerError
from airflow_provider_fbca.ledger import AudienceLedger, SettledMarker, utc_now


def folder_of(ledger):
    return Path(ledger.uri.removeprefix("file://"))


def ids(entries):
    return [entry.id for entry in entries]


def test_a_ledger_that_was_never_written_is_empty_and_stays_so(ledger):
    history = ledger.history()
    assert (history.entries, history.missing, history.began_empty) == ((), frozenset(), None)
    assert not folder_of(ledger).exists()


def test_rows_without_a_marker_were_never_sent(ledger, write_entry):
    write_entry(ledger, ["a"], opened=False)
    assert ledger.history().entries == ()


def test_an_entry_counts_from_its_open_marker_on(ledger, write_entry):
    entry = write_entry(ledger, ["a"])
    history = ledger.history()
    assert ids(history.exposure) == ids(history.outstanding) == [entry.id]
    assert history.entries[0].settled is None
    assert history.entries[0].digest == entry.digest


def test_numbers_grow_also_past_entries_that_were_never_opened_and_past_foreign_files(ledger, write_entry):
    first = write_entry(ledger, ["a"], opened=False)
    for name in ("README.txt", "notes", "0000000099", "zz-1.open.json", "0000000050-zz.open.json", "_SUCCESS"):
        (folder_of(ledger) / name).write_text("not ours")
    second, third = write_entry(ledger, ["b"]), write_entry(ledger, ["c"])
    assert [entry.id.partition("-")[0] for entry in (first, second, third)] == [
        "0000000001",
        "0000000002",
        "0000000003",
    ]
    assert ids(ledger.history().entries) == [second.id, third.id]


def test_sequence_goes_on_past_ten_digits(ledger, write_entry):
    write_entry(ledger, ["a"])
    old = next(folder_of(ledger).glob("*.rows.parquet")).name.partition(".")[0]
    for file in folder_of(ledger).iterdir():
        file.rename(file.with_name(file.name.replace(old, "9999999999-ab")))
    last = write_entry(ledger, ["b"])
    assert ids(ledger.history().entries) == ["9999999999-ab", last.id]
    assert last.id.startswith("10000000000-")


def test_a_settled_refresh_retires_what_it_supersedes_and_nothing_else(ledger, write_entry):
    upload = write_entry(ledger, ["a"], kind="upload", supersedes=())
    removal = write_entry(ledger, ["a"], kind="remove", supersedes=())
    died = write_entry(ledger, ["b"])
    meanwhile = write_entry(ledger, ["c"], kind="upload")
    refresh = write_entry(ledger, ["d"], supersedes=(upload.id, removal.id, died.id))
    history = ledger.history()
    assert history.retired == {upload.id, removal.id, died.id}
    assert ids(history.outstanding) == ids(history.exposure) == [meanwhile.id, refresh.id]


def test_an_upload_and_a_removal_retire_nothing_and_a_removal_shrinks_no_exposure(ledger, write_entry):
    upload = write_entry(ledger, ["a"], kind="upload", supersedes=())
    removal = write_entry(ledger, ["a"], kind="remove", supersedes=())
    history = ledger.history()
    assert history.retired == frozenset()
    assert ids(history.exposure) == [upload.id]
    assert ids(history.outstanding) == [upload.id, removal.id]


def test_an_open_refresh_retires_nothing(ledger, write_entry):
    first = write_entry(ledger, ["a"], supersedes=())
    second = write_entry(ledger, ["b"], reads=(first.id,))
    assert ids(ledger.history().exposure) == [first.id, second.id]


@pytest.mark.parametrize("damage", [b"", b'{"format": 1', b'{"format": 2}', b"\x00" * 200])
def test_an_unreadable_open_marker_counts_as_an_addition_that_is_open(ledger, write_entry, workdir, damage):
    entry = write_entry(ledger, ["a"], kind="remove")
    (folder_of(ledger) / f"{entry.id}.open.json").write_bytes(damage)
    (found,) = ledger.history().exposure
    assert (found.id, found.opened, found.digest) == (entry.id, None, None)
    assert table_of(ledger.fetch(found, workdir).batches())[0]["EMAIL"] == digest("a")


@pytest.mark.parametrize("damage", [b"", b'{"format": 1', b'{"format": 2}', b'{"format": 1, "supersedes": null}'])
def test_an_unreadable_settled_marker_leaves_its_entry_open_and_retires_nothing(ledger, write_entry, damage):
    first = write_entry(ledger, ["a"], supersedes=())
    second = write_entry(ledger, ["b"], supersedes=(first.id,))
    (folder_of(ledger) / f"{second.id}.settled.json").write_bytes(damage)
    history = ledger.history()
    assert ids(history.exposure) == [first.id, second.id]
    assert history.entries[1].settled is None


@pytest.mark.parametrize("left", ["settled.json", "session-7.json"])
def test_an_entry_whose_open_marker_was_lost_is_not_forgotten(ledger, write_entry, left):
    entry = write_entry(ledger, ["a"], supersedes=() if left == "settled.json" else None)
    (folder_of(ledger) / f"{entry.id}.{left}").touch()
    (folder_of(ledger) / f"{entry.id}.open.json").unlink()
    history = ledger.history()
    assert ids(history.exposure) == [entry.id]
    assert history.began_empty is False


def test_entries_that_were_read_and_are_gone_are_missing_until_a_settled_entry_lists_them(ledger, write_entry):
    lost = "0000000001-deadbeef"
    read_it = write_entry(ledger, ["a"], reads=(lost,))
    assert ledger.history().missing == {lost}
    assert ledger.history().unknown_of([lost, read_it.id]) == (lost,)
    write_entry(ledger, ["b"], supersedes=(lost, read_it.id))
    assert ledger.history().missing == frozenset()
    assert ledger.history().unknown_of([lost, read_it.id]) == ()


def test_whether_the_audience_began_empty_is_what_the_first_entry_says(ledger, write_entry):
    write_entry(ledger, ["a"], audience_was_empty=True)
    write_entry(ledger, ["b"], audience_was_empty=False)
    assert ledger.history().began_empty is True


def test_a_first_entry_on_a_filled_audience_is_not_made_good_by_a_later_one(ledger, write_entry):
    write_entry(ledger, ["a"], audience_was_empty=False)
    write_entry(ledger, ["b"], audience_was_empty=True)
    assert ledger.history().began_empty is False


def test_writers_with_the_same_number_lose_no_entry(ledger, snapshot_of):
    """Two tasks without a lease may choose one number; the token keeps their files apart."""
    snapshots = [snapshot_of([{"EMAIL": str(n)}], ["EMAIL"]) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        entries = list(pool.map(ledger.begin, snapshots))
    for number, entry in enumerate(entries):
        entry.open(marker_of(digest=entry.digest, audience_was_empty=number == 0))
    history = ledger.history()
    assert sorted(ids(history.exposure)) == sorted(entry.id for entry in entries)
    assert history.began_empty or not entries[0].id.startswith("0000000001-")


def test_of_writers_that_began_together_one_that_saw_the_audience_empty_is_enough(ledger, write_entry):
    first = write_entry(ledger, ["a"], audience_was_empty=True)
    for file in folder_of(ledger).iterdir():
        file.rename(file.with_name(file.name.replace(first.id, "0000000002-f")))
    second = write_entry(ledger, ["b"], audience_was_empty=False)
    for file in folder_of(ledger).glob(f"{second.id}*"):
        file.rename(file.with_name(file.name.replace(second.id, "0000000002-0")))
    history = ledger.history()
    assert ids(history.entries) == ["0000000002-0", "0000000002-f"]
    assert history.began_empty is True


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        flipped,
        lambda content: content[:-1],
        lambda content: content[:50],
        lambda content: b"",
        lambda content: content + b"\0",
    ],
)
def test_a_damaged_snapshot_is_an_error_that_names_its_entry(ledger, write_entry, workdir, damage):
    entry = write_entry(ledger, ["a", "b"])
    file = folder_of(ledger) / f"{entry.id}.rows.parquet"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(LedgerError) as caught:
        ledger.fetch(ledger.history().entries[0], workdir)
    assert entry.id in str(caught.value)
    assert "backup" in caught.value.remedy
    assert caught.value.permanent


def test_any_flipped_byte_of_a_snapshot_is_found(ledger, write_entry, tmp_path):
    from airflow_provider_fbca.ledger import WorkDir

    entry = write_entry(ledger, ["a"])
    file = folder_of(ledger) / f"{entry.id}.rows.parquet"
    whole = file.read_bytes()
    for place in range(0, len(whole), 17):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x20]) + whole[place + 1 :])
        with WorkDir(tmp_path / "w") as scratch, pytest.raises(LedgerError, match=entry.id):
            ledger.fetch(ledger.history().entries[0], scratch)


@pytest.mark.parametrize("damage", [flipped, lambda content: content[:-1], lambda content: b""])
def test_a_snapshot_damaged_together_with_its_marker_is_never_skipped(ledger, write_entry, workdir, damage):
    from airflow_provider_fbca.ledger import RowSets

    entry = write_entry(ledger, ["a", "b"])
    (folder_of(ledger) / f"{entry.id}.open.json").write_bytes(b"")
    file = folder_of(ledger) / f"{entry.id}.rows.parquet"
    file.write_bytes(damage(file.read_bytes()))

    def use():
        snapshot = ledger.fetch(ledger.history().exposure[0], workdir)
        return table_of(RowSets(workdir).union((snapshot, snapshot)).batches())

    with pytest.raises((LedgerError, OSError)):
        use()


def test_a_missing_snapshot_is_an_error_that_names_its_entry(ledger, write_entry, workdir):
    entry = write_entry(ledger, ["a"])
    (folder_of(ledger) / f"{entry.id}.rows.parquet").unlink()
    with pytest.raises(LedgerError, match=f"{entry.id} is missing"):
        ledger.fetch(ledger.history().entries[0], workdir)


def test_an_entry_is_marked_once(ledger, write_entry):
    entry = write_entry(ledger, ["a"], supersedes=())
    with pytest.raises(LedgerError, match="exists already"):
        entry.open(marker_of())
    with pytest.raises(LedgerError, match="exists already"):
        entry.settle(SettledMarker((), utc_now()))


def test_a_session_is_noted_before_its_id_is_given_out(ledger, write_entry):
    entry = write_entry(ledger, ["a"])
    sessions = [entry.new_session("upload") for _ in range(3)]
    assert len(set(sessions)) == 3
    for session in sessions:
        assert 0 < session < 2**53
        note = json.loads((folder_of(ledger) / f"{entry.id}.session-{session}.json").read_bytes())
        assert (note["session_id"], note["kind"]) == (session, "upload")


def test_discarding_deletes_rows_and_keeps_markers(ledger, write_entry):
    first = write_entry(ledger, ["a"], supersedes=())
    second = write_entry(ledger, ["b"], supersedes=(first.id,))
    for _ in range(2):
        ledger.discard_rows([first.id, "0000000099-ab"])
    assert sorted(path.name for path in folder_of(ledger).iterdir()) == sorted(
        [f"{first.id}.open.json", f"{first.id}.settled.json"]
        + [f"{second.id}.{ending}" for ending in ("open.json", "settled.json", "rows.parquet")]
    )
    assert ids(ledger.history().exposure) == [second.id]


def test_a_ledger_in_a_store_that_is_no_disk_tells_the_same(remote_root, write_entry, workdir):
    ledger = AudienceLedger(remote_root, AUDIENCE)
    assert ledger.history().entries == ()
    first = write_entry(ledger, ["a"], supersedes=())
    second = write_entry(ledger, ["b"], supersedes=(first.id,), reads=(first.id,))
    died = write_entry(ledger, ["c"], reads=(second.id,))
    ledger.discard_rows([first.id])
    history = ledger.history()
    assert ids(history.exposure) == [second.id, died.id]
    assert [entry.has_rows for entry in history.entries] == [False, True, True]
    assert history.missing == frozenset()
    assert table_of(ledger.fetch(history.exposure[1], workdir).batches())[0]["EMAIL"] == digest("c")
    with pytest.raises(LedgerError, match=f"{first.id} is missing"):
        ledger.fetch(history.entries[0], workdir)


def test_ledgers_of_two_audiences_do_not_meet(root, write_entry):
    one, other = AudienceLedger(root, "1"), AudienceLedger(root, "12")
    write_entry(one, ["a"])
    assert other.history().entries == ()


def test_entries_are_in_sequence_whatever_their_tokens(ledger, write_entry):
    written = [write_entry(ledger, [str(n)]).id for n in range(12)]
    assert ids(ledger.history().entries) == written
    assert all(int(one.split("-")[0]) + 1 == int(other.split("-")[0]) for one, other in pairwise(written))
