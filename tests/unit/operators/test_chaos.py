"""Kills at every request and between all writes, and what a later run makes of them.

Whatever was killed, and however often: the refresh that comes to its end leaves the audience equal to its query's rows,
and at no instant is a person in the audience whom the ledger does not know.
"""

from __future__ import annotations

import os
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from operator_tools import KILLS, killed, sha
from witness import as_members, person, query

from airflow_provider_fbca.graph.retry import RetryPolicy
from airflow_provider_fbca.operators import journal
from airflow_provider_fbca.sandbox.testing import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from witness import Person

REFRESHES = ("delta", "delete_insert", "replace")
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "upload": ("upload", {}),
    "remove": ("remove", {}),
    **{strategy: ("refresh", {"strategy": strategy}) for strategy in REFRESHES},
}
#: Longer than a request lives, and shorter than a lease.
LATE_SECONDS = 80
#: Longer than Meta needs for anything.
SETTLED_SECONDS = 3 * 3600


@pytest.fixture
def late(sandbox: Any) -> Callable[[], None]:
    """Lets the next request land when whoever sent it is long dead; for a child, by a connection of its own."""
    return lambda: Sandbox(sandbox.url).fault("drop", when="late", lands_after=LATE_SECONDS)


def test_the_witness_sees_who_is_in_and_in_no_open_entry(run, sandbox, audience, witness, ledger_folder):
    run("refresh", query([person("a")]))
    run("upload", query([person("b")]))
    run("remove", query([person("c")]))
    assert witness.seen == []
    sandbox.seed(audience, [{"EMAIL": sha("c@example.com")}])
    sandbox.audience(audience)
    assert set(witness.seen) == {"after _apply: 1 unknown", "before tick: 1 unknown", "after tick: 1 unknown"}
    run("refresh", query([person("a")]), strategy="replace")
    witness.seen.clear()
    sandbox.audience(audience)
    assert witness.seen == []
    for path in ledger_folder.rglob("*.open.json"):
        path.unlink()
    sandbox.audience(audience)
    assert witness.seen
    witness.seen.clear()


# -- every place of a small case -------------------------------------------------------------------------------------

#: Whoever leaves shares a phone number with somebody who stays, so that the latter is added again.
SHARED = {"a": 1, "d": 1, "i": 2, "h": 2}
OLD, NEW, OTHER = ([person(name, SHARED.get(name)) for name in names] for names in ("abcdef", "defghi", "aehjk"))
SMALL = {"batch_size": 2, "max_concurrency": 1}
PLACES = ("request before", "request flying", "request after", "write half", "write after")
#: Taking the lease and giving it back (two files and a deletion), rows, open, settled; a session and a note for each
#: step; and with removals first a deletion of the note, with superseded entries one of their rows.
FEWEST_WRITES = {"upload": 8, "remove": 8, "delta": 13, "delete_insert": 12, "replace": 9}
#: Looking at the audience, and batches.
FEWEST_REQUESTS = {"upload": 4, "remove": 4, "delta": 5, "delete_insert": 7, "replace": 5}
#: Batches alone.
FEWEST_SENDING = {"upload": 3, "remove": 3, "delta": 4, "delete_insert": 6, "replace": 3}


@pytest.mark.kills
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("task", "thens"),
    [
        *((task, REFRESHES) for task in TASKS if task != "replace"),
        # What a replace leaves in the air is of another kind for each that comes after it.
        *(("replace", (then,)) for then in REFRESHES),
    ],
    ids=lambda value: "any" if value == REFRESHES else value if isinstance(value, str) else value[0],
)
def test_l4_s6_a_kill_at_any_place_of_any_task_is_made_good_by_the_next_refresh(
    run, in_audience, history, sandbox, witness, late, task, thens, place
):
    kind, options = TASKS[task]
    run("refresh", query(OLD), **SMALL)
    nth = 1
    while killed(place, nth, lambda: run(kind, query(NEW), **SMALL, **options), late=late):
        then, rows = thens[nth % len(thens)], (OLD, OTHER)[nth % 2]
        run("refresh", query(rows), strategy=then, **SMALL)
        assert in_audience() == as_members(rows), (place, nth, then)
        sandbox.advance(SETTLED_SECONDS)
        assert in_audience() == as_members(rows), (place, nth, then)
        assert len(history().exposure) == 1
        nth += 1
    fewest = FEWEST_REQUESTS if place.startswith("request") else FEWEST_WRITES
    assert len(KILLS) == nth - 1 >= fewest[task] - (place == "write half") * 4
    if kind == "refresh":
        assert in_audience() == as_members(NEW)
    sandbox.advance(SETTLED_SECONDS)
    run("refresh", query(OTHER), **SMALL)
    assert in_audience() == as_members(OTHER)


@pytest.mark.kills
@pytest.mark.parametrize("task", TASKS)
def test_a_kill_in_a_wait_for_a_rate_limit_is_made_good_by_a_retry_and_by_the_next_refresh(
    run, in_audience, history, sandbox, witness, no_waits, tmp_path, task
):
    kind, options = TASKS[task]
    file = tmp_path / "users.parquet"
    asked = {"users_uri": f"file://{file}"} | options | SMALL
    limit = {"code": 80003, "subcode": 2446079, "is_transient": False, "status": 400}
    for nth in range(1, FEWEST_SENDING[task] + 1):
        run("refresh", query(OLD), **SMALL)
        pq.write_table(query(NEW), file)
        # Two in a row: the second is met by a batch that has waited before.
        sandbox.fault("graph", path="/users", nth=nth, count=2, **limit)
        assert killed("wait midst", 1 + nth % 2, lambda: run(kind, **asked))
        sandbox.clear_faults()
        if nth % 2:
            run(kind, **asked)
            if kind == "refresh":
                assert in_audience() == as_members(NEW), nth
        run("refresh", query(OTHER), strategy=REFRESHES[nth % 3], **SMALL)
        assert in_audience() == as_members(OTHER), nth
        sandbox.advance(SETTLED_SECONDS)
        assert in_audience() == as_members(OTHER), nth
        assert len(history().exposure) == 1


# -- any place of a larger one ---------------------------------------------------------------------------------------

#: Kills in all, and the first of the seeds.
WANTED = int(os.environ.get("FBCA_CHAOS_KILLS", "100"))
FIRST_SEED = int(os.environ.get("FBCA_CHAOS_SEED", "0"))
HISTORIES = 5
LARGE = {"batch_size": 30, "max_concurrency": 3}
MOST_REQUESTS, MOST_WRITES = 14, 28


class Chaos:
    """One random history of an audience.

    :param seed: of all that is random but the order of concurrent requests.
    """

    def __init__(self, seed: int, sandbox: Any, file: Path) -> None:
        self.random = random.Random(seed)
        self._sandbox = sandbox
        self._file = file
        self.told: list[str] = [f"seed {seed}"]
        # Every third has no phone number, and some share one.
        self._everyone = [
            person(f"p{number}", self.random.randrange(250) if number % 3 else None) for number in range(300)
        ]
        self.rows: list[Person] = []
        # Where Meta links people whom we cannot, only a full send reaches all who stay (S8).
        self._full = {"resend_all_days": 0} if self.random.random() < 0.5 else {}
        if self._full:
            self._link()
        self.sandbox_does(
            replace_seconds=self.random.choice([0, 1, 60, 1000]),
            replace_shows_after_seconds=self.random.choice([0, 30, 10**6]),
        )
        if seed % 2:
            self.sandbox_does(fault_ratio=0.05, fault_seed=seed)

    def sandbox_does(self, **switches: Any) -> None:
        self.told.append(f"sandbox {switches}")
        self._sandbox.change(**switches)

    def _link(self) -> None:
        for _ in range(10):
            self._sandbox.link(*({"EMAIL": sha(email)} for email, _ in self.random.sample(self._everyone, 2)))

    def other_rows(self) -> None:
        """Let the query give other rows, most of them as before."""
        everyone, few = self._everyone, self.random.random() < 0.7
        kept = [each for each in self.rows if self.random.random() < 0.9] if few else []
        self.rows = list({*kept, *self.random.sample(everyone, 40 if kept else self.random.randint(100, 250))})
        pq.write_table(query(self.rows), self._file)

    def task(self, *names: str) -> tuple[str, dict[str, Any]]:
        """Choose a task by one of the names in :data:`TASKS`."""
        kind, options = TASKS[self.random.choice(names)]
        return kind, options | LARGE | (self._full if options.get("strategy") == "delta" else {})

    def place(self) -> tuple[str, int]:
        place = self.random.choice([*PLACES, "write before"])
        return place, self.random.randint(1, MOST_REQUESTS if place.startswith("request") else MOST_WRITES)


@pytest.mark.kills
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + HISTORIES))
def test_any_history_of_kills_and_retries_is_made_good_by_the_next_refresh(
    run, in_audience, sandbox, witness, late, tmp_path, monkeypatch, seed
):
    monkeypatch.setattr(
        "airflow_provider_fbca.graph.api.RetryPolicy", partial(RetryPolicy, sleep=lambda _seconds: None)
    )
    # Each batch is noted, as in a run that is slow, so that retries go on in the middle of a step.
    monkeypatch.setattr(journal, "_NOTE_SECONDS", -1.0)
    file = tmp_path / "users.parquet"
    chaos = Chaos(seed, sandbox, file)

    def execute(kind: str, options: dict[str, Any]) -> None:
        run(kind, users_uri=f"file://{file}", **options)

    def is_killed(kind: str, options: dict[str, Any]) -> bool:
        place, nth = chaos.place()
        dead = killed(place, nth, lambda: execute(kind, options), late=late)
        chaos.told.append(f"{kind} {options.get('strategy', '')} of {len(chaos.rows)}: {place} {nth}, killed {dead}")
        return dead

    chaos.other_rows()
    execute(*chaos.task(*REFRESHES))
    while len(KILLS) < WANTED / HISTORIES:
        # Tasks that die, some of them again and again: retries of the same, which resume, and others.
        chaos.other_rows()
        task = chaos.task(*TASKS)
        while is_killed(*task) and chaos.random.random() < 0.7:
            if chaos.random.random() < 0.6:
                chaos.other_rows()
                task = chaos.task(*TASKS)
        # The last of them tries once more, or another refresh follows.
        if task[0] != "refresh" or chaos.random.random() < 0.6:
            chaos.other_rows()
            task = chaos.task(*REFRESHES)
        execute(*task)
        chaos.told.append(f"{task[1]['strategy']} of {len(chaos.rows)}")
        history = "\n".join(chaos.told)
        assert in_audience() == as_members(chaos.rows), history
        sandbox.advance(SETTLED_SECONDS)
        assert in_audience() == as_members(chaos.rows), history
        assert witness.seen == [], history
