"""Lets a task die at a chosen moment: it stops there, and says so, until somebody kills its process.

A moment is a boundary of a request to Meta or of a write to the ledger, just before it or just after it. DAGs of tests
import this; it takes effect in the task's process alone.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_fbca.graph.transport import Request, Transport
from airflow_provider_fbca.ledger.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

_WATCHED = {Transport: ("exchange",), Store: ("put", "create", "delete")}
_PATIENCE_SECONDS = 120


class KillSwitch:
    """What a task is given as ``on_execute_callback``.

    :param folder: of its case, where test and task leave notes for each other.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._lock = threading.Lock()
        self._count = 0
        self._dies_at: int | str | None = None

    def __call__(self, context: Any) -> None:
        """Find out when this try is to die, and watch the moments from here on."""
        plan = self._folder / "dies_at.json"
        moments = json.loads(plan.read_text()) if plan.exists() else []
        number = context["ti"].try_number
        self._dies_at = moments[number - 1] if number <= len(moments) else None
        for owner, names in _WATCHED.items():
            for name in names:
                setattr(owner, name, self._watched(name, getattr(owner, name)))

    def _watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            what = _describe(args[1]) if isinstance(args[1], Request) else name
            self._reach(f"before {what}")
            result = function(*args, **options)
            self._reach(f"after {what}")
            return result

        return call

    def _reach(self, moment: str) -> None:
        if threading.current_thread().name == "fbca-lease":
            return
        with self._lock:
            self._count += 1
            dies = self._dies_at in {self._count, moment}
            self._dies_at = None if dies else self._dies_at
        (self._folder / f"moments-{os.getpid()}").write_text(str(self._count))
        if dies:
            note = self._folder / "dying.part"
            note.write_text(json.dumps({"pid": os.getpid(), "moment": moment}))
            note.rename(self._folder / "dying.json")
            time.sleep(_PATIENCE_SECONDS)
            os._exit(1)


def _describe(request: Request) -> str:
    return f"{request.method} {urlsplit(request.url).path.rpartition('/')[2]}"


@dataclass
class Deaths:
    """The test's side of the switch.

    :param folder: the same as the task's.
    """

    folder: Path

    def plan(self, *moments: int | str) -> None:
        """Say when each try from the first is to die, further tries live; of any run from now on.

        :param moments: the number of a moment, or what it is called: ``after POST users``, ``before create``...
        """
        (self.folder / "dies_at.json").write_text(json.dumps(moments))

    @property
    def moments(self) -> int:
        """How many moments the longest try so far has had."""
        counted = [int(note.read_text() or 0) for note in self.folder.glob("moments-*")]
        return max(counted, default=0)

    def dying(self) -> str | None:
        """Return the moment at which a task waits for its death; None where none does."""
        note = self.folder / "dying.json"
        return str(json.loads(note.read_text())["moment"]) if note.exists() else None

    def kill(self) -> None:
        """Kill the task that waits for it."""
        note = self.folder / "dying.json"
        process = int(json.loads(note.read_text())["pid"])
        note.unlink()
        os.kill(process, signal.SIGKILL)
