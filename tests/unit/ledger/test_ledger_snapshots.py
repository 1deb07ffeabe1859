"""Snapshots: whole rows in their order, and set operations that agree with Python's own sets."""

from __future__ import annotations

import stat
import tracemalloc

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_rows import batch_of, digest, table_of

from airflow_provider_fbca.exceptions import LedgerError
from airflow_provider_fbca.ledger import RowSets, Snapshot, SnapshotWriter, buckets, snapshot
from airflow_provider_fbca.ledger.rowid import NOT_IDENTITY, row_ids

KEYS = ["EMAIL", "FN", "EXTERN_ID", "LOOKALIKE_VALUE"]

# Few distinct cells, so that rows meet.
people = st.fixed_dictionaries(
    {
        "EMAIL": st.sampled_from([None, "a", "b", "c"]),
        "FN": st.sampled_from([None, "ann"]),
        "EXTERN_ID": st.sampled_from([None, "1", "ü"]),
        "LOOKALIKE_VALUE": st.sampled_from([None, 1.0, 2.0]),
    }
)
lists = st.lists(people, max_size=25)
quietly = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def who(row):
    return frozenset((key, cell) for key, cell in row.items() if cell is not None and key not in NOT_IDENTITY)


def stored(row, keys=KEYS):
    (whole,) = batch_of([row], keys).to_pylist()
    return whole


def identifiers(row):
    return {key: cell for key, cell in row.items() if key not in NOT_IDENTITY}


@pytest.fixture
def small_groups(monkeypatch):
    """Row groups and chunks of a few rows, so that little data crosses many."""
    monkeypatch.setattr(snapshot, "_GROUP_ROWS", 7)
    monkeypatch.setattr(buckets, "_CHUNK", 10)


def test_whole_rows_come_back_in_their_order_over_several_row_groups(snapshot_of):
    count = 120_000
    everyone = [
        {"EMAIL": f"e{n}", "FN": None if n % 3 else f"f{n}", "EXTERN_ID": f"x{n}", "LOOKALIKE_VALUE": n / 2}
        for n in range(count)
    ]
    written = snapshot_of(everyone, KEYS, batch=9_999)
    assert written.rows == count
    again = Snapshot.read(written.path)
    assert again == written
    start = 0
    for batch in again.batches():
        expected = batch_of(everyone[start : start + batch.num_rows], KEYS)
        assert batch.select(KEYS).equals(expected)
        assert batch["row_id"].equals(row_ids(expected))
        start += batch.num_rows
    assert start == count


@pytest.mark.parametrize("rows", [1, 6, 7, 8, 14, 30])
@pytest.mark.parametrize("wanted", [0, 1, 7, 8, 30, 31])
def test_the_last_rows_come_in_their_order_whatever_row_groups_they_are_in(small_groups, snapshot_of, rows, wanted):
    everyone = [{"EMAIL": None, "FN": None, "EXTERN_ID": f"x{n}", "LOOKALIKE_VALUE": 1.0} for n in range(rows)]
    last = snapshot_of(everyone, KEYS).last_rows(wanted)
    assert last.column_names == KEYS
    assert last.column("EXTERN_ID").to_pylist() == [f"x{n}" for n in range(max(0, rows - wanted), rows)]


@pytest.mark.parametrize("cut", [1, 3, 7, 50])
def test_how_rows_were_cut_into_batches_does_not_show(snapshot_of, small_groups, cut):
    everyone = [{"EMAIL": str(n), "EXTERN_ID": str(n)} for n in range(50)]
    written = snapshot_of(everyone, KEYS, batch=cut)
    assert [batch.to_pylist() for batch in written.batches()] == [
        batch.to_pylist() for batch in snapshot_of(everyone, KEYS, batch=20).batches()
    ]


def test_slices_with_an_offset_are_stored_as_they_look(workdir):
    whole = batch_of([{"EMAIL": str(n), "EXTERN_ID": str(n)} for n in range(30)], KEYS)
    with SnapshotWriter(workdir.file("s"), whole.schema) as writer:
        writer.write(whole.slice(11, 0))
        writer.write(whole.slice(11, 9))
        written = writer.finish()
    (batch,) = written.batches()
    assert batch.select(KEYS).equals(whole.slice(11, 9))


def test_a_snapshot_may_be_empty(snapshot_of, workdir):
    empty = snapshot_of([], KEYS)
    assert Snapshot.read(empty.path).rows == 0
    assert list(empty.batches()) == []
    sets = RowSets(workdir)
    assert sets.distinct(empty, "d") is empty
    assert sets.union((empty, empty)).count == 0
    assert sets.union(()).count == 0
    assert table_of(sets.union(()).batches()) == []
    assert sets.count_leaving((empty,), empty) == 0


def test_columns_of_blanks_and_odd_texts_are_kept(snapshot_of):
    odd = ["", " ", "\x00", "a\nb", "Ünal", "🎈", "a" * 70_000, '"', "\\"]
    written = snapshot_of([{"EXTERN_ID": text} for text in odd], KEYS)
    assert table_of(batch.select(KEYS) for batch in written.batches()) == [stored({"EXTERN_ID": text}) for text in odd]


def test_a_snapshot_is_private_and_shows_no_extremes(snapshot_of):
    written = snapshot_of([{"EMAIL": "a"}], KEYS)
    assert stat.S_IMODE(written.path.stat().st_mode) == 0o600
    group = pa.parquet.ParquetFile(written.path).metadata.row_group(0)
    assert not any(group.column(n).is_stats_set for n in range(group.num_columns))


def test_a_writer_never_writes_over_a_file(workdir):
    workdir.file("s").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        SnapshotWriter(workdir.file("s"), batch_of([], KEYS).schema)
    assert workdir.file("s").read_bytes() == b"mine"


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(40) + b"PAR1", b"\xff" * 100])
def test_what_is_no_parquet_is_not_readable_and_named(tmp_path, content):
    (tmp_path / "entry-7").write_bytes(content)
    with pytest.raises(LedgerError, match="entry-7 of the ledger is not readable"):
        Snapshot.read(tmp_path / "entry-7")


def test_parquet_without_row_ids_is_not_a_snapshot(tmp_path):
    pa.parquet.write_table(pa.table({"EMAIL": [b"a"]}), tmp_path / "entry-7")
    with pytest.raises(LedgerError, match="no row ids"):
        Snapshot.read(tmp_path / "entry-7")


@quietly
@given(lists, st.integers(1, 30))
def test_distinct_keeps_the_first_of_equal_rows_in_order(snapshot_of, small_groups, workdir, everyone, cut):
    found = RowSets(workdir).distinct(snapshot_of(everyone, KEYS, batch=cut), f"d{len(list(workdir.path.iterdir()))}")
    firsts = {who(row): row for row in reversed(everyone)}
    expected = [stored(row) for n, row in enumerate(everyone) if everyone[n] is firsts[who(row)]]
    assert table_of(batch.select(KEYS) for batch in found.batches()) == expected
    assert found.rows == len(expected)


@quietly
@given(st.lists(st.tuples(lists, st.permutations(KEYS), st.integers(1, 4)), max_size=4), lists, st.integers(1, 30))
def test_union_and_leaving_agree_with_sets(snapshot_of, small_groups, workdir, parts, after, cut):
    """Each snapshot has columns of its own: a schema that grew or shrank is a plain difference."""
    sets = RowSets(workdir)
    kept, snapshots = [], []
    for number, (everyone, order, width) in enumerate(parts):
        # A snapshot always has an identifier: without one nobody is found.
        keys = order[:width] if set(order[:width]) - NOT_IDENTITY else [*order[:width], "EMAIL"]
        narrow = [{key: row[key] for key in keys} for row in everyone]
        written = snapshot_of(narrow, keys, batch=cut)
        snapshots.append(sets.distinct(written, f"d{number}-{written.path.name}"))
        kept += narrow
    expected, seen = [], set()
    for row in kept:
        if who(row) not in seen:
            seen.add(who(row))
            expected.append(
                {key: cell for key, cell in stored(row).items() if cell is not None and key != "LOOKALIKE_VALUE"}
            )
    union = sets.union(snapshots)
    found = table_of(union.batches())
    assert [{key: cell for key, cell in row.items() if cell is not None} for row in found] == expected
    assert union.count == len(expected)
    assert sets.count_leaving(snapshots, snapshot_of(after, KEYS)) == len(seen - {who(row) for row in after})


def test_rows_are_found_across_real_row_groups_and_snapshots(snapshot_of, workdir):
    sets = RowSets(workdir)
    first = snapshot_of([{"EMAIL": str(n % 60_000), "EXTERN_ID": "x"} for n in range(110_000)], ["EMAIL", "EXTERN_ID"])
    distinct = sets.distinct(first, "d")
    assert [row["EMAIL"] for row in table_of(distinct.batches())] == [digest(str(n)) for n in range(60_000)]
    second = snapshot_of([{"EXTERN_ID": "x", "EMAIL": str(n)} for n in range(55_000, 65_000)], ["EXTERN_ID", "EMAIL"])
    union = sets.union((distinct, second))
    assert [row["EMAIL"] for row in table_of(union.batches())] == [digest(str(n)) for n in range(65_000)]
    assert sets.count_leaving((distinct, second), second) == 55_000


def test_rows_can_be_streamed_more_than_once(snapshot_of, workdir):
    union = RowSets(workdir).union((snapshot_of([{"EMAIL": "a"}], KEYS), snapshot_of([{"EMAIL": "b"}], KEYS)))
    assert table_of(union.batches()) == table_of(union.batches())


def test_identities_leave_out_what_describes_a_row_and_all_rows_keep_it(snapshot_of, workdir):
    sets, written = RowSets(workdir), snapshot_of([{"EMAIL": "a", "LOOKALIKE_VALUE": 5.0}], KEYS)
    assert sets.identities_of(written).schema.names == ["EMAIL", "FN", "EXTERN_ID"]
    assert table_of(sets.all_of(written).batches()) == [stored({"EMAIL": "a", "LOOKALIKE_VALUE": 5.0})]


def test_comparing_writes_private_files_of_the_task_once_for_each_snapshot(snapshot_of, workdir):
    sets, one, two = RowSets(workdir), snapshot_of([{"EMAIL": "a"}], KEYS), snapshot_of([{"EMAIL": "b"}], KEYS)
    before = set(workdir.path.iterdir())
    assert sets.count_leaving((one, two), two) == sets.difference((one,), two).count == sets.distinct(two, "d").rows
    written = set(workdir.path.iterdir()) - before
    assert len(written) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}


def test_comparing_holds_a_part_of_the_ids_at_a_time(snapshot_of, workdir, monkeypatch):
    monkeypatch.setattr(snapshot, "_GROUP_ROWS", 4_000)
    monkeypatch.setattr(buckets, "_CHUNK", 8_000)
    count, sets = 200_000, RowSets(workdir)
    written = snapshot_of([{"EXTERN_ID": str(n)} for n in range(count)], ["EXTERN_ID"], batch=4_000)
    tracemalloc.start()
    try:
        assert sets.distinct(written, "d") is written
        assert sets.count_leaving((written,), written) == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < count * 24 / 2


def test_reading_a_snapshot_holds_a_part_of_it_at_a_time(snapshot_of, monkeypatch):
    monkeypatch.setattr(snapshot, "_GROUP_ROWS", 2_000)
    written = snapshot_of([{"EMAIL": str(n), "FN": str(n)} for n in range(100_000)], KEYS, batch=2_000)
    held = pa.total_allocated_bytes()
    most = max(pa.total_allocated_bytes() - held for _ in written.batches())
    assert 0 < most < written.path.stat().st_size / 4


def test_a_failure_to_compare_tells_its_class_alone_and_may_pass(workdir, tmp_path):
    (tmp_path / "b@example.com").write_bytes(b"ann@example.com")
    broken = Snapshot(tmp_path / "b@example.com", pa.schema([("EMAIL", pa.binary(32))]), 1)
    with pytest.raises(LedgerError) as caught:
        RowSets(workdir).distinct(broken, "d")
    assert "The comparison of snapshots failed (" in str(caught.value)
    assert "@" not in str(caught.value)
    assert not caught.value.permanent
