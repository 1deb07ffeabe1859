"""Plans, guards and their execution, apart from ledgers and Meta."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_fbca.exceptions import (
    GraphRemovalRefusedError,
    GuardError,
    OptionsError,
    StrangersError,
)
from airflow_provider_fbca.sync import (
    Guards,
    Plan,
    carry_out,
    plan_delete_insert,
    plan_delta,
    plan_removal,
    plan_replace,
    plan_upload,
    refuse_strangers,
)


@dataclass
class FakeRows:
    count: int
    name: str = "rows"

    def batches(self):
        return iter([f"{self.name} of {self.count}"])

    def digest(self):
        return f"{self.name} {self.count}"


@dataclass
class Spy:
    """Journal and sender at once, so that the order of calls between them is seen."""

    fails_at: str = ""
    calls: list[Any] = field(default_factory=list)
    #: Steps that an earlier try has come to, each with the rows that it has left.
    before: dict[str, int] = field(default_factory=dict)

    def _call(self, what, *told):
        self.calls.append((what, *told))
        if what == self.fails_at:
            raise ConnectionError(what)

    def open(self):
        self._call("open")

    def begin(self, step, rows):
        return replace(rows, count=self.before.get(step, rows.count))

    def has_begun(self, step):
        return step in self.before

    def settle(self, sent):
        self._call("settle", sent.received, sent.session_ids)

    def add(self, rows, *, total):
        self._call("add", list(rows), total)
        return SimpleNamespace(requests=2, received=7, invalid=1, session_ids=(3, 4), seconds=1.5)

    def replace(self, rows, *, total):
        self._call("replace", list(rows), total)
        return SimpleNamespace(requests=3, received=8, invalid=1, session_ids=(8, 9), seconds=2.5)

    def wait_until_replaced(self, session_id):
        self._call("replaced", session_id)

    def clear(self):
        self._call("clear")

    def wait_out_flights(self):
        self._call("wait")

    def remove(self, rows, *, total):
        self._call("remove", list(rows), total)
        return SimpleNamespace(requests=1, received=5, invalid=2, session_ids=(1,), seconds=0.5)


REFRESH = plan_delete_insert(FakeRows(7, "new"), exposure=FakeRows(5, "old"), leaving=2)


def sent_by(spy, plan):
    return carry_out(plan, journal=spy, sender=spy, clear_the_air=spy.clear)


def names(spy):
    return [call[0] for call in spy.calls if call[0] not in {"wait", "clear"}]


def test_open_comes_before_removals_and_these_before_additions_and_settling_is_last():
    spy = Spy()
    sent = sent_by(spy, REFRESH)
    assert spy.calls == [
        ("open",), ("clear",), ("remove", ["old of 5"], 5), ("wait",), ("add", ["new of 7"], 7), ("wait",),
        ("settle", 12, (1, 3, 4)),
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
        sent_by(spy, REFRESH)
    assert names(spy) == done


@pytest.mark.parametrize(
    ("plan", "done"),
    [
        (plan_upload(FakeRows(1)), ["open", "add", "settle"]),
        (plan_upload(FakeRows(0)), ["open", "settle"]),
        (plan_removal(FakeRows(1)), ["open", "remove", "settle"]),
        (plan_removal(FakeRows(0)), ["open", "settle"]),
        (plan_delete_insert(FakeRows(1), exposure=None, leaving=0), ["open", "add", "settle"]),
        (plan_delete_insert(FakeRows(1), exposure=FakeRows(0), leaving=0), ["open", "add", "settle"]),
        (plan_delete_insert(FakeRows(0), exposure=FakeRows(2), leaving=2), ["open", "remove", "settle"]),
    ],
)
def test_a_half_without_rows_sends_no_request(plan, done):
    spy = Spy()
    sent_by(spy, plan)
    assert names(spy) == done


def test_a_refresh_removes_the_whole_exposure_and_adds_everybody():
    assert (REFRESH.removed, REFRESH.added, REFRESH.members, REFRESH.present, REFRESH.leaving) == (5, 7, 7, 5, 2)
    assert (
        REFRESH.describe() == "remove 5 rows (2 of them for good), then add 7; 5 may be in the audience now, 7 will be"
    )


# -- delta -----------------------------------------------------------------------------------------------------------


def delta(users=7, removals=2, additions=3, again=1, present=6):
    return plan_delta(
        FakeRows(users, "everyone"),
        removals=FakeRows(removals, "gone") if removals is not None else None,
        additions=FakeRows(additions, "new"),
        again=FakeRows(again, "again"),
        present=present,
    )


@dataclass
class Refusing(Spy):
    """Meta, refusing the first removals."""

    refusals: int = 1
    removed_before: int = 1

    def remove(self, rows, *, total):
        answer = super().remove(rows, total=total)
        if self.refusals:
            self.refusals -= 1
            error = GraphRemovalRefusedError("Refused", code=200, subcode=1870047)
            error.acknowledged = self.removed_before
            raise error
        return answer


def test_a_delta_removes_who_leaves_and_adds_who_is_not_surely_in():
    plan, spy = delta(), Spy()
    assert (plan.removed, plan.added, plan.members, plan.present, plan.leaving) == (2, 3, 7, 6, 2)
    sent_by(spy, plan)
    assert spy.calls == [
        ("open",), ("clear",), ("remove", ["gone of 2"], 2), ("wait",), ("add", ["new of 3"], 3), ("wait",),
        ("settle", 12, (1, 3, 4)),
    ]  # fmt: skip


@pytest.mark.parametrize("removals", [0, None])
def test_a_delta_without_a_change_sends_nothing_and_settles(removals):
    spy = Spy()
    sent_by(spy, delta(removals=removals, additions=0, again=0))
    assert spy.calls == [("open",), ("clear",), ("settle", 0, ())]


def test_l9_nothing_follows_a_wait_that_ends_early():
    spy = Spy("wait")
    with pytest.raises(ConnectionError):
        sent_by(spy, delta())
    assert names(spy) == ["open", "remove"]


def test_s5_a_delta_that_is_refused_adds_everybody_first_and_those_who_share_again():
    spy = Refusing()
    sent = sent_by(spy, delta())
    assert spy.calls == [
        ("open",), ("clear",), ("remove", ["gone of 2"], 2), ("wait",), ("add", ["everyone of 7"], 7), ("wait",),
        ("remove", ["gone of 2"], 2), ("wait",), ("add", ["again of 1"], 1), ("wait",),
        ("settle", 19, (3, 4, 1, 3, 4)),
    ]  # fmt: skip
    assert sent.requests == 5


def test_s5_where_all_are_due_all_are_sent_after_the_removals_too():
    spy = Refusing()
    sent_by(spy, delta(additions=7))
    assert [call for call in spy.calls if call[0] == "add"] == [("add", ["everyone of 7"], 7)] * 2


def test_s5_where_nobody_shares_nobody_is_added_again():
    spy = Refusing()
    sent_by(spy, delta(again=0))
    assert names(spy) == ["open", "remove", "add", "remove", "settle"]


@pytest.mark.parametrize(
    ("plan", "refusals", "done", "told"),
    [
        (
            delta(),
            2,
            ["open", "remove", "add", "remove"],
            ["1 of 2 rows", "all 7 rows of", 'strategy="replace"'],
        ),
        (delta(users=0, additions=0, again=0), 1, ["open", "remove"], ["1 of 2 rows", "nothing was added"]),
        (REFRESH, 1, ["open", "remove"], ["1 of 5 rows", "nothing was added", 'strategy="delta"', '"replace"']),
        (plan_removal(FakeRows(3)), 1, ["open", "remove"], ["1 of 3 rows", "remove fewer"]),
    ],
    ids=["delta", "delta that empties", "delete_insert", "removal"],
)
def test_s5_still_refused_the_error_tells_what_was_done_and_the_way_out(plan, refusals, done, told):
    spy = Refusing(refusals=refusals)
    with pytest.raises(GraphRemovalRefusedError) as caught:
        sent_by(spy, plan)
    assert names(spy) == done
    assert [part for part in told if part not in str(caught.value)] == []
    assert (caught.value.code, caught.value.subcode, caught.value.permanent) == (200, 1870047, True)


# -- replace ---------------------------------------------------------------------------------------------------------


def test_a_replace_sends_one_list_waits_until_it_is_applied_and_settles():
    plan, spy = plan_replace(FakeRows(7, "everyone"), present=6, leaving=2), Spy()
    sent = sent_by(spy, plan)
    assert spy.calls == [
        ("open",), ("clear",), ("replace", ["everyone of 7"], 7), ("replaced", 9), ("wait",), ("settle", 8, (8, 9)),
    ]  # fmt: skip
    assert (plan.added, plan.removed, plan.members, plan.leaving) == (7, 0, 7, 2)
    assert plan.describe() == ("replace all by 7 rows (2 leave for good); 6 may be in the audience now, 7 will be")
    assert sent.seconds == 2.5


@pytest.mark.parametrize("fails_at", ["clear", "replace", "replaced", "wait"])
def test_a_replace_that_is_not_known_to_be_applied_is_not_settled(fails_at):
    spy = Spy(fails_at)
    with pytest.raises(ConnectionError):
        sent_by(spy, plan_replace(FakeRows(7), present=0, leaving=0))
    assert spy.calls[-1][0] == fails_at


def test_a_replace_by_nobody_is_refused():
    with pytest.raises(GuardError, match="Meta takes no empty list") as caught:
        plan_replace(FakeRows(0), present=6, leaving=6)
    assert caught.value.permanent


# -- resume ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "done"),
    [
        ({"remove": 2}, ["remove", "add"]),
        ({"remove": 0}, ["add"]),
        ({"remove": 0, "add": 1}, ["add"]),
        ({"remove": 0, "add": 0}, []),
        ({"remove": 1, "add_first": 7}, ["add", "remove", "add"]),
        ({"remove": 1, "add_first": 0, "remove_again": 1}, ["remove", "add"]),
        ({"remove": 1, "add_first": 0, "remove_again": 0, "add_again": 1}, ["add"]),
    ],
)
def test_l10_a_retry_goes_on_with_the_step_that_was_under_way(before, done):
    spy = Spy(before=before)
    sent_by(spy, delta())
    assert names(spy) == ["open", *done, "settle"]


def test_l10_a_replace_is_sent_from_its_beginning():
    spy = Spy(before={"replace": 0})
    sent_by(spy, plan_replace(FakeRows(7, "everyone"), present=0, leaving=0))
    assert ("replace", ["everyone of 7"], 7) in spy.calls


def test_l10_a_plan_is_named_by_all_that_it_would_send():
    plans = [
        delta(), delta(removals=3), delta(additions=4), delta(again=2), delta(users=8), REFRESH,
        plan_upload(FakeRows(7, "new")), plan_removal(FakeRows(7, "new")),
        plan_replace(FakeRows(7, "new"), present=0, leaving=0),
    ]  # fmt: skip
    assert len({plan.digest() for plan in plans}) == len(plans)
    assert delta().digest() == delta().digest()


# -- strangers -------------------------------------------------------------------------------------------------------


def test_strangers_are_refused_and_nobody_else():
    refuse_strangers("120", accounts_for_all=True)
    with pytest.raises(StrangersError, match="Audience 120") as caught:
        refuse_strangers("120", accounts_for_all=False)
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
