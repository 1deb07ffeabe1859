"""Users from files."""

from __future__ import annotations

import os
import time
import types

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow.sdk import ObjectStoragePath

from airflow_provider_fbca.exceptions import SourceError
from airflow_provider_fbca.warehouse import open_uri
from airflow_provider_fbca.warehouse.files import FileReader
from airflow_provider_fbca.warehouse.pump import PumpedSource

USERS = pa.table({"email": ["a", "", None, "d"], "zip": ["02108", "1", "2", "3"]})


def write_parquet(path, table=USERS):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def write_ipc(path, table=USERS, new=pa.ipc.new_file):
    with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
        writer.write_table(table)


def rows_of(source) -> list[dict]:
    return [row for batch in source.batches() for row in batch.to_pylist()]


@pytest.mark.parametrize(
    ("write", "route"),
    [
        (write_parquet, "parquet"),
        (write_ipc, "arrow file"),
        (lambda path: write_ipc(path, new=pa.ipc.new_stream), "arrow stream"),
    ],
)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_format_is_told_by_the_file_itself(tmp_path, write, route, scheme):
    write(tmp_path / "users")
    with open_uri(f"{scheme}{tmp_path}/users") as source:
        assert source.names == ("email", "zip")
        assert source.route == route
        assert rows_of(source) == USERS.to_pylist()


@pytest.mark.parametrize("write", [write_parquet, write_ipc])
def test_large_batches_are_cut(tmp_path, write):
    table = pa.table({"i": range(1000)})
    write(tmp_path / "users", table)
    with open_uri(str(tmp_path / "users"), batch_rows=300) as source:
        batches = list(source.batches())
    assert max(batch.num_rows for batch in batches) <= 300
    assert pa.Table.from_batches(batches)["i"].to_pylist() == list(range(1000))


def test_a_folder_is_read_in_order_without_what_writers_leave_behind(tmp_path):
    write_parquet(tmp_path / "out" / "part-2.parquet", pa.table({"a": [3]}))
    write_parquet(tmp_path / "out" / "day=1" / "part-1", pa.table({"a": [1]}))
    write_ipc(tmp_path / "out" / "part-1.arrow", pa.table({"a": [2]}))
    write_parquet(tmp_path / "out" / "_temporary" / "part-9.parquet", pa.table({"a": [9]}))
    (tmp_path / "out" / "_SUCCESS").touch()
    (tmp_path / "out" / ".part-2.parquet.crc").write_bytes(b"crc")
    for uri in (tmp_path / "out", f"{tmp_path}/out/"):
        with open_uri(str(uri)) as source:
            assert [row["a"] for row in rows_of(source)] == [1, 2, 3]


def test_a_folder_named_like_a_hidden_one_is_read_when_asked_for(tmp_path):
    write_parquet(tmp_path / "_out" / "part.parquet")
    with open_uri(str(tmp_path / "_out")) as source:
        assert len(rows_of(source)) == 4


@pytest.mark.parametrize("pattern", ["out/part-*.parquet", "out/part-?.parquet", "**/part-[12].parquet"])
def test_a_glob_picks_files(tmp_path, pattern):
    for number in (1, 2):
        write_parquet(tmp_path / "out" / f"part-{number}.parquet", pa.table({"a": [number]}))
    write_parquet(tmp_path / "out" / "other.parquet", pa.table({"a": [9]}))
    with open_uri(f"file://{tmp_path}/{pattern}") as source:
        assert [row["a"] for row in rows_of(source)] == [1, 2]


def test_columns_in_another_order_are_put_in_the_first_files(tmp_path):
    write_parquet(tmp_path / "out" / "1", pa.table({"a": [1], "b": ["x"]}))
    write_parquet(tmp_path / "out" / "2", pa.table({"b": ["y"], "a": [2]}))
    with open_uri(str(tmp_path / "out")) as source:
        assert [batch.schema.names for batch in source.batches()] == [["a", "b"], ["a", "b"]]


def test_files_of_other_columns_are_refused_by_name(tmp_path):
    write_parquet(tmp_path / "out" / "1", pa.table({"a": [1], "b": ["x"]}))
    write_parquet(tmp_path / "out" / "2", pa.table({"a": [2], "c": ["y"]}))
    with open_uri(str(tmp_path / "out")) as source, pytest.raises(SourceError, match="'b', 'c'") as caught:
        rows_of(source)
    assert caught.value.permanent


def test_an_empty_file_of_rows_has_names_and_no_batches(tmp_path):
    write_parquet(tmp_path / "none", USERS.slice(0, 0))
    with open_uri(str(tmp_path / "none")) as source:
        assert source.names == ("email", "zip")
        assert list(source.batches()) == []


@pytest.mark.parametrize("place", ["missing.parquet", "missing/*.parquet", "empty"])
def test_a_place_without_files_is_named(tmp_path, place):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=place.replace("*", r"\*")) as caught:
        open_uri(f"{tmp_path}/{place}")
    assert not caught.value.permanent


def test_a_damaged_file_is_told_without_its_words(tmp_path, holds_no):
    write_parquet(tmp_path / "users.parquet")
    whole = (tmp_path / "users.parquet").read_bytes()
    (tmp_path / "users.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match="ArrowInvalid") as caught:
        open_uri(str(tmp_path / "users.parquet"))
    assert caught.value.permanent
    holds_no(caught.value, "magic bytes")


def test_the_damaged_file_of_a_folder_is_named(tmp_path):
    write_parquet(tmp_path / "out" / "1")
    write_parquet(tmp_path / "out" / "2")
    whole = (tmp_path / "out" / "2").read_bytes()
    (tmp_path / "out" / "2").write_bytes(whole[:4] + b"x" * 60 + whole[64:])
    with open_uri(str(tmp_path / "out")) as source, pytest.raises(SourceError, match=r"out/2\), after 4 rows"):
        rows_of(source)


def test_a_delta_table_is_refused(tmp_path):
    write_parquet(tmp_path / "table" / "part.parquet")
    (tmp_path / "table" / "_delta_log").mkdir()
    (tmp_path / "table" / "_delta_log" / "0.json").write_text("{}")
    with pytest.raises(SourceError, match="Delta Lake"):
        open_uri(str(tmp_path / "table"))


def test_duplicate_columns_are_named(tmp_path):
    write_ipc(tmp_path / "users", pa.table([[1], [2]], names=["a", "a"]))
    with open_uri(str(tmp_path / "users")) as source, pytest.raises(SourceError, match="'a'"):
        source.names  # noqa: B018


def test_the_connection_in_the_uri_gives_the_store(tmp_path):
    from airflow.sdk.io import attach

    store = fsspec.filesystem("memory", skip_instance_cache=True)
    attach("memory", "my_store", fs=store)
    with store.open("/bucket/users/part.parquet", "wb") as sink:
        pq.write_table(USERS, sink)
    uri = str(ObjectStoragePath("memory://my_store@bucket/users"))
    with open_uri(uri) as source:
        assert rows_of(source) == USERS.to_pylist()
    with pytest.raises(SourceError) as caught:
        open_uri("memory://my_store@bucket/nothing?token=zoe_secret")
    assert "memory://bucket/nothing" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_store_that_airflow_does_not_know_is_named():
    with pytest.raises(SourceError, match=r"nosuch://bucket/users.*Install the Airflow provider"):
        open_uri("nosuch://bucket/users")


def test_a_large_row_group_is_read_in_pieces(tmp_path):
    rows = 3_000_000
    column = pa.array(range(rows), pa.int64())
    pq.write_table(
        pa.table({"i": column}), tmp_path / "users", row_group_size=rows, use_dictionary=False, compression=None
    )
    read = []

    class Store(fsspec.get_filesystem_class("file")):
        def open(self, path, mode="rb", **kwargs):
            file = super().open(path, mode, **kwargs)
            original = file.f.read
            file.f = types.SimpleNamespace(
                **{name: getattr(file.f, name) for name in ("seek", "tell", "close", "closed", "readable", "seekable")},
                read=lambda size=-1: (read.append(size), original(size))[1],
            )
            return file

    with PumpedSource(
        FileReader(Store(skip_instance_cache=True), str(tmp_path / "users"), 1000, "x"), remedy=""
    ) as source:
        batches = source.batches()
        assert next(batches)["i"][0].as_py() == 0
        time.sleep(0.1)
        assert 0 < sum(read) < (tmp_path / "users").stat().st_size / 2
        batches.close()


def test_closing_early_and_cancelling(tmp_path):
    pq.write_table(pa.table({"i": range(100_000)}), tmp_path / "users", row_group_size=1000)
    with open_uri(str(tmp_path / "users"), batch_rows=1000) as source:
        batches = source.batches()
        next(batches)
        source.cancel()
        with pytest.raises(SourceError, match="cancelled"):
            next(batches)


def test_a_folder_that_cannot_be_listed_is_an_error_and_not_fewer_people(tmp_path):
    write_parquet(tmp_path / "out" / "1.parquet")
    write_parquet(tmp_path / "out" / "closed" / "2.parquet")

    class Store(fsspec.get_filesystem_class("file")):
        def ls(self, path, detail=False, **kwargs):
            if str(path).endswith("closed"):
                raise PermissionError(path)
            return super().ls(path, detail, **kwargs)

    for place in ("out", "out/**/*.parquet"):
        reader = FileReader(Store(skip_instance_cache=True), str(tmp_path / place), 1000, "the folder")
        with pytest.raises(SourceError, match="Reaching the folder failed with PermissionError"):
            PumpedSource(reader, remedy="")


def test_links_to_files_are_read(tmp_path):
    write_parquet(tmp_path / "elsewhere" / "users")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "1").symlink_to(tmp_path / "elsewhere" / "users")
    for place in ("out", "out/1", "out/*"):
        with open_uri(str(tmp_path / place)) as source:
            assert len(rows_of(source)) == 4


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_local_file_that_changes_while_it_is_read_is_an_error(tmp_path, change):
    pq.write_table(pa.table({"i": range(100_000)}), tmp_path / "users", row_group_size=1000)
    with open_uri(str(tmp_path / "users"), batch_rows=1000) as source:
        batches = source.batches()
        next(batches)
        if change == "size":
            with (tmp_path / "users").open("ab") as file:
                file.write(b"more")
        else:
            os.utime(tmp_path / "users", (0, 0))
        with pytest.raises(SourceError, match="was changed while it was read") as caught:
            list(batches)
    assert not caught.value.permanent


def test_record_batches_too_large_for_comfort_are_told_before_they_are_read(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("airflow_provider_fbca.warehouse.formats._LARGE_BATCH_BYTES", 1 << 20)
    write_ipc(tmp_path / "small", pa.table({"i": pa.chunked_array([range(100_000)] * 4)}))
    write_ipc(tmp_path / "large", pa.table({"i": range(400_000)}))
    for name in ("small", "large"):
        with open_uri(str(tmp_path / name)) as source:
            assert len(rows_of(source)) == 400_000
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"{tmp_path}/large has record batches of 3 MiB" in warning


def test_a_large_record_batch_is_in_memory_once(tmp_path):
    write_ipc(tmp_path / "users", pa.table({"i": range(5_000_000)}))
    before, most = pa.total_allocated_bytes(), 0
    with open_uri(str(tmp_path / "users"), batch_rows=10_000) as source:
        for batch in source.batches():
            assert batch.num_rows <= 10_000
            most = max(most, pa.total_allocated_bytes() - before)
    assert most < 1.2 * (tmp_path / "users").stat().st_size


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda whole, first: whole[: len(first)], "was cut off"),
        (lambda whole, first: whole[:-8], "was cut off"),
        (lambda whole, first: whole + whole, "goes on after its end"),
        (lambda whole, first: whole + b"x", "goes on after its end"),
    ],
)
def test_rows_that_a_stream_lacks_or_has_after_its_end_are_not_lost_in_silence(tmp_path, spoil, told):
    batch = pa.record_batch({"email": ["a", "b"]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
        length = sink.tell()
        writer.write_batch(batch)
    whole = sink.getvalue().to_pybytes()
    (tmp_path / "users.arrow").write_bytes(whole)
    with open_uri(str(tmp_path / "users.arrow")) as source:
        assert sum(each.num_rows for each in source.batches()) == 4
    (tmp_path / "users.arrow").write_bytes(spoil(whole, whole[:length]))
    with open_uri(str(tmp_path / "users.arrow")) as source, pytest.raises(SourceError, match=told):
        list(source.batches())
