"""The command: ``python -m tests.model --sequences 20000``, or ``--holes`` for what each rule is for."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.model.rules import SWITCHES, WITHOUT_SWITCH
from tests.model.search import STEPS, Found, Hole, search, search_hole

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
        print(f"{done:,} sequences, {time.monotonic() - began:,.0f} s", flush=True)
    seconds = time.monotonic() - began
    print(
        f"{done:,} sequences of about {options.steps} steps from seed {options.seed}, and no promise broken: "
        f"{seconds:,.0f} s with {options.workers} processes, {1000 * cpu / done:.0f} ms of processor time each."
    )
    return 0


def _holes(pool: ProcessPoolExecutor, options: argparse.Namespace) -> int:
    rules = options.holes or list(SWITCHES)
    searches = {
        pool.submit(search_hole, rule, options.sequences, seed=options.seed, steps=options.steps): rule
        for rule in rules
    }
    wrong = 0
    for future in as_completed(searches):
        found: Hole = future.result()
        wrong += not found.off.broken or bool(found.on.broken)
        how = (
            f"hole found in sequence {found.off.broken:,}" if found.off.broken else f"NO HOLE in {options.sequences:,}"
        )
        promise = found.off.told.partition("\n")[0].removeprefix("Violation: ")
        print(f"{searches[future]:15} off: {how}. {promise[:150]}", flush=True)
        if found.on.broken:
            print(f"{searches[future]:15} ON, and broken in sequence {found.on.broken:,}:\n{found.on.told}", flush=True)
    for rule, why in WITHOUT_SWITCH.items():
        print(f"{rule:15} no switch: {why}.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
