"""Rows a second that one core prepares, beside what the official SDK does for the same rows.

    python benchmarks/prepare.py [rows]

Ours: Arrow batch to hashed Arrow batch. The SDK: ``format_params`` (normalise and hash), then JSON and form encoding,
which it cannot do without. It is handed clean text and ``""`` only, as it crashes on numbers and None; it applies rules
of its own, so this is the work replaced, not the same work. Both take turns, and the middle of three runs counts.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pyarrow as pa

from airflow_provider_fbca.identity import Preparer, resolve_mapping

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 200_000
BATCH = 65_536
SDK_SHARE = 10  # the SDK gets every tenth row, as it is slow

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


def prepare_all(batches: list[pa.RecordBatch]) -> None:
    """Do our work: a new preparer, as every task has one."""
    preparer = Preparer(resolve_mapping(list(KEYS)), default_country="US")
    for batch in batches:
        preparer.prepare(batch)


def sdk_all(rows: list[list[str]]) -> None:
    """Do the SDK's work."""
    from facebook_business.adobjects.customaudience import CustomAudience

    for start in range(0, len(rows), 10_000):
        params = CustomAudience.format_params(list(KEYS), rows[start : start + 10_000], is_raw=True)
        urlencode({"payload": json.dumps(params["payload"], sort_keys=True)})


def seconds(work: Callable[[], None]) -> float:
    """Time one run."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    columns = people(rows)
    batches = pa.table(columns).to_batches(max_chunksize=BATCH)
    few = [list(row) for row in zip(*(cells[: rows // SDK_SHARE] for cells in columns.values()), strict=True)]
    prepare_all(batches[:1])  # the tables of countries and phones are read once in a process
    ours, theirs = [], []
    for _ in range(3):
        ours.append(rows / seconds(lambda: prepare_all(batches)))
        theirs.append(len(few) / seconds(lambda: sdk_all(few)))
    our_rate, their_rate = statistics.median(ours), statistics.median(theirs)
    print(f"{rows} rows of {len(KEYS)} columns: {our_rate:,.0f} rows/s; SDK {their_rate:,.0f} rows/s")
    print(f"ratio: {our_rate / their_rate:.1f}")


if __name__ == "__main__":
    main()
