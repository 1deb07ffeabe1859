"""How fast people get to a distant Meta, beside the official SDK: rows a second, requests, bytes and CPU.

    python benchmarks/upload.py
    python benchmarks/upload.py --rows 300000 --latency 0.2 --concurrency 4

The sandbox is a process of its own that counts and holds nobody, and lets each answer wait for 50 or 200 ms. Every
measure is a process of its own too, and works on the same made-up people of 13 columns as benchmarks/prepare.py.

Additions, from a file of Arrow batches:

* ours, raw: normalised, hashed and sent, as ``hook.add_users`` does it, by 4 requests at once (the default) and more.
* ours, prepared: the same rows, hashed before the clock starts; this is what a task does once it knows whom to send.
* the SDK: ``CustomAudience.add_users``, which normalises and hashes, 10,000 rows a call, one call after the other. It
  gets the first rows only; as each call costs the same, rows a second stay, and all else is projected to all rows.
  It has rules of its own, and weaker ones, so this is the work replaced, not the same work.

Removals: people known by their mail only. The SDK writes them into the address of the request, so that 250 a call are
the most that works; ours are one request of 10,000.

MB are those of addresses and bodies, as the sandbox counts them. CPU is that of the client; that of the sandbox is
shown apart, as a share of the seconds: near 100 % it would be the sandbox that is measured. The last columns tell how
many times faster than the SDK each is, and how many times its CPU the SDK needs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from prepare import KEYS, REQUEST, batches_in, new_preparer, write_people
from stand_in import StandIn, run_apart, sdk_audience, stand_in

from airflow_provider_fbca.graph.chunks import rechunk
from airflow_provider_fbca.sandbox import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROWS = 1_000_000
SDK_ROWS = 200_000
LEAVING = 10_000
SDK_REMOVALS = 250
HEADER = (
    "latency  measure                          rows  seconds       rows/s  requests        MB   CPU s  sandbox"
    "  x rows/s  x CPU"
)


@dataclass(frozen=True)
class Cost:
    """What sending some rows took: seconds by the clock, of our processor and of the sandbox's, and what was sent."""

    rows: int
    seconds: float
    cpu: float
    sandbox: float
    requests: int
    megabytes: float

    def projected(self, rows: int) -> Cost:
        """Return what more rows would have taken."""
        times = rows / self.rows
        return Cost(
            rows,
            self.seconds * times,
            self.cpu * times,
            self.sandbox * times,
            round(self.requests * times),
            self.megabytes * times,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--latency", type=float, nargs="+", default=[0.05, 0.2], help="in seconds")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[4, 8, 16], help="requests of ours at once")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fbca-benchmark-") as name:
        raw, prepared = Path(name, "people.arrow"), Path(name, "prepared.arrow")
        run_apart(write_both, raw, prepared, options.rows)
        print(HEADER)
        with stand_in(Settings(count_only=True)) as sandbox:
            for latency in options.latency:
                sandbox.change(latency_seconds=latency)
                additions(
                    sandbox, latency, raw=raw, prepared=prepared, rows=options.rows, concurrency=options.concurrency
                )
                removals(sandbox, latency)


def additions(
    sandbox: StandIn, latency: float, *, raw: Path, prepared: Path, rows: int, concurrency: list[int]
) -> None:
    sample = measured(sandbox, sdk_adds, raw, min(rows, SDK_ROWS))
    theirs = sample.projected(rows)
    told(latency, f"SDK, from {sample.rows:,} rows", theirs, theirs)
    for at_once in concurrency:
        one = measured(sandbox, partial(adds_raw, at_once=at_once), raw, rows)
        told(latency, f"ours, raw, {at_once} at once", one, theirs)
    for at_once in concurrency:
        one = measured(sandbox, partial(adds_prepared, at_once=at_once), prepared, rows)
        told(latency, f"ours, prepared, {at_once} at once", one, theirs)


def removals(sandbox: StandIn, latency: float) -> None:
    theirs = measured(sandbox, sdk_removes, None, LEAVING)
    told(latency, "SDK, removals", theirs, theirs)
    one = measured(sandbox, removes, None, LEAVING)
    told(latency, "ours, removals", one, theirs)
    print(
        f"{LEAVING:,} people out at {latency * 1000:.0f} ms: {theirs.requests / one.requests:.0f} times the requests, "
        f"{theirs.megabytes / one.megabytes:.2f} times the bytes, {theirs.seconds / one.seconds:.1f} times the seconds"
    )


def told(latency: float, name: str, cost: Cost, theirs: Cost) -> None:
    print(
        f"{latency * 1000:4.0f} ms  {name:27} {cost.rows:>9,} {cost.seconds:>8.1f} {cost.rows / cost.seconds:>12,.0f} "
        f"{cost.requests:>9,} {cost.megabytes:>9,.1f} {cost.cpu:>7.1f} {cost.sandbox / cost.seconds:>8.0%} "
        f"{theirs.seconds / cost.seconds:>9.1f} {theirs.cpu / cost.cpu:>6.1f}",
        flush=True,
    )


def measured(sandbox: StandIn, work: Callable[[str, Path | None, int], None], people: Path | None, rows: int) -> Cost:
    """Run work on an audience of its own in a process of its own, and read what it cost."""
    audience = sandbox.create_audience()
    begun, cpu_before = len(sandbox.requests()), sandbox.cpu_seconds()
    seconds, cpu = run_apart(timed, work, audience, people, rows)
    sandbox_cpu = sandbox.cpu_seconds() - cpu_before
    calls = sandbox.requests()[begun:]
    if refused := [call for call in calls if call["status"] != 200]:
        raise SystemExit(f"{len(refused)} calls were refused, the first with {refused[0]['error']}.")
    if sum(call["rows"] or 0 for call in calls) != rows:
        raise SystemExit("The sandbox did not get all rows.")
    return Cost(rows, seconds, cpu, sandbox_cpu, len(calls), sum(wire_bytes(call) for call in calls) / 1e6)


def wire_bytes(call: dict[str, int]) -> int:
    return call["url_length"] + call["body_bytes"]


# -- in a process of its own -----------------------------------------------------------------------------------------


def write_both(raw: Path, prepared: Path, rows: int) -> None:
    """Write people as they come from a warehouse, and the same hashed."""
    write_people(raw, rows)
    preparer = new_preparer()
    with pa.OSFile(str(prepared), "wb") as file, pa.ipc.new_file(file, preparer.schema) as writer:
        for batch in batches_in(raw, rows):
            writer.write_batch(preparer.prepare(batch))


def timed(
    work: Callable[[str, Path | None, int], None], audience: str, people: Path | None, rows: int
) -> tuple[float, float]:
    """Do work and return its seconds, by the clock and of the processor; what it imports does not count."""
    import facebook_business.adobjects.customaudience  # noqa: F401

    import airflow_provider_fbca.hooks.custom_audience  # noqa: F401

    began, cpu_before = time.monotonic(), time.process_time()
    work(audience, people, rows)
    return time.monotonic() - began, time.process_time() - cpu_before


def adds_raw(audience: str, people: Path, rows: int, *, at_once: int) -> None:
    preparer = new_preparer()
    added(audience, map(preparer.prepare, batches_in(people, rows)), rows, at_once)


def adds_prepared(audience: str, people: Path, rows: int, *, at_once: int) -> None:
    added(audience, batches_in(people, rows), rows, at_once)


def added(audience: str, batches: Iterator[pa.RecordBatch], rows: int, at_once: int) -> None:
    from airflow_provider_fbca.hooks.custom_audience import FacebookCustomAudienceHook

    FacebookCustomAudienceHook().sender(audience, max_concurrency=at_once).add(batches, total=rows)


def removes(audience: str, _people: Path | None, rows: int) -> None:
    from airflow_provider_fbca.hooks.custom_audience import FacebookCustomAudienceHook

    FacebookCustomAudienceHook().remove_users(audience, pa.table({"email": mails(rows)}))


def sdk_adds(audience: str, people: Path, rows: int) -> None:
    target = sdk_audience(audience)
    for batch, _ in rechunk(batches_in(people, rows), REQUEST):
        users = [list(row) for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]
        target.add_users(list(KEYS), users, is_raw=True)


def sdk_removes(audience: str, _people: Path | None, rows: int) -> None:
    target, users = sdk_audience(audience), mails(rows).to_pylist()
    for start in range(0, rows, SDK_REMOVALS):
        target.remove_users("EMAIL_SHA256", users[start : start + SDK_REMOVALS])


def mails(rows: int) -> pa.Array:
    return pc.binary_join_element_wise("person", pa.array(range(rows)).cast(pa.string()), "@example.com", "")


if __name__ == "__main__":
    main()
