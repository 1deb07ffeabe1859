from __future__ import annotations

import pytest

from airflow_provider_fbca.exceptions import (
    GraphError,
    GraphNotFoundError,
    GraphRequestError,
    GraphThrottledError,
    GraphTransientError,
)
from airflow_provider_fbca.graph.retry import RetryPolicy, repeat_any, repeat_unsent
from airflow_provider_fbca.graph.usage import Usage

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


def test_a_rate_limit_is_waited_out_as_long_as_meta_asks(pauses: list[float]) -> None:
    _, call = failing(GraphThrottledError("slow", wait_seconds=120))
    assert RetryPolicy(sleep=pauses.append).run(call, repeatable=repeat_unsent) == "done"  # type: ignore[arg-type]
    assert 120 <= pauses[0] <= 132


def test_a_longer_wait_than_allowed_is_not_begun(pauses: list[float]) -> None:
    calls, call = failing(GraphThrottledError("slow", wait_seconds=301))
    with pytest.raises(GraphThrottledError):
        RetryPolicy(sleep=pauses.append).run(call, repeatable=repeat_any)  # type: ignore[arg-type]
    assert (len(calls), pauses) == (1, [])


def test_all_pauses_together_are_bounded(pauses: list[float]) -> None:
    calls, call = failing(*[GraphThrottledError("slow", wait_seconds=290)] * 9)
    with pytest.raises(GraphThrottledError):
        RetryPolicy(sleep=pauses.append, total=640).run(call, repeatable=repeat_any)  # type: ignore[arg-type]
    assert len(calls) == len(pauses) + 1 == 3
    assert sum(pauses) < 640


def test_what_may_have_landed_is_not_repeated_where_twice_would_matter() -> None:
    assert repeat_unsent(UNSENT)
    assert repeat_unsent(GraphThrottledError("slow", code=17, http_status=400))
    assert not repeat_unsent(LOST)
    assert not repeat_unsent(ANSWERED)
    assert all(repeat_any(error) for error in (UNSENT, LOST, ANSWERED))
    assert not repeat_any(KeyboardInterrupt())


@pytest.mark.parametrize(
    ("usage", "requests", "minutes"),
    [
        (Usage(), 5_000, 0),
        (Usage(), 10_000, 60),
        (Usage(limited=True, percent=50), 5_000, 30),
        (Usage(limited=False), 190_000, 0),
        (Usage(limited=False, percent=100), 19_000, 6),
        (Usage(limited=False, percent=130), 19_000, 6),
    ],
)
def test_minutes_at_the_rate_limit_count_what_the_hour_has_no_room_for(usage, requests, minutes):
    assert usage.minutes_for(requests) == pytest.approx(minutes)
