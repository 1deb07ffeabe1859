"""Plans, guards and their execution, apart from ledgers and Meta."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_fbca.exceptions import GuardError, OptionsError, StrangersError
from airflow_provider_fbca.sync import (
    Guards,
    Plan,
    carry_out,
    plan_refresh,
    plan_removal,
    plan_upload,
    refuse_strangers,
)


@dataclass
class FakeRows:
    count: int
    name: str = "rows"

    def batches(self):
        return iter([f"{self.name} of {self.count}"])


@dataclass
class Spy:
    """Journal and sender at once, so that the order of calls between them is seen."""

    fails_at: str = ""
    calls: list[Any] = field(default_factory=list)

    def _call(self, what, *told):
        self.calls.append((what, *told))
        if what == self.fails_at:
            raise ConnectionError(what)

    def open(self):
        self._call("open")

    def settle(self, sent):
        self._call("settle", sent.received, sent.session_ids)

    def add(self, rows, *, total):
        self._call("add", list(rows), total)
        return SimpleNamespace(requests=2, received=7, invalid=1, session_ids=(3, 4))

    def remove(self, rows, *, total):
        self._call("remove", list(rows), total)
        return SimpleNamespace(requests=1, received=5, invalid=2, session_ids=(1,))


REFRESH = plan_refresh(FakeRows(7, "new"), exposure=FakeRows(5, "old"), leaving=2)


def names(spy):
    return [call[0] for call in spy.calls]


def test_open_comes_before_removals_and_these_before_additions_and_settling_is_last():
    spy = Spy()
    sent = carry_out(REFRESH, journal=spy, sender=spy)
    assert spy.calls == [
        ("open",), ("remove", ["old of 5"], 5), ("add", ["new of 7"], 7), ("settle", 12, (1, 3, 4)),
    ]  # fmt: skip
    assert (sent.requests, sent.received, sent.invalid, sent.session_ids) == (3, 12, 3, (1, 3, 4))


@pytest.mark.parametrize(
    ("fails_at", "done"),
    [("open", ["open"]), ("remove", ["open", "remove"]), ("add", ["open", "remove", "add"]),
     ("settle", ["open", "remove", "add", "settle"])],
)  # fmt: skip
def test_nothing_follows_a_failure_and_least_of_all_settling(fails_at, done):
    spy = Spy(fails_at)
    with pytest.raises(ConnectionError):
        carry_out(REFRESH, journal=spy, sender=spy)
    assert names(spy) == done


@pytest.mark.parametrize(
    ("plan", "done"),
    [
        (plan_upload(FakeRows(1)), ["open", "add", "settle"]),
        (plan_upload(FakeRows(0)), ["open", "settle"]),
        (plan_removal(FakeRows(1)), ["open", "remove", "settle"]),
        (plan_removal(FakeRows(0)), ["open", "settle"]),
        (plan_refresh(FakeRows(1), exposure=None, leaving=0), ["open", "add", "settle"]),
        (plan_refresh(FakeRows(1), exposure=FakeRows(0), leaving=0), ["open", "add", "settle"]),
        (plan_refresh(FakeRows(0), exposure=FakeRows(2), leaving=2), ["open", "remove", "settle"]),
    ],
)
def test_a_half_without_rows_sends_no_request(plan, done):
    spy = Spy()
    carry_out(plan, journal=spy, sender=spy)
    assert names(spy) == done


def test_a_refresh_removes_the_whole_exposure_and_adds_everybody():
    assert (REFRESH.removed, REFRESH.added, REFRESH.members, REFRESH.present, REFRESH.leaving) == (5, 7, 7, 5, 2)
    assert (
        REFRESH.describe() == "remove 5 rows (2 of them for good), then add 7; 5 may be in the audience now, 7 will be"
    )


def test_strangers_are_refused_and_nobody_else():
    refuse_strangers("120", began_empty=True)
    with pytest.raises(StrangersError, match="Audience 120") as caught:
        refuse_strangers("120", began_empty=False)
    assert caught.value.permanent
    assert caught.value.remedy


def plan_of(leaving, present, unfinished=0):
    return Plan(None, None, members=0, present=present, leaving=leaving, leaving_unfinished=unfinished)


@pytest.mark.parametrize(
    ("limits", "leaving", "present", "passes"),
    [
        ({}, 10, 10, True),
        ({"max_removals": 3}, 3, 10, True),
        ({"max_removals": 3}, 4, 10, False),
        ({"max_removals": 0}, 0, 10, True),
        ({"max_removals": 0}, 1, 10, False),
        ({"max_removal_ratio": 0.3}, 3, 10, True),
        ({"max_removal_ratio": 0.3}, 4, 10, False),
        ({"max_removal_ratio": 0}, 1, 10, False),
        ({"max_removal_ratio": 1}, 10, 10, True),
        ({"max_removal_ratio": 0}, 0, 0, True),
        ({"max_removals": 5, "max_removal_ratio": 0.1}, 4, 10, False),
    ],
)
def test_limits_of_who_may_leave(limits, leaving, present, passes):
    guards = Guards(**limits)
    if passes:
        guards.check_plan(plan_of(leaving, present))
    else:
        with pytest.raises(GuardError, match="Nothing was sent") as caught:
            guards.check_plan(plan_of(leaving, present))
        assert caught.value.permanent
        assert "raise max_removal" in caught.value.remedy


@pytest.mark.parametrize("limits", [{"max_removals": 1}, {"max_removal_ratio": 0.1}])
def test_what_a_dead_run_left_is_told_where_it_inflates_who_leaves(limits):
    with pytest.raises(GuardError, match="1,200 of them were sent, if at all, by runs that did not finish"):
        Guards(**limits).check_plan(plan_of(5000, 9000, 1200))
    with pytest.raises(GuardError) as caught:
        Guards(**limits).check_plan(plan_of(5000, 9000))
    assert "did not finish" not in str(caught.value)


@pytest.mark.parametrize(
    ("limits", "usable", "read", "told"),
    [
        ({}, 1, 1, ""),
        ({}, 0, 0, "gave no usable row"),
        ({}, 0, 5, "gave no usable row (of 5 read)"),
        ({"min_rows": 0}, 0, 0, ""),
        ({"min_rows": 3}, 2, 9, "gave 2 usable rows (of 9 read) and min_rows=3"),
        ({"allow_empty": True, "min_rows": 3}, 0, 0, ""),
        ({"allow_empty": True}, 0, 7, "gave no usable row (of 7 read)"),
        ({"allow_empty": True, "min_rows": 3}, 2, 2, "min_rows=3"),
        ({"allow_empty": True, "max_invalid_ratio": 0.5}, 0, 9, "9 of 9 rows cannot be used"),
        ({"max_invalid_ratio": 0.5}, 5, 10, ""),
        ({"max_invalid_ratio": 0.5}, 4, 10, "6 of 10 rows cannot be used"),
        ({"max_invalid_ratio": 0}, 10, 10, ""),
        ({"max_invalid_ratio": 0}, 0, 0, "gave no usable row"),
    ],
)
def test_limits_of_what_a_source_must_give(limits, usable, read, told):
    guards = Guards(**limits)
    if not told:
        guards.check_source(usable=usable, read=read)
        return
    with pytest.raises(GuardError) as caught:
        guards.check_source(usable=usable, read=read)
    assert told in str(caught.value)
    assert "Nothing was sent" in str(caught.value)


@pytest.mark.parametrize(
    "limits",
    [{"min_rows": -1}, {"max_removals": -1}, {"max_removal_ratio": -0.1}, {"max_removal_ratio": 1.1},
     {"max_invalid_ratio": 2}, {"max_invalid_ratio": float("nan")}],
)  # fmt: skip
def test_impossible_limits_are_refused(limits):
    with pytest.raises(OptionsError, match=next(iter(limits))):
        Guards(**limits)
