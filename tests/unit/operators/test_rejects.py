"""The report of rejects, and what manifest and log tell of what could not be sent."""

from __future__ import annotations

import datetime as dt
import json
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_tools import digests, emails

from airflow_provider_fbca.compat import AirflowFailException
from airflow_provider_fbca.exceptions import FbcaError, ReportError, UsersError
from airflow_provider_fbca.identity.cells import read_cells

USERS = pa.table(
    {
        "email": ["a@example.com", "no address", None, "b@example.com"],
        "phone": ["+1 650 555 1212", None, None, "nonsense"],
        "customer": pa.array([11, 12, 13, 14], pa.int32()),
        "since": pa.array([0, 1, 2, None], pa.date32()),
    }
)
MAY = dt.datetime.fromisoformat("2024-05-02 08:30")
NUMERIC = pa.ExtensionArray.from_storage(pa.opaque(pa.string(), "numeric", "PostgreSQL"), pa.array(["1.50"]))
REJECTS = [
    {"row": 2, "key": None, "reason": "unusable"},
    {"row": 2, "key": "EMAIL", "reason": "not_an_email"},
    {"row": 3, "key": None, "reason": "empty"},
    {"row": 4, "key": "PHONE", "reason": "not_a_phone"},
]


@pytest.fixture
def report(tmp_path):
    return tmp_path / "reports" / "rejects.parquet"


@pytest.mark.parametrize("kind", ["upload", "remove", "refresh"])
def test_each_row_and_cell_that_cannot_be_sent_is_told_with_its_number_and_reason(run, report, kind):
    manifest = run(kind, USERS, default_country="US", rejects_uri=str(report))
    assert pq.read_table(report).to_pylist() == REJECTS
    assert manifest["rejected"] == {"unusable": 1, "empty": 1}


def test_named_columns_are_copied_as_they_came_and_no_other_value_gets_into_the_file(run, report):
    run("upload", USERS, default_country="US", rejects_uri=f"file://{report}", rejects_columns=["SINCE", "customer"])
    table = pq.read_table(report)
    assert table.schema.types[3:] == [pa.date32(), pa.int32()]
    assert table.column("customer").to_pylist() == [12, 12, 13, 14]
    assert table.column("since").to_pylist() == USERS["since"].take(pa.array([1, 1, 2, 3])).to_pylist()
    assert table.column_names == ["row", "key", "reason", "since", "customer"]
    for value in (b"no address", b"nonsense", b"example.com"):
        assert value not in report.read_bytes()


def test_an_identifier_is_in_the_report_only_where_the_user_named_its_column(run, report):
    run("upload", USERS, rejects_uri=str(report), rejects_columns=["email"], columns={"email": "EMAIL"})
    assert pq.read_table(report).column("email").to_pylist() == ["no address", "no address", None]


def test_rows_are_counted_over_all_batches(run, report):
    count = 60_000
    addresses = [f"p{n}@example.com" if n % 7 else "bad" for n in range(count)]
    users = pa.Table.from_batches(
        pa.table({"email": addresses, "n": range(1, count + 1)}).to_batches(max_chunksize=4_999)
    )
    run("upload", users, rejects_uri=str(report), rejects_columns=["n"])
    table = pq.read_table(report)
    rows = [n + 1 for n in range(count) if n % 7 == 0]
    assert table.column("row").to_pylist() == table.column("n").to_pylist() == [row for row in rows for _ in "12"]


def test_nothing_rejected_leaves_a_file_without_rows(run, report):
    run("upload", emails("a"), rejects_uri=str(report), rejects_columns=["email"])
    table = pq.read_table(report)
    assert (table.num_rows, table.column_names) == (0, ["row", "key", "reason", "email"])


def test_a_source_without_rows_leaves_a_file_without_rows(run, report, refused):
    empty = pa.table({"email": pa.array([], pa.string())})
    refused(lambda: run("upload", empty, rejects_uri=str(report), rejects_columns=["email"]), "min_rows")
    assert pq.read_table(report).column_names == ["row", "key", "reason", "email"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_invalid_ratio": 0.25}, "2 of 4 rows cannot be used"),
        ({"min_rows": 3}, "gave 2 usable rows"),
        ({"max_removals": 0}, "1 rows would leave"),
    ],
)
def test_the_report_is_there_though_a_guard_refuses_before_anything_is_sent(run, report, refused, options, told):
    run("refresh", emails("z"))
    refused(lambda: run("refresh", USERS, default_country="US", rejects_uri=str(report), **options), told)
    assert pq.read_table(report).to_pylist() == REJECTS


def test_the_report_is_there_with_plan_only_too(run, report, writes, files):
    run("refresh", USERS, default_country="US", rejects_uri=str(report), plan_only=True)
    assert pq.read_table(report).to_pylist() == REJECTS
    assert writes() == files() == []


def test_the_report_is_its_owners_alone_and_replaces_an_earlier_one(run, report):
    run("upload", USERS, rejects_uri=str(report))
    first = report.read_bytes()
    run("upload", emails("a"), rejects_uri=str(report))
    assert report.read_bytes() != first
    assert (report.stat().st_mode & 0o777, report.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [path.name for path in report.parent.iterdir()] == ["rejects.parquet"]


def test_a_source_that_breaks_half_way_leaves_the_earlier_report_alone(run, report):
    run("upload", USERS, rejects_uri=str(report))
    before = report.read_bytes()
    schema = USERS.schema

    def broken():
        yield USERS.to_batches()[0]
        raise RuntimeError("lost")

    with pytest.raises(FbcaError):
        run("upload", pa.RecordBatchReader.from_batches(schema, broken()), rejects_uri=str(report))
    assert report.read_bytes() == before
    assert [path.name for path in report.parent.iterdir()] == ["rejects.parquet"]


def test_a_report_that_cannot_be_written_whole_stops_the_task_before_it_sends(run, report, refused, monkeypatch):
    from airflow_provider_fbca.operators import rejects

    report.parent.mkdir()
    report.write_bytes(b"earlier")

    def breaks(source, target):
        target.write(source.read(10))
        raise OSError("no space left for a@example.com")

    monkeypatch.setattr(rejects.shutil, "copyfileobj", breaks)
    told = refused(
        lambda: run("upload", USERS, rejects_uri=str(report)), "cannot be written: OSError", kind=ReportError
    )
    assert "example" not in told
    assert [(path.name, path.read_bytes()) for path in report.parent.iterdir()] == [("rejects.parquet", b"earlier")]


@pytest.fixture
def store():
    """An object store in memory, that Airflow knows."""
    from airflow.sdk.io import attach
    from fsspec.implementations.memory import MemoryFileSystem

    attach(protocol="memory", fs=MemoryFileSystem())
    yield MemoryFileSystem()
    MemoryFileSystem().rm("/reports", recursive=True)


def test_an_object_store_takes_the_report_in_one_piece_and_again(run, store):
    options = {"default_country": "US", "rejects_uri": "memory://reports/some/rejects.parquet"}
    run("upload", emails("a"), **options)
    run("upload", USERS, **options)
    [path] = store.find("/reports")
    with store.open(path) as file:
        assert pq.read_table(file).to_pylist() == REJECTS


def never():
    raise AssertionError("the source was read")


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("rejects.parquet", "is a relative path"),
        ("file://rejects.parquet", "is a relative path"),
        ("s4://bucket/rejects.parquet", "not known here"),
        ("nosuch://bucket/rejects.parquet", "not known here"),
        ("file:///srv/reports/", "is a folder"),
        ("{tmp}", "is a folder"),
        ("{ledger}/rejects.parquet", "is inside the ledger"),
        ("file://{ledger}/1/../2/rejects.parquet", "is inside the ledger"),
    ],
)
def test_an_impossible_place_is_told_before_anything_is_read(run, refused, ledger_folder, tmp_path, sandbox, uri, told):
    uri = uri.format(tmp=tmp_path, ledger=ledger_folder)
    refused(lambda: run("upload", never, rejects_uri=uri), "rejects_uri", told)
    assert sandbox.requests("read_audience") == []


def test_a_link_into_the_ledger_is_no_way_around(run, refused, ledger_folder, tmp_path):
    ledger_folder.mkdir()
    (tmp_path / "way").symlink_to(ledger_folder)
    refused(lambda: run("upload", never, rejects_uri=f"{tmp_path}/way/rejects.parquet"), "is inside the ledger")


@pytest.mark.parametrize("options", [{"rejects_columns": ["a"]}, {"rejects_uri": "/x", "rejects_columns": "customer"}])
def test_columns_to_copy_need_a_file_and_are_a_list(run, refused, options):
    refused(lambda: run("upload", never, **options), "rejects_columns is ", "Give a list of columns")


def test_the_report_must_not_take_the_place_of_the_users(run, refused, tmp_path):
    pq.write_table(emails("a"), tmp_path / "users.parquet")
    uri = f"file://{tmp_path}/users.parquet"
    refused(lambda: run("upload", users_uri=uri, rejects_uri=uri), "rejects_uri is the file of the users")


def test_a_column_that_the_source_lacks_is_told_with_those_that_come_near(run, refused, report):
    told = ("`rejects_columns` names 'costumer'", "Did you mean 'customer'?")
    refused(lambda: run("upload", USERS, rejects_uri=str(report), rejects_columns=["costumer"]), *told)
    assert not report.exists()


def test_a_column_of_the_reports_own_name_is_refused(run, refused, report):
    users = USERS.append_column("row", pa.array([1, 2, 3, 4]))
    refused(lambda: run("upload", users, rejects_uri=str(report), rejects_columns=["row"]), "a column of the report")


def batches(name, *values, key="email"):
    """Batches of one rejected row each, whose column has another type in each."""
    return [pa.record_batch({key: ["x"], name: value}) for value in values]


@pytest.mark.parametrize(
    ("values", "copied"),
    [
        ([pa.array([1], pa.int64()), pa.array([2], pa.int16())], [1, 2]),
        ([pa.array([1], pa.int16()), pa.array([70_000], pa.int64())], ["1", "70000"]),
        ([pa.array([12.0]), pa.array(["0012"])], ["12", "0012"]),
        ([pa.array([12]), pa.array(["0012"]), pa.array([1.5])], ["12", "0012", "1.5"]),
        ([pa.array(["0012"]), pa.array([12.0])], ["0012", "12"]),
        ([pa.array([b"0012"]), pa.array(["x"])], ["0012", "x"]),
        ([pa.nulls(1), pa.array([12])], [None, "12"]),
        ([pa.array([12]), pa.nulls(1)], [12, None]),
        ([NUMERIC, pa.array(["x"]), NUMERIC], ["1.5", "x", "1.5"]),
        ([pa.array(["a"]).dictionary_encode(), pa.array(["b"])], ["a", "b"]),
        ([pa.array([dt.date(2024, 5, 2)]), pa.array(["2024-05-03"])], ["2024-05-02", "2024-05-03"]),
        (
            [pa.array([MAY], pa.timestamp("us")), pa.array([MAY], pa.timestamp("ns"))],
            [MAY, MAY],
        ),
    ],
)
def test_a_column_whose_type_changes_is_copied_without_loss(report, tmp_path, values, copied):
    write_report(report, tmp_path, batches("n", *values))
    assert pq.read_table(report).column("n").to_pylist() == copied


def write_report(report, folder, batches):
    """Write a report in which each row of some batches is rejected."""
    from airflow.sdk import ObjectStoragePath

    from airflow_provider_fbca.operators.rejects import RejectsPlace, RejectsReport

    names = tuple(batches[0].schema.names[1:])
    place = RejectsPlace(ObjectStoragePath(f"file://{report}"), names)
    first_row = 0
    with RejectsReport(place, batches[0].schema.names, folder / "spill.parquet") as writing:
        for batch in batches:
            rows = pa.array(range(first_row + 1, first_row + len(batch) + 1), pa.int64())
            told = [rows, pa.nulls(len(batch), pa.string()), pa.array(["empty"] * len(batch))]
            rejects = pa.RecordBatch.from_arrays(told, names=["row", "key", "reason"])
            writing.write(rejects, batch, first_row=first_row)
            first_row += len(batch)
        writing.finish()
    assert pq.read_table(report).column("row").to_pylist() == list(range(1, first_row + 1))
    assert [path.name for path in folder.glob("spill*")] == ["spill.parquet"]
    assert (folder / "spill.parquet").stat().st_mode & 0o777 == 0o600


def arrays(cells, kind):
    return st.lists(st.one_of(st.none(), cells), min_size=1, max_size=3).map(lambda values: pa.array(values, kind))


VALUES = st.one_of(
    arrays(st.integers(-(2**31), 2**31 - 1), pa.int32()),
    arrays(st.integers(-(2**63), 2**63 - 1), pa.int64()),
    arrays(st.floats(), pa.float64()),
    arrays(st.text(max_size=3), pa.string()),
    arrays(st.booleans(), pa.bool_()),
)


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=6), st.integers(1, 4))
def test_whatever_types_come_each_row_reads_as_it_did(tmp_path_factory, columns, group_rows):
    """Copied cells give the texts of the cells that came, however the types of two columns change."""
    folder = tmp_path_factory.mktemp("reports")
    size = min(len(column) for pair in columns for column in pair)
    came = [pa.record_batch({"email": ["x"] * size, "a": a[:size], "b": b[:size]}) for a, b in columns]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow_provider_fbca.operators.rejects._GROUP_ROWS", group_rows)
        write_report(folder / "rejects.parquet", folder, came)
    written = pq.read_table(folder / "rejects.parquet")
    for name in ("a", "b"):
        texts = [read_cells(batch[name], name=name, first_row=0).texts.to_pylist() for batch in came]
        copied = written.column(name).combine_chunks()
        assert read_cells(copied, name=name, first_row=0).texts.to_pylist() == [cell for each in texts for cell in each]


def test_a_column_that_changes_to_what_has_no_text_is_named_without_its_values(run, report, tmp_path):
    folder = tmp_path / "users"
    folder.mkdir()
    options = {"users_uri": f"file://{folder}", "rejects_uri": str(report), "rejects_columns": ["n"], "min_rows": 0}
    pq.write_table(pa.table({"email": ["x"], "n": pa.array([1], pa.int64())}), folder / "1.parquet")
    pq.write_table(pa.table({"email": ["y"], "n": [["zwei@example.com"]]}), folder / "2.parquet")
    with pytest.raises(AirflowFailException, match=r"The columns n cannot be copied") as caught:
        run("remove", **options)
    assert "zwei" not in str(caught.value)


def test_text_that_is_no_unicode_gets_into_no_report(report, tmp_path):
    broken = pa.array([b"zwei@example.com\xff"]).view(pa.string())
    with pytest.raises(UsersError, match="columns n cannot be copied") as caught:
        write_report(report, tmp_path, batches("n", broken))
    assert "zwei" not in str(caught.value)


def test_a_folder_whose_files_disagree_on_a_type_is_reported(run, report, tmp_path):
    folder = tmp_path / "users"
    folder.mkdir()
    pq.write_table(pa.table({"email": ["x"], "n": [1.0]}), folder / "1.parquet")
    (folder / "2.csv").write_text("email,n\ny,0002\n")
    run("remove", users_uri=f"file://{folder}", rejects_uri=str(report), rejects_columns=["n"], min_rows=0)
    assert pq.read_table(report).column("n").to_pylist() == ["1", "1", "0002", "0002"]


def test_a_column_without_values_at_first_may_become_one_of_text(run, report, tmp_path):
    folder = tmp_path / "users"
    folder.mkdir()
    pq.write_table(pa.table({"email": ["x"], "n": pa.nulls(1)}), folder / "1.parquet")
    pq.write_table(pa.table({"email": ["y"], "n": ["two"]}), folder / "2.parquet")
    run("remove", users_uri=f"file://{folder}", rejects_uri=str(report), rejects_columns=["n"])
    assert pq.read_table(report).column("n").to_pylist() == [None, None, "two", "two"]


def test_memory_does_not_grow_with_the_rejects(tmp_path):
    from airflow.sdk import ObjectStoragePath

    from airflow_provider_fbca.operators.rejects import RejectsPlace, RejectsReport

    batch = pa.record_batch({"customer": [f"customer {n}" for n in range(10_000)]})

    def peak(batches):
        place = RejectsPlace(ObjectStoragePath(f"file://{tmp_path}/{batches}.parquet"), ("customer",))
        pool = pa.system_memory_pool()
        before, most = pool.bytes_allocated(), 0
        tracemalloc.start()
        with RejectsReport(place, ["customer"], tmp_path / f"spill-{batches}") as report:
            for number in range(batches):
                rows = pa.array(range(number * 10_000 + 1, (number + 1) * 10_000 + 1), pa.int64())
                told = [rows, pa.nulls(10_000, pa.string()), pa.array(["empty"] * 10_000)]
                rejects = pa.RecordBatch.from_arrays(told, names=["row", "key", "reason"])
                report.write(rejects, batch, first_row=number * 10_000)
                most = max(most, sum(each.nbytes for each in report._waiting), pool.bytes_allocated() - before)
            report.finish()
        traced = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert pq.read_metadata(place.path.path).num_rows == batches * 10_000
        return most + traced

    peak(1)
    assert peak(60) < 2 * peak(12)


# -- counts ----------------------------------------------------------------------------------------------------------


def test_the_log_tells_the_fill_rate_of_each_key_before_a_guard_refuses(run, everything_told):
    users = pa.table({"email": ["x"] * 3 + [f"p{n}@example.com" for n in range(1997)], "fn": ["A"] * 5 + [None] * 1995})
    with pytest.raises(AirflowFailException) as caught:
        run("upload", users, max_invalid_ratio=0.001)
    told = everything_told(caught.value)
    assert "2,000 rows received, 1,997 prepared, 3 rejected" in told
    assert "EMAIL: 1,997 filled (99.8 %), 0 blank, 3 not_an_email" in told
    assert "FN: 5 filled (0.2 %), 1,995 blank" in told


def test_the_manifest_tells_the_counts_of_each_key(run):
    manifest = run("upload", USERS, default_country="US")
    assert manifest["keys"] == {
        "EMAIL": {"filled": 2, "blank": 1, "invalid": {"not_an_email": 1}},
        "PHONE": {"filled": 1, "blank": 2, "invalid": {"not_a_phone": 1}},
    }
    assert json.loads(json.dumps(manifest)) == manifest


def test_the_report_changes_nothing_of_what_is_sent(run, members, report):
    run("refresh", USERS, default_country="US", rejects_uri=str(report))
    assert members() == digests("a", "b")
    assert report.exists()
