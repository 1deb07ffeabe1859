"""What the sandbox takes to hold many people, and how fast it takes them in; run by hand.

Starts a sandbox as a process of its own, uploads rows of 13 columns in full requests, reads all of them back and
compares, removes a part, and prints the server's memory, its file of rows and the rates.

    python benchmarks/sandbox_memory.py --rows 10000000
    python benchmarks/sandbox_memory.py --rows 200000 --count-only
"""

from __future__ import annotations

import argparse
import os
import random
import time
from pathlib import Path

import requests
from stand_in import stand_in

from airflow_provider_fbca.sandbox import Settings
from airflow_provider_fbca.sandbox.settings import DEMO_AD_ACCOUNT_ID, DEMO_TOKEN

BATCH = 10_000
KEYS = ("EXTERN_ID", "EMAIL", "PHONE", "DOBY", "DOBM", "DOBD", "LN", "FN", "GEN", "CT", "ZIP", "COUNTRY", "MADID")
# Distinct values of the columns that repeat, about as many as a country of ten million has.
DISTINCT = {
    "DOBY": 80,
    "DOBM": 12,
    "DOBD": 31,
    "LN": 100_000,
    "FN": 10_000,
    "GEN": 2,
    "CT": 20_000,
    "ZIP": 40_000,
    "COUNTRY": 30,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--count-only", action="store_true")
    options = parser.parse_args()
    with stand_in(Settings(count_only=options.count_only)) as sandbox:
        measure(sandbox.url, sandbox.pid, options.rows, compare=not options.count_only)


def measure(url: str, pid: int, row_count: int, *, compare: bool) -> None:
    http = requests.Session()
    http.headers["Authorization"] = f"Bearer {DEMO_TOKEN}"
    print(f"idle: {memory(pid)}")
    edge = f"{url}/v26.0/act_{DEMO_AD_ACCOUNT_ID}/customaudiences"
    audience = http.post(edge, json={"name": "Memory", "subtype": "CUSTOM"}).json()["id"]
    users = f"{url}/v26.0/{audience}/users"
    pools = {key: [digest() for _ in range(count)] for key, count in DISTINCT.items()}
    expected, sending, removal = 0, 0.0, b""
    for first in range(0, row_count, BATCH):
        rows = [make_row(pools, number) for number in range(first, min(first + BATCH, row_count))]
        if compare:
            expected += sum(hash(as_line(row)) for row in rows)
        removal = body_of(rows)
        started = time.perf_counter()
        answer = http.post(users, data=removal, headers={"Content-Type": "application/json"})
        sending += time.perf_counter() - started
        answer.raise_for_status()
        if not (first // BATCH + 1) % 100:
            print(f"{first + len(rows):,} rows: {memory(pid)}, {(first + BATCH) / sending:,.0f} rows/s", flush=True)
    held = http.get(f"{url}/sandbox/audiences/{audience}").json()
    print(f"people {held['people']:,}, rows {held['rows']:,}, {memory(pid)}")
    print(f"bodies of {BATCH:,} rows a second: {row_count / BATCH / sending:.1f}")
    if not compare:
        return
    started = time.perf_counter()
    with http.get(f"{url}/sandbox/audiences/{audience}/members", stream=True) as answer:
        read = sum(hash(line) for line in answer.iter_lines(chunk_size=1 << 20))
    print(f"read back in {time.perf_counter() - started:.0f} s, equal to what was sent: {read == expected}")
    started = time.perf_counter()
    http.delete(users, data=removal, headers={"Content-Type": "application/json"}).raise_for_status()
    held = http.get(f"{url}/sandbox/audiences/{audience}").json()
    print(f"removed the last {BATCH:,} in {time.perf_counter() - started:.2f} s, {held['rows']:,} rows remain")
    print(f"peak: {memory(pid)}")


def digest() -> str:
    return os.urandom(32).hex()


def make_row(pools: dict[str, list[str]], number: int) -> list[str]:
    own = {
        "EXTERN_ID": f"Cust-{number}",
        "MADID": f"6d92078a-8246-4ba4-ae5b-{number:012x}",
        "EMAIL": digest(),
        "PHONE": digest(),
    }
    return [own.get(key) or random.choice(pools[key]) for key in KEYS]


def as_line(row: list[str]) -> bytes:
    """The row as the members stream shows it."""
    return ("{" + ",".join(f'"{key}":"{cell}"' for key, cell in zip(KEYS, row, strict=True)) + "}").encode()


def body_of(rows: list[list[str]]) -> bytes:
    schema = ",".join(f'"{key}"' for key in KEYS)
    data = ",".join('["' + '","'.join(row) + '"]' for row in rows)
    return f'{{"payload":{{"schema":[{schema}],"data":[{data}]}}}}'.encode()


def memory(pid: int) -> str:
    """Resident memory of a process now and at its most, and the size of its nameless files."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    now, most = (int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    files = [entry.stat() for entry in Path(f"/proc/{pid}/fd").iterdir() if "(deleted)" in str(entry.readlink())]
    return f"{now:,.0f} MB resident (most {most:,.0f}), {sum(one.st_size for one in files) / 2**20:,.0f} MB on disk"


if __name__ == "__main__":
    main()
