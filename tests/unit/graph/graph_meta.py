"""A sandbox and a client that live by one clock, which the client's own waiting moves."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.graph.api import GraphApi
from airflow_provider_fbca.graph.retry import RetryPolicy
from airflow_provider_fbca.graph.upload import UserUploader

if TYPE_CHECKING:
    from airflow_provider_fbca.graph.outcome import BatchAck
    from airflow_provider_fbca.sandbox import Clock

NOON = 1_800_000_000.0
FLIGHT = 40


class Meta:
    """A sandbox whose clock only the client's own waiting moves."""

    def __init__(self, sandbox: Any, clock: Clock) -> None:
        self.sandbox, self.clock = sandbox, clock
        self.slept: list[float] = []
        self.begun: list[int] = []
        self.ids = itertools.count(1)
        self.audience = sandbox.create_audience()
        self.sent: list[dict[str, Any]] = []
        self.connect(timeout=FLIGHT / 2)

    def connect(self, timeout: float) -> None:
        """Begin another client, whose replaces are noted as they go out, whatever becomes of them."""
        self.api = GraphApi(
            access_token=self.sandbox.token,
            base_url=self.sandbox.url,
            timeout=timeout,
            retry=RetryPolicy(sleep=self.clock.advance),
            clock=self.clock.now,
        )
        exchange = self.api._transport.exchange

        def noted(request: Any) -> Any:
            if request.url.endswith("/usersreplace"):
                self.sent.append(json.loads(request.body)["session"])
            return exchange(request)

        self.api._transport.exchange = noted  # type: ignore[method-assign]

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)

    def new_session(self) -> int:
        self.begun.append(next(self.ids))
        return self.begun[-1]

    def uploader(self, **options: Any) -> UserUploader:
        defaults = {
            "new_session": self.new_session,
            "batch_size": 100,
            "clock": self.clock.now,
            "sleep": self.sleep,
        }
        return UserUploader(self.api, self.audience, **defaults | options)

    def names(self) -> set[str]:
        return {row["EXTERN_ID"] for row in self.sandbox.members(self.audience)}

    def firsts(self) -> list[int]:
        """The sessions of the first batches that were sent, also in vain."""
        return [session["session_id"] for session in self.sent if session["batch_seq"] == 1]


def names(first: int, end: int) -> set[str]:
    return {f"c{number}" for number in range(first, end)}


class Reports:
    """What an uploader has reported as acknowledged."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, ack: BatchAck) -> None:
        self.rows += range(ack.first_row, ack.first_row + ack.rows)
