"""The state machine: every kind of task, and whatever may come between, in any order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from airflow_provider_fbca.exceptions import GraphBusyError
from airflow_provider_fbca.sync import STRATEGIES
from tests.model import people
from tests.model.meta import Manners
from tests.model.world import DAY, LATEST, Fault, World

if TYPE_CHECKING:
    from tests.model.world import Task, Writer

MOST_AT_ONCE = 2

names = st.frozensets(st.sampled_from(sorted(people.PEOPLE)), max_size=4)
some_names = st.frozensets(st.sampled_from(sorted(people.PEOPLE)), min_size=1, max_size=4)
refreshes = st.sampled_from(["delta", "delta", "delta", *STRATEGIES])
batch_sizes = st.sampled_from([1, 2, 100])
moments = st.sampled_from([1.0, 20.0, LATEST])
sleeps = st.sampled_from([20.0, 200.0, 2000.0])
request_faults = st.builds(
    Fault,
    place=st.just("request"),
    nth=st.integers(1, 4),
    how=st.sampled_from(
        ["crash before", "crash after", "crash late", "lost", "landed", "late", "late", "refused", "lag"]
    ),
    seconds=moments,
    lasting=st.sampled_from([False, False, True]),
)
write_faults = st.builds(
    Fault,
    place=st.just("write"),
    nth=st.integers(1, 8),
    how=st.sampled_from(["crash before", "crash after", "refused"]),
)
read_faults = st.builds(
    Fault,
    place=st.just("read"),
    nth=st.integers(1, 6),
    how=st.sampled_from(["crash before", "crash after", "lost", "refused"]),
)
lease_faults = st.builds(
    Fault,
    place=st.just("lease"),
    nth=st.integers(1, 5),
    how=st.sampled_from(["crash before", "crash after", "freeze"]),
    seconds=sleeps,
)
freezes = st.builds(
    Fault,
    place=st.sampled_from(["request", "request", "read", "write"]),
    nth=st.integers(1, 6),
    how=st.sampled_from(["freeze", "freeze", "freeze after", "freeze late"]),
    seconds=sleeps,
)
a_fault = st.one_of(request_faults, request_faults, request_faults, write_faults, read_faults, lease_faults, freezes)
faults = st.lists(a_fault, max_size=2)
troubles = st.lists(a_fault, min_size=1, max_size=2)


@dataclass(frozen=True)
class Focus:
    """What a search leans to, so that it comes upon rare things sooner.

    :param how: what goes wrong with requests; empty for anything.
    :param seconds: how long, and ``lasting`` whether for good; as it comes where ``how`` is empty.
    :param work: of refreshes in trouble; empty for any.
    :param wait: seconds of each wait; 0 for any.
    :param manners: of Meta.
    :param drops: whether people drop out of the audience.
    """

    how: str = ""
    seconds: float = 0.0
    lasting: bool = False
    work: str = ""
    wait: float = 0.0
    manners: dict[str, Any] = field(default_factory=dict)
    drops: bool = False


class Violation(AssertionError):  # noqa: N818 - what the machine looks for
    """A promise was broken."""


class Histories(RuleBasedStateMachine):
    """Histories of one audience."""

    #: The world of the history that runs, for the ledger's stand-ins to find.
    world: World
    focus = Focus()
    #: How many histories there were so far, and how many at the first that broke a promise.
    begun = 0
    broken = 0

    def __init__(self) -> None:
        super().__init__()
        Histories.begun += 1
        #: The last task that has not succeeded yet.
        self.unfinished: Task | None = None
        self.last: list[frozenset[str]] = []
        type(self).world = self.world = World()

    @initialize(
        manners=st.builds(
            Manners,
            links=st.sampled_from([(), (people.LINK,)]),
            minimum=st.sampled_from([0, 0, 0, 1, 2]),
            blocks=st.booleans(),
            replace_seconds=st.sampled_from([5.0, 200.0]),
            late_status=st.sampled_from([0.0, 3.0]),
        ),
        strangers=st.sampled_from([(), (), (), ("s",), ("s", "sx")]),
        first=st.one_of(st.none(), some_names),
        last=st.lists(some_names, min_size=1, max_size=2),
    )
    def open_audience(
        self,
        manners: Manners,
        strangers: tuple[str, ...],
        first: frozenset[str] | None,
        last: list[frozenset[str]],
    ) -> None:
        self.world.close()
        type(self).world = self.world = World(replace(manners, **self.focus.manners), strangers)
        self.last = last
        if first:
            self.refresh(
                work="replace" if strangers else "delta", names=first, batch_size=2, from_file=True, backfill=False
            )

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.world.close()

    # -- tasks -------------------------------------------------------------------------------------------------------

    @rule(
        work=refreshes,
        names=some_names,
        batch_size=batch_sizes,
        from_file=st.booleans(),
        backfill=st.sampled_from([False, False, True]),
    )
    def refresh(self, work: str, names: frozenset[str], batch_size: int, from_file: bool, backfill: bool) -> None:
        self.go(self.new_task(work, batch_size, from_file, backfill=backfill), names, [])

    @rule(work=refreshes, names=names, batch_size=batch_sizes, faults=troubles, from_file=st.booleans())
    def refresh_in_trouble(
        self, work: str, names: frozenset[str], batch_size: int, faults: list[Fault], from_file: bool
    ) -> None:
        self.go(self.new_task(self.focus.work or work, batch_size, from_file), names, faults)

    @rule(
        work=st.sampled_from(["upload", "remove"]),
        names=names,
        batch_size=batch_sizes,
        faults=faults,
        from_file=st.booleans(),
    )
    def upload_or_remove(
        self, work: str, names: frozenset[str], batch_size: int, faults: list[Fault], from_file: bool
    ) -> None:
        self.go(self.new_task(work, batch_size, from_file), names, faults)

    @rule(
        work=st.sampled_from(["upload", "remove", *STRATEGIES]),
        names=some_names,
        batch_size=batch_sizes,
        faults=faults,
        from_file=st.booleans(),
        seconds=st.sampled_from([0.7, 4.0, 6.0, 9.0, 60.0, 300.0]),
    )
    def begin(
        self, work: str, names: frozenset[str], batch_size: int, faults: list[Fault], from_file: bool, seconds: float
    ) -> None:
        """Let a task begin and leave it at work."""
        if len(self.world.live()) < MOST_AT_ONCE:
            self.unfinished = self.new_task(work, batch_size, from_file)
            self.world.begin(self.unfinished, names, self.focused(faults))
            self.world.wait(seconds)
            self.check()

    @precondition(lambda self: self.unfinished)
    @rule(same=st.booleans(), names=some_names, faults=faults)
    def retry(self, same: bool, names: frozenset[str], faults: list[Fault]) -> None:
        """Try once more what failed or died, or what is frozen and taken for dead."""
        self.go(self.unfinished, self.unfinished.names if same else names, faults)

    @precondition(lambda self: any(each.kind == "refresh" for each in self.world.tasks))
    @rule(which=st.integers(0, 3), names=names, faults=faults)
    def clear(self, which: int, names: frozenset[str], faults: list[Fault]) -> None:
        """Run an earlier refresh again, after newer ones."""
        refreshes = [each for each in self.world.tasks if each.kind == "refresh"]
        self.go(refreshes[which % len(refreshes)], names, faults)

    # -- what comes between ------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([60.0, 3600.0, DAY, 8 * DAY]))
    def wait(self, seconds: float) -> None:
        self.world.wait(self.focus.wait or seconds)
        self.check()

    @rule(what=st.sampled_from(["minimum", "retention", "drop out", "failing replace"]), names=names)
    def let_meta(self, what: str, names: frozenset[str]) -> None:
        """Change Meta's manners, or let people drop out of an audience with retention."""
        meta = self.world.meta
        if self.focus.drops:
            what = "drop out" if meta.retention_days else "retention"
        if what == "minimum":
            meta.manners = replace(meta.manners, minimum=len(names))
        elif what == "retention":
            meta.retention_days = 30
        elif what == "failing replace":
            meta.fail_next = True
        elif meta.retention_days and not self.world.live():
            self.world.drop_out(names)

    @precondition(lambda self: self.world.named_entries())
    @rule(which=st.integers(0, 3))
    def lose_an_entry(self, which: int) -> None:
        """Delete all files of an entry that something names."""
        self.finish_all()
        named = sorted(self.world.named_entries())
        if named:
            self.world.lose(named[which % len(named)])

    # -- how ---------------------------------------------------------------------------------------------------------

    def new_task(self, work: str, batch_size: int, from_file: bool, *, backfill: bool = False) -> Task:
        options: dict[str, Any] = {"batch_size": batch_size}
        if work in STRATEGIES:
            options |= {"strategy": work, "allow_empty": batch_size != 1}
        return self.world.task(
            "refresh" if work in STRATEGIES else work, from_file=from_file, backfill=backfill, **options
        )

    def go(self, task: Task, names: frozenset[str], faults: list[Fault]) -> Writer:
        """Run one try to its end, and see what it promises."""
        world = self.world
        nothing_against = (
            not (faults or world.live() or world.meta.manners.minimum or world.meta.fail_next)
            and not (world.lost or world.strangers or world.tainted or world.unsaid)
            and (names or task.kind != "refresh")
        )
        writer = world.begin(task, names, self.focused(faults))
        world.finish(writer)
        if nothing_against and not writer.succeeded:
            world.violations.append(f"a task without any fault failed: {writer.error}")
        self.check()
        self.unfinished = None if writer.succeeded else task
        return writer

    def focused(self, faults: list[Fault]) -> list[Fault]:
        focus = self.focus
        if not focus.how:
            return faults
        leaning = {"place": "request", "how": focus.how, "seconds": focus.seconds, "lasting": focus.lasting}
        return [replace(each, **leaning, nth=min(each.nth, 3)) for each in faults]

    def finish_all(self) -> None:
        for writer in self.world.live():
            self.world.finish(writer)
        self.world.wait(2 * LATEST)
        self.check()

    def settle(self) -> None:
        """See that a quiet refresh succeeds after all, and that it gives what its query does."""
        world = self.world
        if world.violations:
            return
        self.finish_all()
        world.meta.manners = replace(world.meta.manners, minimum=0)
        world.meta.fail_next = False
        for names in self.last:
            unsaid = world.tainted or world.unsaid
            work = "replace" if world.lost or world.strangers or unsaid else "delta"
            writer = self.go(self.new_task(work, 2, True), names, [])
            if unsaid and isinstance(writer.error, GraphBusyError):
                # A replace that its writer died before it could tell of ends by itself (rule S8).
                world.wait(3600.0)
                writer = self.go(writer.task, names, [])
            if not writer.succeeded:
                world.violations.append(f"a refresh by {work} at the end failed: {writer.error}")
            world.wait(600.0)
            self.check()

    def check(self) -> None:
        if self.world.violations:
            Histories.broken = Histories.broken or Histories.begun
            raise Violation("; ".join(self.world.violations))
