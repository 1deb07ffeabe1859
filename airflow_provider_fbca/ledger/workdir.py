"""Private scratch space of one task, removed at its end, and by the next start where the task was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Self

from airflow_provider_fbca.exceptions import LedgerPlaceError

if TYPE_CHECKING:
    from types import TracebackType

_LOCK = "lock"


class WorkDir:
    """A folder for spill files, readable by its owner alone.

    A lock that dies with the process marks it as in use, so that a later start can tell a dead task's folder from one
    at work. Entering it removes the folders of dead tasks.

    :param parent: where to make it; by default a folder of this user's in the system's place for temporary files
        (``TMPDIR``).
    """

    def __init__(self, parent: Path | None = None) -> None:
        self._parent = parent or Path(tempfile.gettempdir()) / f"fbca-{os.getuid()}"
        self._descriptor = -1
        self._numbers = count(1)
        self.path = Path()

    def __enter__(self) -> Self:
        failure = ""
        try:
            self._parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_private(self._parent)
            self._remove_stale()
            while self._descriptor < 0:
                self.path = Path(tempfile.mkdtemp(dir=self._parent, prefix="task-"))
                self._descriptor = _lock_of_new(self.path)
        except OSError as error:
            failure = type(error).__name__
        if failure:
            wrapped = LedgerPlaceError(
                f"The folder {self._parent} for temporary files cannot be used: {failure}.",
                remedy="It must belong to this user, be closed to others (mode 0700) and have space. Correct or remove "
                "it, or set TMPDIR of the worker.",
            )
            wrapped.permanent = False
            raise wrapped
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._descriptor)

    def file(self, name: str) -> Path:
        """Return the path of a file in the folder."""
        return self.path / name

    def new_file(self, name: str) -> Path:
        """Return the path of a file in the folder that this was never called for before, named after its purpose."""
        return self.path / f"{name}-{next(self._numbers)}"

    def _remove_stale(self) -> None:
        for folder in self._parent.glob("task-*"):
            with suppress(OSError):
                _remove_if_abandoned(folder)


def _lock_of_new(folder: Path) -> int:
    """Take the lock of a folder that was just made; -1 where another task's start took the folder for abandoned."""
    lock = folder / _LOCK
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return -1
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    # Whoever removes a folder holds its lock meanwhile: once we have it, the folder is there for good or gone.
    if lock.exists():
        return descriptor
    os.close(descriptor)
    return -1


def _remove_if_abandoned(folder: Path) -> None:
    """Remove a folder whose lock can be had, that is whose process is gone.

    :raises OSError: where the lock is held.
    """
    # Where there is no lock, its process was killed before it made one, or half-way through removing the folder, or is
    # just starting and will start over with another folder.
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def _require_private(folder: Path) -> None:
    """Refuse a folder that someone else made under our name."""
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{folder} must belong to this user and be closed to others (mode 0700)")
