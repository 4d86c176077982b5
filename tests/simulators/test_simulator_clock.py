"""The clocks of the simulators."""

import asyncio

import pytest

from kiebot.simulators.clock import ManualClock, ScaledClock


async def test_sleepers_of_a_manual_clock_wake_in_the_order_of_their_deadlines() -> None:
    clock = ManualClock()
    woken: list[tuple[float, float]] = []

    async def sleeper(s: float) -> None:
        await clock.sleep(s)
        woken.append((s, clock.monotonic()))

    tasks = [asyncio.create_task(sleeper(s)) for s in (3.0, 1.0, 2.0)]
    await clock.advance(2.5)
    assert woken == [(1.0, 1.0), (2.0, 2.0)]
    await clock.advance(0.5)
    assert woken[-1] == (3.0, 3.0)
    await asyncio.gather(*tasks)


async def test_a_sleeper_that_sleeps_again_within_one_advance_wakes_again() -> None:
    clock = ManualClock(now=1000.0)
    seen: list[float] = []

    async def ticker() -> None:
        for _ in range(3):
            await clock.sleep(1)
            seen.append(clock.now())

    task = asyncio.create_task(ticker())
    await clock.advance(10)
    await task
    assert seen == [1001.0, 1002.0, 1003.0]
    assert clock.now() == 1010.0


async def test_a_scaled_clock_sleeps_a_fraction_of_the_asked_time() -> None:
    clock = ScaledClock(factor=1000)
    before = clock.monotonic()
    await asyncio.wait_for(clock.sleep(20), timeout=2)
    assert clock.monotonic() - before >= 19.9
    with pytest.raises(ValueError, match="positive"):
        ScaledClock(0)
