"""Candidates over the real store, on the real clock: a replica that leaves, and one that is killed."""

from __future__ import annotations

import asyncio
import signal
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable

import pytest

from kiebot.clock import SystemClock
from kiebot.ids import new_token
from kiebot.lease.candidate import Candidate
from kiebot.lease.redis import RedisLeaseStore
from kiebot.lease.term import Term, Timing

OTHER_PROCESS = textwrap.dedent("""
    import asyncio, sys
    from kiebot.clock import SystemClock
    from kiebot.lease.candidate import Candidate
    from kiebot.lease.redis import RedisLeaseStore
    from kiebot.lease.term import Timing

    async def work(term):
        print("leads", file=sys.stderr, flush=True)
        await asyncio.sleep(3600)

    async def main():
        clock = SystemClock()
        store = RedisLeaseStore(sys.argv[1], clock=clock, prefix=sys.argv[2])
        candidate = Candidate(store, name="poller", replica="other", clock=clock, timing=Timing(), work=work)
        await candidate.run()

    asyncio.run(main())
""")

Start = Callable[[str], tuple[Candidate, "asyncio.Task[None]"]]


async def _until(fact: Callable[[], bool], within_s: float) -> float:
    began = time.monotonic()
    while not fact():
        assert time.monotonic() - began < within_s, f"not within {within_s} s"
        await asyncio.sleep(0.002)
    return time.monotonic() - began


@pytest.fixture
def prefix() -> str:
    return new_token()


@pytest.fixture
async def start(valkey_url: str, prefix: str) -> AsyncIterator[Start]:
    stores: list[RedisLeaseStore] = []
    tasks: list[asyncio.Task[None]] = []

    async def work(term: Term) -> None:
        term.check()
        await asyncio.sleep(3600)

    def start_one(replica: str) -> tuple[Candidate, asyncio.Task[None]]:
        clock = SystemClock()
        store = RedisLeaseStore(valkey_url, clock=clock, prefix=prefix)
        stores.append(store)
        candidate = Candidate(store, name="poller", replica=replica, clock=clock, timing=Timing(), work=work)
        tasks.append(asyncio.create_task(candidate.run()))
        return candidate, tasks[-1]

    yield start_one
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for store in stores:
        await store.close()


async def test_a_replica_that_leaves_hands_over_in_milliseconds(start: Start) -> None:
    first, running = start("one")
    await _until(lambda: first.is_holder, 2)
    second, _ = start("two")
    await asyncio.sleep(0.2)
    running.cancel()
    assert await _until(lambda: second.is_holder, 2) < 0.5
    assert not first.is_holder


async def test_a_killed_process_is_replaced_long_before_its_lease_expires(
    start: Start, valkey_url: str, prefix: str
) -> None:
    arguments = [sys.executable, "-c", OTHER_PROCESS, valkey_url, prefix]
    other = await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert other.stderr is not None
        assert b"leads" in await asyncio.wait_for(other.stderr.readline(), 20)
        standby, _ = start("standby")
        await asyncio.sleep(0.5)
        assert not standby.is_holder
        other.send_signal(signal.SIGKILL)
        assert await _until(lambda: standby.is_holder, 5) < 2
        assert standby.describe().counts.seized == {"disconnected": 1}
    finally:
        if other.returncode is None:
            other.kill()
        await other.wait()
