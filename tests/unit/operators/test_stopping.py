"""What ``on_kill`` does: Airflow calls it when a task is to stop, and goes on with ``execute`` until that returns."""

from __future__ import annotations

import threading
import time
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_fbca.exceptions import SourceError, StoppedError
from airflow_provider_fbca.operators.custom_audience import FacebookRefreshAudienceOperator
from airflow_provider_fbca.operators.run import AudienceRun
from airflow_provider_fbca.sandbox import serve


class FakeTaskInstance:
    dag_id, task_id, run_id, map_index, try_number = "dag", "refresh", "run", -1, 1

    def xcom_push(self, key: str, value: Any) -> None:
        pass

    def xcom_pull(self, **_: Any) -> None:
        return None


@pytest.fixture
def sandbox(monkeypatch):
    with serve() as found:
        monkeypatch.setenv("AIRFLOW_CONN_FBCA_DEFAULT", found.connection_json)
        yield found


def refresh(sandbox, tmp_path, **options: Any) -> FacebookRefreshAudienceOperator:
    return FacebookRefreshAudienceOperator(
        task_id="refresh",
        audience_id=sandbox.create_audience(),
        ledger_uri=f"file://{tmp_path / 'ledger'}",
        **options,
    )


def test_no_request_begins_once_the_task_was_told_to_stop(sandbox, tmp_path):
    task: FacebookRefreshAudienceOperator

    def people() -> pa.Table:
        return pa.table({"email": [f"p{number}@example.com" for number in range(50)]})

    task = refresh(sandbox, tmp_path, users_callable=people, batch_size=10, max_concurrency=1)
    original = task.hook.sender

    def stopping_sender(*args: Any, **options: Any):
        sender = original(*args, **options)
        task.on_kill()
        return sender

    task.hook.sender = stopping_sender
    with pytest.raises(StoppedError):
        task.execute({"ti": FakeTaskInstance()})
    assert sandbox.requests("add_users") == []


def test_a_task_that_waits_for_a_rate_limit_ends_when_it_was_told_to_stop(sandbox, tmp_path):
    task = refresh(sandbox, tmp_path, users_callable=lambda: pa.table({"email": ["p@example.com"]}))
    # Meta asks to wait a minute.
    sandbox.fault("graph", operation="add_users", count=50, code=80003, status=400, is_transient=True)
    ended, waited_out = threading.Event(), []

    def stop_once_throttled():
        while not sandbox.requests("add_users"):
            time.sleep(0.05)
        task.on_kill()
        waited_out.append(not ended.wait(30))

    stopping = threading.Thread(target=stop_once_throttled)
    stopping.start()
    with pytest.raises(StoppedError):
        task.execute({"ti": FakeTaskInstance()})
    ended.set()
    stopping.join()
    assert waited_out == [False]


def test_a_query_that_blocks_ends_when_the_task_was_told_to_stop(sandbox, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_DUCK", '{"conn_type": "duckdb"}')
    forever = (
        "SELECT 'a@example.com' AS email FROM range(1e9::BIGINT) a, range(1e9::BIGINT) b WHERE a.range + b.range < 0"
    )
    task = refresh(sandbox, tmp_path, sql=forever, sql_conn_id="duck")
    threading.Timer(2, task.on_kill).start()
    with pytest.raises((SourceError, StoppedError)):
        task.execute({"ti": FakeTaskInstance()})
    assert sandbox.requests("add_users") == []


def test_a_wait_for_a_rate_limit_before_anything_has_begun_ends_once_the_task_was_told_to_stop(
    sandbox, tmp_path, monkeypatch
):
    task = refresh(sandbox, tmp_path, users_callable=lambda: pytest.fail("The users were read."))
    sandbox.fault("graph", operation="read_audience", code=80003, status=400, is_transient=False)
    pause = AudienceRun._pause

    def stopping(self, seconds):
        task.on_kill()
        pause(self, seconds)

    monkeypatch.setattr(AudienceRun, "_pause", stopping)
    with pytest.raises(StoppedError):
        task.execute({"ti": FakeTaskInstance()})
    assert not (tmp_path / "ledger").exists()
