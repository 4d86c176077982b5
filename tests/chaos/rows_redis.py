"""Rows 12 to 21: what happens to Redis, and to clocks."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis

from tests.chaos import blows
from tests.chaos.matrix import Skipped, expect, row
from tests.chaos.refusals import Step, refusals
from tests.chaos.rig import Rig
from tests.chaos.stores import Store, make_redis
from tests.scenarios.buying import creates

RATE = 20.0
BACK_S = 1.0
DAY_S = 86_400
_ENDED = "SELECT max(state) FROM generations WHERE user_id = :user AND finished_at IS NOT NULL"


@row(12, "Redis kill -9, persistent")
async def dies_and_remembers(rig: Rig) -> str:
    """Produce: kill -9 of Valkey, start with its append-only file.

    Expect: no change of leader, or one that polls within 1 s of its return.
    """
    async with rig.crowd.talking(RATE):
        await rig.stores.redis.kill()
        await rig.stores.redis.start()
        return await _polls_again(rig, time.time())


@row(13, "Redis kill -9, empty", polls_may_meet=True)
async def dies_and_forgets(rig: Rig) -> str:
    """Produce: kill -9 of Valkey, start without data.

    Expect: somebody polls within 1 s of its return; epochs rise; the inbox fills the queue again.
    """
    async with rig.crowd.talking(RATE):
        await rig.stores.redis.kill()
        await rig.stores.redis.empty()
        await rig.stores.redis.start()
        return await _polls_again(rig, time.time())


@row(14, "Redis down for long")
async def is_away(rig: Rig) -> str:
    """Produce: kill -9 of Valkey, start after three TTLs.

    Expect: polls stop at the deadline; /readyz names Redis; no process ends; a poll within 1 s of the return.
    """
    return await _outage(rig, rig.stores.redis.kill, rig.stores.redis.start, 3 * rig.ttl_s)


@row(15, "Redis frozen")
async def is_frozen(rig: Rig) -> str:
    """Produce: SIGSTOP of Valkey for three TTLs: it takes connections and says nothing.

    Expect: as when it is down.
    """

    async def freeze() -> None:
        rig.stores.redis.freeze()

    async def thaw() -> None:
        rig.stores.redis.thaw()

    return await _outage(rig, freeze, thaw, 3 * rig.ttl_s)


@row(16, "FLUSHALL, DEL lease, SCRIPT FLUSH", polls_may_meet=True)
async def is_emptied(rig: Rig) -> str:
    """Produce: the three commands, a second apart.

    Expect: somebody polls within 1 s of each; scripts are loaded again.
    """
    told = []
    async with rig.crowd.talking(RATE):
        for command in (("FLUSHALL",), ("DEL", rig.lease_key), ("SCRIPT", "FLUSH")):
            at = time.time()
            await rig.ask(*command)
            told.append(f"{command[0]}: {await _polls_again(rig, at)}")
            await asyncio.sleep(1.0)
    return "; ".join(told)


@row(17, "failover to a stale replica", polls_may_meet=True)
async def goes_back(rig: Rig) -> str:
    """Produce: a copy of Redis is made, the holder hands over, every door then leads to the copy.

    Expect: the copy names a holder of the past; somebody polls within TTL + 1 s; no stale write.
    """
    async with _copy(rig) as copy:
        await blows.hand_over(rig)
        await rig.revive()
        await rig.crowd.says(5)
        at = time.time()
        await _lead_to(rig, copy.socket)
        try:
            await rig.until(lambda: _begun(rig, at) > 0 or _polled_since(rig, at), rig.ttl_s + 1.0, "somebody polls")
            await rig.crowd.says(5)
            await asyncio.sleep(rig.ttl_s)
            holder = await rig.holder(rig.ttl_s)
        finally:
            await _lead_to(rig, rig.stores.redis.socket)
    return f"{holder} led on the copy, {len(rig.logged('poller.started', at))} terms begun"


@row(18, "READONLY, LOADING, BUSY, MISCONF, NOREPLICAS, NOAUTH, maxclients", polls_may_meet=True)
async def refuses(rig: Rig) -> str:
    """Produce: each for half a TTL: by configuration, a slow reload, a script that never ends, a snapshot that fails.

    Expect: an outage like any other: somebody polls within 1 s of each end, no process dies.
    """
    told = []
    for refusal in refusals(rig, rig.ttl_s / 2):
        await refusal.begin()
        await rig.crowd.says(2)
        await asyncio.sleep(rig.ttl_s / 2)
        at = time.time()
        await refusal.end()
        told.append(f"{refusal.name}: {await _polls_again(rig, at)}")
    expect(all(member.is_alive for member in rig.cluster.members.values()), "a replica died")
    return "; ".join(told)


@row(19, "Redis out of memory")
async def is_full(rig: Rig) -> str:
    """Produce: maxmemory of one byte for two TTLs.

    Expect: the lease is renewed, nothing changes hands; every update reaches the inbox meanwhile, within a second, and
    is handled, then or afterwards.
    """
    at, first = time.time(), len(rig.crowd.sent)
    await rig.redis.config_set("maxmemory", "1")
    try:
        async with rig.crowd.talking(RATE / 2):
            await asyncio.sleep(2 * rig.ttl_s)
            sent = [each.update_id for each in rig.crowd.sent[first:] if each.at < time.time() - 1.0]
            stored = await rig.world.scalar("SELECT count(*) FROM inbox WHERE update_id = ANY(:ids)", ids=sent)
    finally:
        await rig.redis.config_set("maxmemory", "0")
    begun = _begun(rig, at)
    expect(not begun, f"{begun} terms began")
    expect(stored == len(sent), f"{stored} of {len(sent)} updates were stored meanwhile")
    return f"no change, {stored} updates stored meanwhile"


@row(20, "clock of Redis' host steps by an hour", polls_may_meet=True)
async def clock_steps(rig: Rig) -> str:
    """Produce: forward: PEXPIRE of the lease to 1 ms. Backward: the holder is cut off, PEXPIRE to an hour.

    Expect: forward, somebody polls within 1 s; backward, another polls within 1.1 TTL.
    """
    forward = await _polls_again(rig, await blows.clock_steps_forward(rig))
    await asyncio.sleep(rig.ttl_s / 2)
    takeover = await blows.clock_steps_back(rig)
    expect(takeover.took_s <= 1.1 * rig.ttl_s, f"backward: {takeover.took_s:.2f} s")
    return f"forward: {forward}; backward: {takeover.took_s:.2f} s"


@row(21, "wall clocks of replicas are a day off, one at double rate")
async def clocks_are_wrong(rig: Rig) -> str:
    """Produce: both standbys start anew, one with a wall clock a day ahead and twice as fast, one a day behind. The
    holder leaves; somebody buys; the next holder leaves too.

    Expect: no wrong lease: each leads once, after the one before; the purchase ends well: no hold expired early.
    """
    library = await asyncio.to_thread(_wrong_clock, rig.directory)
    holder = await rig.holder()
    odd = [name for name in rig.names if name != holder]
    given = {name: rig.cluster.members[name].environment for name in odd}
    mark, terms = rig.mark(), len(rig.feed.epochs)
    try:
        for name, (by_s, rate) in zip(odd, ((DAY_S, 2), (-DAY_S, 1)), strict=True):
            rig.send(name, signal.SIGTERM)
            await rig.cluster.wait(name, 20.0)
            clock = {"LD_PRELOAD": str(library), "WRONG_CLOCK_BY_S": f"{by_s}", "WRONG_CLOCK_RATE": f"{rate}"}
            await rig.revive(name, **clock)
        async with rig.crowd.talking(RATE):
            led = [(await blows.hand_over(rig)).successor]
            state = await _buys(rig)
            await asyncio.sleep(rig.ttl_s)
            led.append((await blows.hand_over(rig)).successor)
            await asyncio.sleep(rig.ttl_s)
        await rig.settles()
    finally:
        await _are_right_again(rig, given)
    rig.feed.read()
    begun = [epoch.replica for epoch in rig.feed.epochs[terms:]]
    _forget_wrong_times(rig, odd, terms)
    met = [each for each in rig.world.tg.journal.live_poll_overlaps() if each.second.number > mark]
    expect(begun == led and sorted(led) == sorted(odd), f"terms of {begun}")
    expect(not met, f"{len(met)} polls met")
    expect(state == "succeeded", f"the purchase {state}")
    return f"{' then '.join(led)} led, a purchase {state} meanwhile"


async def _buys(rig: Rig) -> str:
    anna = rig.world.tg.user(601_021, "Anna", "en")
    await creates(anna)
    state = (
        "SELECT state FROM generations WHERE user_id = :user AND finished_at IS NOT NULL ORDER BY number DESC LIMIT 1"
    )
    return str(await rig.world.until_row(state, 30.0, user=anna.user_id))


async def _are_right_again(rig: Rig, given: Mapping[str, Mapping[str, str]]) -> None:
    for name, environment in given.items():
        rig.cluster.members[name].environment = environment
        rig.send(name, signal.SIGTERM)
    for name in given:
        await rig.cluster.wait(name, 20.0)


def _forget_wrong_times(rig: Rig, odd: Sequence[str], terms: int) -> None:
    """What these replicas logged says when by a clock that was wrong: nobody shall compare it later."""
    rig.feed.entries[:] = [each for each in rig.feed.entries if abs(each["at"] - time.time()) < DAY_S / 2]
    rig.feed.epochs[terms:] = [each for each in rig.feed.epochs[terms:] if each.replica not in odd]


def _wrong_clock(directory: Path) -> Path:
    """The library that makes wall clocks wrong. Raises: Skipped."""
    compiler, library = shutil.which("cc"), directory / "wrong_clock.so"
    if sys.platform != "linux" or compiler is None:
        raise Skipped("needs Linux and a C compiler")
    source = Path(__file__).with_name("wrong_clock.c")
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, source], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Skipped(f"cc: {done.stderr.strip().splitlines()[-1:]}")
    return library


async def _outage(rig: Rig, begin: Step, end: Step, for_s: float) -> str:
    at = time.time()
    async with rig.crowd.talking(RATE / 2):
        await begin()
        await asyncio.sleep(rig.deadline_s + 1.0)
        last = last_live_poll(rig, at)
        _, ready = await rig.readiness(rig.names[0])
        await asyncio.sleep(max(0.0, at + for_s - time.time()))
        late = last_live_poll(rig, at)
        back_at = time.time()
        await end()
        told = await _polls_again(rig, back_at)
    expect(late - at <= rig.deadline_s + 0.1, f"a poll was alive {late - at:.2f} s after the loss")
    expect("unreachable" in str(ready), f"/readyz said {ready}")
    expect(all(member.is_alive for member in rig.cluster.members.values()), "a replica died")
    return f"polls ended {last - at:.2f} s after the loss, back: {told}"


def last_live_poll(rig: Rig, at: float) -> float:
    """When the last poll with a client ended (Unix time), `at` when none did since."""
    journal = rig.world.tg.journal
    offset = journal.clock.now() - journal.clock.monotonic()
    ends = [at]
    for poll in journal.polls()[-500:]:
        if poll.disconnected_at is not None:
            ends.append(offset + poll.disconnected_at)
        else:
            ends.append(offset + poll.ended_at if poll.ended_at is not None else journal.clock.now())
    return max(ends)


async def _polls_again(rig: Rig, at: float, within_s: float = BACK_S) -> str:
    """Within that time the one who polls is the one whom the lease names."""
    took_s = await rig.led(within_s + 5.0)
    expect(took_s <= within_s, f"nobody led until {took_s:.2f} s after the return")
    return f"{took_s:.2f} s" if _begun(rig, at) else f"{took_s:.2f} s, the same term"


def _begun(rig: Rig, at: float) -> int:
    return len(rig.logged("poller.started", at))


def _polled_since(rig: Rig, at: float) -> bool:
    parked = rig.world.tg.bot.polls.parked
    return parked is not None and parked.at >= at


@asynccontextmanager
async def _copy(rig: Rig) -> AsyncIterator[Store]:
    """Another Valkey with what this one holds now."""
    store = make_redis(rig.directory / f"copy{time.monotonic_ns()}", rig.stores.redis.password)
    await store.start()
    other = Redis.from_url(store.url)
    try:
        async for key in rig.redis.scan_iter(count=1000):
            value, left_ms = await rig.redis.dump(key), await rig.redis.pttl(key)
            if value is not None:
                await other.restore(key, max(0, left_ms), value, replace=True)
        yield store
    finally:
        await other.aclose()
        await store.stop()
        shutil.rmtree(store.socket.parent, ignore_errors=True)


async def _lead_to(rig: Rig, socket: Path) -> None:
    for doors in rig.doors.values():
        doors.redis.target = socket
        doors.redis.resets()
