"""Meta drops what comes after a session's 90 minutes without a word: a moved clock shows that nothing is lost."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from graph_meta import Meta, Reports, names
from graph_wire import people
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from airflow_provider_fbca.exceptions import GraphThrottledError
from airflow_provider_fbca.graph.sessions import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE = 60.0


def advance_on_the_way(meta: Meta, minutes: Iterator[float], *, after: bool) -> None:
    """Let time pass between the last check of a request and its arrival, or between its arrival and its answer."""
    exchange = meta.api._transport.exchange

    def exchange_slowly(request: Any) -> Any:
        if not after:
            meta.clock.advance(next(minutes, 0) * MINUTE)
        answer = exchange(request)
        if after:
            meta.clock.advance(next(minutes, 0) * MINUTE)
        return answer

    meta.api._transport.exchange = exchange_slowly  # type: ignore[method-assign]


def send(meta: Meta, verb: str, rows: int, **options: Any) -> Any:
    """Add or remove people, of whom the audience has all or none before, and check that all were."""
    told = Reports()
    if verb == "remove":
        meta.sandbox.seed(meta.audience, [{"EXTERN_ID": f"c{number}"} for number in range(rows)])
    totals = getattr(meta.uploader(on_batch=told, **options), verb)(people(rows), total=rows)
    assert meta.names() == (names(0, rows) if verb == "add" else set())
    assert sorted(told.rows) == list(range(rows))
    assert totals.rows == rows
    return totals


@pytest.mark.parametrize("verb", ["add", "remove"])
class TestNothingIsLost:
    @pytest.mark.parametrize("minutes", [79, 81, 87, 89, 91, 300])
    def test_while_a_request_waits_for_its_permission(self, meta: Meta, verb: str, minutes: float) -> None:
        waits = iter([0, 0, minutes])
        totals = send(
            meta, verb, 500, max_concurrency=1, before_request=lambda: meta.clock.advance(next(waits, 0) * MINUTE)
        )
        assert len(totals.session_ids) == (1 if minutes < 80 else 2)

    @pytest.mark.parametrize("minutes", [79, 81, 87, 89, 91, 300])
    def test_while_a_request_is_held_up_on_its_way(self, meta: Meta, verb: str, minutes: float) -> None:
        advance_on_the_way(meta, iter([0, 0, minutes]), after=False)
        send(meta, verb, 500, max_concurrency=1)

    def test_between_the_tries_of_the_last_batch(self, meta: Meta, verb: str) -> None:
        waits = iter([0, 0, 85, 4, 0])
        operation = {"add": "add_users", "remove": "remove_users"}[verb]
        meta.sandbox.fault("server_error", operation=operation, nth=3, count=2)
        totals = send(
            meta, verb, 250, max_concurrency=1, before_request=lambda: meta.clock.advance(next(waits, 0) * MINUTE)
        )
        assert totals.session_ids == (1, 2)

    def test_when_answers_take_long(self, meta: Meta, verb: str) -> None:
        advance_on_the_way(meta, iter([50, 35, 6, 50]), after=True)
        send(meta, verb, 500, max_concurrency=2)

    def test_sessions_are_closed_before_minute_80_where_that_can_be(self, meta: Meta, verb: str) -> None:
        waits = iter([0, 30, 30, 21, 0, 0])
        send(meta, verb, 600, max_concurrency=1, before_request=lambda: meta.clock.advance(next(waits, 0) * MINUTE))
        operation = {"add": "add_users", "remove": "remove_users"}[verb]
        placed = [(call["session_id"], call["last_batch_flag"]) for call in meta.sandbox.requests(operation)]
        assert placed == [("1", False), ("1", False), ("1", False), ("1", False), ("1", True), ("2", True)]


class TestRateLimits:
    """A session is rolled over before a wait that it would not outlast."""

    @pytest.mark.parametrize("verb", ["add", "remove"])
    @pytest.mark.parametrize(
        ("age", "wait", "sessions", "closing"),
        [(70, 4, (1,), [5]), (78, 4, (1, 2), [3]), (70, 19, (1, 2), []), (10, 79, (1, 2), [])],
    )
    def test_by_what_meta_has_told(
        self, meta: Meta, verb: str, age: float, wait: int, sessions: tuple[int, ...], closing: list[int]
    ) -> None:
        usage = [{"type": "custom_audience", "call_count": 1, "estimated_time_to_regain_access": wait}]
        header = {"X-Business-Use-Case-Usage": json.dumps({"1": usage})}
        answers = iter([{}, header])
        exchange = meta.api._transport.exchange

        def told(request: Any) -> Any:
            answer = exchange(request)
            return replace(answer, headers={**answer.headers, **next(answers, {})})

        meta.api._transport.exchange = told  # type: ignore[method-assign]
        meta.api.wait_at_most(7200)
        waits = iter([0, age])
        totals = send(
            meta, verb, 500, max_concurrency=1, before_request=lambda: meta.clock.advance(next(waits, 0) * MINUTE)
        )
        assert totals.session_ids == sessions
        operation = {"add": "add_users", "remove": "remove_users"}[verb]
        calls = [call for call in meta.sandbox.requests(operation) if call["session_id"] == "1"]
        assert [call["batch_seq"] for call in calls if call["last_batch_flag"]] == closing

    @pytest.mark.parametrize("verb", ["add", "remove"])
    def test_that_outlast_two_sessions_are_told_as_what_they_are(self, meta: Meta, verb: str) -> None:
        limit = {"code": 80003, "subcode": 2446079, "is_transient": False, "status": 400, "retry_after": 1500}
        meta.sandbox.fault("graph", path="/users", nth=2, count=1000, **limit)
        meta.api.wait_at_most(7200)
        began = meta.clock.now()
        with pytest.raises(GraphThrottledError, match="request may go in"):
            send(meta, verb, 500, max_concurrency=1)
        assert 2 * 75 * MINUTE < meta.clock.now() - began < 3 * 90 * MINUTE


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    verb=st.sampled_from(["add", "remove"]),
    rows=st.integers(1, 700),
    concurrency=st.integers(1, 4),
    asked=st.lists(st.sampled_from([0, 1, 20, 41, 79, 85, 95]), max_size=8),
    held=st.lists(st.sampled_from([0, 1, 20, 41, 79, 85, 95]), max_size=3),
    after=st.booleans(),
    lost=st.lists(st.tuples(st.sampled_from(["before", "after"]), st.integers(1, 8)), max_size=3),
)
def test_however_time_passes_nothing_is_lost(
    clocked: Any,
    verb: str,
    rows: int,
    concurrency: int,
    asked: list[float],
    held: list[float],
    after: bool,
    lost: list[tuple[str, int]],
) -> None:
    # A batch is moved three times at most, which that many long waits in turn may use up.
    assume(sum(minutes > 40 for minutes in asked + held) <= 3)
    sandbox, clock = clocked
    sandbox.reset()
    meta = Meta(sandbox, clock)
    for when, nth in lost:
        sandbox.fault("drop", when=when, nth=nth, path="/users")
    advance_on_the_way(meta, iter(held), after=after)
    waits = iter(asked)
    send(meta, verb, rows, max_concurrency=concurrency, before_request=lambda: clock.advance(next(waits, 0) * MINUTE))


@pytest.mark.parametrize(("flight", "oldest"), [(40, 88), (150, 87.5), (3000, 40)])
def test_no_request_is_made_that_could_land_after_its_session(flight: float, oldest: float) -> None:
    session = Session(7, flight, begun=1000.0)
    assert not session.is_too_old(1000 + oldest * MINUTE)
    assert session.is_too_old(1001 + oldest * MINUTE)
