"""A sandbox with tokens of its own, and connections to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hook_world import ACCOUNT, OTHER_ACCOUNT, SECRET, TOKEN

from airflow_provider_fbca.hooks import custom_audience
from airflow_provider_fbca.sandbox import Settings
from airflow_provider_fbca.sandbox.settings import Account, Token
from airflow_provider_fbca.sandbox.testing import Sandbox, serve

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def served() -> Iterator[Sandbox]:
    accounts = (Account(ACCOUNT), Account(OTHER_ACCOUNT))
    tokens = {TOKEN: Token(accounts=(ACCOUNT, OTHER_ACCOUNT))}
    with serve(Settings(accounts=accounts, tokens=tokens, app_secret=SECRET)) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(served: Sandbox) -> Sandbox:
    served.reset()
    served.change(require_proof=True)
    return served


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> Any:
    """Defines a connection of type ``fbca`` to the sandbox, with some fields changed or left out (None)."""

    def define(conn_id: str = "fbca_default", *, extra: dict[str, Any] | None = None, **fields: Any) -> None:
        connection = json.loads(sandbox.connection_json) | fields
        connection["extra"] = connection["extra"] | (extra or {})
        connection["extra"] = {name: value for name, value in connection["extra"].items() if value is not None}
        given = {name: value for name, value in connection.items() if value is not None}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(given))

    return define


@pytest.fixture
def masked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the hook told Airflow to mask."""
    told: list[str] = []
    monkeypatch.setattr(custom_audience, "mask_secret", told.append)
    return told
