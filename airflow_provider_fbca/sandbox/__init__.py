"""A local Graph API: what Meta does with customer lists, on this machine, for demos and tests.

``serve`` runs it inside a test, ``run`` as a process of its own, ``create_app`` gives the bare application.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_fbca.sandbox.app import create_app
    from airflow_provider_fbca.sandbox.clock import Clock
    from airflow_provider_fbca.sandbox.server import run
    from airflow_provider_fbca.sandbox.settings import Account, Settings, Token
    from airflow_provider_fbca.sandbox.testing import Sandbox, serve

__all__ = ["Account", "Clock", "Sandbox", "Settings", "Token", "create_app", "run", "serve"]

_HOMES = {
    "Account": "settings",
    "Clock": "clock",
    "Sandbox": "testing",
    "Settings": "settings",
    "Token": "settings",
    "create_app": "app",
    "run": "server",
    "serve": "testing",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that the command line stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only needed here

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
