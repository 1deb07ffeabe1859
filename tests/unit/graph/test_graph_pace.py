"""A replace that does not fit into its 90 minutes is refused, before it begins or as early as its speed shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from graph_wire import people

from airflow_provider_fbca.exceptions import GraphRetryableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from graph_meta import Meta

MINUTE = 60.0


def takes(meta: Meta, minutes: Callable[[int], float]) -> None:
    """Let each request take its time, by its number from 1."""
    exchange = meta.api._transport.exchange
    sent = 0

    def exchange_slowly(request: Any) -> Any:
        nonlocal sent
        sent += 1
        meta.clock.advance(minutes(sent) * MINUTE)
        return exchange(request)

    meta.api._transport.exchange = exchange_slowly  # type: ignore[method-assign]


class TestBeforeItBegins:
    def test_too_many_requests_for_the_rate_limit_are_not_begun(self, meta: Meta) -> None:
        with pytest.raises(GraphRetryableError, match=r"20,000 requests take \d+ minutes at least") as caught:
            meta.uploader(batch_size=1).replace(people(20), total=20_000)
        assert "batch_size" in caught.value.remedy
        assert (meta.begun, meta.sandbox.requests("replace_users")) == ([], [])

    def test_what_the_limit_has_room_for_is_begun(self, meta: Meta) -> None:
        assert meta.uploader(batch_size=1).replace(people(20), total=5_000).rows == 20

    def test_a_wait_that_meta_asks_for_counts(self, meta: Meta) -> None:
        meta.api.throttle_of(meta.audience).refuse_for(81 * MINUTE)
        with pytest.raises(GraphRetryableError, match="not begun"):
            meta.uploader().replace(people(20), total=20)
        assert meta.begun == []


class TestOnItsWay:
    def minutes_until_it_stops(self, meta: Meta, batches: int, minutes: Callable[[int], float]) -> float:
        takes(meta, minutes)
        began = meta.clock.now()
        with pytest.raises(GraphRetryableError, match="too slow") as caught:
            meta.uploader(max_concurrency=1).replace(people(100 * batches), total=100 * batches)
        assert 'strategy="delta"' in caught.value.remedy
        assert not any(call["last_batch_flag"] for call in meta.sandbox.requests("replace_users"))
        return (meta.clock.now() - began) / MINUTE

    def test_what_would_take_hours_stops_after_ten_minutes(self, meta: Meta) -> None:
        assert 10 <= self.minutes_until_it_stops(meta, 1000, lambda _number: 1) <= 11

    def test_what_is_a_little_too_slow_stops_halfway(self, meta: Meta) -> None:
        assert 40 <= self.minutes_until_it_stops(meta, 100, lambda _number: 1) <= 42

    def test_a_line_that_becomes_slow_is_noticed(self, meta: Meta) -> None:
        assert 10 < self.minutes_until_it_stops(meta, 200, lambda number: 0.1 if number < 50 else 2) < 70

    def test_what_fits_goes_through(self, meta: Meta) -> None:
        takes(meta, lambda _number: 1)
        assert meta.uploader(max_concurrency=1).replace(people(7500), total=7500).requests == 75

    def test_a_first_batch_that_takes_long_tells_nothing(self, meta: Meta) -> None:
        takes(meta, lambda number: 15 if number == 1 else 0.1)
        assert meta.uploader(max_concurrency=1).replace(people(30_000), total=30_000).requests == 300
