"""`./dev chaos --mutants`: each deliberate bug, and a row that must find it. What no bug can break shows nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from kiebot.demo.mutants import MUTANTS
from tests.chaos.matrix import Outcome, play
from tests.chaos.opening import open_rig
from tests.chaos.rows import ROWS

FOUND_BY: Mapping[str, Sequence[int]] = {
    "confirm-before-store": (7,),
    "inbox-key-off": (4,),
    "fence-off": (7,),
    "capture-before-success": (35,),
    "resubmit-on-lost-answer": (33,),
    "lane-without-recheck": (36,),
}


def replica_with(mutant: str | None) -> tuple[str, ...]:
    """The command that starts a replica with that bug, or with none."""
    return (sys.executable, "-m", "tests.chaos.odd_replica", *(("--mutant", mutant) if mutant else ()))


async def hunt(ttl_s: float, seed: int, tell: Callable[[str], None]) -> int:
    """Try all and tell who found each; how many were found by nobody."""
    survivors = 0
    for mutant in MUTANTS:
        found = await _find(mutant, ttl_s, seed)
        survivors += found is None
        tell(f"{mutant:<26}{f'row {found.row.number}: {found.seen}' if found else 'SURVIVED'}")
    return survivors


async def _find(mutant: str, ttl_s: float, seed: int) -> Outcome | None:
    """The first row that is not met, on a cluster of its own."""
    async with open_rig(ttl_s=ttl_s, seed=seed, command=replica_with(mutant), mutant=mutant) as rig:
        for number in FOUND_BY[mutant]:
            outcome = await play(rig, ROWS[number])
            if outcome.verdict == "not met":
                return outcome
    return None
