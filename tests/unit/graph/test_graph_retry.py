from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_fbca.exceptions import (
    GraphError,
    GraphNotFoundError,
    GraphRequestError,
    GraphThrottledError,
    GraphTransientError,
)
from airflow_provider_fbca.graph.retry import RetryPolicy, repeat_any, repeat_unsent
from airflow_provider_fbca.graph.usage import Quota, Usage

UNSENT = GraphTransientError("no connection")
LOST = GraphTransientError("no answer", outcome_unknown=True)
ANSWERED = GraphTransientError("code 2", code=2, http_status=500)


def failing(*errors: GraphError) -> tuple[list[int], object]:
    queue = list(errors)
    calls: list[int] = []

    def call() -> str:
        calls.append(1)
        if queue:
            raise queue.pop(0)
        return "done"

    return calls, call


def test_pauses_double_and_are_cut_at_random(pauses: list[float]) -> None:
    _, call = failing(*[LOST] * 4)
    assert RetryPolicy(sleep=pauses.append).run(call, repeatable=repeat_any) == "done"  # type: ignore[arg-type]
    assert len(pauses) == 4
    for number, pause in enumerate(pauses):
        assert 2**number / 2 <= pause <= 2**number


def test_an_audience_that_is_not_known_yet_is_given_most_of_a_minute(pauses: list[float]) -> None:
    _, call = failing(*[GraphNotFoundError("unknown alias", code=803)] * 4)
    assert RetryPolicy(sleep=pauses.append).run(call, repeatable=lambda _error: True) == "done"  # type: ignore[arg-type]
    assert 29 <= sum(pauses) <= 58


def test_attempts_are_bounded_and_the_last_error_is_raised(pauses: list[float]) -> None:
    errors = [GraphTransientError(f"number {number}") for number in range(9)]
    calls, call = failing(*errors)
    with pytest.raises(GraphTransientError, match="number 4") as caught:
        RetryPolicy(sleep=pauses.append).run(call, repeatable=repeat_any)  # type: ignore[arg-type]
    assert caught.value is errors[4]
    assert len(calls) == 5


def test_a_permanent_error_is_raised_at_once(pauses: list[float]) -> None:
    calls, call = failing(GraphRequestError("no"))
    with pytest.raises(GraphRequestError):
        RetryPolicy(sleep=pauses.append).run(call, repeatable=repeat_any)  # type: ignore[arg-type]
    assert (len(calls), pauses) == (1, [])


def test_a_rate_limit_is_tried_again_without_a_pause_of_its_own(pauses: list[float]) -> None:
    calls, call = failing(GraphThrottledError("slow", wait_seconds=120))
    assert RetryPolicy(sleep=pauses.append).run(call, repeatable=repeat_unsent) == "done"  # type: ignore[arg-type]
    assert (len(calls), pauses) == (2, [])


def test_a_longer_wait_than_allowed_is_not_begun(pauses: list[float]) -> None:
    calls, call = failing(GraphThrottledError("slow", wait_seconds=301))
    with pytest.raises(GraphThrottledError):
        RetryPolicy(sleep=pauses.append).run(call, repeatable=repeat_any)  # type: ignore[arg-type]
    assert (len(calls), pauses) == (1, [])


@pytest.mark.parametrize(("asked", "tries"), [(60, 120), (1, 120), (600, 12), (1700, 4)])
def test_a_call_waits_for_limits_as_long_as_it_may_however_often_it_is_refused(
    pauses: list[float], asked: float, tries: int
) -> None:
    policy = RetryPolicy(sleep=pauses.append, throttle_pause=7200)
    refusals = [GraphThrottledError("slow", wait_seconds=asked)] * 200
    calls, call = failing(*refusals[:tries])
    assert policy.run(call, repeatable=repeat_unsent) == "done"  # type: ignore[arg-type]
    assert len(calls) == tries + 1
    calls, call = failing(*refusals)
    with pytest.raises(GraphThrottledError):
        policy.run(call, repeatable=repeat_unsent)  # type: ignore[arg-type]
    assert len(calls) == tries + 1


def test_refusals_by_a_limit_leave_the_tries_for_faults(pauses: list[float]) -> None:
    limit = GraphThrottledError("slow", wait_seconds=60)
    calls, call = failing(*[limit, limit, LOST] * 4)
    policy = RetryPolicy(sleep=pauses.append, throttle_pause=7200)
    assert policy.run(call, repeatable=repeat_any) == "done"  # type: ignore[arg-type]
    assert (len(calls), len(pauses)) == (13, 4)


def test_all_pauses_together_are_bounded(pauses: list[float]) -> None:
    calls, call = failing(*[LOST] * 99)
    policy = RetryPolicy(sleep=pauses.append, attempts=99, first_pause=30, longest_pause=30, total=100)
    with pytest.raises(GraphTransientError):
        policy.run(call, repeatable=repeat_any)  # type: ignore[arg-type]
    assert len(calls) == len(pauses) + 1
    assert 70 < sum(pauses) <= 115


def test_what_may_have_landed_is_not_repeated_where_twice_would_matter() -> None:
    assert repeat_unsent(UNSENT)
    assert repeat_unsent(GraphThrottledError("slow", code=17, http_status=400))
    assert not repeat_unsent(LOST)
    assert not repeat_unsent(ANSWERED)
    assert all(repeat_any(error) for error in (UNSENT, LOST, ANSWERED))
    assert not repeat_any(KeyboardInterrupt())


def used(percent: float, **usage: Any) -> Usage:
    hour = Quota("custom_audience call_count 1", percent)
    score = Quota("score", 99, window=300, comes_back_evenly=True)
    return Usage(quotas=(hour, score), **usage)


@pytest.mark.parametrize(
    ("usage", "requests", "minutes"),
    [
        # There is room up to 75 percent; what comes then has to wait until as much of the hour comes back.
        (Usage(), 3_750, 0),
        (Usage(), 5_000, 15),
        (Usage(), 8_750, 60),
        (used(50, limited=True), 1_250, 0),
        (used(50, limited=True), 3_750, 30),
        (used(0, limited=False), 142_500, 0),
        (used(75, limited=False), 19_000, 6),
        (used(100, limited=False), 19_000, 12),
    ],
)
def test_minutes_at_the_rate_limit_count_what_the_hour_has_no_room_for(usage, requests, minutes):
    assert usage.minutes_for(requests) == pytest.approx(minutes)
