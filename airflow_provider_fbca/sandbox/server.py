"""The sandbox as a process of its own: ``fbca sandbox``."""

from __future__ import annotations

import ipaddress
import json
import socket
import sys
from typing import TYPE_CHECKING

import uvicorn

from airflow_provider_fbca.sandbox.app import create_app
from airflow_provider_fbca.sandbox.settings import Settings
from airflow_provider_fbca.sandbox.wire import Protocol

if TYPE_CHECKING:
    from airflow_provider_fbca.sandbox.clock import Clock

DEFAULT_PORT = 8095
_SHUTDOWN_SECONDS = 1
_KEEP_ALIVE_SECONDS = 75


class PlaceError(ValueError):
    """The sandbox was told to listen where others could reach it."""


def run(
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    settings: Settings | None = None,
    clock: Clock | None = None,
    allow_remote: bool = False,
) -> None:
    """Serve until interrupted, and print how to reach the sandbox.

    :param host: address to listen at.
    :param port: port to listen at; 0 takes a free one.
    :param settings: what the sandbox starts from.
    :param clock: its time.
    :param allow_remote: listen at an address that other machines reach. The sandbox has no secrets of its own, but
        it does hold what is uploaded to it.
    :raises PlaceError: for such an address without ``allow_remote``.
    """
    settings = settings or Settings()
    listener = listen(host, port, allow_remote=allow_remote)
    sys.stdout.write(greeting(url_of(listener), settings) + "\n")
    sys.stdout.flush()
    make_server(settings, clock).run(sockets=[listener])


def listen(host: str, port: int, *, allow_remote: bool = False) -> socket.socket:
    """Return a socket to serve on.

    :raises PlaceError: for an address that is not this machine's own, unless that is allowed.
    """
    if not (allow_remote or _is_loopback(host)):
        raise PlaceError(
            f"The sandbox listens on this machine only, and {host} can be reached by others. "
            "Use 127.0.0.1, or allow remote access explicitly."
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=512)


def make_server(settings: Settings | None, clock: Clock | None) -> uvicorn.Server:
    """Return a server for a new sandbox; its own log lines are warnings only, so no URL with a token is printed."""
    config = uvicorn.Config(
        create_app(settings, clock),
        http=Protocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(config)


def url_of(listener: socket.socket) -> str:
    """Return the address of a server on this socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def connection_json(url: str, settings: Settings) -> str:
    """Return the Airflow connection that reaches a sandbox, as the value of ``AIRFLOW_CONN_FBCA_DEFAULT``."""
    token, seen = next(iter(settings.tokens.items()))
    extra = {"app_secret": settings.app_secret, "ad_account_id": f"act_{seen.accounts[0]}"}
    connection = {"conn_type": "fbca", "host": url, "login": settings.app_id, "password": token, "extra": extra}
    return json.dumps(connection)


def greeting(url: str, settings: Settings) -> str:
    """Return what a person needs to use a sandbox."""
    token, seen = next(iter(settings.tokens.items()))
    return "\n".join(
        (
            "Sandbox Graph API, a stand-in for Meta's on this machine.",
            f"  Look at it:    {url}/",
            f"  Access token:  {token}",
            f"  Ad account:    act_{seen.accounts[0]}",
            "  Airflow connection:",
            f"    export AIRFLOW_CONN_FBCA_DEFAULT='{connection_json(url, settings)}'",
        )
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
