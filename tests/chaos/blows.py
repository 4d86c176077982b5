"""What strikes a holder, and how long until another one polls. Rows call each once, the benchmark many times."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass

from tests.chaos.rig import Rig

RELEASED_S = 15.0
AIMS = 5
_EXPIRED_S = 0.005  # until then the old lease still stands, and nobody seems to be missing


@dataclass(frozen=True)
class Takeover:
    """`took_s`: from the blow to another replica's first poll; `released_s`: from the release, where there is one."""

    victim: str
    successor: str
    took_s: float
    released_s: float | None = None


async def hand_over(rig: Rig) -> Takeover:
    """SIGTERM of the holder; it is not started again here."""
    victim = await rig.holder()
    mark = rig.mark()
    at = rig.send(victim, signal.SIGTERM)
    poll = await rig.next_poll(mark, rig.ttl_s + RELEASED_S, other_than=victim)
    await rig.cluster.wait(victim, 30.0)
    ends = [entry for entry in rig.logged("lease.released", at) if entry["replica"] == victim]
    return Takeover(victim, poll.process, poll.at - at, poll.at - ends[0]["at"] if ends else None)


async def kill(rig: Rig) -> Takeover:
    """SIGKILL of the holder."""
    victim = await rig.holder()
    rig.victims.add(victim)
    mark = rig.mark()
    at = rig.send(victim, signal.SIGKILL)
    poll = await rig.next_poll(mark, rig.ttl_s + RELEASED_S, other_than=victim)
    await rig.cluster.wait(victim, 5.0)
    return Takeover(victim, poll.process, poll.at - at)


async def cut_off(rig: Rig) -> Takeover:
    """The holder loses every connection without one being closed, as when its host or its network is gone."""
    victim = await rig.holder()
    rig.victims.add(victim)
    mark = rig.mark()
    rig.doors[victim].falls_silent()
    at = time.time()  # a router's rules take some milliseconds
    poll = await rig.next_poll(mark, rig.ttl_s + RELEASED_S, other_than=victim)
    return Takeover(victim, poll.process, poll.at - at)


async def clock_steps_forward(rig: Rig) -> float:
    """The lease runs out before its time, as after a step of the store's clock; nobody is lost. Since when."""
    await rig.redis.pexpire(rig.lease_key, 1)
    await asyncio.sleep(_EXPIRED_S)
    return time.time() - _EXPIRED_S


async def clock_steps_back(rig: Rig) -> Takeover:
    """The holder is lost and the store shows its lease for another hour, as after a step of its host's clock."""
    victim = await rig.holder()
    rig.victims.add(victim)
    mark = rig.mark()
    rig.doors[victim].falls_silent()
    at = time.time()
    await rig.redis.pexpire(rig.lease_key, 3_600_000)
    poll = await rig.next_poll(mark, 2 * rig.ttl_s + RELEASED_S, other_than=victim)
    return Takeover(victim, poll.process, poll.at - at)


async def freeze_in_the_write(rig: Rig, for_s: float) -> tuple[Takeover, bool]:
    """SIGSTOP when the holder has decided to write and its statement is on the way; it arrives after `for_s`, when
    another replica has taken the fence and written, and the holder goes on. Whether the shot was aimed."""
    victim = await rig.holder()
    rig.victims.add(victim)
    aimed = await _write_is_on_its_way(rig, victim)
    mark = rig.mark()
    at = rig.send(victim, signal.SIGSTOP)
    poll = await rig.next_poll(mark, rig.ttl_s + RELEASED_S, other_than=victim)
    await rig.crowd.says()
    await asyncio.sleep(max(0.0, at + for_s - time.time()))
    await rig.doors[victim].postgres.open()  # the statement arrives now
    rig.send(victim, signal.SIGCONT)
    return Takeover(victim, poll.process, poll.at - at), aimed


async def _write_is_on_its_way(rig: Rig, victim: str) -> bool:
    """A write has left the replica and waits in its door. A connection's first one is in pieces, and does not count."""
    door = rig.doors[victim].postgres
    for _ in range(AIMS):
        door.holds("up")  # the door's own silence: what was sent can be seen in it
        serial = await rig.crowd.says()
        words = f"/n{serial}".encode()
        try:
            await rig.until(lambda w=words: door.held_back(w), 0.7, "the write begins")  # type: ignore[misc]  # bound at once
        except TimeoutError:
            await door.open()
            await rig.settles()
        else:
            return True
    return False
