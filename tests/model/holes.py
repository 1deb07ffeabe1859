"""For each rule a short history that breaks a promise without it. Most were found by the search and then cut down."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from tests.model import people
from tests.model.machine import Histories, Violation
from tests.model.meta import Manners
from tests.model.rules import SWITCHES
from tests.model.world import DAY, LATEST, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.model.world import Writer


class History:
    """A history told step by step, of a machine that makes no choices."""

    def __init__(self, manners: Manners = Manners(), strangers: tuple[str, ...] = ()) -> None:  # noqa: B008 - frozen
        self.machine = Histories()
        self.machine.open_audience(manners, strangers, None, [frozenset({"c"})])

    def run(self, work: str, names: str, *faults: Fault, batch_size: int = 2) -> Writer:
        """Run a task to its end."""
        task = self.machine.new_task(work, batch_size, from_file=True)
        return self.machine.go(task, frozenset(names.split()), list(faults))

    def begin(self, work: str, names: str, seconds: float, *faults: Fault) -> None:
        """Let a task begin, and leave it at work after some seconds."""
        self.machine.begin(work, frozenset(names.split()), 1, list(faults), from_file=True, seconds=seconds)

    def retry(self, names: str) -> None:
        """Try the last one that failed once more."""
        self.machine.retry(same=False, names=frozenset(names.split()), faults=[])


def _request(nth: int, how: str, seconds: float = 0.0, *, lasting: bool = False) -> Fault:
    return Fault("request", nth, how, seconds, lasting)


def l2() -> None:
    history = History()
    history.run("upload", "a")
    history.run("upload", "b")


def l3() -> None:
    History().run("delta", "a")


def l4() -> None:
    history = History()
    history.run("delta", "a b", _request(2, "crash before"), batch_size=1)
    history.run("delta", "c")


def l5() -> None:
    history = History()
    history.run("delta", "a b")
    history.run("remove", "a")
    history.run("delta", "a b")


def l6_age() -> None:
    history = History(Manners(links=(people.LINK,)))
    history.run("delta", "c 2")
    history.run("delta", "c")
    history.machine.wait(8 * DAY)
    history.run("delta", "c")


def l6_retention() -> None:
    history = History()
    history.run("delta", "a b")
    history.machine.let_meta("retention", frozenset())
    history.machine.let_meta("drop out", frozenset({"a"}))
    history.run("delta", "a b")


def l7() -> None:
    history = History()
    history.run("upload", "x")
    history.run("upload", "a")
    history.run("delta", "b", _request(1, "crash before"))
    history.machine.lose_an_entry(1)
    history.run("delta", "c")


def l8() -> None:
    history = History()
    history.begin("delta", "a", 6.0, _request(1, "freeze", 20.0))
    history.run("delta", "c")
    history.machine.finish_all()


def l8_check() -> None:
    history = History()
    history.begin("delta", "a b", 60.0, _request(1, "freeze after", 2000.0))
    history.run("delta", "c")
    history.machine.finish_all()


def l8_copy() -> None:
    history = History()
    history.begin("delta", "a b", 60.0, _request(1, "freeze", 2000.0))
    history.run("delta", "c")
    history.machine.finish_all()


def l8_copys_age() -> None:
    history = History()
    history.begin("delta", "a b", 60.0, _request(1, "freeze late", 2000.0))
    history.run("delta", "c")
    [sleeper] = history.machine.world.live()
    history.machine.world.finish(sleeper)
    history.run("delta", "c")
    history.machine.wait(3600.0)


def l9() -> None:
    history = History()
    history.run("delta", "a1")
    history.run("delta", "a2", _request(1, "late", 20.0))
    history.machine.wait(3600.0)


def l9_lease() -> None:
    history = History()
    history.run("upload", "a", _request(1, "late", LATEST, lasting=True))
    history.run("delta", "c")
    history.machine.wait(3600.0)


def l10_fingerprint() -> None:
    history = History()
    history.run("delta", "a", _request(1, "crash before"))
    history.retry("b")


def l10_replay() -> None:
    history = History()
    history.run("delta", "a b", _request(2, "crash before"), batch_size=1)
    history.retry("a b")


def l11() -> None:
    History(strangers=("s",)).run("delta", "a")


def s1() -> None:
    history = History()
    history.run("delta", "a1")
    history.run("delta", "a2")


def s3() -> None:
    history = History()
    history.run("delta", "a a1")
    history.run("delta", "a")


def s4() -> None:
    history = History()
    history.run("delta", "a a1")
    history.run("delta", "a", _request(1, "lag", LATEST))
    history.run("delta", "a")


def s5() -> None:
    history = History(Manners(minimum=1))
    history.run("delta", "a1")
    history.run("delta", "b1 c")


def s6() -> None:
    history = History(Manners(blocks=False))
    history.run("replace", "a b", _request(1, "crash after"), batch_size=1)
    history.run("delta", "c")
    history.machine.wait(DAY)


def s6_done() -> None:
    History(Manners(replace_seconds=200.0)).run("replace", "a")


def s7() -> None:
    history = History()
    history.run("delta", "a")
    history.run("delta", "", batch_size=1)


HOLES: dict[str, Callable[[], None]] = {
    "L2": l2,
    "L3": l3,
    "L4": l4,
    "L5": l5,
    "L6": l5,
    "L6 age": l6_age,
    "L6 retention": l6_retention,
    "L7": l7,
    "L8": l8,
    "L8 check": l8_check,
    "L8 copy": l8_copy,
    "L8 copy's age": l8_copys_age,
    "L9": l9,
    "L9 lease": l9_lease,
    "L10 fingerprint": l10_fingerprint,
    "L10 replay": l10_replay,
    "L11": l11,
    "L12": l3,
    "S1": s1,
    "S2": s1,
    "S3": s3,
    "S4": s4,
    "S5": s5,
    "S6": s6,
    "S6 done": s6_done,
    "S7": s7,
}


def broken_by(rule: str, *, off: bool) -> str:
    """Tell a rule's history and return the promise that was broken; empty for none.

    :param rule: of :data:`HOLES`.
    :param off: whether to switch the rule off.
    """
    with SWITCHES[rule]() if off else nullcontext():
        try:
            HOLES[rule]()
        except Violation as violation:
            return str(violation)
        finally:
            Histories.world.close()
    return ""
