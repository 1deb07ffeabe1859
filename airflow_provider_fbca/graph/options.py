"""What an uploader was made with, for all its parts."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_fbca.graph.api import GraphApi
    from airflow_provider_fbca.graph.outcome import BatchAck

log = logging.getLogger(__name__)


class Verb(Enum):
    """What can be done with people: the method and the edge."""

    ADD = ("POST", "users")
    REMOVE = ("DELETE", "users")
    REPLACE = ("POST", "usersreplace")
    ERASE = ("DELETE", "usersofanyaudience")


@dataclass(frozen=True, slots=True)
class Options:
    """What an uploader was made with; see :class:`~airflow_provider_fbca.graph.upload.UserUploader`.

    :param max_payload_bytes: most bytes of a payload.
    :param lock: held while ``before_request`` runs.
    """

    api: GraphApi
    audience_id: str
    batch_size: int
    max_concurrency: int
    new_session: Callable[[], int]
    on_batch: Callable[[BatchAck], None]
    before_request: Callable[[], None]
    max_payload_bytes: int
    payload_extra: Mapping[str, Any] | None
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask_before_request(self) -> None:
        """Call ``before_request``, from one thread at a time."""
        with self.lock:
            self.before_request()

    def due_in(self) -> float:
        """Return how many seconds the next request has to wait for Meta's rate limits."""
        return self.api.throttle_of(self.audience_id).due_in()

    def wait_out_flights(self) -> None:
        """Wait until no write whose answer was given up can still land."""
        if self.api.unknown_since is None:
            return
        left = self.api.unknown_since + self.api.longest_flight - self.clock()
        if left > 0:
            log.warning("Meta left a request without an answer; waiting %.0f s until it can land no more.", left)
            self.sleep(left)
