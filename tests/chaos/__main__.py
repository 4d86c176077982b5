"""`python -m tests.chaos [--seed N] [--rows 1-26,33-36,44,47-51]`: the fault matrix, row by row. 1: one was not met."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence

from kiebot.demo.mutants import MUTANTS
from tests.chaos.entering import WISHES, Choice, choose
from tests.chaos.matrix import Outcome, chosen, play_all
from tests.chaos.mutants import hunt, replica_with
from tests.chaos.opening import REPLICAS, end_in_order, open_rig
from tests.chaos.rows import ROWS

ALL = "1-26,33-36,44,47-51"
TTL_S = 3.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev chaos", description="Faults on real processes, row by row.")
    parser.add_argument("--seed", type=int, default=0, help="of row 50 and of whatever else is random")
    parser.add_argument("--rows", default=ALL, help=f"which rows; default {ALL}")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long row 50 strikes, default 1")
    parser.add_argument("--ttl", type=float, default=TTL_S, help="the lease's, seconds; default 3, in production 10")
    parser.add_argument("--replicas", type=int, default=REPLICAS, help=f"how many there are, default {REPLICAS}")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="break the replicas on purpose")
    parser.add_argument("--mutants", action="store_true", help="each in turn, with the row that must find it")
    parser.add_argument("--network", choices=WISHES, help="default: namespaces where permitted, else doors")
    options = parser.parse_args()
    if options.mutants:
        return asyncio.run(_hunt(options))
    try:
        numbers = chosen(options.rows, ROWS)
    except ValueError:
        parser.error(f"--rows is written like {ALL}")
    return asyncio.run(_run(numbers, options, choose(options.network)))


async def _run(numbers: Sequence[int], options: argparse.Namespace, network: Choice) -> int:
    end_in_order()
    began, seed, mutant = time.monotonic(), options.seed, options.mutant
    print(f"seed {seed}, TTL {options.ttl:g} s, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    print(f"network: {network.told}", flush=True)
    rows = [ROWS[number] for number in numbers]
    unreal = [row for row in rows if row.of_network] if network.refused else []
    outcomes = [Outcome(row, "skipped", f"namespaces are not permitted: {network.refused}", 0.0) for row in unreal]
    for outcome in outcomes:
        _tell(outcome)
    if rest := [row for row in rows if row not in unreal]:
        command = replica_with(mutant)
        opened = open_rig(
            ttl_s=options.ttl,
            replicas=options.replicas,
            seed=seed,
            command=command,
            mutant=mutant or "",
            network=network.make,
        )
        async with opened as rig:
            rig.nemesis_s = options.minutes * 60.0
            outcomes += await play_all(rig, rest, _tell)
    missed = [outcome for outcome in outcomes if outcome.verdict == "not met"]
    skipped = sum(outcome.verdict == "skipped" for outcome in outcomes)
    print(f"\n{len(outcomes)} rows: {len(outcomes) - len(missed) - skipped} met, {len(missed)} not met, ", end="")
    print(f"{skipped} skipped; {time.monotonic() - began:.0f} s, seed {seed}")
    return 1 if missed else 0


async def _hunt(options: argparse.Namespace) -> int:
    end_in_order()
    survivors = await hunt(options.ttl, options.seed, lambda told: print(told, flush=True))
    print(f"\n{len(MUTANTS)} mutants, {survivors} found by no row")
    return 1 if survivors else 0


def _tell(outcome: Outcome) -> None:
    row = outcome.row
    print(f"\n{row.number:>2}  {row.fault}  [{outcome.verdict}, {outcome.took_s:.1f} s]")
    print(f"    produced  {row.produce}")
    print(f"    expected  {row.expect}")
    print(f"    seen      {'skipped: ' if outcome.verdict == 'skipped' else ''}{outcome.seen}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
