"""The servers of a test run: one sandbox, which each test finds empty, and one of each kind of object store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import servers

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


@pytest.fixture(scope="session")
def s3_options() -> Iterator[dict[str, Any]]:
    """What s3fs needs to reach the one S3 server of a test run."""
    with servers.s3() as options:
        yield options


@pytest.fixture(scope="session")
def gs_options() -> Iterator[dict[str, Any]]:
    """What gcsfs needs to reach the one Cloud Storage server of a test run."""
    with servers.gcs() as options:
        yield options
