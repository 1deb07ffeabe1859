"""The store: whole files, private ones, written once, by whoever comes first."""

from __future__ import annotations

import errno
import os
import signal
import stat
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
from ledger_rows import AUDIENCE

from airflow_provider_fbca.exceptions import LedgerError, LedgerPlaceError
from airflow_provider_fbca.ledger import store as store_module
from airflow_provider_fbca.ledger.store import Store


@pytest.fixture
def folder(root):
    return Path(root.path) / AUDIENCE


@pytest.fixture
def store(any_root):
    return Store(any_root.joinpath(AUDIENCE))


@pytest.fixture
def local(root):
    return Store(root.joinpath(AUDIENCE))


def in_child(work) -> int:
    """Run something in a forked process and return how that ended."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - the child must not go on as a test
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_self(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_folder_that_does_not_exist_has_no_files(store):
    assert store.names() == []
    assert store.read([]) == {}


def test_small_files_come_back_one_or_many(store):
    contents = {f"{n:03d}.json": f"marker {n}".encode() * (n % 3) for n in range(60)}
    for name, content in contents.items():
        store.create(name, content)
    assert store.names() == sorted(contents)
    assert store.read(list(contents)) == contents
    assert store.read(["007.json"]) == {"007.json": contents["007.json"]}


def test_a_file_is_never_written_over(store):
    store.create("a.json", b"first")
    with pytest.raises(LedgerError, match="exists already: another run writes"):
        store.create("a.json", b"second")
    assert store.read(["a.json"]) == {"a.json": b"first"}


def test_large_files_are_copied_there_and_back(store, tmp_path):
    content = os.urandom(9 * 2**20 + 7)
    (tmp_path / "from").write_bytes(content)
    store.put("rows.parquet", tmp_path / "from")
    store.fetch("rows.parquet", tmp_path / "to")
    assert (tmp_path / "to").read_bytes() == content
    assert stat.S_IMODE((tmp_path / "to").stat().st_mode) == 0o600


def test_deleting_is_done_once_and_then_done(store):
    store.create("a.json", b"1")
    store.create("b.json", b"2")
    store.delete("a.json")
    store.delete("a.json")
    assert store.names() == ["b.json"]


def test_what_cannot_be_read_is_an_error_that_may_pass(store, tmp_path):
    store.create("a.json", b"1")
    with pytest.raises(LedgerPlaceError, match="cannot be read") as caught:
        store.read(["a.json", "gone.json"])
    assert not caught.value.permanent
    with pytest.raises(LedgerPlaceError, match="cannot be read"):
        store.fetch("gone.parquet", tmp_path / "to")


def test_an_address_is_told_without_what_opens_it(remote_root, root):
    assert Store(root.joinpath("1")).uri == f"file://{root.path}/1"
    assert Store(remote_root.joinpath("1")).uri_of("x").startswith(f"{remote_root.protocol}://")


def test_files_and_created_folders_are_the_owners_alone(local, folder, tmp_path):
    (tmp_path / "from").write_bytes(b"rows")
    mask = os.umask(0)
    try:
        local.create("a.json", b"1")
        local.put("rows.parquet", tmp_path / "from")
    finally:
        os.umask(mask)
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    created = [folder, *folder.parents][:4]
    assert created[-1] == tmp_path / "deep"
    assert {stat.S_IMODE(each.stat().st_mode) for each in created} == {0o700}


@pytest.mark.parametrize("round_", range(5))
def test_of_two_processes_that_create_one_file_one_wins(local, round_):
    local.create("other.json", b"")
    gate, opener = os.pipe()

    def racer(name):
        def race():
            os.close(opener)
            os.read(gate, 1)
            local.create("lease-1.json", name)

        return race

    children = []
    for name in (b"one", b"two"):
        child = os.fork()
        if child == 0:
            try:
                racer(name)()
            except LedgerError:
                os._exit(3)
            except BaseException:  # noqa: BLE001 - as above
                os._exit(4)
            os._exit(0)
        children.append((child, name))
    os.close(opener)
    os.close(gate)
    ends = {name: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child, name in children}
    assert sorted(ends.values()) == [0, 3]
    assert ends[local.read(["lease-1.json"])["lease-1.json"]] == 0


@pytest.mark.parametrize("point", ["_sync", "link", "copy"])
@pytest.mark.parametrize("verb", ["create", "put"])
def test_a_kill_leaves_no_half_file(local, folder, tmp_path, monkeypatch, verb, point):
    source = tmp_path / "from"
    source.write_bytes(b"rows" * 1000)

    def write():
        if point == "copy":
            store_module.shutil.copyfileobj = kill_self
        elif point == "link":
            store_module.os.link = kill_self
        else:
            store_module._sync = kill_self
        if verb == "put":
            local.put("rows.parquet", source)
        else:
            local.create("rows.parquet", b"rows")

    ended = in_child(write)
    if (verb, point) == ("create", "copy"):
        assert ended == 0  # nothing is copied there
        return
    assert ended == -signal.SIGKILL
    assert local.names() == []
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    local.create("rows.parquet", b"whole")
    assert local.read(["rows.parquet"]) == {"rows.parquet": b"whole"}


def test_a_kill_right_after_the_link_leaves_the_whole_file(local, monkeypatch):
    def write():
        store_module._sync_folder = kill_self
        local.create("a.json", b"whole")

    assert in_child(write) == -signal.SIGKILL
    assert local.names() == ["a.json"]
    assert local.read(["a.json"]) == {"a.json": b"whole"}


def test_what_a_killed_writer_left_is_swept_by_a_later_one_and_what_a_live_one_writes_is_not(
    local, folder, tmp_path, monkeypatch
):
    (tmp_path / "from").write_bytes(b"rows")

    def write():
        store_module.os.link = kill_self
        local.put("rows.parquet", tmp_path / "from")

    in_child(write)
    (left,) = folder.iterdir()
    local.put("young.parquet", tmp_path / "from")
    assert left.exists()
    with local._beside("at-work") as (temporary, _):
        for path in (left, Path(temporary)):
            os.utime(path, (time.time() - 7200,) * 2)
        local.put("later.parquet", tmp_path / "from")
        assert not left.exists()
        assert Path(temporary).exists()
    assert sorted(path.name for path in folder.iterdir()) == ["later.parquet", "young.parquet"]


@pytest.mark.parametrize("failing", ["link", "fsync"])
def test_an_error_leaves_no_temporary_file(local, folder, tmp_path, monkeypatch, failing):
    (tmp_path / "from").write_bytes(b"rows")

    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "no space for ann@example.com")

    local.create("a.json", b"1")
    monkeypatch.setattr(store_module.os, failing, refuse)
    for write in (lambda: local.create("b.json", b"2"), lambda: local.put("b.parquet", tmp_path / "from")):
        with pytest.raises(LedgerPlaceError) as caught:
            write()
        assert "ann@example.com" not in str(caught.value)
        assert not caught.value.permanent
    assert [path.name for path in folder.iterdir()] == ["a.json"]


def test_a_signal_in_the_middle_leaves_no_temporary_file(local, folder, tmp_path, monkeypatch):
    (tmp_path / "from").write_bytes(b"rows")

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    local.create("a.json", b"1")
    monkeypatch.setattr(store_module.shutil, "copyfileobj", interrupt)
    with pytest.raises(KeyboardInterrupt):
        local.put("b.parquet", tmp_path / "from")
    assert [path.name for path in folder.iterdir()] == ["a.json"]


@pytest.mark.parametrize("verb", ["create", "put", "names"])
def test_a_place_that_is_a_file_is_told_as_that(root, tmp_path, verb):
    (tmp_path / "deep").write_bytes(b"a file where the ledger should be")
    local = Store(root.joinpath(AUDIENCE))
    with pytest.raises(LedgerPlaceError, match="NotADirectoryError"):
        {
            "create": lambda: local.create("a", b""),
            "put": lambda: local.put("a", tmp_path / "deep"),
            "names": local.names,
        }[verb]()


@pytest.fixture
def moody(remote_root, monkeypatch):
    """Makes the remote store one that remembers listings, and that may refuse: ``moody.refusal``."""
    files = remote_root.fs
    plain_ls, plain_info, plain_invalidate = files.ls, files.info, files.invalidate_cache
    mood = SimpleNamespace(refusal=None, files=files)
    listings: dict[str, list] = {}

    def ls(path, detail=True, **options):
        if mood.refusal:
            raise mood.refusal
        key = f"{files._strip_protocol(path)} {detail}"
        if key not in listings:
            listings[key] = plain_ls(path, detail=detail, **options)
        return listings[key]

    def info(path, **options):
        if mood.refusal:
            raise mood.refusal
        return plain_info(path, **options)

    monkeypatch.setattr(files, "ls", ls)
    monkeypatch.setattr(files, "info", info)
    monkeypatch.setattr(files, "invalidate_cache", lambda path=None: (listings.clear(), plain_invalidate(path)))
    return mood


def test_what_others_have_written_since_is_seen_past_a_cached_listing(moody, remote_root):
    one, other = Store(remote_root.joinpath("1")), Store(remote_root.joinpath("1"))
    one.create("a.json", b"1")
    assert one.names() == ["a.json"]
    with moody.files.open(f"{remote_root.path}/1/b.json", "wb") as file:
        file.write(b"2")
    assert one.names() == other.names() == ["a.json", "b.json"]


@pytest.mark.parametrize("refusal", [PermissionError("token=s3cr3t"), TimeoutError("s3cr3t"), ValueError("s3cr3t")])
def test_a_store_that_does_not_answer_is_no_empty_ledger(moody, remote_root, refusal):
    store = Store(remote_root.joinpath("1"))
    store.create("a.json", b"1")
    moody.refusal = refusal
    with pytest.raises(LedgerPlaceError, match=f"cannot be listed: {type(refusal).__name__}") as caught:
        store.names()
    assert "s3cr3t" not in str(caught.value)
    assert "s3cr3t" not in repr(caught.value.args)
    assert not caught.value.permanent


def test_the_text_of_what_a_store_raises_is_in_no_part_of_the_error(moody, remote_root):
    store = Store(remote_root.joinpath("1"))
    moody.refusal = OSError("https://bucket/x?signature=s3cr3t")
    with pytest.raises(LedgerPlaceError) as caught:
        store.names()
    assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))
