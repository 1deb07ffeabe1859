"""Where a new connection goes: into Airflow, into a file for its owner alone, or to the terminal."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.exceptions import FbcaError

if TYPE_CHECKING:
    from collections.abc import Mapping

_HIDDEN = "***"
_IMPORT_SECONDS = 300


def without_secrets(connection: Mapping[str, Any]) -> dict[str, Any]:
    """Return a connection with its token and secret blotted out."""
    return {**connection, "password": _HIDDEN, "extra": {**connection["extra"], "app_secret": _HIDDEN}}


def variable_name(conn_id: str) -> str:
    """Return the environment variable that Airflow reads a connection from."""
    return f"AIRFLOW_CONN_{conn_id.upper()}"


def shell_line(conn_id: str, connection: Mapping[str, Any]) -> str:
    """Return the line for a shell that defines a connection, secrets included."""
    return f"export {variable_name(conn_id)}={shlex.quote(json.dumps(connection))}"


def write_file(path: Path, conn_id: str, connection: Mapping[str, Any]) -> None:
    """Write a connection to a new file that only its owner can read, in the form of ``airflow connections import``.

    :param path: ends in ``.json``, by which Airflow knows the form.
    :raises FbcaError: where it exists, or cannot be written.
    """
    reason = ""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({conn_id: connection}, file, indent=1)
    except OSError as error:
        reason = type(error).__name__
    if reason:
        raise FbcaError(f"{path} cannot be written: {reason}.", remedy="Name a file that does not exist yet.")


def store(conn_id: str, connection: Mapping[str, Any], *, replace: bool) -> bool:
    """Store a connection in the database of the Airflow that is installed here.

    ``airflow connections import`` does it, the same on all minors: its command line names a file and no secret, while
    that of ``airflow connections add`` would hold the token for other users of the machine to see.

    :param replace: put it in the place of one of the same name.
    :returns: False where there is one of that name, and it was to stay.
    :raises FbcaError: where Airflow did not do it.
    """
    with tempfile.TemporaryDirectory(prefix="fbca-login-") as folder:
        file = Path(folder) / "connection.json"
        write_file(file, conn_id, connection)
        command = [sys.executable, "-m", "airflow", "connections", "import", str(file)]
        done = subprocess.run(  # noqa: S603 - our own words only
            [*command, *(["--overwrite"] if replace else [])],
            capture_output=True,
            text=True,
            timeout=_IMPORT_SECONDS,
            check=False,
        )
    stored = f"Imported connection {conn_id}" in done.stdout
    if done.returncode or (replace and not stored):
        # Not shown: an error of the database quotes what was to be written.
        raise FbcaError(
            f"`airflow connections import` did not store the connection (exit code {done.returncode}).",
            remedy="See whether `airflow db check` succeeds here, or use --file and import it where Airflow is.",
        )
    return stored
