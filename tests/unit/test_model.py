"""The model of an audience's histories: a few of them, and for each rule the hole that it closes."""

from __future__ import annotations

import pytest

from tests.model.holes import HOLES, History, broken_by
from tests.model.rules import SWITCHES
from tests.model.search import in_the_model, search
from tests.model.world import Fault


def test_no_history_breaks_a_promise():
    found = search(60, seed=4)
    assert not found.told
    assert found.sequences >= 60


@pytest.fixture
def model():
    with in_the_model():
        yield


@pytest.mark.parametrize("rule", SWITCHES)
def test_each_rule_closes_a_hole(model, rule):
    assert broken_by(rule, off=False) == ""
    assert broken_by(rule, off=True)


def test_l10_the_first_task_of_an_audience_resumes(model):
    history = History()
    history.run("delta", "a b", Fault("request", 2, "crash before"), batch_size=1)
    history.retry("a b")
    [_, retry] = history.machine.world.writers
    assert retry.succeeded
    assert retry.opened.startswith("0000000001-")


def test_every_switch_has_its_history():
    assert HOLES.keys() == SWITCHES.keys()
