"""What the benchmarks share: work in processes of its own, a sandbox in one, Meta's SDK pointed at it, and a task."""

from __future__ import annotations

import json
import multiprocessing
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.sandbox import Sandbox, gateway
from airflow_provider_fbca.sandbox.server import listen, make_server, url_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from facebook_business.adobjects.customaudience import CustomAudience

    from airflow_provider_fbca.sandbox import Settings

#: Meta was seen to drop connections whose address has 20 to 24 kB. The sandbox does so earlier, which would not be fair
#: to the SDK's removals.
LONGEST_URL = 20 * 1024


class StandIn(Sandbox):
    """A running sandbox that tells what it costs.

    :param url: where it listens.
    :param settings: what it was started with.
    :param pid: of its process.
    """

    def __init__(self, url: str, settings: Settings, pid: int) -> None:
        super().__init__(url, settings)
        self.pid = pid

    def cpu_seconds(self) -> float:
        """Return the processor's time that its process has taken."""
        user, system = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def stand_in(settings: Settings) -> Iterator[StandIn]:
    """Serve a sandbox from a process of its own, and let the processes begun from now on reach it by its connection."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    server = spawn.Process(target=_serve, args=(settings, there), daemon=True)
    server.start()
    there.close()
    try:
        sandbox = StandIn(here.recv(), settings, server.pid or 0)
        os.environ["AIRFLOW_CONN_FBCA_DEFAULT"] = sandbox.connection_json
        yield sandbox
    finally:
        server.terminate()
        server.join()


def _serve(settings: Settings, told: Connection) -> None:
    gateway.MAX_URL_BYTES = LONGEST_URL
    listener = listen("127.0.0.1", 0)
    told.send(url_of(listener))
    make_server(settings, None).run(sockets=[listener])


def sdk_audience(audience_id: str) -> CustomAudience:
    """Return the SDK's own object of an audience at the sandbox."""
    from facebook_business.adobjects.customaudience import CustomAudience
    from facebook_business.api import FacebookAdsApi
    from facebook_business.session import FacebookSession

    connection = json.loads(os.environ["AIRFLOW_CONN_FBCA_DEFAULT"])
    FacebookSession.GRAPH = connection["host"]
    session = FacebookSession(connection["login"], connection["extra"]["app_secret"], connection["password"])
    return CustomAudience(audience_id, api=FacebookAdsApi(session))


def run_apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own and return what it returns."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


class TaskInstance:
    """As much of a task instance as an operator needs outside of Airflow; its XComs are forgotten."""

    dag_id, task_id, map_index = "benchmark", "refresh", -1

    def __init__(self, try_number: int = 1) -> None:
        self.run_id = f"run-{os.getpid()}"
        self.try_number = try_number

    def xcom_push(self, key: str, value: Any) -> None:
        pass

    def xcom_pull(self, **_options: Any) -> None:
        pass


def resident(name: str, pid: int | str = "self") -> float:
    """Memory of a process now (VmRSS) or at its most (VmHWM), in MB."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024 / 1e6
