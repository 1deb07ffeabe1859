"""``python3 dev.py demo``: shows the main job and proves its result."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from airflow_provider_fbca.identity import Preparer, resolve_mapping
from airflow_provider_fbca.identity.report import Reject
from airflow_provider_fbca.sandbox import Sandbox, serve
from demo.people import Warehouse, batches

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".cache" / "demo"
DAG_ID = "fbca_create_upload_refresh"
QUERY = "SELECT * FROM active_customers"

console = Console(highlight=False)


def main() -> int:
    """Run the demo and return 0 where the audience equals the query at the end of both runs."""
    options = _parse()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(mode=0o700, parents=True)
    console.print(f"Making an embedded warehouse with {options.people:,} people of six countries ...")
    warehouse = Warehouse(FOLDER / "warehouse.duckdb", options.people)
    with serve(port=options.port) as sandbox:
        console.print(f"Sandbox Graph API at {sandbox.url}/ (a stand-in for Meta on this machine)")
        runs = []
        for number, change in enumerate(("the first run", "a day later"), start=1):
            if number > 1:
                console.print(f"A day passes: {warehouse.pass_a_day()}.")
            runs.append(_run(number, change, sandbox, warehouse))
        _summary(runs)
        _where_to_look(sandbox, keep=options.keep)
        proven = all(run["equal"] for run in runs)
        console.print("[bold green]PROVEN" if proven else "[bold red]NOT EQUAL", end="")
        console.print(": after each run the sandbox's members were compared with the query's, row by row.")
        if options.keep:
            _wait()
    return 0 if proven else 1


def _run(number: int, change: str, sandbox: Sandbox, warehouse: Warehouse) -> dict[str, Any]:
    """Run the DAG once and return what there is to tell about it."""
    before = _size(sandbox)
    console.print(f"Running DAG {DAG_ID} ({change}) ...")
    began = time.monotonic()
    manifest = _run_dag(FOLDER / f"run-{number}.log", sandbox, warehouse)
    seconds = time.monotonic() - began
    table = warehouse.query(QUERY)
    return {
        "title": f"Run {number}",
        "manifest": manifest,
        "read": table.num_rows,
        "before": before,
        "after": _size(sandbox),
        "seconds": seconds,
        "equal": _members(sandbox, manifest["audience_id"]) == _wanted(table),
    }


def _run_dag(log: Path, sandbox: Sandbox, warehouse: Warehouse) -> dict[str, Any]:
    connection = {"conn_type": "duckdb", "host": str(warehouse.path)}
    settings = {
        "AIRFLOW_HOME": str(FOLDER / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags_examples"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__FBCA__LEDGER_URI": f"file://{FOLDER / 'ledger'}",
        "AIRFLOW_CONN_FBCA_DEFAULT": sandbox.connection_json,
        "AIRFLOW_CONN_WAREHOUSE": json.dumps(connection),
    }
    command = [sys.executable, "-m", "demo.run_dag", str(ROOT / "dags_examples"), DAG_ID]
    with log.open("w") as file:
        ended = subprocess.run(command, cwd=ROOT, env=os.environ | settings, stdout=file, stderr=file, check=False)
    if ended.returncode:
        raise SystemExit(f"The run failed: see {log}")
    return dict(json.loads(log.read_text().splitlines()[-1]))


def _size(sandbox: Sandbox) -> int:
    return sum(audience["rows"] for audience in sandbox.audiences())


def _members(sandbox: Sandbox, audience_id: str) -> Counter[tuple[tuple[str, str], ...]]:
    """Return the rows that the sandbox holds, as it was sent them."""
    return Counter(tuple(sorted(row.items())) for row in sandbox.iter_members(audience_id))


def _wanted(table: Any) -> Counter[tuple[tuple[str, str], ...]]:
    """Return the rows that the query stands for: each distinct one once, blanks left out."""
    preparer = Preparer(resolve_mapping(table.schema.names))
    rows = (row for batch in batches(table) for row in preparer.prepare(batch).to_pylist())
    cells = (
        {key: cell.hex() if isinstance(cell, bytes) else cell for key, cell in row.items() if cell is not None}
        for row in rows
    )
    return Counter({tuple(sorted(row.items())) for row in cells})


def _summary(runs: list[dict[str, Any]]) -> None:
    table = Table(title="What the refresh did", title_justify="left")
    table.add_column("")
    for run in runs:
        table.add_column(run["title"], justify="right")
    reasons = sorted({reason for run in runs for reason in run["manifest"]["rejected"]})
    lines: list[tuple[str, list[int]]] = [
        ("rows read from the warehouse", [run["read"] for run in runs]),
        *(
            (f"  rejected: {Reject(reason).meaning}", [run["manifest"]["rejected"].get(reason, 0) for run in runs])
            for reason in reasons
        ),
        ("distinct people rows wanted", [run["manifest"]["rows"] for run in runs]),
        ("audience size before", [run["before"] for run in runs]),
        ("sent as removals", [run["manifest"]["removed"] for run in runs]),
        ("sent as additions", [run["manifest"]["added"] for run in runs]),
        ("audience size after", [run["after"] for run in runs]),
        ("entries Meta called invalid", [run["manifest"]["invalid"] for run in runs]),
    ]
    for name, values in lines:
        table.add_row(name, *(f"{value:,}" for value in values))
    table.add_row("seconds, Airflow's start included", *(f"{run['seconds']:.0f}" for run in runs))
    table.add_row("members equal the query", *("yes" if run["equal"] else "NO" for run in runs))
    console.print(table)


def _where_to_look(sandbox: Sandbox, *, keep: bool) -> None:
    shown = FOLDER.relative_to(ROOT)
    console.print("Where to look:")
    console.print(f"  the log of each run, with columns, counts per key and reasons: {shown}/run-1.log, run-2.log")
    console.print(f"  what the ledger remembers:                                     {shown}/ledger/")
    again = f"{sandbox.url}/ until you press Ctrl-C" if keep else "run the demo with --keep and open its address"
    console.print(f"  the audience in the sandbox:                                   {again}")


def _wait() -> None:
    console.print("The sandbox stays up; press Ctrl-C to end it.")
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        console.print("Ended.")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--people", type=int, default=50_000, help="customers in the warehouse (default %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port of the sandbox (default: a free one)")
    parser.add_argument("--keep", action="store_true", help="leave the sandbox up at the end, to look at")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
