"""Waits for a query that runs by itself on its server."""

from __future__ import annotations

from itertools import chain, repeat
from typing import TYPE_CHECKING

from airflow_provider_fbca.exceptions import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

# Distances of the first looks: a query that is over at once is seen at once.
_FIRST_SECONDS = (0.05, 0.1, 0.2)
_POLL_SECONDS = 0.5


def wait_while(is_running: Callable[[], bool], *, cancelled: Event) -> None:
    """Wait until a query is over.

    :param is_running: asks the server.
    :param cancelled: set by whoever wants no result any more.
    :raises SourceError: it was cancelled meanwhile, and may run on until the server is told.
    """
    for seconds in chain(_FIRST_SECONDS, repeat(_POLL_SECONDS)):
        if not is_running():
            return
        if cancelled.wait(seconds):
            raise SourceError("The query was cancelled while it ran.")
