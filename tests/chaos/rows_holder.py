"""Rows 1 to 11: what happens to the holder's process, and to all of them at once."""

from __future__ import annotations

import asyncio
import signal
import time

from kiebot.clock import SystemClock
from kiebot.lease.candidate import Candidate
from kiebot.lease.redis import RedisLeaseStore
from kiebot.lease.term import Term, Timing
from kiebot.simulators.telegram.journal import Call
from tests.chaos import blows
from tests.chaos.matrix import expect, row
from tests.chaos.rig import Rig

RATE = 20.0
CONTENDERS, RELEASES = 20, 200
HAND_OVERS, GAP_S = 5, 0.05


@row(1, "leader SIGTERM")
async def leaves(rig: Rig) -> str:
    """Produce: kill -TERM of the holder while people write, five times.

    Expect: another polls within 50 ms of each release; the old one drains and exits 0; what it had fetched is stored or
    left with Telegram.
    """
    gaps_ms = []
    for _ in range(HAND_OVERS):
        async with rig.crowd.talking(RATE):
            takeover = await blows.hand_over(rig)
            status = await rig.cluster.wait(takeover.victim, 1.0)
        expect(status == 0, f"{takeover.victim} ended with status {status}")
        expect(takeover.released_s is not None, f"{takeover.victim} released nothing")
        gaps_ms.append(1000 * (takeover.released_s or 0.0))
        await rig.revive()
    told = ", ".join(f"{gap:.0f}" for gap in gaps_ms)
    expect(max(gaps_ms) <= 1000 * GAP_S, f"{told} ms after the release")
    return f"{told} ms after the release"


@row(2, "leader kill -9, idle")
async def dies_idle(rig: Rig) -> str:
    """Produce: kill -9 while nobody writes.

    Expect: another polls within 1 s.
    """
    takeover = await blows.kill(rig)
    expect(takeover.took_s <= 1.0, f"{takeover.took_s:.2f} s")
    return f"{takeover.took_s:.2f} s"


@row(3, "leader killed between store and queue")
async def dies_before_queueing(rig: Rig) -> str:
    """Produce: the holder's way to Redis falls silent, an update is stored, kill -9 before its wake-up leaves.

    Expect: a sweeper queues it; nothing lost.
    """
    victim = await rig.holder()
    rig.victims.add(victim)
    rig.doors[victim].redis.holds()  # not the network's silence: the dead one's kernel would go on sending
    update_id = await _written(rig)
    await rig.world.until_row("SELECT count(*) FROM inbox WHERE update_id = :id", 5.0, id=update_id)
    rig.send(victim, signal.SIGKILL)
    began = time.monotonic()
    rig.doors[victim].redis.resets()  # what the dead one had sent is lost
    await rig.doors[victim].open()
    await _handled(rig, update_id, 15.0)
    return f"swept and handled after {time.monotonic() - began:.1f} s"


@row(4, "leader killed between queue and confirm")
async def dies_before_confirming(rig: Rig) -> str:
    """Produce: kill -9 by the very poll that would confirm; Telegram never sees it.

    Expect: the batch is read again and recognised.
    """
    victim = await rig.holder()
    rig.victims.add(victim)
    struck: list[float] = []
    queue = rig.world.tg.bot.queue

    def confirms(call: Call) -> bool:
        offset = call.arguments.get("offset", "0")
        if struck or call.process != victim or not offset.isdigit() or int(offset) <= queue.head:
            return False
        struck.append(rig.send(victim, signal.SIGKILL))
        return True

    rig.world.tg.faults.cuts_before("getUpdates", times=1, matches=confirms)
    mark = rig.mark()
    update_id = await _written(rig)
    await rig.until(lambda: bool(struck), 5.0, "the poll that confirms")
    poll = await rig.next_poll(mark, rig.ttl_s, other_than=victim)
    await rig.settles()
    read = [each for each in rig.polls_since(mark) if each.process != victim and update_id in each.update_ids]
    expect(read, "the batch was not read again")
    return f"read again, takeover {poll.at - struck[0]:.2f} s"


@row(5, "leader paused for less than its deadline")
async def naps(rig: Rig) -> str:
    """Produce: SIGSTOP for a third of the TTL.

    Expect: no change of leader.
    """
    victim, at = await rig.holder(), time.time()
    await _pause(rig, victim, rig.ttl_s / 3)
    await asyncio.sleep(rig.ttl_s / 2)
    begun = rig.logged("poller.started", at)
    expect(not begun, f"{begun[0]['replica'] if begun else ''} began a term")
    return "no change"


@row(6, "leader paused for longer than the TTL")
async def sleeps(rig: Rig) -> str:
    """Produce: SIGSTOP for two TTLs, then SIGCONT.

    Expect: a new leader within TTL + 0.1 s; the old one stops without a poll or a write.
    """
    victim = await rig.holder()
    rig.victims.add(victim)
    mark = rig.mark()
    async with rig.crowd.talking(RATE):
        at = rig.send(victim, signal.SIGSTOP)
        poll = await rig.next_poll(mark, 2 * rig.ttl_s, other_than=victim)
        await asyncio.sleep(max(0.0, at + 2 * rig.ttl_s - time.time()))
        woken, mark = rig.send(victim, signal.SIGCONT), rig.mark()
        await asyncio.sleep(1.0)
    begun = {entry["replica"] for entry in rig.logged("poller.started", woken)}
    again = [each for each in rig.polls_since(mark) if each.process == victim and victim not in begun]
    expect(poll.at - at <= rig.ttl_s + 0.1, f"takeover after {poll.at - at:.2f} s")
    expect(not again, f"the old one polled {len(again)} times")
    return f"takeover {poll.at - at:.2f} s, the old one silent"


@row(7, "pause between checked and written")
async def sleeps_in_the_write(rig: Rig) -> str:
    """Produce: SIGSTOP with the write on its way; it reaches Postgres after two TTLs, under another's fence.

    Expect: the fence refuses it.
    """
    takeover, aimed = await blows.freeze_in_the_write(rig, 2 * rig.ttl_s)
    expect(aimed, "no write was on its way")
    return f"takeover {takeover.took_s:.2f} s, the late write refused"


@row(8, "event loop blocked for 5 s")
async def blocks(rig: Rig) -> str:
    """Produce: the holder's only thread sleeps synchronously for 5 s (SIGUSR1).

    Expect: another leads where 5 s exceed the TTL, else no change; no stale write; the process lives, and its metrics
    tell how late its loop came.
    """
    victim, at = await rig.holder(), time.time()
    rig.victims.add(victim)
    async with rig.crowd.talking(RATE):
        rig.send(victim, signal.SIGUSR1)
        await asyncio.sleep(4.0)
        lag_s = await _greatest(rig, victim, "kiebot_loop_lag_seconds", 3.0)
    begun = [entry["replica"] for entry in rig.logged("poller.started", at)]
    expect(rig.cluster.members[victim].is_alive, f"{victim} died")
    expect(bool(begun) == (rig.ttl_s < 5.0), f"terms began: {begun}")
    expect(lag_s >= 3.5, f"the greatest lag told was {lag_s:.1f} s")
    return f"terms begun meanwhile: {len(begun)}; a lag of {lag_s:.1f} s was told"


@row(9, "CPU starvation")
async def starves(rig: Rig) -> str:
    """Produce: the holder may run for 5 ms of every 100 (SIGSTOP and SIGCONT in turns) for three TTLs.

    Expect: slower, no false leader; one clean hand-over at most.
    """
    victim, at = await rig.holder(), time.time()
    rig.victims.add(victim)
    async with rig.crowd.talking(RATE / 2):
        while time.time() < at + 3 * rig.ttl_s:
            rig.send(victim, signal.SIGSTOP)
            await asyncio.sleep(0.095)
            rig.send(victim, signal.SIGCONT)
            await asyncio.sleep(0.005)
    begun = len(rig.logged("poller.started", at))
    expect(begun <= 1, f"{begun} terms in {3 * rig.ttl_s:g} s")
    return f"{begun} terms begun"


@row(10, "all replicas restart at once")
async def all_restart(rig: Rig) -> str:
    """Produce: kill -9 of all, start of all.

    Expect: one leader within 1 s of the first that is up and of the old lease's life; no herd.
    """
    mark = rig.mark()
    at = time.time()
    for name in rig.names:
        rig.victims.add(name)
        rig.send(name, signal.SIGKILL)
    for name in rig.names:
        await rig.cluster.wait(name, 5.0)
    await rig.crowd.says(5)
    await rig.revive()
    poll = await rig.next_poll(mark, 2 * rig.ttl_s)
    up = min(entry["at"] for entry in rig.logged("replica.started", at))
    begun = rig.logged("poller.started", at)
    expect(len(begun) == 1, f"{len(begun)} terms began")
    expect(poll.at <= max(up, at + rig.ttl_s) + 1.0, f"{poll.at - up:.2f} s after the first was up")
    return f"one leader {max(0.0, poll.at - up):.2f} s after the first was up"


@row(11, "20 candidates, 200 releases")
async def contend(rig: Rig) -> str:
    """Produce: 20 candidates on one lease in this Redis, each giving it back at once, 200 times in all.

    Expect: exactly one term at a time.
    """
    crowd = _Contenders(rig)
    began = time.monotonic()
    await crowd.run()
    expect(crowd.most == 1, f"{crowd.most} terms at once")
    expect(len(set(crowd.terms)) == len(crowd.terms), "a term began twice")
    return f"{len(crowd.terms)} terms of {len(set(crowd.holders))} candidates in {time.monotonic() - began:.1f} s"


class _Contenders:
    """Candidates whose work is to note that they hold the lease, and to give it back."""

    def __init__(self, rig: Rig) -> None:
        self._url = rig.stores.redis.url
        self.terms: list[str] = []
        self.holders: list[str] = []
        self.now = self.most = 0
        self._done = asyncio.Event()

    async def run(self) -> None:
        """Raises: TimeoutError."""
        clock = SystemClock()
        stores = [RedisLeaseStore(self._url, clock=clock, prefix="contend") for _ in range(CONTENDERS)]
        timing = Timing(rest_s=0.05)
        candidates = [
            Candidate(store, name="many", replica=f"c{place}", clock=clock, timing=timing, work=self._hold)
            for place, store in enumerate(stores)
        ]
        tasks = [asyncio.create_task(candidate.run()) for candidate in candidates]
        try:
            async with asyncio.timeout(60.0):
                await self._done.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(store.close() for store in stores))

    async def _hold(self, term: Term) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            self.terms.append(term.token)
            self.holders.append(term.replica)
            await asyncio.sleep(0)
            if len(self.terms) >= RELEASES:
                self._done.set()
                await asyncio.Event().wait()
        finally:
            self.now -= 1


async def _pause(rig: Rig, name: str, seconds: float) -> None:
    rig.send(name, signal.SIGSTOP)
    await asyncio.sleep(seconds)
    rig.send(name, signal.SIGCONT)


async def _greatest(rig: Rig, name: str, gauge: str, for_s: float) -> float:
    """What that gauge of a replica reached."""
    most, until = 0.0, time.monotonic() + for_s
    while time.monotonic() < until:
        most = max(most, await rig.gauge(name, gauge))
        await asyncio.sleep(0.1)
    return most


async def _written(rig: Rig) -> int:
    """Somebody writes; the update's id."""
    await rig.crowd.says()
    return rig.crowd.sent[-1].update_id


async def _handled(rig: Rig, update_id: int, within_s: float) -> None:
    query = "SELECT count(*) FROM inbox WHERE update_id = :id AND done_at IS NOT NULL"
    await rig.world.until_row(query, within_s, id=update_id)
