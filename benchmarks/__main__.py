"""`python -m benchmarks [tap | updates | holds | queue | all] [--rounds 5]`"""

from __future__ import annotations

import argparse
import asyncio
import time

import benchmarks
from benchmarks import holds, job_queue, tap, updates
from benchmarks.rig.report import machine
from benchmarks.rig.stage import open_house

COMPARISONS = {"tap": tap.compare, "updates": updates.compare, "holds": holds.compare}


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
    parser.add_argument("name", nargs="?", default="all", choices=(*COMPARISONS, "queue", "all"))
    parser.add_argument("--rounds", type=int, default=5, help="per variant, at least 1; medians want 5")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    began = time.monotonic()
    if names := [name for name in COMPARISONS if options.name in (name, "all")]:
        asyncio.run(compare(names, options.rounds))
    if options.name in ("queue", "all"):
        print("\nThe job queue alone")
        job_queue.compare("asyncio")
    print(f"\ntook {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
