"""The client against a sandbox that speaks Graph, and against a server that says whatever a test wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from graph_meta import NOON, Meta
from graph_wire import TOKEN, OddServer

from airflow_provider_fbca.graph.api import GraphApi
from airflow_provider_fbca.graph.retry import RetryPolicy
from airflow_provider_fbca.sandbox import Clock
from airflow_provider_fbca.sandbox.testing import serve

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def odd() -> Iterator[OddServer]:
    server = OddServer()
    yield server
    server.close()


@pytest.fixture
def pauses() -> list[float]:
    """Seconds that the retry policy would have slept."""
    return []


@pytest.fixture
def odd_api(odd: OddServer, pauses: list[float]) -> GraphApi:
    return GraphApi(access_token=TOKEN, base_url=odd.url, timeout=5, retry=RetryPolicy(sleep=pauses.append))


@pytest.fixture
def api(sandbox: Any, pauses: list[float]) -> GraphApi:
    return GraphApi(
        access_token=sandbox.token,
        app_id=sandbox.app_id,
        app_secret=sandbox.app_secret,
        base_url=sandbox.url,
        timeout=20,
        retry=RetryPolicy(sleep=pauses.append),
    )


@pytest.fixture(scope="module")
def clocked() -> Iterator[tuple[Any, Clock]]:
    clock = Clock(NOON)
    with serve(clock=clock) as sandbox:
        yield sandbox, clock


@pytest.fixture
def meta(clocked: Any) -> Meta:
    sandbox, clock = clocked
    sandbox.reset()
    return Meta(sandbox, clock)
