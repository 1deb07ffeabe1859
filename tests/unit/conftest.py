"""The one sandbox of a test run, which each test finds empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_fbca.sandbox import serve

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def _sandbox() -> Iterator[Any]:
    with serve() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A Graph API on this machine, empty, as the default connection."""
    _sandbox.reset()
    _sandbox.clear_faults()
    monkeypatch.setenv("AIRFLOW_CONN_FBCA_DEFAULT", _sandbox.connection_json)
    return _sandbox
