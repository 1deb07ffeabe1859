"""People, what gives them away, and as much of a task instance as the operators use."""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa

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
