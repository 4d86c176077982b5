"""`./dev simulate [--seeds 10000] [--from N] [--seed N] [--mutants]`: many runs on all cores. Status 1: a violation."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable

from tests.simulation.many import be_quiet, run_all
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.storm import Result, simulate

NOTE_EVERY_S = 30.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many (10000)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed (0)")
    parser.add_argument("--seed", type=int, help="this one alone, with everything it logs")
    parser.add_argument("--mutants", action="store_true", help="break one rule after another: each must be found")
    options = parser.parse_args()
    if options.seed is not None:
        return report([simulate(options.seed)])
    be_quiet()
    if options.mutants:
        return find_mutants()
    return report(run_all(range(options.first, options.first + options.seeds)))


def report(results: Iterable[Result]) -> int:
    began = noted_at = time.monotonic()
    runs, virtual_s, turns, slowest = 0, 0.0, 0, Result(-1, [])
    faults: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    found: list[Result] = []
    for result in results:
        runs, virtual_s, turns = runs + 1, virtual_s + result.virtual_s, turns + result.turns
        faults.update(result.faults)
        counts.update(result.counts)
        slowest = max(slowest, result, key=lambda one: one.recovery_s)
        if result.violations:
            found.append(result)
            print(f"seed {result.seed}: " + "; ".join(result.violations[:3]), flush=True)
        if time.monotonic() - noted_at > NOTE_EVERY_S:
            noted_at = time.monotonic()
            print(f"{runs} seeds, {len(found)} with violations, {noted_at - began:.0f} s", file=sys.stderr, flush=True)
    print(f"{runs} seeds, {virtual_s / 3600:.1f} virtual hours, {turns} steps, {time.monotonic() - began:.0f} s")
    print("faults:", ", ".join(f"{count} {what}" for what, count in faults.most_common()))
    for what in ("updates", "handled", "conflicts", "pauses", "pauses of the holder", "refused stale writes"):
        print(f"{what}: {counts[what]}")
    print(f"accepted stale writes: {counts['accepted stale writes']}")
    print(f"looks at two who may act after the store broke its word: {counts['excused overlaps']}")
    print(f"slowest recovery: {slowest.recovery_s:.1f} s (seed {slowest.seed})")
    print(f"seeds with violations: {[result.seed for result in found]}")
    return 1 if found else 0


def find_mutants() -> int:
    missed = [mutant for mutant in MUTANTS if not _is_found(mutant)]
    return 1 if missed else 0


def _is_found(mutant: Mutant) -> bool:
    for seed in range(mutant.found_within):
        for violation in simulate(seed, mutant).violations:
            if mutant.says in violation:
                print(f"{mutant.name}: found by seed {seed} of {mutant.found_within}: {violation}", flush=True)
                return True
    print(f"{mutant.name}: NOT FOUND within {mutant.found_within} seeds", flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main())
