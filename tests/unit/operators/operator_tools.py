"""People, what gives them away, and as much of a task instance as the operators use."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import traceback
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_provider_fbca.graph.delivery import Delivery
from airflow_provider_fbca.graph.transport import Transport
from airflow_provider_fbca.ledger.store import Store
from airflow_provider_fbca.operators.custom_audience import (
    FacebookRefreshAudienceOperator,
    FacebookRemoveUsersOperator,
    FacebookUploadUsersOperator,
)
from airflow_provider_fbca.operators.run import AudienceRun

try:
    from airflow.sdk.exceptions import TaskDeferred as TaskDeferred  # noqa: PLC0414 - for tests to import
except ImportError:  # Airflow 3.1
    from airflow.exceptions import TaskDeferred as TaskDeferred  # noqa: PLC0414 - as above

if TYPE_CHECKING:
    from collections.abc import Callable

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


#: How often a child was killed since the last test that told of it.
KILLS: list[str] = []


def kill_at(place: str, nth: int, late: Callable[[], None]) -> None:
    """Make this process die by SIGKILL at its nth request to Meta, write to the ledger, or wait.

    :param place: ``request`` or ``write``, and ``before`` or ``after`` it, or in its midst: a request ``flying``, which
        lands when its sender is long dead, or a write that is ``half`` done, its file there under a name of its own;
        or in the ``midst`` of a ``wait``.
    :param late: makes the next request land late.
    """
    numbers = itertools.count(1)

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def dying(function, when):
        def call(*args, **options):
            if next(numbers) != nth:
                return function(*args, **options)
            if when == "flying":
                late()
            if when in {"before", "half", "midst"}:
                die()
            try:
                return function(*args, **options)
            finally:
                die()

        return call

    what, when = place.split()
    if what == "request":
        Transport.exchange = dying(Transport.exchange, when)
    elif what == "wait":
        Delivery._pause = dying(Delivery._pause, when)
        AudienceRun._pause = dying(AudienceRun._pause, when)
    elif when == "half":
        os.link = dying(os.link, when)
    else:
        for verb in ("put", "create", "delete"):
            setattr(Store, verb, dying(getattr(Store, verb), when))


def killed(place: str, nth: int, work: Callable[[], object], *, late: Callable[[], None] = lambda: None) -> bool:
    """Do something in a child that is killed on the way; tells whether it was, or came to its end before.

    :param place: see :func:`kill_at`, likewise for the rest.
    """
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(120)
            kill_at(place, nth, late)
            work()
        except BaseException:  # noqa: BLE001 - the child must not go on as a test
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended in {0, -signal.SIGKILL}
    if ended:
        KILLS.append(f"{place} {nth}")
    return ended < 0
