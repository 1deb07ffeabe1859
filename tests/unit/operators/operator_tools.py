"""People, what gives them away, and as much of a task instance as the operators use."""

from __future__ import annotations

import hashlib
import os
import signal
from typing import Any

import pyarrow as pa

from airflow_provider_fbca.graph.api import GraphApi
from airflow_provider_fbca.ledger.store import Store
from airflow_provider_fbca.operators.custom_audience import (
    FacebookRefreshAudienceOperator,
    FacebookRemoveUsersOperator,
    FacebookUploadUsersOperator,
)

OPERATORS = {
    "upload": FacebookUploadUsersOperator,
    "remove": FacebookRemoveUsersOperator,
    "refresh": FacebookRefreshAudienceOperator,
}


class FakeTaskInstance:
    """As much of a task instance as the operators use; ``store`` is what XCom holds for the task."""

    dag_id, task_id, run_id, map_index, try_number = "audiences", "send", "run-1", -1, 1

    def __init__(self, store: dict[str, Any]) -> None:
        self.store = store
        self.pulled: list[dict[str, Any]] = []

    def xcom_push(self, key: str, value: Any) -> None:
        self.store[key] = value

    def xcom_pull(self, **options: Any) -> Any:
        self.pulled.append(options)
        return self.store.get(options["key"])


def emails(*names: str) -> pa.Table:
    return pa.table({"email": pa.array([f"{name}@example.com" for name in names], pa.string())})


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def digests(*names: str) -> list[str]:
    return sorted(sha(f"{name}@example.com") for name in names)


def traces_of(person: str) -> list[str]:
    """All that could give a person away: the value, its parts, and its digest in every form."""
    digest = hashlib.sha256(person.encode()).digest()
    return [
        person,
        person.partition("@")[0],
        digest.hex(),
        digest.hex().upper(),
        repr(digest)[2:-1],
        str(digest[:16].hex()),
    ]


def kill_at(place: str, nth: int) -> None:
    """Make this process die by SIGKILL at its nth request to send people, or its nth write to the ledger."""
    count = 0

    def dying(function, when):
        def call(*args, **options):
            nonlocal count
            count += 1
            if count == nth and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            here = count == nth
            try:
                return function(*args, **options)
            finally:
                if here:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    what, when = place.split()
    if what == "request":
        GraphApi.send = dying(GraphApi.send, when)
    else:
        for verb in ("put", "create", "delete"):
            setattr(Store, verb, dying(getattr(Store, verb), when))


def killed(place: str, nth: int, work) -> bool:
    """Do something in a child that is killed on the way; tells whether it was, or came to its end before."""
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(60)
            kill_at(place, nth)
            work()
        except BaseException:  # noqa: BLE001 - the child must not go on as a test
            os._exit(1)
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended in {0, -signal.SIGKILL}
    return ended < 0
