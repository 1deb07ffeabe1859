"""Rows a second from a warehouse's batches to the bodies of requests, beside what the official SDK does for its users.

    taskset -c 0 python benchmarks/prepare.py
    python benchmarks/prepare.py --rows 200000 --profile

All measures work on the same made-up rows of 13 columns, each in a process of its own, so that their peaks of memory do
not mix, and in turns, so that a busy machine slows all of them; of each the best turn counts.

* ours: Arrow batch to hashed Arrow batch, all phone rules on, then the JSON body of each 10,000 rows, for small and for
  large batches. One core means one thread that is kept on one core. Two cores: one thread prepares, another writes the
  bodies, as an upload does.
* the SDK: ``format_params`` (normalise and hash) on Python rows, then JSON and form encoding as ``requests`` does it,
  which it cannot do without. It gets clean text and ``""`` only, as it crashes on numbers and None.
* a loop over dicts, one for each person, as connectors around the SDK have it (Parsons, for one), and then the SDK.

The SDK applies rules of its own, so this is the work replaced, not the same work. Time on one core is the CPU time of
the process, which other processes change little; time on two cores is the clock's.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import multiprocessing
import os
import pstats
import random
import resource
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pyarrow as pa

from airflow_provider_fbca.graph.payload import payloads_within, request_body
from airflow_provider_fbca.identity import Preparer, resolve_mapping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROWS = 1_000_000
SAMPLE = 100_000  # rows for the SDK and the loop, which are slow; they are the first ones of the same rows
REQUEST = 10_000  # rows that Meta takes in a request
BATCH = 65_536
TURNS = 3

KEYS = ("EMAIL", "PHONE", "GEN", "DOBY", "DOBM", "DOBD", "LN", "FN", "CT", "ST", "ZIP", "COUNTRY", "EXTERN_ID")
STATES = ("CA", "NY", "Texas", "Washington", "FL", "Ohio", "New Mexico")
SYLLABLES = ("ma", "ri", "jo", "sé", "el", "an", "ka", "tho", "mü", "son", "ber", "lee", "o'", "van ", "ko", "ti")


def people(rows: int, seed: int = 7) -> dict[str, list[str]]:
    """Give columns of made-up Americans: all differ in mail, phone and id; one cell in eight is blank."""
    pick = random.Random(seed)
    first = ["".join(pick.choices(SYLLABLES, k=2)).title() for _ in range(5_000)]
    mails = [name.encode("ascii", "ignore").decode().replace(" ", "") for name in first]
    last = ["".join(pick.choices(SYLLABLES, k=3)).title() for _ in range(50_000)]
    zips = [f"{pick.randrange(501, 99951):05}" for _ in range(30_000)]
    cities = ["".join(pick.choices(SYLLABLES, k=4)).title() for _ in range(8_000)]

    def maybe(text: str) -> str:
        return text if pick.random() > 0.125 else ""

    def phone() -> str:
        area, rest = pick.randrange(201, 990), f"{pick.randrange(200, 999)}{pick.randrange(10_000):04}"
        return pick.choice((f"+1{area}{rest}", f"({area}) {rest[:3]}-{rest[3:]}", f"{area}{rest}"))

    return {
        "EMAIL": [maybe(f"{pick.choice(mails)}.{row}@Example.com") for row in range(rows)],
        "PHONE": [maybe(phone()) for _ in range(rows)],
        "GEN": [maybe(pick.choice(("M", "F", "male", "Female"))) for _ in range(rows)],
        "DOBY": [maybe(str(pick.randrange(1930, 2008))) for _ in range(rows)],
        "DOBM": [maybe(str(pick.randrange(1, 13))) for _ in range(rows)],
        "DOBD": [maybe(str(pick.randrange(1, 29))) for _ in range(rows)],
        "LN": [maybe(pick.choice(last)) for _ in range(rows)],
        "FN": [maybe(pick.choice(first)) for _ in range(rows)],
        "CT": [maybe(pick.choice(cities)) for _ in range(rows)],
        "ST": [maybe(pick.choice(STATES)) for _ in range(rows)],
        "ZIP": [maybe(pick.choice(zips)) for _ in range(rows)],
        "COUNTRY": [maybe("US") for _ in range(rows)],
        "EXTERN_ID": [f"Cust-{row:08}" for row in range(rows)],
    }


def write_people(path: Path, rows: int) -> None:
    table = pa.table(people(rows))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=BATCH)


def batches_in(path: Path, rows: int) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for position in range(-(-rows // BATCH)):
            yield reader.get_batch(position)[: rows - position * BATCH]


def new_preparer(keys: tuple[str, ...] = KEYS) -> Preparer:
    return Preparer(resolve_mapping(list(keys)), default_country="US")


def bodies(batch: pa.RecordBatch) -> None:
    for cut in cuts(batch, REQUEST):
        for payload, _ in payloads_within(cut, 1 << 30):
            request_body({"payload": payload})


def cuts(batch: pa.RecordBatch, size: int) -> Iterator[pa.RecordBatch]:
    return (batch.slice(start, size) for start in range(0, batch.num_rows, size))


def ours(batches: Iterator[pa.RecordBatch], *, size: int = BATCH, written: bool = True) -> None:
    preparer = new_preparer()
    for batch in batches:
        for cut in cuts(batch, size):
            prepared = preparer.prepare(cut)
            if written:
                bodies(prepared)


def ours_on_two(batches: Iterator[pa.RecordBatch]) -> None:
    preparer = new_preparer()
    with ThreadPoolExecutor(1) as writer:
        ahead = None
        for batch in batches:
            prepared = preparer.prepare(batch)
            if ahead is not None:
                ahead.result()
            ahead = writer.submit(bodies, prepared)


def sdk(batches: Iterator[pa.RecordBatch]) -> None:
    for batch in batches:
        for cut in cuts(batch, REQUEST):
            sdk_body([list(row) for row in zip(*(column.to_pylist() for column in cut.columns), strict=True)])


def dict_loop(batches: Iterator[pa.RecordBatch]) -> None:
    for batch in batches:
        for cut in cuts(batch, REQUEST):
            sdk_body([[row[key] or "" for key in KEYS] for row in cut.to_pylist()])


def sdk_body(rows: list[list[str]]) -> None:
    from facebook_business.adobjects.customaudience import CustomAudience

    params = CustomAudience.format_params(list(KEYS), rows, is_raw=True)
    urlencode({"payload": json.dumps(params["payload"], sort_keys=True)})


# Each with whether it has all rows or the sample, and how many cores.
MEASURES: dict[str, tuple[Callable[[Iterator[pa.RecordBatch]], None], bool, int]] = {
    "official SDK": (sdk, False, 1),
    "dict loop + SDK": (dict_loop, False, 1),
    "ours, prepare only": (partial(ours, written=False), True, 1),
    "ours, batches of 10,000": (partial(ours, size=REQUEST), True, 1),
    "ours, batches of 65,536": (ours, True, 1),
    "ours, two cores": (ours_on_two, True, 2),
}


def measure(name: str, path: Path, rows: int, answer: multiprocessing.SimpleQueue[tuple[float, float]]) -> None:
    """Time one measure in this process, and tell microseconds a row and MB of memory above an idle process."""
    work, _, cores = MEASURES[name]
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    idle = peak()
    work(batches_in(path, min(rows, BATCH)))  # tables of countries and phones are read once in a process
    clock = time.process_time if cores == 1 else time.perf_counter
    begin = clock()
    work(batches_in(path, rows))
    answer.put(((clock() - begin) / rows * 1e6, peak() - idle))


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare(path: Path, rows: int) -> None:
    spawn = multiprocessing.get_context("spawn")
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in MEASURES}
    for _ in range(TURNS):
        for name, (_, everything, _) in MEASURES.items():
            answer = spawn.SimpleQueue()
            worker = spawn.Process(target=measure, args=(name, path, rows if everything else min(rows, SAMPLE), answer))
            worker.start()
            worker.join()
            if worker.exitcode:
                raise SystemExit(f"{name} failed.")
            seen[name].append(answer.get())
    print(f"{rows:,} rows of {len(KEYS)} columns; SDK and loop: {min(rows, SAMPLE):,} of them")
    print(f"{'':24}{'us/row':>8}{'rows/s':>12}{'x SDK':>8}{'x loop':>8}{'peak MB':>9}")
    best = {name: min(us for us, _ in turns) for name, turns in seen.items()}
    for name, us in best.items():
        ratios = f"{best['official SDK'] / us:8.1f}{best['dict loop + SDK'] / us:8.1f}"
        memory = statistics.median(mb for _, mb in seen[name])
        print(f"{name:24}{us:8.2f}{1e6 / us:12,.0f}{ratios}{memory:9.0f}")


def profile(path: Path, rows: int) -> None:
    """Print where the time goes: a key at a time beside EXTERN_ID, the bodies, and the functions."""
    pa.set_cpu_count(1)
    batches = list(batches_in(path, rows))
    ours(iter(batches[:1]))

    def seconds(work: Callable[[], object]) -> float:
        times = []
        for _ in range(TURNS):
            begin = time.process_time()
            work()
            times.append(time.process_time() - begin)
        return min(times) / rows * 1e6

    def prepared(keys: tuple[str, ...]) -> list[pa.RecordBatch]:
        return list(map(new_preparer(keys).prepare, batches))

    alone = seconds(lambda: prepared(("EXTERN_ID",)))
    print(f"us/row\n{'EXTERN_ID':12}{alone:6.2f}")
    for key in KEYS[:-1]:
        print(f"{key:12}{seconds(lambda key=key: prepared((key, 'EXTERN_ID'))) - alone:6.2f}")
    done = prepared(KEYS)
    print(f"{'bodies':12}{seconds(lambda: list(map(bodies, done))):6.2f}")
    with cProfile.Profile() as profiler:
        ours(iter(batches))
    pstats.Stats(profiler).sort_stats("tottime").print_stats(20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "people.arrow")
        # In a process of its own, as the made-up rows would be part of every peak.
        maker = multiprocessing.get_context("spawn").Process(target=write_people, args=(path, options.rows))
        maker.start()
        maker.join()
        (profile if options.profile else compare)(path, options.rows)


if __name__ == "__main__":
    main()
