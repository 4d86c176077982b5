"""How soon the generations of a replica that is killed go on elsewhere, beside the same replicas on arq's own Worker.

Two replicas, many generations running, and a KIE that answers slowly: so the one that dies by SIGKILL holds many steps
in its hands. Of each of these is measured, in Postgres, how long it takes until the other replica has claimed it. What
stock arq leaves lying is found by kiebot's sweepers all the same; `arq alone` has none, and its own time-out for a job
that died is 310 s. A step counts as not resumed after LOST_S.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import statistics
import time
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from uuid import UUID

from sqlalchemy import TextClause, text

from benchmarks.rig.orders import counter
from benchmarks.rig.report import ratio, spread, table
from benchmarks.rig.stage import House, Stage, Variant

GENERATIONS = 80
AT_LEAST = 20
MOST_ROUNDS = 3
LOST_S = 30.0
MUST_S = 5.0
VARIANTS = (Variant("kiebot", 2), Variant("arq", 2), Variant("arq alone", 2))
_SLOWLY = 12.0  # times the usual: a question takes 2 to 9 seconds
_SETTLES_S = 8.0
_LOOK_S = 0.02
_USERS = range(700_000, 700_000 + GENERATIONS)
_RUNNING = "SELECT count(*) FROM generations WHERE state = 'running'"
_HELD = text("""
    SELECT g.id, g.claim_no FROM generations g JOIN replicas r ON r.id = g.claimed_by
    WHERE r.name = 'r0' AND g.finished_at IS NULL
""")
_CLAIMS = text("SELECT id, claim_no FROM generations")


async def compare(house: House, rounds: int) -> list[float]:
    """Seconds of each step that a killed replica of kiebot's had in hand, over at most MOST_ROUNDS rounds."""
    found: dict[Variant, list[list[float]]] = {variant: [] for variant in VARIANTS}
    for _ in range(min(rounds, MOST_ROUNDS)):
        async with AsyncExitStack() as stack:
            stages = [await stack.enter_async_context(_stage(house, variant)) for variant in VARIANTS]
            waits = await asyncio.gather(*(_kill_one(stage) for stage in stages))
        for variant, each in zip(VARIANTS, waits, strict=True):
            found[variant].append(each)
    _print(found)
    return list(itertools.chain(*found[VARIANTS[0]]))


def _stage(house: House, variant: Variant) -> AbstractAsyncContextManager[Stage]:
    return house.stage(
        variant, KIE_CREATE_PER_10S="10000", KIE_POLLS_PER_S="1000", KIE_PACE="0.3", MAX_JOBS=str(2 * GENERATIONS)
    )


async def _kill_one(stage: Stage) -> list[float]:
    """Seconds until each step the first replica had in hand was claimed again.

    Raises: RuntimeError, when these were too few to say anything.
    """
    stage.kie.switches.set(rate_limits=False)
    async with counter(stage) as shop:
        await shop.meet(_USERS)
        await shop.buy(_USERS, prompt="a fog [[sim:profile=E]]")
    async with asyncio.timeout(60):
        while await stage.count(_RUNNING) < GENERATIONS:  # noqa: ASYNC110 - other processes make it true
            await asyncio.sleep(_LOOK_S)
    stage.kie.switches.set(latency_scale=_SLOWLY)
    await asyncio.sleep(_SETTLES_S)
    os.kill(stage.pids[0], signal.SIGKILL)
    killed_at = time.monotonic()
    held = await _read(stage, _HELD)
    if len(held) < AT_LEAST:
        raise RuntimeError(f"{stage.variant.name}: only {len(held)} steps were in hand\n{stage.printed()}")
    return await _until_claimed(stage, held, killed_at)


async def _until_claimed(stage: Stage, held: dict[UUID, int], killed_at: float) -> list[float]:
    waits: dict[UUID, float] = {}
    while len(waits) < len(held) and time.monotonic() - killed_at < LOST_S:
        await asyncio.sleep(_LOOK_S)
        claims, after_s = await _read(stage, _CLAIMS), time.monotonic() - killed_at
        for each, claim_no in held.items():
            if claims[each] > claim_no:
                waits.setdefault(each, after_s)
    return [waits.get(each, LOST_S) for each in held]


async def _read(stage: Stage, query: TextClause) -> dict[UUID, int]:
    assert stage.engine is not None
    async with stage.engine.connect() as connection:
        return {row.id: row.claim_no for row in await connection.execute(query)}


def _print(found: dict[Variant, list[list[float]]]) -> None:
    base = [statistics.median(waits) for waits in found[VARIANTS[-1]]]
    rows = [
        (
            variant.name,
            str(sum(map(len, rounds))),
            spread([statistics.median(waits) for waits in rounds], 1),
            spread([max(waits) for waits in rounds], 1),
            ratio([statistics.median(waits) for waits in rounds], base),
            str(sum(wait >= LOST_S for waits in rounds for wait in waits)),
        )
        for variant, rounds in found.items()
    ]
    head = ("", "steps", "p50, s", "worst, s", "x arq alone", f"not within {LOST_S:.0f} s")
    table("One of two replicas is killed: until its generations go on", head, rows)
