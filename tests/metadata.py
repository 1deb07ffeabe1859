"""Airflow's metadata databases, and one that ``dag.test()`` runs on in this process."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from airflow import settings
from airflow.sdk.execution_time import supervisor
from servers import postgres, sqlalchemy_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_API_SECONDS = 60


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """Give the SQLAlchemy URL of an empty database.

    :param kind: ``sqlite`` or ``postgres``: the two give a task's earlier XComs in different orders.
    :param folder: where the file of the first one goes.
    """
    if kind == "sqlite":
        yield f"sqlite:///{folder}/airflow.db"
        return
    with postgres() as server:
        server.psql("CREATE DATABASE airflow")
        yield sqlalchemy_url(server, "airflow", driver="psycopg2")


@contextmanager
def in_process_airflow(url: str) -> Iterator[Any]:
    """Make a database this process's metadata while the block runs, and give the one Execution API of all runs.

    ``dag.test()`` makes one a task, which takes seconds, and that of Airflow 3.2 may get its first request before it is
    ready.

    :param url: of a database, as SQLAlchemy writes it; it is migrated.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", url)
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", secrets.token_hex(32))
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, env=os.environ)
        assert done.returncode == 0, done.stderr
        _connect()
        api = supervisor.in_process_api_server()
        deadline = time.monotonic() + _API_SECONDS
        while api.transport and not hasattr(api.app.state, "svcs_registry"):
            assert time.monotonic() < deadline, "The Execution API did not start."
            time.sleep(0.05)
        patch.setattr(supervisor, "in_process_api_server", lambda: api)
        yield api
        settings.dispose_orm()
    _connect()


def _connect() -> None:
    """Let Airflow's session be one of the database that the environment names."""
    settings.configure_vars()
    settings.reconfigure_orm()
