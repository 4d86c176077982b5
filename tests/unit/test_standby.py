"""How often a standby looks at the holder: seldom while all is well, soon again when something is amiss."""

from __future__ import annotations

import asyncio
import random

from kiebot.clock import ManualClock
from kiebot.lease.memory import MemoryLeaseStore
from kiebot.lease.protocol import Holder
from kiebot.lease.standby import Standby
from kiebot.lease.term import Timing

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
