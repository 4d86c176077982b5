"""How much of KIE's twenty creates per ten seconds 1, 2 and 4 replicas reach together, and in whose order.

One user's 500 generations wait, and behind them one of each of many others. All replicas stand side by side on KIEs of
their own, once with a window that slides and once with a fixed one; KIE takes its measured time to answer. After them
the usual limiter, in the same way: a fixed share per process, made for four of them.

The rate is taken over whole windows, once all queues are full. A user's three running
slots are what the 500 may take of it at once; how far others are out of the order in which they asked is counted in
places.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import text

from benchmarks.rig.orders import counter
from benchmarks.rig.report import table
from benchmarks.rig.stage import House, Stage, Variant

REPLICAS = (1, 2, 4)
BUDGETS = ("kiebot", "fixed share")
SECONDS = 68.0
PER_WINDOW, WINDOW_S = 20, 10.0
SHARE = 5  # of each process
ORDER_FROM_S = 25.0  # two windows: until then hundreds ask for the first time, in whatever order jobs come to run
MANY, OTHERS = 500, 320
MUST_USE, MUST_REFUSED = 0.90, 0.001
MUST_HEAVY, MUST_DISPLACE = 0.10, PER_WINDOW
Shape = Literal["sliding", "fixed"]
_HEAVY, _FIRST = 900_000, 900_001
_OWNERS = text("""
    SELECT a.task_id, g.user_id FROM attempts a JOIN generations g ON g.id = a.generation_id WHERE a.task_id IS NOT NULL
""")
_COUNTED = "SELECT count(*) FROM generations WHERE setbacks > 0"


@dataclass(frozen=True)
class Used:
    """use: of what is allowed; heavy: of the creates, that user's; displaced: places out of order, at most."""

    replicas: int
    use: float
    creates: int
    refused: int
    counted: int
    heavy: float
    displaced: int


async def compare(house: House, rounds: int) -> list[Used]:
    """kiebot's results over both shapes. Takes five minutes whatever the rounds: a minute is measured each time."""
    sliding = {budget: await _side_by_side(house, "sliding", budget) for budget in BUDGETS}
    fixed = {"kiebot": await _side_by_side(house, "fixed", "kiebot")}
    _print("sliding", sliding)
    _print("fixed", fixed)
    return sliding["kiebot"] + fixed["kiebot"]


async def _side_by_side(house: House, window: Shape, budget: str) -> list[Used]:
    """All numbers of replicas at once: seven processes beside seven simulators are what two cores can carry."""
    async with AsyncExitStack() as stack:
        stages = [await stack.enter_async_context(_stage(house, replicas, budget)) for replicas in REPLICAS]
        for stage in stages:
            stage.kie.switches.set(create_window=window, latency_scale=1.0)
            await _fill(stage)
        since = stages[-1].kie.clock.monotonic()
        await asyncio.sleep(SECONDS)
        return [await _used(stage, budget, since) for stage in stages]


def _stage(house: House, replicas: int, budget: str) -> AbstractAsyncContextManager[Stage]:
    return house.stage(Variant("kiebot", replicas), BENCH_BUDGET=budget, KIE_CREATE_PER_10S=str(PER_WINDOW))


async def _fill(stage: Stage) -> None:
    async with counter(stage) as shop:
        others = range(_FIRST, _FIRST + OTHERS)
        await shop.meet([_HEAVY, *others])
        await shop.buy([*[_HEAVY] * MANY, *others])


async def _used(stage: Stage, budget: str, since: float) -> Used:
    """Raises: RuntimeError, when the queue ran dry or there was not a minute to measure."""
    tasks = sorted(stage.kie.tasks.values(), key=lambda task: task.born)
    users = await _users_of(stage)
    born = [task.born for task in tasks if task.born > since]
    burst = PER_WINDOW if budget == "kiebot" else SHARE * stage.variant.processes
    whole = (len(born) - 1) // burst * burst
    took_s = born[whole] - born[0] if whole > 0 else 0.0
    order = [users[task.task_id] for task in tasks if task.task_id in users]
    early = {users.get(task.task_id) for task in tasks if task.born <= since + ORDER_FROM_S}
    others = [user for user in order if user != _HEAVY and user not in early]
    if whole <= 0 or len(others) + len(early) > OTHERS:
        raise RuntimeError(f"{stage.variant.name}: {len(born)} creates, {len(others)} of others\n{stage.printed()}")
    refused = sum(1 for entry in stage.kie.journal.creates() if entry.code == 429)
    return Used(
        replicas=stage.variant.processes,
        use=whole / took_s / (PER_WINDOW / WINDOW_S),
        creates=len(tasks),
        refused=refused,
        counted=int(await stage.count(_COUNTED)),
        heavy=order.count(_HEAVY) / len(order),
        displaced=_displaced(others),
    )


def _displaced(others: list[int]) -> int:
    """They were numbered in the order in which they asked."""
    ordered = sorted(others)
    return max(abs(there - ordered.index(user)) for there, user in enumerate(others))


async def _users_of(stage: Stage) -> dict[str, int]:
    assert stage.engine is not None
    async with stage.engine.connect() as connection:
        return {row.task_id: row.user_id for row in await connection.execute(_OWNERS)}


def _print(window: str, found: dict[str, list[Used]]) -> None:
    rows = [
        (
            f"{budget} x{used.replicas}",
            f"{used.use:.1%}",
            f"{used.use / base.use:.2f}" if base is not used else "",
            f"{used.refused} of {used.creates}",
            str(used.counted),
            f"{used.heavy:.0%}",
            str(used.displaced),
        )
        for budget, each in found.items()
        for used, base in zip(each, found.get(BUDGETS[1], each), strict=True)
    ]
    head = ("", "use", "x fixed share", "429s", "counted", "to who has 500", "displaced")
    table(f"KIE's creates: {PER_WINDOW} per {WINDOW_S:.0f} s, a {window} window, for {SECONDS:.0f} s", head, rows)
