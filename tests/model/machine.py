"""The state machine: every kind of task, and whatever may come between, in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from airflow_provider_fbca.exceptions import FbcaError
from airflow_provider_fbca.sync import STRATEGIES
from tests.model import people
from tests.model.meta import Manners
from tests.model.world import DAY, LATEST, Fault, World

if TYPE_CHECKING:
    from tests.model.world import Task, Writer

#: Seconds after which nothing that a dead or failed task had sent is on its way.
CALM = 100.0

names = st.frozensets(st.sampled_from(sorted(people.PEOPLE)), max_size=4)
works = st.sampled_from(["upload", "remove", *STRATEGIES, "delta", "delta"])
batch_sizes = st.sampled_from([1, 2, 100])
moments = st.sampled_from([1.0, 20.0, LATEST])
request_faults = st.builds(
    Fault,
    place=st.just("request"),
    nth=st.integers(1, 4),
    how=st.sampled_from(["crash before", "crash after", "crash late", "lost", "landed", "late", "refused", "lag"]),
    seconds=moments,
    lasting=st.booleans(),
)
write_faults = st.builds(
    Fault, place=st.just("write"), nth=st.integers(1, 6), how=st.sampled_from(["crash before", "crash after", "refused"])
)
read_faults = st.builds(
    Fault, place=st.just("read"), nth=st.integers(1, 5), how=st.sampled_from(["crash before", "crash after", "lost"])
)
faults = st.lists(st.one_of(request_faults, request_faults, write_faults, read_faults), max_size=2)


class Violation(AssertionError):  # noqa: N818 - what the machine looks for
    """A promise was broken."""


class Histories(RuleBasedStateMachine):
    """Histories of one audience."""

    #: The world of the history that runs, for the ledger's stand-ins to find.
    world: World
    #: How many histories there were so far, and how many at the first that broke a promise.
    begun = 0
    broken = 0

    def __init__(self) -> None:
        super().__init__()
        Histories.begun += 1
        self.failed: Task | None = None
        type(self).world = self.world = World()

    @initialize(
        links=st.booleans(),
        blocks=st.booleans(),
        replace_seconds=st.sampled_from([5.0, 200.0]),
        late_status=st.sampled_from([0.0, 3.0]),
        strangers=st.sampled_from([(), (), (), ("s",), ("s", "sx")]),
    )
    def open_audience(self, links: bool, strangers: tuple[str, ...], **manners: Any) -> None:
        self.world.close()
        type(self).world = self.world = World(Manners(links=(people.LINK,) if links else (), **manners), strangers)

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.world.close()

    # -- what may happen ---------------------------------------------------------------------------------------------

    @rule(work=works, names=names, batch_size=batch_sizes, faults=faults, allow_empty=st.sampled_from([True, True, False]))
    def run(self, work: str, names: frozenset[str], batch_size: int, faults: list[Fault], allow_empty: bool) -> None:
        self.go(self.new_task(work, batch_size, allow_empty=allow_empty), names, faults)

    @precondition(lambda self: self.failed)
    @rule(same=st.booleans(), names=names, faults=faults)
    def retry(self, same: bool, names: frozenset[str], faults: list[Fault]) -> None:
        task = self.failed
        before = next(each for each in reversed(self.world.writers) if each.task is task)
        self.go(task, before.names if same else names, faults)

    @precondition(lambda self: any(each.kind == "refresh" for each in self.world.tasks))
    @rule(which=st.integers(0, 3), names=names, faults=faults)
    def clear(self, which: int, names: frozenset[str], faults: list[Fault]) -> None:
        refreshes = [each for each in self.world.tasks if each.kind == "refresh"]
        self.go(refreshes[which % len(refreshes)], names, faults)

    @rule(seconds=st.sampled_from([1.0, 60.0, 3600.0, DAY, 8 * DAY]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)
        self.check()

    @rule(people=st.sampled_from([0, 1, 2, 3]))
    def keep_at_least(self, people: int) -> None:
        manners = self.world.meta.manners
        self.world.meta.manners = Manners(**vars(manners) | {"minimum": people})

    @precondition(lambda self: not self.world.meta.retention_days)
    @rule()
    def let_people_drop_out_after_30_days(self) -> None:
        self.world.meta.retention_days = 30

    @precondition(lambda self: self.world.meta.retention_days and self.world.meta.rows)
    @rule(names=names)
    def drop_out(self, names: frozenset[str]) -> None:
        self.world.drop_out(names)

    @precondition(lambda self: "replace" in STRATEGIES)
    @rule()
    def let_the_next_replace_fail(self) -> None:
        self.world.meta.fail_next = True

    @precondition(lambda self: self.world.named_entries())
    @rule(which=st.integers(0, 3))
    def lose_an_entry(self, which: int) -> None:
        self.world.wait(CALM)
        named = sorted(self.world.named_entries())
        if named:
            self.world.lose(named[which % len(named)])

    # -- how ---------------------------------------------------------------------------------------------------------

    def new_task(self, work: str, batch_size: int, *, allow_empty: bool) -> Task:
        options: dict[str, Any] = {"batch_size": batch_size}
        if work in STRATEGIES:
            options |= {"strategy": work, "allow_empty": allow_empty}
        return self.world.task("refresh" if work in STRATEGIES else work, **options)

    def go(self, task: Task, names: frozenset[str], faults: list[Fault]) -> Writer:
        """Run one try to its end, and see what it promises."""
        world = self.world
        sent, marked = len(world.shadow.entries), world.meta.rows.copy()
        writer = world.begin(task, names, faults)
        world.finish(writer)
        self.failed = None if writer.succeeded else task
        refused = writer.counts["request"] == 0 and isinstance(writer.error, FbcaError)
        del sent, marked, refused
        self.check()
        if not writer.succeeded:
            world.wait(CALM)
        self.check()
        return writer

    def settle(self) -> None:
        """See that a quiet refresh succeeds after all, and that it gives what its query does."""
        world = self.world
        if world.violations:
            return
        world.wait(2 * 3600.0)
        self.keep_at_least(0)
        world.meta.fail_next = False
        self.check()
        for names in (frozenset({"a", "b1", "c"}), frozenset({"a1", "b1", "2"})):
            work = "replace" if (world.lost or world.strangers or world.tainted) else "delta"
            if work not in STRATEGIES:
                return
            writer = self.go(self.new_task(work, 2, allow_empty=True), names, [])
            if not writer.succeeded:
                world.violations.append(f"a refresh by {work} without any fault failed: {writer.error}")
            world.wait(600.0)
            self.check()

    def check(self) -> None:
        if self.world.violations:
            Histories.broken = Histories.broken or Histories.begun
            raise Violation("; ".join(self.world.violations))
