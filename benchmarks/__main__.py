"""`python -m benchmarks [NAME] [--rounds 5]`; `--help` lists the names."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

import benchmarks
from benchmarks import failover, handovers, holds, idle, intake, job_queue, lanes, sending, tap, updates
from benchmarks.rig.report import machine
from benchmarks.rig.stage import open_house

COMPARISONS = {
    "tap": tap.compare,
    "updates": updates.compare,
    "lanes": lanes.compare,
    "sending": sending.compare,
    "holds": holds.compare,
    "idle": idle.compare,
    "handovers": handovers.compare,
    "intake": intake.compare,
}


async def compare(names: list[str], rounds: int) -> None:
    async with open_house() as house:
        print(machine(house.engines.described))
        for name in names:
            await COMPARISONS[name](house, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=benchmarks.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", default="all", choices=(*COMPARISONS, "queue", "failover", "all"))
    parser.add_argument("--rounds", type=int, help="per variant, at least 1; default 5, of failover 100 and less")
    parser.add_argument("--only", default="", help="of failover: events with these words in their names, no others")
    options = parser.parse_args()
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    began = time.monotonic()
    if options.name == "failover":  # not of `all`: it takes the better part of an hour
        is_kept = asyncio.run(failover.compare(options.rounds, options.only))
        print(f"\ntook {time.monotonic() - began:.0f} s")
        sys.exit(0 if is_kept else 1)
    every = [name for name in COMPARISONS if name != "intake"]  # which takes a quarter of an hour
    if names := every if options.name == "all" else [options.name] if options.name in COMPARISONS else []:
        asyncio.run(compare(names, options.rounds or 5))
    if options.name in ("queue", "all"):
        print("\nThe job queue alone")
        job_queue.compare("asyncio")
    print(f"\ntook {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
