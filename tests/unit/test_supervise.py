"""Parts of a replica: started again when they die, and ended when they are to end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import pairwise

import pytest

from kiebot.clock import ManualClock
from kiebot.supervise import AGAIN_S, LONGEST_PAUSE_S, MAX_QUICK_DEATHS, PartFailed, Supervisor


async def test_a_part_that_dies_is_started_again_after_growing_pauses_and_counted() -> None:
    clock = ManualClock()
    starts: list[float] = []
    supervisor = Supervisor(clock)

    async def dies() -> None:
        starts.append(clock.monotonic())
        raise RuntimeError("a bug of ours")

    supervisor.start("part", dies)
    await clock.advance(30.0)
    pauses = [round(after - before, 1) for before, after in pairwise(starts)]
    assert pauses[:3] == [0.2, 0.4, 0.8]
    assert max(pauses) == LONGEST_PAUSE_S
    assert supervisor.restarts["part"] == len(starts)
    await supervisor.stop("part")


async def test_a_part_that_cannot_be_kept_alive_ends_the_process() -> None:
    clock = ManualClock()
    supervisor = Supervisor(clock)

    async def dies() -> None:
        raise RuntimeError("a bug of ours")

    supervisor.start("part", dies)
    waiting = asyncio.create_task(supervisor.wait())
    await clock.advance(LONGEST_PAUSE_S * (MAX_QUICK_DEATHS + 1))
    with pytest.raises(PartFailed, match="part died"):
        await waiting


async def test_a_part_that_swallows_a_cancellation_hears_of_it_again() -> None:
    """As `asyncio.wait_for` does before Python 3.12: the replica would wait for that part until it is killed."""
    clock = ManualClock()
    supervisor = Supervisor(clock)

    async def hard_of_hearing() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    supervisor.start("part", hard_of_hearing)
    await asyncio.sleep(0)
    stopping = asyncio.create_task(supervisor.stop_all())
    await clock.advance(AGAIN_S - 1)
    assert not stopping.done()
    await clock.advance(1)
    await stopping


async def test_a_part_that_ends_in_order_is_not_disturbed() -> None:
    clock = ManualClock()
    ended: list[str] = []
    supervisor = Supervisor(clock)

    async def tidies_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await clock.sleep(5.0)
            ended.append("in order")

    supervisor.start("part", tidies_up)
    await asyncio.sleep(0)
    stopping = asyncio.create_task(supervisor.stop("part"))
    await clock.advance(5.0)
    await stopping
    assert ended == ["in order"]
