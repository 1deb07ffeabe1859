"""Seconds and memory of a refresh whose source has changed a little, by each strategy.

    python benchmarks/refresh.py delta [rows] [changed share]
    python benchmarks/refresh.py delete_insert [rows] [changed share]

One strategy a run, since memory is the process's peak. The sandbox is a process of its own that counts and holds
nobody, so its answers cost little; the rows are read from Parquet. The first refresh fills the audience, the second is
measured.
"""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 1_000_000
SHARE = 0.05
SERVE = """
import sys
from airflow_provider_fbca.sandbox.settings import Settings
from airflow_provider_fbca.sandbox.testing import serve
with serve(Settings(count_only=True)) as sandbox:
    print(sandbox.create_audience(), sandbox.connection_json, flush=True)
    sys.stdin.read()
"""


class TaskInstance:
    dag_id, task_id, run_id, map_index, try_number = "benchmark", "refresh", "run", -1, 1

    def xcom_push(self, key: str, value: Any) -> None:
        pass

    def xcom_pull(self, **_options: Any) -> None:
        pass


def people(path: Path, first: int, rows: int) -> None:
    """Write people who all differ in mail, phone and id; one in fifty shares a phone with the one before."""
    numbers = range(first, first + rows)
    table = {
        "email": [f"person{number}@example.com" for number in numbers],
        "phone": [f"+1415{number - (number % 50 == 0):07}" for number in numbers],
        "extern_id": [f"id{number}" for number in numbers],
    }
    pq.write_table(pa.table(table), path)


def main() -> None:
    strategy = sys.argv[1]
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else ROWS
    changed = int(rows * (float(sys.argv[3]) if len(sys.argv) > 3 else SHARE))
    from airflow_provider_fbca.operators.custom_audience import FacebookRefreshAudienceOperator

    logging.disable()
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen([sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server,
    ):
        assert server.stdin
        assert server.stdout
        audience, connection = server.stdout.readline().decode().strip().split(" ", 1)
        os.environ["AIRFLOW_CONN_FBCA_DEFAULT"] = connection
        for number, first in enumerate((1_000_000, 1_000_000 + changed)):
            people(Path(folder, f"{number}.parquet"), first, rows)
        for number in range(2):
            task = FacebookRefreshAudienceOperator(
                task_id="refresh",
                audience_id=audience,
                ledger_uri=f"file://{folder}/ledger",
                users_uri=f"file://{folder}/{number}.parquet",
                strategy=strategy,
            )
            began = time.monotonic()
            done = task.execute({"ti": TaskInstance()})
            seconds = time.monotonic() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{strategy}: {rows:,} rows, {changed:,} changed: {seconds:.1f} s, peak {peak:,.0f} MB, "
            f"removed {done['removed']:,}, added {done['added']:,}"
        )
        server.stdin.close()


if __name__ == "__main__":
    main()
