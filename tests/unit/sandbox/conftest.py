"""One sandbox for all of these tests, fresh for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sandbox_client import NOON, Graph

from airflow_provider_fbca.sandbox import Clock, Sandbox, serve

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def running() -> Iterator[Sandbox]:
    with serve(clock=Clock(NOON)) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    running.reset()
    running.stop_clock()
    return running


@pytest.fixture
def graph(sandbox: Sandbox) -> Graph:
    return Graph(sandbox)


@pytest.fixture
def audience(sandbox: Sandbox) -> str:
    return sandbox.create_audience()
