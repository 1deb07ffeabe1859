"""A clock that moves only as processes wait on it, and processes that take turns on it.

Everything runs in one thread, so a history depends on nothing but its choices: each process is a greenlet that gives
way where it waits, and whoever is due first goes on.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from greenlet import getcurrent, greenlet

if TYPE_CHECKING:
    from collections.abc import Callable

#: The processes that exist, by their greenlet: foreign code finds its own there.
_processes: dict[greenlet, Process] = {}


class Crash(BaseException):
    """The process is dead: what still unwinds must not reach the ledger or Meta."""


class Kernel:
    """Time, what is due, and who waits.

    :param epoch: seconds since 1970 at which the clock starts.
    """

    def __init__(self, epoch: float = 1_800_000_000.0) -> None:
        self.now = 0.0
        self._epoch = epoch
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    @property
    def wall(self) -> float:
        """Seconds since 1970."""
        return self._epoch + self.now

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something once so many seconds have passed."""
        self._number += 1
        heapq.heappush(self._due, (self.now + max(seconds, 0.0), self._number, action))

    def wait(self, seconds: float) -> None:
        """Let time pass: for the process that calls it, or for all where none does."""
        process = current()
        if process is None:
            self.run(lambda: False, until=self.now + seconds)
        else:
            process.wait(seconds)

    def run(self, done: Callable[[], bool], *, until: float = float("inf")) -> None:
        """Do what is due, in order, until something is done, nothing is due any more or an instant is reached."""
        while not done():
            if not self._due or self._due[0][0] > until:
                if until != float("inf"):
                    self.now = max(self.now, until)
                return
            due, _, action = heapq.heappop(self._due)
            self.now = max(self.now, due)
            action()


class Process:
    """One thread of a writer.

    :param kernel: whose clock it waits on.
    :param owner: the writer that it belongs to; all its threads freeze and die together.
    :param work: what it does.
    """

    def __init__(self, kernel: Kernel, owner: Owner, work: Callable[[], object]) -> None:
        self.owner = owner
        self.ended = False
        self._kernel = kernel
        self._work = work
        self._turn: object = None
        self._greenlet = greenlet(self._main, parent=_hub())
        _processes[self._greenlet] = self
        owner.threads.append(self)
        self._wake_after(0.0)

    def wait(self, seconds: float, *signals: list[Callable[[], None]]) -> None:
        """Give way until so many seconds have passed or one of the signals wakes it.

        :raises Crash: where its owner is dead.
        """
        if self.owner.dead:
            raise Crash
        wake = self._wake_after(seconds)
        for waiters in signals:
            waiters.append(wake)
        self._greenlet.parent.switch()

    def kill(self) -> None:
        """End it where it stands; only what is due may do this, not a process."""
        if not self.ended:
            self._turn = None
            self._greenlet.throw(Crash)

    def _wake_after(self, seconds: float) -> Callable[[], None]:
        turn = self._turn = object()

        def wake() -> None:
            if self._turn is not turn or self.ended:
                return
            frozen = self.owner.frozen_until - self._kernel.now
            if frozen > 0:
                self._kernel.after(frozen, wake)
                return
            self._turn = None
            self._greenlet.switch()

        self._kernel.after(seconds, wake)
        return lambda: self._kernel.after(0.0, wake)

    def _main(self, *_: object) -> None:
        try:
            if not self.owner.dead:
                self._work()
        except Crash:
            self.owner.dead = True
        finally:
            self.ended = True
            del _processes[self._greenlet]


class Owner:
    """What freezes and dies as one: a worker process with its threads."""

    def __init__(self) -> None:
        self.threads: list[Process] = []
        self.frozen_until = 0.0
        self.dead = False

    def end(self) -> None:
        """Let none of its threads do anything any more; not for themselves to call."""
        self.dead = True
        for thread in self.threads:
            thread.kill()


def current() -> Process | None:
    """Return the process that runs, None where the machine itself does."""
    return _processes.get(getcurrent())


def _hub() -> greenlet:
    """Return the greenlet that does what is due: the one that no process is."""
    here = getcurrent()
    while here in _processes:
        here = here.parent
    return here
