"""Searches: many random histories, whole or with a rule switched off."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model import virtual
from tests.model.machine import Focus, Histories
from tests.model.rules import FOCUS, SWITCHES
from tests.model.world import watched_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS = 7


@dataclass(frozen=True)
class Found:
    """What a search came to.

    :param sequences: that were tried.
    :param broken: the first of them that broke a promise; 0 for none.
    :param told: the history that did, step by step, and the promise; empty for none.
    :param seconds: of processor time.
    """

    sequences: int
    broken: int
    told: str
    seconds: float


@contextmanager
def in_the_model() -> Iterator[None]:
    """Prepare a process for histories, and clean up behind it."""
    before = tempfile.tempdir
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    tempfile.tempdir = tempfile.mkdtemp(prefix="model-", dir=memory)
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    cores = pa.cpu_count()
    pa.set_cpu_count(1)
    try:
        with virtual.on_the_models_clock(), watched_ledger(lambda: Histories.world):
            yield
    finally:
        pa.set_cpu_count(cores)
        logging.disable(disabled)
        shutil.rmtree(tempfile.tempdir, ignore_errors=True)
        tempfile.tempdir = before


def search(
    sequences: int, *, seed: int, without: str = "", focus: str = "", shrink: bool = True, steps: int = STEPS
) -> Found:
    """Try random histories until one breaks a promise.

    :param sequences: how many to try.
    :param seed: that the choices follow from.
    :param without: a rule to switch off.
    :param focus: a rule whose rare faults to lean to.
    :param shrink: whether to look for the shortest history that breaks it.
    :param steps: of one history, about.
    """
    chosen = settings(
        max_examples=sequences,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=False,
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
    )
    Histories.begun = Histories.broken = 0
    Histories.focus = FOCUS.get(focus, Focus())
    Histories._hypothesis_internal_use_seed = seed
    began, told = time.process_time(), ""
    with in_the_model(), SWITCHES[without]() if without else nullcontext():
        try:
            run_state_machine_as_test(Histories, settings=chosen, _min_steps=2)
        except Exception as error:  # noqa: BLE001 - whatever the machine found is told
            told = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
    Histories.focus = Focus()
    return Found(Histories.broken or Histories.begun, Histories.broken, _steps_of(told), time.process_time() - began)


@dataclass(frozen=True)
class Hole:
    """What a search with a rule switched off came to, and the same search with the rule on.

    :param off: without the rule.
    :param on: with it, as many sequences of the same seed.
    """

    off: Found
    on: Found


def search_hole(rule: str, sequences: int, *, seed: int, steps: int = STEPS) -> Hole:
    """Search with a rule switched off, and with it on.

    :param rule: of :data:`~tests.model.rules.SWITCHES`.
    :param sequences: most that are tried.
    """
    off = search(sequences, seed=seed, without=rule, focus=rule, shrink=False, steps=steps)
    return Hole(off, search(off.sequences, seed=seed, focus=rule, shrink=False, steps=steps))


def _steps_of(told: str) -> str:
    return re.sub(r"\n+", "\n", told)
