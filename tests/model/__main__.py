"""The command: ``python -m tests.model --sequences 20000``, or ``--holes`` for what each rule is for."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.model.rules import SWITCHES, WITHOUT_SWITCH
from tests.model.search import STEPS, Found, search

_CHUNK = 200


def main() -> int:
    """Search, tell what was found, and return 0 where it is what should be."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.model", description="Searches histories for a broken promise."
    )
    parser.add_argument("--sequences", type=int, default=20_000, help="histories to try; with --holes for each rule")
    parser.add_argument("--steps", type=int, default=STEPS, help="of one history, about")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--holes", nargs="*", metavar="RULE", help="switch rules off, one at a time; all by default")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.workers, mp_context=multiprocessing.get_context("forkserver")) as pool:
        if options.holes is not None:
            return _holes(pool, options)
        return _whole(pool, options)


def _whole(pool: ProcessPoolExecutor, options: argparse.Namespace) -> int:
    began, done, cpu = time.monotonic(), 0, 0.0
    seeds = range(options.seed, options.seed + -(-options.sequences // _CHUNK))
    running = {pool.submit(search, _CHUNK, seed=seed, steps=options.steps): seed for seed in seeds}
    for future in as_completed(running):
        found: Found = future.result()
        done, cpu = done + found.sequences, cpu + found.seconds
        if found.told:
            print(f"Seed {running[future]}, history {found.broken}:\n{found.told}", flush=True)
            pool.shutdown(wait=False, cancel_futures=True)
            return 1
        if (done // _CHUNK) % 10 == 0:
            print(f"{done:,} sequences", flush=True)
    seconds = time.monotonic() - began
    print(
        f"{done:,} sequences of about {options.steps} steps from seed {options.seed}, and no promise broken: "
        f"{seconds:,.0f} s with {options.workers} processes, {1000 * cpu / done:.0f} ms of processor time each."
    )
    return 0


def _holes(pool: ProcessPoolExecutor, options: argparse.Namespace) -> int:
    rules = options.holes or list(SWITCHES)
    running = {
        rule: pool.submit(search, options.sequences, seed=options.seed, without=rule, shrink=False, steps=options.steps)
        for rule in rules
    }
    missed = 0
    for rule, future in running.items():
        found: Found = future.result()
        missed += not found.broken
        how = (
            f"hole found in sequence {found.broken:,}" if found.broken else f"NO HOLE in {found.sequences:,} sequences"
        )
        promise = found.told.partition("\n")[0].removeprefix("Violation: ")
        print(f"{rule:14} off: {how}. {promise}", flush=True)
    for rule, why in WITHOUT_SWITCH.items():
        print(f"{rule:14} no switch: {why}.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
