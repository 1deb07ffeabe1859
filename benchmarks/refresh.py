"""What a refresh costs whose source has changed a little: seconds, requests, rows, memory, by each strategy.

    python benchmarks/refresh.py
    python benchmarks/refresh.py --rows 200000 1000000 --share 0.01 --strategies delta

For each number of rows an audience is filled once; then each strategy refreshes it from a source of which a share has
changed, from the same ledger, in a process of its own. Memory is that process's peak above what it held with Airflow
and the operator imported and nothing done. The sandbox is a process of its own that counts and holds nobody, without
latency, so its answers cost little; the rows are read from Parquet.

The same is compared with deleting everybody and inserting everybody again by Meta's own SDK: the first rows of the same
source are removed and added by ``CustomAudience.remove_users`` and ``add_users`` against the same sandbox, and the
cost of a row is multiplied by the rows. An addition has 10,000 rows, the most that Meta takes. A removal has 83: the
SDK puts the rows into the address of the request, and between 250 and 300 rows of one identifier, ours have three, Meta
drops the connection.

Everything is written to a folder that is removed at the end; 10,000,000 rows take 6 GB of it. TMPDIR says where.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from stand_in import TaskInstance, resident, sdk_audience, stand_in

from airflow_provider_fbca.sandbox import Settings

SCHEMA = pa.schema([("email", pa.string()), ("phone", pa.string()), ("extern_id", pa.string())])
SDK_ADDITIONS, SDK_REMOVALS = 10_000, 250 // len(SCHEMA)
SDK_SAMPLE = 20_000
CHUNK = 500_000


@dataclass(frozen=True)
class Outcome:
    """What one refresh took: seconds by the clock and of the processor, megabytes above idle."""

    seconds: float
    cpu: float
    requests: int
    rows_sent: int
    megabytes: float
    snapshot_megabytes: float


def main() -> None:
    from airflow_provider_fbca.sync import STRATEGIES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--share", type=float, default=0.05, help="of the rows that change")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES)
    options = parser.parse_args()
    print("rows        strategy         seconds     CPU s  requests   rows sent  peak MB above idle  snapshot MB")
    peaks: dict[str, list[float]] = {strategy: [] for strategy in options.strategies}
    ratios = []
    for rows in options.rows:
        measured, (seconds, cpu) = measure(rows, int(rows * options.share), options.strategies)
        requests = -(-rows // SDK_REMOVALS) + -(-rows // SDK_ADDITIONS)
        told(rows, "SDK (projected)", f"{seconds:>9,.0f} {cpu:>9,.0f} {requests:>9,} {2 * rows:>11,}")
        for strategy, one in measured.items():
            peaks[strategy].append(one.megabytes)
            ratios.append(
                f"{rows:,} rows, SDK against {strategy}: {seconds / one.seconds:.1f} times the seconds, "
                f"{cpu / one.cpu:.1f} times the CPU, "
                f"{requests / one.requests:,.0f} times the requests, {2 * rows / one.rows_sent:.1f} times the rows"
            )
    print(f"SDK: seconds and CPU projected from {SDK_SAMPLE:,} rows removed and added; requests and rows counted out.")
    print(*ratios, sep="\n")
    for strategy, (first, *others) in peaks.items():
        for rows, peak in zip(options.rows[1:], others, strict=True):
            print(f"{strategy}: {rows:,} rows peak at {peak / first:.2f} times the memory of {options.rows[0]:,}")


def measure(rows: int, changed: int, strategies: list[str]) -> tuple[dict[str, Outcome], tuple[float, float]]:
    """Fill an audience, refresh it by each strategy, and project what the SDK would need."""
    with tempfile.TemporaryDirectory(prefix="fbca-benchmark-") as name:
        folder = Path(name)
        before, after = folder / "before.parquet", folder / "after.parquet"
        people(before, 1_000_000, rows)
        people(after, 1_000_000 + changed, rows)
        measured = {}
        with stand_in(Settings(count_only=True)) as sandbox:
            audience = sandbox.create_audience()
            refresh("delta", before, folder / "filled", audience)
            for strategy in strategies:
                shutil.copytree(folder / "filled", ledger := folder / strategy)
                measured[strategy] = one = refresh(strategy, after, ledger, audience)
                told(
                    rows,
                    strategy,
                    f"{one.seconds:>9,.1f} {one.cpu:>9,.1f} {one.requests:>9,} {one.rows_sent:>11,} "
                    f"{one.megabytes:>19,.0f} {one.snapshot_megabytes:>12,.0f}",
                )
                shutil.rmtree(ledger)
        with stand_in(Settings(count_only=True)) as sandbox:
            in_child("sdk", str(before), sandbox.create_audience(), str(folder / "sdk.json"))
        seconds, cpu = json.loads((folder / "sdk.json").read_text())
        return measured, (rows * seconds, rows * cpu)


def people(path: Path, first: int, rows: int) -> None:
    """Write people who all differ in mail, phone and id; one in fifty shares a phone with the one before."""
    with pq.ParquetWriter(path, SCHEMA) as file:
        for start in range(first, first + rows, CHUNK):
            numbers = np.arange(start, min(start + CHUNK, first + rows))
            texts, phones = (pa.array(each).cast(pa.string()) for each in (numbers, numbers - (numbers % 50 == 0)))
            columns = [
                pc.binary_join_element_wise("person", texts, "@example.com", ""),
                pc.binary_join_element_wise("+1415", pc.utf8_lpad(phones, 7, "0"), ""),
                pc.binary_join_element_wise("id", texts, ""),
            ]
            file.write_table(pa.table(columns, schema=SCHEMA))


def refresh(strategy: str, users: Path, ledger: Path, audience: str) -> Outcome:
    """Refresh in a process of its own."""
    result = ledger.parent / "result.json"
    in_child("refresh", strategy, str(users), str(ledger), audience, str(result))
    return Outcome(**json.loads(result.read_text()))


def in_child(*arguments: str) -> None:
    """Run this file in a process of its own."""
    subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.DEVNULL)


def told(rows: int, name: str, figures: str) -> None:
    print(f"{rows:<11,} {name:<15} {figures}", flush=True)


# -- in a process of its own -----------------------------------------------------------------------------------------


def refresh_here(strategy: str, users: str, ledger: str, audience: str, result: str) -> None:
    from airflow_provider_fbca.operators.custom_audience import FacebookRefreshAudienceOperator

    idle = resident("VmRSS")
    task = FacebookRefreshAudienceOperator(
        task_id="refresh",
        audience_id=audience,
        ledger_uri=f"file://{ledger}",
        users_uri=f"file://{users}",
        strategy=strategy,
    )
    began, cpu_before = time.monotonic(), time.process_time()
    task.execute({"ti": TaskInstance()})
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu_before
    newest = max(Path(ledger, audience).glob("*.settled.json"))
    totals = json.loads(newest.read_text())["totals"]
    rows_file = newest.with_name(newest.name.replace(".settled.json", ".rows.parquet"))
    outcome = {
        "seconds": seconds,
        "cpu": cpu,
        "requests": totals["requests"],
        "rows_sent": totals["added"] + totals["removed"],
        "megabytes": resident("VmHWM") - idle,
        "snapshot_megabytes": rows_file.stat().st_size / 1e6,
    }
    Path(result).write_text(json.dumps(outcome))


def sdk_here(users: str, audience: str, result: str) -> None:
    """Remove and add the first rows of a source by the SDK; write a row's seconds, by the clock and of the CPU."""
    target = sdk_audience(audience)
    seconds = cpu = 0.0
    for call, size in ((target.remove_users, SDK_REMOVALS), (target.add_users, SDK_ADDITIONS)):
        began, cpu_before, done = time.monotonic(), time.process_time(), 0
        for batch in pq.ParquetFile(users, pre_buffer=False).iter_batches(batch_size=size):
            rows = [list(row) for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]
            call(["EMAIL", "PHONE", "EXTERN_ID"], rows, is_raw=True)
            done += len(rows)
            if done >= SDK_SAMPLE:
                break
        seconds += (time.monotonic() - began) / done
        cpu += (time.process_time() - cpu_before) / done
    Path(result).write_text(json.dumps([seconds, cpu]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["refresh"]:
        refresh_here(*sys.argv[2:])
    elif sys.argv[1:2] == ["sdk"]:
        sdk_here(*sys.argv[2:])
    else:
        main()
