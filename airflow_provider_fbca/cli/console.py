"""What all commands do at the terminal: show log lines, and tell of errors without quoting anybody."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from airflow_provider_fbca.exceptions import FbcaError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What ends a command in typer's own way.
_BY_TYPER = (typer.Exit, typer.Abort, typer.BadParameter)


class _ToStderr(logging.Handler):
    """Shows the package's log lines to the person at the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(record.getMessage(), err=True)


@contextmanager
def told(command: str) -> Iterator[None]:
    """Show log lines while a command works, and an error of ours as its text alone, with exit code 1.

    :param command: its name after ``fbca``.
    """
    from airflow_provider_fbca.operators.rim import without_values  # noqa: PLC0415 - loads Airflow

    log = logging.getLogger("airflow_provider_fbca")
    handler, level, propagates = _ToStderr(logging.INFO), log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    stopped: Exception | None = None
    try:
        with without_values("The command"):
            try:
                yield
            except _BY_TYPER as error:
                stopped = error
    except FbcaError as error:
        typer.echo(f"fbca {command}: {error}", err=True)
        stopped = typer.Exit(1)
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagates
    if stopped:
        raise stopped from None
