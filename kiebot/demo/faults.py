"""The blows, aimed at the instants that hurt, in an order that the seed decides.

An update is most fragile between Telegram's answer and the commit of its row, and between that commit and the poll that
confirms it. Chance would rarely hit either, so both kills are aimed: one strikes while the leader's write waits for a
lock of ours, the other by the very poll that would move the offset. The frozen leader is stopped in the middle of a
write and goes on after somebody else has taken over: only the fence can refuse it then.
"""

from __future__ import annotations

import asyncio
import math
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import get_args

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.cluster import Cluster
from kiebot.demo.aim import inbox_locked, write_waits
from kiebot.demo.evidence import Blow, Failover, Strike
from kiebot.simulators.kie import KieSimulator
from kiebot.simulators.kie.switches import LoseVariant
from kiebot.simulators.telegram import TelegramSimulator
from kiebot.simulators.telegram.journal import Call

_LOOK_S = 0.01
_AIM_S = 4.0  # a shot that finds no target within this long is fired anyway
_TAKEOVER_S = 15.0
_ASLEEP_S = 0.7  # a frozen leader sleeps on for so long after its lock is gone
_LOST: tuple[LoseVariant, ...] = tuple(each for each in get_args(LoseVariant) if each in ("a", "d", "e"))

_RUNNING = text("""
    SELECT name, extract(epoch FROM max(started_at))::float8 AS started FROM replicas
    WHERE beat_at > now() - interval '3 seconds' GROUP BY name
""")


@dataclass(slots=True)
class Stage:
    """What blows need: the cluster, the outside world, the stores, and somebody who talks when a target is needed."""

    cluster: Cluster
    telegram: TelegramSimulator
    kie: KieSimulator
    engine: AsyncEngine
    redis: Redis
    rng: random.Random
    tell: Callable[[str], None]
    provoke: Callable[[], Awaitable[object]]
    strikes: list[Strike] = field(default_factory=list)
    failovers: list[Failover] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    starting: set[asyncio.Task[None]] = field(default_factory=set)
    started_at: dict[str, float] = field(default_factory=dict)  # of replicas started again

    def last_poll(self) -> Call | None:
        polls = self.telegram.journal.polls()
        return polls[-1] if polls else None

    def leader(self) -> str | None:
        """Who polled last."""
        poll = self.last_poll()
        return poll.process if poll is not None else None

    async def living_leader(self) -> str:
        """Raises: TimeoutError, when nobody living polls."""
        async with asyncio.timeout(_TAKEOVER_S):
            while True:
                leader = self.leader()
                member = self.cluster.members.get(leader or "")
                if leader is not None and member is not None and member.is_alive:
                    return leader
                await asyncio.sleep(_LOOK_S)

    def strike(self, blow: Blow, at: float, victim: str = "") -> None:
        self.strikes.append(Strike(blow, at, time.time(), victim))


async def strike_all(stage: Stage) -> None:
    """Every blow once, the lost answer first: it takes longest to heal. Returns when the last victim is back."""
    lose_an_answer(stage)
    blows = [kill_before_the_write, kill_after_the_write, roll, empty_redis, freeze_in_the_write, cut_a_poll]
    stage.rng.shuffle(blows)
    for blow in blows:
        await asyncio.sleep(stage.rng.uniform(0.8, 1.6))
        try:
            await blow(stage)
        except TimeoutError:
            stage.trouble.append(f"{blow.__name__}: nobody took over within {_TAKEOVER_S:.0f} s")
    await asyncio.gather(*stage.starting)


def lose_an_answer(stage: Stage) -> None:
    variant = stage.rng.choice(_LOST)
    stage.kie.loses_next_answer(variant)
    stage.tell(f"KIE will take the next task and lose its answer (variant {variant})")
    stage.strike(Blow.LOST_ANSWER, time.time())


async def kill_before_the_write(stage: Stage) -> None:
    """SIGKILL while the leader holds updates that are not in the inbox yet."""
    victim = await stage.living_leader()
    async with inbox_locked(stage.engine):
        aimed = await _write_waits(stage, victim)
        at = _kill(stage, victim, "before its updates were written" if aimed else "at rest")
    await _after_kill(stage, victim, at)


async def kill_after_the_write(stage: Stage) -> None:
    """SIGKILL by the poll that would confirm updates which are in the inbox already. Telegram never sees that poll."""
    victim = await stage.living_leader()
    struck: list[float] = []
    queue = stage.telegram.bot.queue

    def confirms(call: Call) -> bool:
        offset = call.arguments.get("offset", "0")
        if struck or call.process != victim or not offset.isdigit() or int(offset) <= queue.head:
            return False
        struck.append(_kill(stage, victim, "between its write and the poll that confirms it"))
        return True

    stage.telegram.faults.cuts_before("getUpdates", times=1, matches=confirms)
    await stage.provoke()
    await _until(lambda: bool(struck), _AIM_S)
    if not struck:
        struck.append(_kill(stage, victim, "at rest"))
    await _after_kill(stage, victim, struck[0])


def _kill(stage: Stage, victim: str, when: str) -> float:
    stage.cluster.send(victim, signal.SIGKILL)
    stage.tell(f"SIGKILL for the leader {victim}, {when}")
    return time.time()


async def _after_kill(stage: Stage, victim: str, at: float) -> None:
    await _taken_over(stage, Blow.KILL, victim, at)
    stage.strike(Blow.KILL, at, victim)
    _start_again(stage, victim)


async def roll(stage: Stage) -> None:
    """SIGTERM, wait for the drain, start anew: a deploy of one replica."""
    victim = stage.rng.choice(await _running(stage))
    was_leader = victim == stage.leader()
    stage.tell(f"SIGTERM for {victim}, {'the leader' if was_leader else 'a standby'}")
    at = time.time()
    stage.cluster.send(victim, signal.SIGTERM)
    if was_leader:
        await _taken_over(stage, Blow.ROLL, victim, at)
    status = await stage.cluster.wait(victim, 20.0)
    if status != 0:
        stage.trouble.append(f"{victim} left with status {status} after SIGTERM")
    stage.strike(Blow.ROLL, at, victim)
    _start_again(stage, victim)


async def empty_redis(stage: Stage) -> None:
    """Lease, queue, budgets and bells, all gone."""
    at = time.time()
    await stage.redis.flushall()
    stage.tell("Redis was emptied")
    stage.strike(Blow.FLUSH, at)


async def freeze_in_the_write(stage: Stage) -> None:
    """SIGSTOP while a write of the leader is under way; it wakes when another has taken the fence and written."""
    victim = await stage.living_leader()
    async with inbox_locked(stage.engine):
        aimed = await _write_waits(stage, victim)
        stage.cluster.send(victim, signal.SIGSTOP)
        at = time.time()
        stage.tell(f"the leader {victim} was frozen {'in the middle of a write' if aimed else 'at rest'}")
        successor = await _taken_over(stage, Blow.FREEZE, victim, at)
        if aimed and successor:
            await _write_waits(stage, successor, s=1.5)
    await asyncio.sleep(_ASLEEP_S)
    stage.cluster.send(victim, signal.SIGCONT)
    stage.tell(f"{victim} was woken after {time.time() - at:.1f} s")
    stage.strike(Blow.FREEZE, at, victim)


async def cut_a_poll(stage: Stage) -> None:
    """Telegram confirms what the offset says, then the connection breaks instead of an answer."""
    at = time.time()
    fault = stage.telegram.faults.cuts_after("getUpdates", times=1)
    await stage.provoke()
    await _until(lambda: bool(fault.hits) and fault.hits[0].ended_at is not None, _AIM_S)
    stage.tell("Telegram's answer to a poll broke off")
    stage.strike(Blow.CUT_POLL, at)


async def _write_waits(stage: Stage, replica: str, s: float = _AIM_S) -> bool:
    """Whether a write of that replica came to stand before our lock."""
    await stage.provoke()
    return await write_waits(stage.engine, replica, s)


async def _taken_over(stage: Stage, blow: Blow, victim: str, at: float) -> str | None:
    """Measure until another replica polls."""
    await _until(lambda: _successor(stage, victim, at) is not None, _TAKEOVER_S)
    poll = _successor(stage, victim, at)
    took_s = poll.at - at if poll is not None else None
    name = poll.process if poll is not None else ""
    stage.failovers.append(Failover(blow.value, victim, name, took_s))
    stage.tell(f"{name} polls {took_s:.2f} s later" if took_s is not None else "nobody polls")
    return name or None


def _successor(stage: Stage, victim: str, at: float) -> Call | None:
    last = stage.last_poll()
    if last is None or (last.at < at and last.process == victim):
        return None
    return next((poll for poll in stage.telegram.journal.polls() if poll.at >= at and poll.process != victim), None)


async def _running(stage: Stage) -> list[str]:
    """The replicas whose present process has begun its work. One that still starts has nothing to drain."""
    async with stage.engine.connect() as connection:
        seen = {row.name: row.started for row in await connection.execute(_RUNNING)}
    return sorted(name for name, at in seen.items() if at >= stage.started_at.get(name, 0.0)) or sorted(seen)


def _start_again(stage: Stage, name: str) -> None:
    async def start() -> None:
        await stage.cluster.wait(name, 5.0)
        await asyncio.sleep(stage.rng.uniform(0.3, 1.0))
        stage.started_at[name] = time.time()
        await stage.cluster.start(name)
        stage.tell(f"{name} was started again")

    stage.started_at[name] = math.inf
    stage.starting.add(asyncio.create_task(start()))


async def _until(condition: Callable[[], bool], seconds: float) -> None:
    give_up = time.monotonic() + seconds
    while not condition() and time.monotonic() < give_up:  # noqa: ASYNC110 - journals have no events
        await asyncio.sleep(_LOOK_S)
