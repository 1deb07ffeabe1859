"""Tasks under a real scheduler are killed at random moments: nobody is ever in an audience whom the ledger forgot.

Each round gives every audience new rows and lets the first tries of its refresh die, one at each moment that is drawn.
A moment is a boundary of a request to Meta or of a write to the ledger (see ``kill_switch.py``).
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from people import Person, person
from stage import Case, Kind, Stage, staged

from airflow_provider_fbca.sync import STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

KILLS = 30
_ROUNDS = 12
_ROUND_SECONDS = 240
#: Tries of a run that may be killed; the one after them lives, where the task has a retry left.
_DEATHS = 2
#: Where the first of all kills strikes: when Meta knows of a change that the ledger has not noted as done.
_FIRST = {"delta": "after POST users", "delete_insert": "after DELETE users", "replace": "after POST usersreplace"}
#: Some tasks are retried, with a try to spare for a lease lost on a busy machine, and some leave it to the next run to
#: make good what they left.
KINDS = {
    f"{strategy}_{name}": Kind(options={"strategy": strategy, "retries": retries})
    for strategy in STRATEGIES
    for name, retries in (("retried", _DEATHS + 1), ("once", 0))
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("kills")
    with staged(folder, "postgres", KINDS, parallel=len(KINDS), lease_seconds=9) as found:
        yield found


def test_every_refresh_after_killed_tasks_leaves_the_audience_equal_to_its_query(stage: Stage) -> None:
    dice = random.Random(20261122)
    cases = [stage.cases[name] for name in KINDS]
    kills: Counter[tuple[str, str]] = Counter()
    _run_all(stage, cases, dice, kills)
    assert not kills
    _run_all(stage, cases, dice, kills, lambda case: [_FIRST[_strategy(case)]])
    assert set(kills) == set(_FIRST.items())
    for _ in range(_ROUNDS):
        if kills.total() >= KILLS:
            break
        _run_all(stage, cases, dice, kills, lambda case: dice.choices(range(1, case.deaths.moments + 1), k=_DEATHS))
    total = kills.total()
    _run_all(stage, cases, dice, kills)
    assert kills.total() == total >= KILLS, kills


def _run_all(
    stage: Stage,
    cases: list[Case],
    dice: random.Random,
    kills: Counter[tuple[str, str]],
    deaths_of: Callable[[Case], Sequence[int | str]] | None = None,
) -> None:
    """Run every case once with new rows, kill whoever is to die, and check what is left in the end.

    :param kills: (strategy, moment) of each kill; added to.
    :param deaths_of: gives the moments at which the tries of a run are to die; none does without it.
    """
    runs: dict[str, str] = {}
    for case in cases:
        case.fill(*_people(dice))
        case.deaths.plan(*(deaths_of(case) if deaths_of else ()))
        runs[case.dag_id] = stage.airflow.trigger(case.dag_id)

    def ended() -> bool:
        for case in cases:
            if moment := case.deaths.dying():
                _assert_everybody_is_known(stage, case)
                case.deaths.kill()
                kills[_strategy(case), moment] += 1
        states = [stage.airflow.state(dag_id, run_id) for dag_id, run_id in runs.items()]
        return all(state in {"success", "failed"} for state in states)

    stage.airflow.wait_for(ended, "the runs to end", _ROUND_SECONDS)
    for case in cases:
        _assert_everybody_is_known(stage, case)
        if stage.airflow.state(case.dag_id, runs[case.dag_id]) == "success":
            stage.assert_equal(case)
            assert len(stage.outstanding(case)) == 1, stage.airflow.last_words()
        else:
            assert deaths_of, stage.airflow.last_words()
            assert KINDS[case.dag_id].options["retries"] == 0, stage.airflow.last_words()


def _strategy(case: Case) -> str:
    return str(KINDS[case.dag_id].options["strategy"])


def _people(dice: random.Random) -> list[Person]:
    """Draw about twelve people out of thirty; some of them have moved, so that their rows are others."""
    drawn = [person(number) for number in dice.sample(range(600, 630), dice.randint(9, 14))]
    return [one.moved_to(city="Shelbyville") if dice.random() < 0.3 else one for one in drawn]


def _assert_everybody_is_known(stage: Stage, case: Case) -> None:
    # What the ledger knows is read first: it may forget people while this looks, once they are out.
    known = stage.known(case)
    assert set(stage.held(case)) <= known, f"{case.dag_id}: somebody is in whom the ledger does not know"
