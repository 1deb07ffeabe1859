"""A real Airflow in processes of its own, and a driver that speaks its REST API."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
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
_QUIET_LOOKS = 4
_ANSWER_SECONDS = 60
_BUSY_SECONDS = 60
#: Below those that systems give to outgoing connections, of which an Airflow that starts makes many.
_PORTS = range(20_000, 32_000)
#: The package under test, and what DAGs of tests import.
_IMPORTED = (Path(__file__).parents[2], Path(__file__).parent)
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
        # A kept-alive connection may be closed by the server just when the next request is sent on it.
        self._http.headers["Connection"] = "close"

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
        """Return the newest hundred runs of a DAG, oldest first."""
        found = self.call("GET", f"/dags/{dag_id}/dagRuns", params={"order_by": "-run_after", "limit": 100})
        return list(reversed(found["dag_runs"]))

    def wait_for_new_run(self, dag_id: str, known: set[str], run_type: str) -> str:
        """Wait until a run of a DAG has succeeded that is not among the known ones, and return its id.

        :param known: ids of runs.
        :param run_type: ``scheduled``, ``asset_triggered``, ``backfill``...
        """

        def succeeded() -> str | None:
            new = [run for run in self.runs(dag_id) if run["dag_run_id"] not in known and run["run_type"] == run_type]
            assert all(run["state"] != "failed" for run in new), self.last_words()
            assert not self.waits_for_a_retry(dag_id), self.last_words()
            return next((run["dag_run_id"] for run in new if run["state"] == "success"), None)

        return self.wait_for(succeeded, f"a {run_type} run of {dag_id} to succeed")

    def emit(self, asset: str) -> None:
        """Tell Airflow that an asset has changed."""
        found = self.call("GET", "/assets", params={"name_pattern": asset})["assets"]
        (asset_id,) = {each["id"] for each in found if each["name"] == asset}
        self.call("POST", "/assets/events", json={"asset_id": asset_id})

    def backfill(self, dag_id: str, first: str, last: str) -> list[str]:
        """Backfill a DAG, one run after the other, and return the ids of the runs, which succeeded, oldest first.

        :param first: the first logical date.
        :param last: the last one.
        """
        body = {"dag_id": dag_id, "from_date": first, "to_date": last, "max_active_runs": 1}
        number = self.call("POST", "/backfills", json=body)["id"]

        def done() -> bool:
            return bool(self.call("GET", f"/backfills/{number}")["completed_at"])

        self.wait_for(done, f"the backfill of {dag_id} to end")
        runs = [run for run in self.runs(dag_id) if run["run_type"] == "backfill"]
        assert all(run["state"] == "success" for run in runs), self.last_words()
        return [run["dag_run_id"] for run in sorted(runs, key=lambda run: run["end_date"])]

    def state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run."""
        return str(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def wait_for_run(self, dag_id: str, run_id: str) -> str:
        """Wait until a run has ended and return its state."""

        def ended() -> str | None:
            state = self.state(dag_id, run_id)
            return state if state in _ENDED else None

        return self.wait_for(ended, f"run {run_id} of {dag_id} to end")

    def waits_for_a_retry(self, dag_id: str) -> bool:
        """Whether a task of a DAG has failed and will be tried again."""
        path = f"/dags/{dag_id}/dagRuns/~/taskInstances"
        return bool(self.call("GET", path, params={"state": "up_for_retry"})["task_instances"])

    def wait_for_quiet(self, dag_id: str) -> None:
        """Wait until no task of a paused DAG is under way; its open run, if any, goes on when the pause is over.

        The scheduler may be about to queue a task of a DAG that it read before the pause: one quiet look is not enough.
        """
        path = f"/dags/{dag_id}/dagRuns/~/taskInstances"
        looks = 0

        def quiet() -> bool:
            nonlocal looks
            found = self.call("GET", path, params={"state": ["queued", "running"]})["task_instances"]
            looks = 0 if found else looks + 1
            return looks == _QUIET_LOOKS

        self.wait_for(quiet, f"the tasks of {dag_id} to end")

    def run(self, dag_id: str, *, logical_date: str | None = None) -> tuple[str, str]:
        """Start a manual run, wait for its end and return its id and state."""
        run_id = self.trigger(dag_id, logical_date=logical_date)
        return run_id, self.wait_for_run(dag_id, run_id)

    def clear(self, dag_id: str, run_id: str) -> str:
        """Clear a run, wait until it has ended again and return its state."""
        self.call("POST", f"/dags/{dag_id}/dagRuns/{run_id}/clear", json={"dry_run": False})
        return self.wait_for_run(dag_id, run_id)

    def task_state(self, dag_id: str, run_id: str, task_id: str) -> str | None:
        """Return the state of a task; None before it has one."""
        return self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")["state"]

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
    """End a process and everything that it started.

    Not by asking: Airflow takes long to say goodbye, and some of its children outlive it, in groups of their own.
    """
    deadline = time.monotonic() + _STOP_SECONDS
    while left := [one for one in psutil.process_iter(["pid"]) if _is_alive_in(one, process.pid)]:
        assert time.monotonic() < deadline, f"Processes that do not end: {left}"
        for one in left:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(left, timeout=1)
    process.wait(_STOP_SECONDS)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens at."""
    free: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if len(free) == count:
            return free
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            free.append(port)
    raise AssertionError("There are no free ports.")


def _settings(home: Path, database: str, ports: list[int]) -> dict[str, str]:
    api, worker_log, trigger_log = map(str, ports)
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([*map(str, _IMPORTED), os.environ.get("PYTHONPATH", "")]),
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
        # On a busy machine the one server may answer late; five seconds and a few tries later a task would be failed.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
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
    serious = ('"level":"error"', '"level":"critical"')
    return [f"{path}: {line}" for line in path.read_text().splitlines() if any(word in line for word in serious)]


def _is_alive_in(one: psutil.Process, session: int) -> bool:
    with suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
        return os.getsid(one.pid) == session and one.status() != psutil.STATUS_ZOMBIE
    return False
