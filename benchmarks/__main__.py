"""`python -m benchmarks [NAME] [--rounds 5]`; `--help` lists the names."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import benchmarks
from benchmarks import (
    creates,
    engine,
    failover,
    flood,
    handovers,
    holds,
    idle,
    intake,
    job_queue,
    lanes,
    resume,
    running,
    sending,
    tap,
    updates,
)
from benchmarks.rig.report import machine
from benchmarks.rig.stage import House, open_house
from tests.chaos.entering import WISHES, choose

COMPARISONS: dict[str, Callable[[House, int], Awaitable[object]]] = {
    "tap": tap.compare,
    "updates": updates.compare,
    "lanes": lanes.compare,
    "sending": sending.compare,
    "holds": holds.compare,
    "idle": idle.compare,
    "handovers": handovers.compare,
    "intake": intake.compare,
    "creates": creates.compare,
    "resume": resume.compare,
    "running": running.compare,
    "engine": engine.compare,
    "flood": flood.compare,
}
OF_ENGINE = ("creates", "resume", "running", "sending", "holds")


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
    parser.add_argument("--network", choices=WISHES, default="doors", help="of failover: what cuts a replica off")
    options = parser.parse_args()
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    began = time.monotonic()
    if options.name == "failover":  # not of `all`: it takes three hours
        network = choose(options.network)
        if network.refused:
            parser.error(f"namespaces are not permitted: {network.refused}")
        is_kept = asyncio.run(failover.compare(options.rounds, options.only, network))
        print(f"\ntook {time.monotonic() - began:.0f} s")
        sys.exit(0 if is_kept else 1)
    skipped = ("intake", *OF_ENGINE)  # a quarter of an hour; measured by `engine`
    every = [name for name in COMPARISONS if name not in skipped]
    if names := every if options.name == "all" else [options.name] if options.name in COMPARISONS else []:
        asyncio.run(compare(names, options.rounds or 5))
    if options.name in ("queue", "all"):
        print("\nThe job queue alone")
        job_queue.compare("asyncio")
    print(f"\ntook {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
