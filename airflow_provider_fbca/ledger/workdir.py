"""Private scratch space of one task, removed at its end, and by the next start where the task was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

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
        self.path = Path()

    def __enter__(self) -> Self:
        self._parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_private(self._parent)
        self._remove_stale()
        self.path = Path(tempfile.mkdtemp(dir=self._parent, prefix="task-"))
        self._descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._descriptor)

    def file(self, name: str) -> Path:
        """Return the path of a file in the folder."""
        return self.path / name

    def _remove_stale(self) -> None:
        for folder in self._parent.glob("task-*"):
            if _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    """Tell whether the lock of a folder can be had, that is whether its process is gone."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False  # a task that is just starting: between making its folder and its lock
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def _require_private(folder: Path) -> None:
    """Refuse a folder that someone else made under our name."""
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{folder} must belong to this user and be closed to others (mode 0700)")
