"""Users from files in object stores, over their real clients and HTTP."""

from __future__ import annotations

import gzip
import io
import json
import re
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_stores import endpoint, file_system, files_at, root_at
from wire import forward_to, wire

from airflow_provider_fbca.exceptions import SourceError
from airflow_provider_fbca.warehouse import open_uri, state_of_uri

SECRET = "s3cr3t"
PEOPLE = pa.table({"email": ["a", "", None, "d"], "zip": ["02108", "1", "2", "3"]})
CSV = 'email,zip\na,02108\n"",1\n,2\nd,3\n'


def parquet(table=PEOPLE, **options) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def arrow(table=PEOPLE) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def rows_of(uri: str) -> list[dict]:
    with open_uri(uri) as source:
        return [row for batch in source.batches() for row in batch.to_pylist()]


@pytest.fixture(params=["s3", "gs"])
def store(request):
    """A folder of its own in a bucket: gives its URI, with the Airflow connection, and writes and deletes its files."""
    options = request.getfixturevalue(f"{request.param}_options")
    return Bucket(request.param, file_system(request.param, options, skip_instance_cache=True))


class Bucket:
    def __init__(self, kind, files):
        self.files, self.kind = files, kind
        # Airflow's connection and the folder have one name.
        self.name = root_at(kind, files).name
        self.uri = f"{kind}://{self.name}@bucket/{self.name}"

    def put(self, name: str, content: bytes | str) -> str:
        self.files.pipe_file(f"bucket/{self.name}/{name}", content.encode() if isinstance(content, str) else content)
        return f"{self.uri}/{name}"

    def delete(self, name: str) -> None:
        self.files.rm_file(f"bucket/{self.name}/{name}")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("users.parquet", parquet()),
        ("users", arrow()),
        ("users.csv", CSV),
        ("users.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
    ],
)
def test_a_file_of_any_format_is_read(store, name, content):
    assert rows_of(store.put(name, content)) == PEOPLE.to_pylist()


def test_a_folder_is_read_with_its_subfolders_and_a_glob_picks_some(store):
    store.put("out/day=2/part-1.csv", CSV)
    store.put("out/day=1/part-1.parquet", parquet(PEOPLE.slice(0, 1)))
    store.put("out/_SUCCESS", b"")
    store.put("out/_temporary/part-9.csv", CSV)
    store.put("out-of-date/part-1.csv", CSV)
    assert rows_of(f"{store.uri}/out") == rows_of(f"{store.uri}/out/") == PEOPLE.to_pylist()[:1] + PEOPLE.to_pylist()
    assert rows_of(f"{store.uri}/out/*/*.parquet") == PEOPLE.to_pylist()[:1]
    assert rows_of(f"{store.uri}/**/part-?.csv") == PEOPLE.to_pylist() * 2
    assert rows_of(f"{store.uri}/**/_temporary/*.csv") == PEOPLE.to_pylist()


def test_values_in_the_names_of_folders_are_no_columns(store):
    store.put("out/country=US/part.csv", "email\na\n")
    assert rows_of(f"{store.uri}/out") == [{"email": "a"}]


@pytest.mark.parametrize("place", ["none.csv", "none/", "none/*.csv"])
def test_a_place_without_files_is_named(store, place):
    with pytest.raises(SourceError, match=re.escape(f"There are no files at {store.kind}://bucket/")) as caught:
        open_uri(f"{store.uri}/{place}")
    assert not caught.value.permanent


@pytest.mark.parametrize("place", ["users.csv", "", "*.csv"])
def test_a_bucket_that_is_not_there_is_an_error(store, place):
    uri = f"{store.kind}://{store.name}@no-such-bucket/{place}"
    with pytest.raises(SourceError, match="no-such-bucket"):
        open_uri(uri)


def test_a_file_that_goes_while_it_is_read_is_an_error(store):
    uri = store.put("users.csv", "n\n" + "0123456789\n" * 1_000_000)
    with open_uri(uri) as source:
        batches = source.batches()
        next(batches)
        store.delete("users.csv")
        with pytest.raises(SourceError, match=r"FileNotFoundError|FileExpired|HttpError|404") as caught:
            list(batches)
    assert not caught.value.permanent


@pytest.mark.parametrize("same_size", [True, False])
def test_a_file_that_changes_while_it_is_read_is_an_error(store, same_size):
    uri = store.put("users.csv", "n\n" + "0123456789\n" * 1_000_000)
    with open_uri(uri) as source:
        batches = source.batches()
        next(batches)
        store.put("users.csv", "n\n" + "9876543210\n" * (1_000_000 if same_size else 2_000_000))
        with pytest.raises(SourceError) as caught:
            list(batches)
    assert "was changed while it was read" in str(caught.value) or "FileExpired" in str(caught.value)
    assert not caught.value.permanent


def test_the_state_of_a_folder_changes_with_its_files(store):
    store.put("out/1.csv", CSV)
    first = state_of_uri(f"{store.uri}/out")
    assert first is not None
    assert first == state_of_uri(f"{store.uri}/out")
    store.put("out/1.csv", CSV + "e,4\n")
    second = state_of_uri(f"{store.uri}/out")
    store.put("out/2.csv", CSV)
    assert len({first, second, state_of_uri(f"{store.uri}/out")}) == 3


def test_a_large_row_group_of_many_columns_is_fetched_once_and_in_pieces(s3_options):
    numbers = np.random.default_rng(1)
    table = pa.table({f"c{n}": numbers.integers(0, 2**60, 1_500_000) for n in range(4)})
    content = parquet(table, row_group_size=len(table), use_dictionary=False, compression=None)
    fetched = []

    def count(request):
        if request.method == "GET" and "range" in request.headers:
            first, last = request.headers["range"].removeprefix("bytes=").split("-")
            fetched.append(min(int(last), len(content)) - int(first))

    with wire(forward_to(endpoint("s3", s3_options), count)) as (url, _):
        store = Bucket("s3", files_at("s3", url, secret=SECRET))
        uri = store.put("users.parquet", content)
        before, most = pa.total_allocated_bytes(), 0
        with open_uri(uri) as source:
            rows = 0
            for batch in source.batches():
                rows += batch.num_rows
                most = max(most, pa.total_allocated_bytes() - before)
    assert rows == len(table)
    assert sum(fetched) < 1.4 * len(content)
    assert max(fetched) < 8 << 20
    # Whole, it would be all of it at least.
    assert most < 0.75 * len(content)


def denied(kind, request):
    """What each store answers to who lacks the rights, with its words on that."""
    if kind == "s3":
        body = f"<Error><Code>AccessDenied</Code><Message>{SECRET} may not</Message></Error>"
        return 403, {"Content-Type": "application/xml"}, body.encode()
    if kind == "gs":
        body = {"error": {"code": 403, "message": f"{SECRET} may not"}}
        return 403, {"Content-Type": "application/json"}, json.dumps(body).encode()
    body = f"<Error><Code>AuthorizationFailure</Code><Message>{SECRET} may not</Message></Error>"
    return 403, {"x-ms-error-code": "AuthorizationFailure"}, body.encode()


@pytest.mark.parametrize("kind", ["s3", "gs", "abfs"])
@pytest.mark.parametrize("place", ["users.csv", "*.csv"])
def test_missing_rights_are_told_as_such_and_not_as_missing_files(kind, place, holds_no):
    with wire(lambda request: denied(kind, request)) as (url, _):
        store = Bucket(kind, files_at(kind, url, secret=SECRET))
        with pytest.raises(SourceError, match=rf"{kind}://bucket.* failed with") as caught:
            open_uri(f"{store.uri}/{place}")
    assert "There are no files" not in str(caught.value)
    holds_no(caught.value, f"{SECRET} may not")
    assert SECRET not in str(caught.value)


@pytest.fixture
def stalling(s3_options):
    """A store that stops answering once told to, and an event that tells when it has left someone waiting."""
    stall, stalled, over = threading.Event(), threading.Event(), threading.Event()

    def wait(request):
        if stall.is_set() and request.method == "GET":
            stalled.set()
            over.wait(30)

    with wire(forward_to(endpoint("s3", s3_options), wait)) as (url, _):
        store = Bucket("s3", files_at("s3", url, secret=SECRET))
        yield store, stall, stalled
        over.set()


CONTENTS = {
    "users.csv": "n\n" + "0123456789\n" * 4_000_000,
    "users.parquet": parquet(
        pa.table({"n": np.random.default_rng(1).integers(0, 2**60, 5_000_000)}), use_dictionary=False
    ),
    "users.arrow": arrow(pa.table({"n": pa.chunked_array([list(range(200_000))] * 20)})),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_cancelling_ends_a_read_that_blocks(stalling, name, eventually):
    store, stall, stalled = stalling
    uri = store.put(name, CONTENTS[name])
    with open_uri(uri) as source:
        batches = source.batches()
        next(batches)
        stall.set()

        def cancel():
            assert stalled.wait(20)
            cancelled.append(time.monotonic())
            source.cancel()

        cancelled = []
        threading.Thread(target=cancel).start()
        with pytest.raises(SourceError, match="was cancelled after"):
            list(batches)
        assert time.monotonic() - cancelled[0] < 2.0
    assert eventually(lambda: not [each for each in threading.enumerate() if each.name.startswith("fbca-users")], 2.0)


def test_closing_early_does_not_wait_for_a_store_that_is_silent(stalling):
    store, stall, stalled = stalling
    uri = store.put("users.arrow", CONTENTS["users.arrow"])
    with open_uri(uri, batch_rows=200_000) as source:
        batches = source.batches()
        next(batches)
        stall.set()
        # Where it asks for nothing, it has batches ahead.
        while not stalled.wait(0.5):
            next(batches)
        started = time.monotonic()
    assert time.monotonic() - started < 2.0


@pytest.mark.clients
def test_a_connection_in_airflow_gives_the_store(s3_options, connection):
    pytest.importorskip("airflow.providers.amazon.aws.fs.s3")
    store = Bucket("s3", file_system("s3", s3_options, skip_instance_cache=True))
    store.put("out/1.parquet", parquet())
    store.put("out/2.csv.gz", gzip.compress(CSV.encode()))
    conn_id = connection(
        f"aws_{store.name}",
        conn_type="aws",
        login=s3_options["key"],
        password=SECRET,
        extra={"endpoint_url": endpoint("s3", s3_options), "region_name": "eu-central-1"},
    )
    folder = f"s3://{conn_id}@bucket/{store.name}/out"
    assert rows_of(folder) == PEOPLE.to_pylist() * 2
    assert rows_of(f"{folder}/*.parquet") == rows_of(f"{folder}/2.csv.gz") == PEOPLE.to_pylist()
    assert state_of_uri(folder) is not None
    with pytest.raises(SourceError) as caught:
        open_uri(f"{folder}/none.parquet")
    assert SECRET not in str(caught.value)
    assert conn_id not in str(caught.value)
