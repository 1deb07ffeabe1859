"""Writers that race for a lease in a simulated world: the real code, on a store and clocks that a test steps by hand.

Each writer runs in a greenlet of its own and stands still before and after everything it asks the store, so that any
order of any two writers' steps can be had, with any time between them.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from airflow_provider_fbca.exceptions import LedgerError, LedgerPlaceError, LedgerTakenError
from airflow_provider_fbca.ledger.lease import Lease, LeaseTerms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SECONDS, FLIGHT = 180.0, 60.0
#: What a step does to the request that it lets go on; the answer of some is lost, of some lost ones the request lands.
FAULTS = (*["none"] * 17, "refused", "answer lost", "lands late")
#: What a holder does next.
ACTIONS = (*["renew"] * 20, *["work"] * 10, *["release"] * 6, *["keep"] * 2, "crash")
#: How many stops a writer goes on over at a stretch; taking a lease has about ten of them.
STOPS = (1, 1, 1, 2, 3, 5, 8, 20)
#: Seconds that pass before a step; exact parts of a lease meet its limits.
PAUSES = (*[0.0] * 20, *[0.5] * 5, 20.0, 59.0, 60.0, 61.0, 119.0, 120.0, 121.0, 179.0, 180.0, 181.0)


@dataclass(frozen=True)
class Step:
    """One writer goes on over some stops; the fault is the first one's."""

    writer: int
    pause: float
    stops: int
    fault: str
    action: str


class World:
    """True time, the files, and what may still land."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.files: dict[str, bytes] = {}
        self.late: list[Callable[[], None]] = []
        #: To the lease that was kept last, for whoever begins from then on: two heirs are one too many.
        self.key: str | None = None


class SimStore:
    """The store as one writer sees it."""

    uri = "sim://audience"
    creates_exclusively = True

    def __init__(self, world: World) -> None:
        self._world = world

    def names(self) -> list[str]:
        return self._ask(lambda: sorted(self._world.files))

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        def read() -> dict[str, bytes]:
            try:
                return {name: self._world.files[name] for name in names}
            except KeyError:
                raise _refused() from None

        return self._ask(read)

    def create(self, name: str, content: bytes) -> None:
        def create() -> None:
            # Who finds its very own content has been there before: so the store tells it, too.
            if self._world.files.setdefault(name, content) != content:
                raise LedgerTakenError("taken")

        self._ask(create)

    def delete(self, name: str) -> None:
        self._ask(lambda: self._world.files.pop(name, None))

    def _ask(self, request: Callable[[], Any]) -> Any:
        fault = _stop()
        if fault == "refused":
            raise _refused()
        if fault == "lands late":
            self._world.late.append(request)
            _stop()
            raise _refused()
        answer: Any = None
        error: LedgerError | None = None
        try:
            answer = request()
        except LedgerError as refusal:
            error = refusal
        # The answer takes its time as well.
        _stop()
        if fault == "answer lost":
            raise _refused()
        if error:
            raise error
        return answer


def _stop() -> str:
    return getcurrent().parent.switch("in a request")


def _refused() -> LedgerPlaceError:
    error = LedgerPlaceError("refused")
    error.permanent = False
    return error


@dataclass
class Writer:
    """A process that takes the lease, works under it, and begins anew when it is done or dead."""

    world: World
    clock_offset: float
    wall_offset: timedelta
    make_lease: Callable[..., Lease] = Lease
    #: The last moment at which it might have sent a request that can still be on its way.
    last_sent: float = field(default=-1e9, init=False)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start as a new process."""
        self.lease: Lease | None = None
        self._life = greenlet(self._live)
        self._at = self._life.switch()

    def go_on(self, step: Step) -> None:
        if step.action == "crash":
            self.begin()
            return
        fault = step.fault
        for _ in range(step.stops):
            self._at = self._life.switch(step.action if self._at == "holding" else fault)
            fault = "none"
            if self._life.dead:
                self.begin()
            if self._at == "waiting":
                return

    def holds(self) -> bool:
        """Whether the check before a request would pass now."""
        return self.lease is not None and not self.lease.lost

    def note_sending(self) -> None:
        """Take it to have sent requests for as long as its lease, as it knows it, has allowed that."""
        if self.lease is not None and not self.lease._lost_since:
            until = self.lease._valid_until - self.clock_offset - self.lease._terms.longest_flight
            self.last_sent = max(self.last_sent, min(self.world.now, until))

    def _live(self) -> None:
        lease = self.make_lease(
            SimStore(self.world),
            {"writer": id(self)},
            LeaseTerms(SECONDS, FLIGHT),
            pause=lambda _: getcurrent().parent.switch("waiting"),
            clock=lambda: self.world.now + self.clock_offset,
            wall=lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.world.now) + self.wall_offset,
            key=self.world.key,
        )
        try:
            lease.take()
        except LedgerPlaceError:
            return
        # From here on it may send, also while a renewal is on its way in the other thread.
        self.lease = lease
        while not lease.lost:
            action = getcurrent().parent.switch("holding")
            if action == "renew":
                try:
                    lease.renew()
                except LedgerPlaceError:
                    continue
            elif action == "release":
                # Whoever releases has had all its answers.
                self.lease, self.last_sent = None, -1e9
                lease.release()
                return
            elif action == "keep":
                self.lease, self.last_sent = None, -1e9
                with suppress(LedgerError):
                    self.world.key = lease.keep_for_heir(20.0)
                return


def run(steps: Sequence[Step], writers: list[Writer], world: World) -> int:
    """Take the steps and make sure after each that nobody may write at the same time as another, or too soon after.

    :returns: how often the lease changed hands.
    :raises AssertionError: where two may.
    """
    holders: list[Writer] = []
    changes = 0
    for step in steps:
        world.now += step.pause
        for writer in writers:
            writer.note_sending()
        if step.fault == "lands late" and world.late:
            _land(world.late.pop(0))
        writers[step.writer % len(writers)].go_on(step)
        now_holding = [writer for writer in writers if writer.holds()]
        assert len(now_holding) <= 1, "two hold it"
        for holder, other in itertools.product(now_holding, writers):
            if other is not holder:
                assert world.now >= other.last_sent + FLIGHT, "another's request may still land"
        changes += bool(now_holding) and now_holding != holders
        holders = now_holding or holders
    return changes


def _land(request: Callable[[], None]) -> None:
    with suppress(LedgerError):
        request()
