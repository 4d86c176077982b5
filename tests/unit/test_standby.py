"""When a standby looks at the holder: seldom while all is well, soon again when something is amiss, and at the instant
at which the lease runs out or its silence has lasted long enough."""

from __future__ import annotations

import asyncio
import random

import pytest

from kiebot.clock import ManualClock
from kiebot.lease.memory import MemoryLeaseStore
from kiebot.lease.protocol import Holder
from kiebot.lease.standby import Standby
from kiebot.lease.term import Timing
from kiebot.lease.watch import Sign

TIMING = Timing()


async def _looks_within(seconds: float, *, connected: bool) -> int:
    """Looks at a holder that renews all the time."""
    clock = ManualClock()
    standby, looks = Standby(MemoryLeaseStore(clock), "poller", clock, TIMING, random.Random(0)), 0

    async def look() -> None:
        nonlocal looks
        while True:
            await standby.judge(Holder("one", "t1", TIMING.ttl_s, connected))
            looks += 1
            await standby.pause()

    looking = asyncio.create_task(look())
    await clock.advance(seconds)
    looking.cancel()
    return looks


async def test_a_standby_looks_five_times_a_second_while_the_holder_is_connected() -> None:
    assert 46 <= await _looks_within(10, connected=True) <= 56


async def test_a_standby_that_misses_the_connection_looks_again_after_a_tenth_of_a_second() -> None:
    assert 92 <= await _looks_within(10, connected=False) <= 111


@pytest.mark.parametrize("ttl_s", [3.0, 10.0])
@pytest.mark.parametrize("seed", range(20))
async def test_a_holder_lost_as_the_stores_clock_steps_back_is_given_up_within_1_1_ttl(ttl_s: float, seed: int) -> None:
    """Counted from the step, wherever between two looks it falls."""
    clock, timing = ManualClock(), Timing.scaled(ttl_s=ttl_s, renew_s=ttl_s / 5)
    store = MemoryLeaseStore(clock, tells_connections=False)
    standby = Standby(store, "poller", clock, timing, random.Random(seed))
    stepped_at = clock.monotonic() + 1.0 + random.Random(seed).uniform(0.0, 0.25)
    signs: list[tuple[Sign, float]] = []

    async def look() -> None:
        while not signs:
            now = clock.monotonic()
            left_s = ttl_s - 1.0 - now if now < stepped_at else 3600.0 - (now - stepped_at)
            if sign := await standby.judge(Holder("one", "t1", left_s, None)):
                signs.append((sign, now))
            await standby.pause()

    looking = asyncio.create_task(look())
    await clock.advance(2 * ttl_s)
    looking.cancel()
    sign, at = signs[0]
    assert sign is Sign.NOT_RENEWED
    assert timing.trust_s + 0.05 * ttl_s < at - stepped_at <= 1.1 * ttl_s - 0.1  # some is left for bid and first poll


@pytest.mark.parametrize("seed", range(20))
async def test_a_lease_that_runs_out_is_found_free_at_once(seed: int) -> None:
    clock = ManualClock()
    store = MemoryLeaseStore(clock)
    standby = Standby(store, "poller", clock, TIMING, random.Random(seed))
    await store.acquire("poller", "one", token="t1", ttl_s=3.0)
    expires_at, found = clock.monotonic() + 3.0, list[float]()

    async def look() -> None:
        while holder := await store.holder("poller"):
            await standby.judge(holder)
            await standby.pause()
        found.append(clock.monotonic())

    looking = asyncio.create_task(look())
    await clock.advance(5.0)
    looking.cancel()
    assert found[0] - expires_at <= 0.02
