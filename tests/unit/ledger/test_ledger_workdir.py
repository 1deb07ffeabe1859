"""The scratch folder: private, gone at the end, and never another task's."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from airflow_provider_fbca.exceptions import LedgerPlaceError
from airflow_provider_fbca.ledger import WorkDir, workdir


@pytest.fixture
def parent(tmp_path):
    return tmp_path / "scratch"


HOLDER = """
import sys, pathlib
from airflow_provider_fbca.ledger import WorkDir
with WorkDir(pathlib.Path(sys.argv[1])) as scratch:
    scratch.file("rows").write_text("a@example.com")
    print(scratch.path, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_task(parent):
    """A task at work in another process."""
    task = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    task.folder = Path(task.stdout.readline().strip())
    yield task
    task.kill()
    task.wait()
    task.stdin.close()
    task.stdout.close()


def test_it_is_private_and_gone_at_the_end(parent):
    with WorkDir(parent) as scratch:
        assert scratch.path.parent == parent
        for folder in (parent, scratch.path):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in scratch.path.iterdir()} == {0o600}
        (scratch.file("spill") / "deep").mkdir(parents=True)
        scratch.file("rows").write_text("x")
    assert list(parent.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_it_is_gone_after_an_error_too(parent, error):
    def work():
        with WorkDir(parent) as scratch:
            scratch.file("rows").write_text("x")
            raise error

    with pytest.raises(error):
        work()
    assert list(parent.iterdir()) == []


def test_it_is_in_the_systems_place_for_temporary_files_unless_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with WorkDir() as scratch:
        assert scratch.path.parent == tmp_path / f"fbca-{os.getuid()}"


def test_no_descriptor_stays_open(parent):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with WorkDir(parent), WorkDir(parent):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_tasks_have_folders_of_their_own_and_leave_each_other_alone(parent, other_task):
    with WorkDir(parent) as one, WorkDir(parent) as two:
        assert len({one.path, two.path, other_task.folder}) == 3
        assert other_task.folder.joinpath("rows").exists()
    assert other_task.folder.joinpath("rows").exists()


def test_what_a_killed_task_left_is_removed_by_the_next_start(parent, other_task):
    os.kill(other_task.pid, signal.SIGKILL)
    other_task.wait()
    assert other_task.folder.joinpath("rows").exists()
    with WorkDir(parent) as scratch:
        assert list(parent.iterdir()) == [scratch.path]


def test_what_a_task_killed_while_clearing_up_left_is_removed_too(parent):
    with WorkDir(parent):
        left = parent / "task-without-lock"
        left.mkdir(mode=0o700)
        (left / "rows").write_text("a@example.com")
        with WorkDir(parent):
            assert not left.exists()


def test_what_is_no_folder_of_a_task_is_left_alone(parent):
    with WorkDir(parent):
        pass
    (parent / "notes").mkdir()
    (parent / "task-file").write_text("odd")
    with WorkDir(parent):
        assert (parent / "notes").exists()
    assert (parent / "task-file").exists()


def test_a_start_whose_folder_is_taken_for_abandoned_makes_another(parent, monkeypatch):
    """Between making the folder and its lock, another task's start may come by."""
    made = []
    make = tempfile.mkdtemp

    def make_and_be_overtaken(**options):
        made.append(Path(make(**options)))
        if len(made) == 1:
            workdir._remove_if_abandoned(made[0])
        return str(made[-1])

    monkeypatch.setattr(workdir.tempfile, "mkdtemp", make_and_be_overtaken)
    with WorkDir(parent) as scratch:
        assert scratch.path == made[1]
        scratch.file("rows").write_text("x")
        with WorkDir(parent):
            assert scratch.file("rows").exists()
    assert list(parent.iterdir()) == []


def test_a_start_that_is_overtaken_before_it_has_its_lock_makes_another(parent, monkeypatch):
    """Between making the lock and taking it, too."""
    lock, overtaken = workdir.fcntl.flock, []

    def overtake(descriptor, how):
        if not overtaken and how == workdir.fcntl.LOCK_EX:
            (folder,) = parent.iterdir()
            overtaken.append(folder)
            workdir._remove_if_abandoned(folder)
        lock(descriptor, how)

    monkeypatch.setattr(workdir.fcntl, "flock", overtake)
    with WorkDir(parent) as scratch:
        assert not overtaken[0].exists()
        assert scratch.path.exists()
        assert scratch.path != overtaken[0]


@pytest.mark.parametrize("make", ["open", "file", "foreign"])
def test_a_folder_that_others_could_read_is_refused_with_what_to_do(parent, monkeypatch, make):
    if make == "file":
        parent.write_text("x")
    else:
        parent.mkdir(mode=0o700)
        if make == "open":
            parent.chmod(0o755)
        else:
            monkeypatch.setattr(os, "getuid", lambda: parent.stat().st_uid + 1)
    with pytest.raises(LedgerPlaceError, match=r"cannot be used: (PermissionError|FileExistsError).*TMPDIR"):
        WorkDir(parent).__enter__()
    assert make == "file" or list(parent.iterdir()) == []
