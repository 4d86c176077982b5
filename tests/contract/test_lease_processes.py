"""Replicas as processes, over every store that reaches beyond one: leaving, killed, frozen and woken."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from kiebot.clock import SystemClock
from kiebot.ids import new_token
from kiebot.lease.candidate import Candidate
from kiebot.lease.open import open_lease_store
from kiebot.lease.protocol import Lease, LeaseStore
from kiebot.lease.term import Term, Timing

from .waiting import until_true

CHILD = Path(__file__).with_name("lease_child.py")
QUICK = Timing(ttl_s=1.5, renew_s=0.2, call_timeout_s=0.45, margin_s=0.15)

Spawn = Callable[[str, str], Awaitable[Process]]
Bid = Callable[[Timing], Candidate]

ALL = pytest.mark.parametrize("lease_url", ["redis", "postgres", "file"], indirect=True)


@pytest.fixture
def prefix() -> str:
    return new_token()


@pytest.fixture
async def store(lease_url: str, prefix: str) -> AsyncIterator[LeaseStore]:
    opened = open_lease_store(lease_url, clock=SystemClock(), prefix=prefix)
    yield opened
    await opened.close()


@pytest.fixture
async def spawn(lease_url: str, prefix: str) -> AsyncIterator[Spawn]:
    async with AsyncExitStack() as stack:

        async def start(role: str, last: str) -> Process:
            arguments = [sys.executable, str(CHILD), role, lease_url, prefix, last]
            child = await asyncio.create_subprocess_exec(*arguments, stdout=DEVNULL, stderr=PIPE)
            stack.push_async_callback(_end, child)
            return child

        yield start


async def _end(child: Process) -> None:
    if child.returncode is None:
        child.send_signal(signal.SIGCONT)
        child.kill()
    await child.wait()


@pytest.fixture
async def bid(store: LeaseStore) -> AsyncIterator[Bid]:
    """Starts this process' own candidate."""
    tasks: list[asyncio.Task[None]] = []

    async def work(term: Term) -> None:
        term.check()
        await asyncio.sleep(3600)

    def start(timing: Timing) -> Candidate:
        candidate = Candidate(store, name="poller", replica="here", clock=SystemClock(), timing=timing, work=work)
        tasks.append(asyncio.create_task(candidate.run()))
        return candidate

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _told(child: Process) -> str:
    assert child.stderr is not None
    return (await asyncio.wait_for(child.stderr.readline(), 20)).decode().strip()


async def _told_at_last(child: Process, *expected: str) -> str:
    while True:
        line = await _told(child)
        if line in expected:
            return line
        assert line == "ours" or line.startswith("{") or "lease." in line, line


@ALL
async def test_the_lease_goes_from_one_that_leaves_to_another_and_on_when_that_is_killed(
    spawn: Spawn, bid: Bid
) -> None:
    first, second = await asyncio.gather(spawn("candidate", "first"), spawn("candidate", "second"))
    assert {await _told_at_last(first, "bids"), await _told_at_last(second, "bids")} == {"bids"}
    leading = asyncio.create_task(_told_at_last(first, "leads"))
    standing_by = asyncio.create_task(_told_at_last(second, "leads"))
    await asyncio.wait({leading, standing_by}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0.3)
    assert leading.done() != standing_by.done(), "exactly one leads"
    old, new, waits = (first, second, standing_by) if leading.done() else (second, first, leading)

    old.send_signal(signal.SIGTERM)
    await asyncio.wait_for(waits, 5)  # half of what it would take to run out
    assert await asyncio.wait_for(old.wait(), 5) == 0

    here = bid(Timing())
    await asyncio.sleep(0.4)
    assert not here.is_holder
    new.send_signal(signal.SIGKILL)
    assert await until_true(lambda: here.is_holder, 5) < 2


@ALL
async def test_the_lease_of_a_killed_process_can_be_taken_at_once(spawn: Spawn, store: LeaseStore) -> None:
    child = await spawn("holder", "30")
    dead = await _told(child)
    token = new_token()
    assert await store.seize("poller", "here", dead_token=new_token(), token=token, ttl_s=5) is None
    assert await store.acquire("poller", "here", token=token, ttl_s=5) is None
    child.kill()
    await child.wait()
    until = time.monotonic() + 1
    while await _taken(store, dead, token) is None:
        assert time.monotonic() < until
        await asyncio.sleep(0.01)


async def _taken(store: LeaseStore, dead: str, token: str) -> Lease | None:
    """As a candidate does it: a free lease is acquired, one whose holder is gone is seized."""
    if await store.holder("poller") is None:
        return await store.acquire("poller", "here", token=token, ttl_s=5)
    if await store.holder_is_connected("poller", dead):
        return None
    return await store.seize("poller", "here", dead_token=dead, token=token, ttl_s=5)


@pytest.mark.parametrize("lease_url", ["redis", "postgres"], indirect=True)
async def test_a_frozen_holder_is_replaced_after_its_ttl_and_learns_it_when_it_wakes(spawn: Spawn, bid: Bid) -> None:
    child = await spawn("holder", f"{QUICK.ttl_s}")
    await _told(child)
    await _told_at_last(child, "ours")
    here = bid(QUICK)
    await asyncio.sleep(QUICK.ttl_s * 0.3)
    child.send_signal(signal.SIGSTOP)
    assert QUICK.ttl_s * 0.5 < await until_true(lambda: here.is_holder, 6) < QUICK.ttl_s * 1.6
    child.send_signal(signal.SIGCONT)
    assert await _told_at_last(child, "not yours") == "not yours"
    await asyncio.sleep(QUICK.renew_s * 2)
    assert here.is_holder


@pytest.mark.parametrize("lease_url", ["file"], indirect=True)
async def test_a_frozen_holder_of_a_file_keeps_it(spawn: Spawn, bid: Bid) -> None:
    """A kernel's lock cannot be taken away: where that matters, the lease belongs into another store."""
    child = await spawn("holder", "0.5")
    await _told(child)
    child.send_signal(signal.SIGSTOP)
    here = bid(Timing(ttl_s=0.5, renew_s=0.1, call_timeout_s=0.1, margin_s=0.05))
    await asyncio.sleep(1.2)
    assert not here.is_holder
    child.send_signal(signal.SIGCONT)
    assert await _told_at_last(child, "ours") == "ours"
    child.kill()
    await until_true(lambda: here.is_holder, 2)
