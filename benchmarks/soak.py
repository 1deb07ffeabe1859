"""Millions of people through everything that goes wrong at Meta, and whether all of them got there.

    python benchmarks/soak.py --plot soak.svg
    python benchmarks/soak.py --rows 50000 --limits 1

The refresh operator reads people from Parquet, with its ledger on disk, and fills an audience; then a share of them
changes, and it refreshes the audience. The sandbox, a process of its own, answers after 50 to 400 ms, and strikes 2 of
100 calls with a fault of any kind that can pass, before it has carried the call out or after. It allows so many calls a
minute that the task has to slow down now and then. At points that lie evenly over the fill, another tool of the same
app uses up what is left: calls of the task are refused, and it is told to wait for a minute.

In the end every row of the audience is compared with the hashes of the source's rows, made here by hashlib. It is an
error if one differs, or if the task called before the end of a limit that it had been told of. A try that fails is
followed by another, as in Airflow, and counted. Memory is looked at twice a second, above that of an idle process that
has Airflow and the operator imported; ``--plot`` draws it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import requests
from memory_plot import Plot, drawn
from refresh import people
from stand_in import TaskInstance, resident, stand_in

from airflow_provider_fbca.sandbox import Settings
from airflow_provider_fbca.sandbox.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from multiprocessing.connection import Connection

    from stand_in import StandIn

ROWS = 5_000_000
FIRST = 2_000_000  # people's numbers are parts of their phones, which no 0 or 1 may begin
MOST_ROWS = 7_000_000
BATCH = 2_500  # rows a request: a quarter of the most, so that four times as many can go wrong
CALLS_A_MINUTE = 1_200
# Answers that a second try would get as well, so that a task fails at once, as it should.
LASTING = {"redirect", "success_false"}
SWITCHES = {
    "latency_range": (0.05, 0.4),
    "fault_ratio": 0.02,
    "fault_kinds": sorted(KINDS.keys() - LASTING),
    "rate_limits": True,
    "rate_window_seconds": 60,
    "calls_per_hour": CALLS_A_MINUTE,
    # Calls that were on their way when the limit was told of are no fault of who sent them.
    "told_grace_seconds": 1.0,
}
TIMEOUT = 10.0  # seconds that the task waits for an answer
TRIES = 5
LOOK_SECONDS = 0.5
REFUSALS_APART = 30.0  # seconds between those of two limits
SLOPE_SECONDS = 30.0  # of sending, so that the growth of memory can be told from its beginning
LOG_TAIL = 4_000


@dataclass(frozen=True)
class Run:
    """What one refresh took; memory in MB above idle, each with its moment."""

    seconds: float
    cpu: float
    acknowledged: int
    failures: list[str]
    peak: float
    memory: list[tuple[float, float]]


class Row(msgspec.Struct, forbid_unknown_fields=True):
    """A row as the sandbox gives it: all of its cells, and nothing else."""

    EMAIL: str
    PHONE: str
    EXTERN_ID: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--changed", type=float, default=0.02, help="share of the rows that change")
    parser.add_argument("--limits", type=int, default=3, help="times that the limit is reached")
    parser.add_argument("--seed", type=int, default=1, help="of faults and latency")
    parser.add_argument("--plot", type=Path, help="draw memory into this SVG")
    parser.add_argument("--log", type=Path, help="keep the task's log in this file")
    options = parser.parse_args()
    shift = int(options.rows * options.changed)
    if not 0 < options.rows + shift <= MOST_ROWS:
        parser.error(f"there are phones for {MOST_ROWS:,} people only.")
    with tempfile.TemporaryDirectory(prefix="fbca-soak-") as name, stand_in(Settings()) as sandbox:
        before, after = Path(name, "before.parquet"), Path(name, "after.parquet")
        people(before, FIRST, options.rows)
        people(after, FIRST + shift, options.rows)
        audience = sandbox.create_audience()
        reach_it_by(json.loads(sandbox.connection_json))
        sandbox.change(fault_seed=options.seed, **SWITCHES)
        marks = [options.rows * number // (options.limits + 1) for number in range(1, options.limits + 1)]
        neighbour = Neighbour(sandbox, audience, marks)
        log = options.log or Path(name, "task.log")
        log.write_text("")
        runs = [refreshed(users, Path(name, "ledger"), log, neighbour) for users in (before, after)]
        calls = sandbox.requests()
        summarise(options.rows, runs, calls)
        if options.plot:
            options.plot.write_text(drawn(plot_of(runs, calls)))
        compare(sandbox, audience, after)
        if any(call["too_early"] for call in calls):
            raise SystemExit("The task called before the end of a limit that it had been told of.")


def reach_it_by(connection: dict[str, Any]) -> None:
    """Let tasks reach the sandbox, and wait for its answers for a short time only."""
    connection["extra"]["timeout"] = TIMEOUT
    os.environ["AIRFLOW_CONN_FBCA_DEFAULT"] = json.dumps(connection)


class Neighbour:
    """Another tool of the same app, which uses up what Meta allows in a minute.

    :param audience: which the task fills.
    :param marks: how many rows are in when it does so.
    """

    def __init__(self, sandbox: StandIn, audience: str, marks: list[int]) -> None:
        self.audience = audience
        self._sandbox = sandbox
        self._marks = marks
        self._has_used_up = False

    def look(self) -> None:
        """Use up what is left where it is time, until a call of the task was refused."""
        if self._has_used_up:
            if self._sandbox.usage()["refuses_until"]:
                self._sandbox.change(calls_per_hour=CALLS_A_MINUTE)
                self._has_used_up = False
        elif self._marks and self._sandbox.audience(self.audience)["rows"] >= self._marks[0]:
            self._marks.pop(0)
            # Each call so used up one of ours: less than was called already leaves nothing.
            self._sandbox.change(calls_per_hour=max(1, self._sandbox.usage()["calls"] - 10))
            self._has_used_up = True


def refreshed(users: Path, ledger: Path, log: Path, neighbour: Neighbour) -> Run:
    """Refresh in a process of its own, and look at its memory until it is done."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    arguments = (str(users), str(ledger), neighbour.audience, str(log), there)
    task = spawn.Process(target=refresh_here, args=arguments, daemon=True)
    task.start()
    there.close()
    memory = []
    try:
        idle = here.recv()
        while not here.poll(LOOK_SECONDS):
            with suppress(KeyError):  # it ends just now
                memory.append((time.time(), resident("VmRSS", task.pid or 0) - idle))
            neighbour.look()
        run = Run(**here.recv(), memory=memory)
    except EOFError:
        raise SystemExit(f"The task failed. The end of its log:\n{log.read_text()[-LOG_TAIL:]}") from None
    task.join()
    return run


def summarise(rows: int, runs: list[Run], calls: list[dict[str, Any]]) -> None:
    sent = [call for call in calls if call["operation"] in {"add_users", "remove_users"}]
    faults = Counter(call["fault"] for call in calls if call["fault"])
    limits = limits_in(calls)
    again = len(sent) - sum(run.acknowledged for run in runs)
    print(f"rows            {rows:,} filled, then refreshed")
    print(f"requests        {len(calls):,}, of them {len(sent):,} with people, {again:,} of these sent again")
    print(
        f"faults          {faults.total():,}: {', '.join(f'{kind} {count}' for kind, count in sorted(faults.items()))}"
    )
    print(
        f"limits reached  {len(limits)}, {sum(end - begin for begin, end in limits):.0f} s without a request for them"
    )
    print(f"refused calls   {sum(map(is_refusal, calls)):,}")
    print(f"too early       {sum(call['too_early'] for call in calls):,}")
    for name, run in zip(("fill", "refresh"), runs, strict=True):
        tries = f", failed tries: {', '.join(run.failures)}" if run.failures else ""
        growth = slope(run, sent)
        told = "" if growth is None else f", {growth:+.1f} MB a minute while sending"
        print(
            f"{name:15} {run.seconds:,.0f} s, {run.cpu:,.0f} s of CPU, peak {run.peak:,.0f} MB above idle{told}{tries}",
            flush=True,
        )


def limits_in(calls: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Return the last refusal of each limit that was reached, and the next call after it."""
    ends: list[float] = []
    for at in (call["at"] for call in calls if is_refusal(call)):
        if ends and at - ends[-1] < REFUSALS_APART:
            ends[-1] = at
        else:
            ends.append(at)
    return [(end, min((call["at"] for call in calls if call["at"] > end + 1), default=end)) for end in ends]


def is_refusal(call: dict[str, Any]) -> bool:
    return str(call["error"]).startswith("80003")


def slope(run: Run, sent: list[dict[str, Any]]) -> float | None:
    """Return how much memory grew in a minute while a run was sending; None where that was too short to tell."""
    began, ended = run.memory[0][0], run.memory[-1][0]
    moments = [call["at"] for call in sent if began <= call["at"] <= ended]
    if not moments or moments[-1] - moments[0] < SLOPE_SECONDS:
        return None
    held = [(at, size) for at, size in run.memory if moments[0] <= at <= moments[-1]]
    return float(np.polyfit(*zip(*held, strict=True), 1)[0]) * 60


def plot_of(runs: list[Run], calls: list[dict[str, Any]]) -> Plot:
    return Plot(
        lines=[run.memory for run in runs],
        bands=limits_in(calls),
        ticks=[call["at"] for call in calls if call["fault"]],
    )


def compare(sandbox: StandIn, audience: str, users: Path) -> None:
    """Compare all rows of the audience with those of the source."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        wanted = pool.apply_async(fingerprint_of_source, (users,))
        found, (count, digest) = fingerprint(members(sandbox, audience)), wanted.get()
    print(f"audience        {found[0]:,} rows, digest {found[1]:032x}")
    print(f"source          {count:,} rows, digest {digest:032x}")
    if found != (count, digest):
        raise SystemExit("The audience is not what it should be.")
    print("equal, row by row")


def members(sandbox: StandIn, audience: str) -> Iterator[Row]:
    decode = msgspec.json.Decoder(Row).decode
    with requests.get(f"{sandbox.url}/sandbox/audiences/{audience}/members", stream=True, timeout=600) as answer:
        answer.raise_for_status()
        yield from map(decode, answer.iter_lines(chunk_size=1 << 20))


def fingerprint(rows: Iterable[Row]) -> tuple[int, int]:
    """Return how many rows there are, and a number that only the same rows give, in whatever order."""
    count = total = 0
    for row in rows:
        count += 1
        total += int.from_bytes(hashlib.blake2b(f"{row.EMAIL} {row.PHONE} {row.EXTERN_ID}".encode()).digest()[:16])
    return count, total % 2**128


# -- in a process of its own -----------------------------------------------------------------------------------------


def fingerprint_of_source(users: Path) -> tuple[int, int]:
    """Hash the rows here: people's cells are in Meta's form already but for the plus of their phones."""
    return fingerprint(
        Row(sha256(mail), sha256(phone.removeprefix("+")), extern_id)
        for batch in pq.ParquetFile(users, pre_buffer=False).iter_batches(batch_size=50_000)
        for mail, phone, extern_id in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    )


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def refresh_here(users: str, ledger: str, audience: str, log: str, told: Connection) -> None:
    """Refresh, and again where a try fails; tell how much memory this process holds first, and then what it took."""
    log_to(log)
    from airflow_provider_fbca.exceptions import FbcaError
    from airflow_provider_fbca.operators.custom_audience import FacebookRefreshAudienceOperator

    idle = resident("VmRSS")
    told.send(idle)
    began, cpu_before = time.monotonic(), time.process_time()
    failures: list[str] = []
    while True:
        task = FacebookRefreshAudienceOperator(
            task_id="refresh",
            audience_id=audience,
            ledger_uri=f"file://{ledger}",
            users_uri=f"file://{users}",
            batch_size=BATCH,
        )
        try:
            task.execute({"ti": TaskInstance(len(failures) + 1)})
            break
        except FbcaError as error:
            failures.append(type(error).__name__)
            if len(failures) == TRIES:
                raise
    newest = max(Path(ledger, audience).glob("*.settled.json"))
    told.send(
        {
            "seconds": time.monotonic() - began,
            "cpu": time.process_time() - cpu_before,
            "acknowledged": json.loads(newest.read_text())["totals"]["requests"],
            "failures": failures,
            "peak": resident("VmHWM") - idle,
        }
    )


def log_to(path: str) -> None:
    """Let everything that this process prints go to a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(file, stream.fileno())


if __name__ == "__main__":
    main()
