"""Rows 22 to 26 and 44: partitions, bad networks, Postgres, and Telegram in a bad mood."""

from __future__ import annotations

import asyncio
import signal
import time

from tests.chaos.matrix import expect, row
from tests.chaos.network import Weather
from tests.chaos.rig import Rig

RATE = 20.0
DEAF_S = 60.0


@row(22, "partition between leader and Redis", of_network=True)
async def loses_redis(rig: Rig) -> str:
    """Produce: the holder's way to Redis falls silent, Telegram and Postgres stay.

    Expect: its polls end at the deadline; another polls within TTL + 0.1 s; nothing stale is written.
    """
    victim = await rig.holder()
    rig.victims.add(victim)
    mark = rig.mark()
    async with rig.crowd.talking(RATE):
        rig.doors[victim].redis.falls_silent()
        at = time.time()  # a router's rule takes some milliseconds
        poll = await rig.next_poll(mark, 2 * rig.ttl_s, other_than=victim)
        await asyncio.sleep(0.3)
    last = max((each.at for each in rig.polls_since(mark) if each.process == victim), default=at)
    expect(last - at <= rig.deadline_s, f"the old one still polled after {last - at:.2f} s")
    expect(poll.at - at <= rig.ttl_s + 0.1, f"takeover after {poll.at - at:.2f} s")
    return f"last poll after {last - at:.2f} s, takeover {poll.at - at:.2f} s"


@row(23, "partition between leader and Telegram only", of_network=True)
async def is_deaf(rig: Rig) -> str:
    """Produce: the holder's way to Telegram falls silent.

    Expect: it yields, and one that can hear polls within 60 s.
    """
    victim = await rig.holder()
    rig.victims.add(victim)
    mark, at = rig.mark(), time.time()
    rig.doors[victim].telegram.falls_silent()
    await rig.crowd.says(5)
    poll = await rig.next_poll(mark, DEAF_S + 5.0, other_than=victim)
    expect(poll.at - at <= DEAF_S, f"{poll.at - at:.1f} s")
    yielded = [each for each in rig.logged("lease.released", at) if each["replica"] == victim]
    expect(yielded, "it did not yield")
    return f"yielded ({yielded[0]['detail']}), another polled after {poll.at - at:.1f} s"


@row(51, "partition between leader and Postgres only", of_network=True)
async def cannot_write(rig: Rig) -> str:
    """Produce: the idle holder's way to Postgres falls silent; nobody writes to the bot meanwhile.

    Expect: it yields within 5 s of silence, a second for noticing, and another one polls; it goes on when it is back.
    """
    victim = await rig.holder()
    mark, at = rig.mark(), time.time()
    rig.doors[victim].postgres.falls_silent()
    poll = await rig.next_poll(mark, DEAF_S, other_than=victim)
    expect(poll.at - at <= 8.0, f"another polled only after {poll.at - at:.1f} s")
    yielded = [each for each in rig.logged("lease.released", at) if each["replica"] == victim]
    expect(yielded, "it did not yield")
    return f"yielded ({yielded[0]['detail']}), another polled after {poll.at - at:.1f} s"


@row(24, "20 % loss, delay, 1 Mbit, then one direction only", of_network=True)
async def is_slow(rig: Rig) -> str:
    """Produce: on all ways of the holder, two TTLs each: a fifth lost, or 0.2 s late; 0.1 s of delay; 1 Mbit/s. Then
    its way to Redis loses what comes back.

    Expect: at most one change of leader through the first three. The last is a partition: one more renewal may arrive,
    so another polls within TTL + 1.1 renewal intervals + 0.1 s.
    """
    victim, at = await rig.holder(), time.time()
    rig.victims.add(victim)
    means: list[str] = []
    async with rig.crowd.talking(RATE / 2):
        for weather in (Weather(loss=0.2), Weather(delay_s=0.05), Weather(bytes_per_s=125_000.0)):
            means.append(rig.doors[victim].have(weather))
            await asyncio.sleep(2 * rig.ttl_s)
            await rig.doors[victim].open()
        changes = len(rig.logged("poller.started", at))
    expect(changes <= 1, f"{changes} changes")
    victim = await rig.holder()
    rig.victims.add(victim)
    mark = rig.mark()
    rig.doors[victim].redis.falls_silent("down")
    at = time.time()
    poll = await rig.next_poll(mark, 3 * rig.ttl_s, other_than=victim)
    limit_s = rig.ttl_s + 1.1 * rig.ttl_s / 5 + 0.1  # requests still arrive: the last renewal may be one without answer
    expect(poll.at - at <= limit_s, f"one direction: {poll.at - at:.2f} s")
    return f"by {', '.join(means)}: {changes} changes; one direction: {poll.at - at:.2f} s"


@row(25, "TCP reset in the middle of a script")
async def answer_is_reset(rig: Rig) -> str:
    """Produce: the holder's renewal reaches Redis, the connection is reset before its answer; three times.

    Expect: asked again on a new connection, the same term goes on.
    """
    victim, at = await rig.holder(), time.time()
    for _ in range(3):
        rig.doors[victim].redis.breaks_after(b"EVALSHA")
        await asyncio.sleep(rig.ttl_s / 3)
    begun = rig.logged("poller.started", at)
    expect(not begun, f"{len(begun)} terms began")
    return "the same term"


@row(26, "Postgres restarts, fast and immediate")
async def postgres_restarts(rig: Rig) -> str:
    """Produce: a fast stop and a start; an immediate stop and a start, while people write.

    Expect: somebody polls within 1.5 s of each return; no double effect; no process ends.
    """
    told = []
    async with rig.crowd.talking(RATE):
        for how in (signal.SIGINT, signal.SIGQUIT):
            await rig.stores.postgres.stop(how)
            await rig.stores.postgres.start()
            took_s = await rig.led(10.0)
            expect(took_s <= 1.5, f"{took_s:.2f} s")
            told.append(f"{took_s:.2f} s")
            await asyncio.sleep(1.0)
    expect(all(member.is_alive for member in rig.cluster.members.values()), "a replica died")
    return "polls again after " + ", ".join(told)


@row(44, "Telegram 409, 429, 5xx, an invalid body, 401")
async def telegram_refuses(rig: Rig) -> str:
    """Produce: a 409; 429 with retry_after 2; 502 for a second; HTML with status 200; then 401 for as long as it lasts.

    Expect: no exit; 429 is honoured; polls go on by themselves; 401 is one alarm, and polls go on after a new holder.
    """
    tg, at = rig.world.tg, time.time()
    for status, more in ((409, {}), (429, {"retry_after": 2}), (200, {"body": b"<html></html>"})):
        mark = rig.mark()
        tg.faults.answers("getUpdates", status, "Conflict: terminated by other getUpdates request", **more)
        await rig.crowd.says()
        await rig.until(lambda m=mark: _polled_well(rig, m), 10.0, f"polls after {status}")  # type: ignore[misc]  # bound at once
    tg.faults.breaks("getUpdates", for_s=1.0)
    await rig.crowd.says()
    await rig.settles(20.0)
    expect(not tg.journal.too_early(), "a retry_after was not honoured")
    tg.faults.answers("getUpdates", 401, "Unauthorized", times=None)
    await rig.crowd.says()
    await asyncio.sleep(3.0)
    alarms = len(rig.logged("poller.token_refused", at))
    tg.faults.clear()
    rig.send(await _refused(rig, at), signal.SIGTERM)
    await rig.settles(20.0)
    expect(alarms == 1, f"{alarms} alarms")
    return "polls went on after each; one alarm for 401"


def _polled_well(rig: Rig, mark: int) -> bool:
    return any(poll.status in (None, 200) and not poll.is_cut for poll in rig.polls_since(mark)[1:])


async def _refused(rig: Rig, at: float) -> str:
    """Who was told 401."""
    return str(rig.logged("poller.started", 0.0)[-1]["replica"])
