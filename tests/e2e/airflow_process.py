"""A real Airflow in processes of its own, and a driver that speaks its REST API."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_START_SECONDS = 180
_STOP_SECONDS = 30
_RUN_SECONDS = 120
_POLL_SECONDS = 0.3
_ANSWER_SECONDS = 60
_BUSY_SECONDS = 60
T = TypeVar("T")

_ENDED = {"success", "failed"}


class Airflow:
    """A running ``airflow standalone``.

    :param home: its AIRFLOW_HOME.
    :param url: of its API server.
    """

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        self.url = url
        self._http = requests.Session()
        self._http.trust_env = False

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Call the REST API and return its JSON.

        Metadata in SQLite has one writer at a time, and Airflow's server answers 500 where the scheduler is quicker:
        such a call changed nothing, and is made again.
        """
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            answer = self._http.request(method, f"{self.url}/api/v2{path}", timeout=_ANSWER_SECONDS, **options)
            busy = answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR and "Database error" in answer.text
            if not busy or time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def log_in(self) -> None:
        """Get a token from the simple auth manager, which takes everybody for an admin here."""
        answer = self._http.get(f"{self.url}/auth/token", timeout=30)
        answer.raise_for_status()
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def set_paused(self, dag_id: str, *, paused: bool) -> None:
        """Pause or start the schedule of a DAG."""
        self.call("PATCH", f"/dags/{dag_id}", json={"is_paused": paused})

    def trigger(self, dag_id: str, *, logical_date: str | None = None) -> str:
        """Start a manual run and return its id."""
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", json={"logical_date": logical_date})["dag_run_id"])

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG, oldest first."""
        found = self.call("GET", f"/dags/{dag_id}/dagRuns", params={"order_by": "run_after", "limit": 100})
        return list(found["dag_runs"])

    def wait_for_run(self, dag_id: str, run_id: str) -> str:
        """Wait until a run has ended and return its state."""

        def ended() -> str | None:
            state = str(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])
            return state if state in _ENDED else None

        return self.wait_for(ended, f"run {run_id} of {dag_id} to end")

    def waits_for_a_retry(self, dag_id: str) -> bool:
        """Whether a task of a DAG has failed and will be tried again."""
        path = f"/dags/{dag_id}/dagRuns/~/taskInstances"
        return bool(self.call("GET", path, params={"state": "up_for_retry"})["task_instances"])

    def wait_for_quiet(self, dag_id: str) -> None:
        """Wait until no task of a paused DAG is under way; its open run, if any, goes on when the pause is over."""
        path = f"/dags/{dag_id}/dagRuns/~/taskInstances"

        def quiet() -> bool:
            found = self.call("GET", path, params={"state": ["queued", "running"]})["task_instances"]
            return not found

        self.wait_for(quiet, f"the tasks of {dag_id} to end")

    def run(self, dag_id: str, *, logical_date: str | None = None) -> tuple[str, str]:
        """Start a manual run, wait for its end and return its id and state."""
        run_id = self.trigger(dag_id, logical_date=logical_date)
        return run_id, self.wait_for_run(dag_id, run_id)

    def clear(self, dag_id: str, run_id: str) -> str:
        """Clear a run, wait until it has ended again and return its state."""
        self.call("POST", f"/dags/{dag_id}/dagRuns/{run_id}/clear", json={"dry_run": False})
        return self.wait_for_run(dag_id, run_id)

    def tries(self, dag_id: str, run_id: str, task_id: str) -> int:
        """Return how many tries a task has had."""
        return int(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")["try_number"])

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """Return an XCom."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.call("GET", path, params={"deserialize": "false", "stringify": "false"})["value"]

    def wait_for(self, found: Callable[[], T | None], what: str, seconds: float = _RUN_SECONDS) -> T:
        """Call until the answer is true, and return it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if answer := found():
                return answer
            time.sleep(_POLL_SECONDS)
        raise AssertionError(f"Waited {seconds} s in vain for {what}.\n{self.last_words()}")

    def last_words(self) -> str:
        """Return the errors in the task logs and the end of the processes' own log."""
        errors = [line for path in sorted((self.home / "logs").rglob("attempt=*.log")) for line in _errors(path)]
        return "\n".join([*errors, *(self.home / "standalone.log").read_text().splitlines()[-40:]])


@contextmanager
def running(home: Path, database: str, environment: Mapping[str, str], dag_ids: set[str]) -> Iterator[Airflow]:
    """Run an Airflow until the block ends; then none of its processes is left.

    :param home: an empty folder; DAGs are in ``dags`` below.
    :param database: SQLAlchemy URL of its metadata.
    :param environment: connections, variables and settings beside the test's own.
    :param dag_ids: of the DAGs that must be there before the block starts.
    """
    home.mkdir(parents=True, exist_ok=True)
    (home / "tmp").mkdir()
    ports = free_ports(3)
    settings = _settings(home, database, ports) | dict(environment)
    command = [sys.executable, "-m", "airflow", "standalone"]
    log = home / "standalone.log"
    with ExitStack() as cleanup:
        output = cleanup.enter_context(log.open("wb"))
        # A session of its own: a signal to the parent alone would leave its children behind.
        process = subprocess.Popen(command, env=settings, stdout=output, stderr=output, start_new_session=True)
        cleanup.callback(stop_group, process)
        airflow = Airflow(home, f"http://127.0.0.1:{ports[0]}")
        try:
            airflow.wait_for(lambda: _is_up(process, airflow, dag_ids), "Airflow to start", _START_SECONDS)
            yield airflow
        except BaseException:
            sys.stderr.write(airflow.last_words())
            raise


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and everything that it started, the hard way where asking is not enough."""
    session = [one for one in psutil.process_iter(["pid"]) if _session_of(one.pid) == process.pid]
    _signal_group(process.pid, signal.SIGTERM)
    psutil.wait_procs(session, timeout=_STOP_SECONDS)
    # Airflow gives some of its children groups of their own, in the same session.
    left = [one for one in psutil.process_iter(["pid"]) if _session_of(one.pid) == process.pid]
    for one in left:
        one.kill()
    process.wait(_STOP_SECONDS)
    psutil.wait_procs(left, timeout=_STOP_SECONDS)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens at."""
    with ExitStack() as cleanup:
        sockets = [cleanup.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def _settings(home: Path, database: str, ports: list[int]) -> dict[str, str]:
    api, worker_log, trigger_log = map(str, ports)
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "LANG": "C.UTF-8",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api}/execution/",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": api,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": worker_log,
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": trigger_log,
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def _is_up(process: subprocess.Popen[bytes], airflow: Airflow, dag_ids: set[str]) -> bool:
    assert process.poll() is None, f"airflow standalone ended with {process.returncode}."
    try:
        airflow.log_in()
    except requests.RequestException:
        return False
    found = airflow.call("GET", "/dags", params={"limit": 100})["dags"]
    errors = airflow.call("GET", "/importErrors")["import_errors"]
    assert not errors, errors
    return dag_ids <= {dag["dag_id"] for dag in found}


def _errors(path: Path) -> list[str]:
    return [f"{path}: {line}" for line in path.read_text().splitlines() if '"level":"error"' in line]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return
