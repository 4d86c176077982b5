"""The rig: real replicas as processes, each behind doors of its own, real stores that can be killed, and who watches.

Everything outside the replicas is the rig's: both simulators, PostgreSQL, Valkey and the doors between them. So what
happened is known without asking a replica: the journals saw every request, and a trigger in the inbox saw who wrote
each row and who held the fence at that instant.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from redis.asyncio import Redis
from redis.exceptions import RedisError

from kiebot.cluster import Cluster
from kiebot.demo.feed import Feed
from kiebot.simulators.telegram.journal import Call
from tests.chaos.crowd import Crowd
from tests.chaos.door import Door
from tests.chaos.network import EVERYTHING, LOCAL, Place, Weather
from tests.chaos.running import dying_with_us
from tests.chaos.stores import Stores
from tests.scenarios.gate import LOOPBACK, free_port
from tests.scenarios.world import World

PREFIX = "chaos"
START_S = 40.0
LOOK_S = 0.01
ANSWERED_S = 1.0


@dataclass
class Doors:
    """One replica's ways out, and the place they lead from."""

    postgres: Door
    redis: Door
    telegram: Door
    kie: Door
    place: Place = field(default=LOCAL, kw_only=True)

    @property
    def all(self) -> tuple[Door, ...]:
        return self.postgres, self.redis, self.telegram, self.kie

    def falls_silent(self) -> None:
        """Host loss, as everybody else sees it: nothing comes, no connection is closed."""
        if self.place.line is not None:
            self.place.line.drops(EVERYTHING)
            return
        for door in self.all:
            door.falls_silent()

    def have(self, weather: Weather) -> str:
        """All of them, in both directions; by what means."""
        if self.place.line is not None and (means := self.place.line.has(weather)):
            return means
        for door in self.all:
            door.has(weather)
        return "doors"

    async def open(self) -> None:
        if self.place.line is not None:
            self.place.line.passes(EVERYTHING)
            self.place.line.clears_up()
        for door in self.all:
            await door.open()


@dataclass
class Rig:
    """Use `open_rig`. `ttl_s`: of the lease; seconds and Unix times as everywhere."""

    world: World
    stores: Stores
    cluster: Cluster
    doors: Mapping[str, Doors]
    ports: Mapping[str, int]
    feed: Feed
    crowd: Crowd
    redis: Redis
    rng: random.Random
    ttl_s: float
    directory: Path
    """For whatever a row needs beside."""
    has_web: bool = True
    nemesis_s: float = 60.0
    """How long the random row strikes."""
    leaving: set[str] = field(default_factory=set)
    """Replicas that were asked to leave and not waited for."""
    victims: set[str] = field(default_factory=set)
    """Replicas that were cut off, frozen or killed since the last check: their polls may outlive their term."""

    @property
    def names(self) -> list[str]:
        return list(self.cluster.members)

    @property
    def deadline_s(self) -> float:
        """How long a holder acts after its last renewal was sent."""
        return 0.85 * self.ttl_s

    def address(self, name: str) -> tuple[str, int]:
        """Where that replica serves HTTP."""
        return self.doors[name].place.host if name in self.doors else LOOPBACK, self.ports[name]

    # who leads

    def polling(self) -> str | None:
        """The replica whose poll waits at Telegram now."""
        parked = self.world.tg.bot.polls.parked
        return parked.process if parked is not None else None

    async def holder(self, within_s: float = START_S) -> str:
        """The living replica that polls. Raises: TimeoutError."""
        await self.until(lambda: self.living_poller() is not None, within_s, "somebody polls")
        name = self.living_poller()
        assert name is not None
        return name

    def living_poller(self) -> str | None:
        """A living replica whose poll is open and connected, or was answered within the last second: while updates wait
        at Telegram no poll is ever parked."""
        bot, journal = self.world.tg.bot, self.world.tg.journal
        polls = [bot.polls.parked] if bot.polls.parked else journal.calls("getUpdates", after=journal.last_number - 300)
        poll = polls[-1] if polls else None
        if poll is None or poll.disconnected_at is not None or poll.is_cut or poll.status not in (None, 200):
            return None
        if poll.ended_at is not None and journal.clock.monotonic() - poll.ended_at > ANSWERED_S:
            return None
        member = self.cluster.members.get(poll.process)
        return poll.process if member is not None and member.is_alive else None

    @property
    def lease_key(self) -> str:
        return f"{{{PREFIX}}}:lease:poller:{self.world.tg.bot.bot_id}"

    async def led(self, within_s: float) -> float:
        """Seconds until one polls, from now on, whom the lease in Redis names; or goes on with an open poll.

        Raises: TimeoutError."""
        began, mark = time.monotonic(), self.mark()
        while not await self._is_led(mark):
            if time.monotonic() - began > within_s:
                raise TimeoutError(f"nobody led within {within_s:g} s")
            await asyncio.sleep(LOOK_S)
        return time.monotonic() - began

    async def _is_led(self, mark: int) -> bool:
        try:
            held = await self.redis.get(self.lease_key)
        except RedisError:  # it is coming back, or refuses
            return False
        polled = {poll.process for poll in self.polls_since(mark)} | {self.living_poller()}
        name = held.decode().partition("|")[2] if held is not None else ""
        return name in polled and self.cluster.members[name].is_alive

    async def ask(self, *command: str) -> Any:
        """One command to Redis."""
        return await self.redis.execute_command(*command)  # type: ignore[no-untyped-call]  # untyped in redis-py

    def mark(self) -> int:
        """A point in the journal."""
        return self.world.tg.journal.last_number

    def polls_since(self, mark: int) -> list[Call]:
        return self.world.tg.journal.calls("getUpdates", after=mark)

    async def next_poll(self, mark: int, within_s: float, *, other_than: str = "") -> Call:
        """The first poll since `mark` by another one. Raises: TimeoutError."""

        def came() -> bool:
            return any(poll.process != other_than for poll in self.polls_since(mark))

        await self.until(came, within_s, f"somebody other than {other_than or 'nobody'} polls")
        return next(poll for poll in self.polls_since(mark) if poll.process != other_than)

    # processes

    def send(self, name: str, number: signal.Signals) -> float:
        """Returns when."""
        at = time.time()
        self.cluster.send(name, number)
        return at

    async def revive(self, *names: str, **environment: str) -> None:
        """Start those that do not run (default: all), and wait until all work. `environment`: for these starts."""
        for name in names or self.names:
            member = self.cluster.members[name]
            if not member.is_alive:
                if environment:
                    member.environment = {**member.environment, **environment}
                await self.cluster.start(name)
        await self.are_ready()

    async def are_ready(self, within_s: float = START_S) -> None:
        """Until every living replica says it is ready. Raises: TimeoutError, with what they printed last."""
        if not self.has_web:
            return
        try:
            async with asyncio.timeout(within_s):
                for name, member in self.cluster.members.items():
                    while member.is_alive and not (await self.readiness(name))[0]:
                        await asyncio.sleep(0.05)
        except TimeoutError:
            self.feed.read()
            raise TimeoutError(f"not ready after {within_s:g} s:\n" + "\n".join(self.feed.last)) from None

    async def readiness(self, name: str) -> tuple[bool, dict[str, Any]]:
        """Whether that replica is ready, and what it says of each part; False and nothing when nobody answers."""
        try:
            async with httpx.AsyncClient(timeout=4.0) as http:
                answer = await http.get(self._url(name, "readyz"))
        except httpx.HTTPError:
            return False, {}
        return answer.status_code == 200, dict(answer.json().get("checks", {}))

    async def gauge(self, name: str, metric: str) -> float:
        """What that replica's metrics say; -1.0 when nobody answers or knows it."""
        try:
            async with httpx.AsyncClient(timeout=4.0) as http:
                answer = await http.get(self._url(name, "metrics"))
        except httpx.HTTPError:
            return -1.0
        values = (line.split() for line in answer.text.splitlines())
        return next((float(value[1]) for value in values if value[:1] == [metric]), -1.0)

    async def health_s(self, name: str) -> float:
        """How long that replica took to answer /healthz; infinite when it did not."""
        began = time.monotonic()
        try:
            async with httpx.AsyncClient(timeout=4.0) as http:
                await http.get(self._url(name, "healthz"))
        except httpx.HTTPError:
            return math.inf
        return time.monotonic() - began

    def _url(self, name: str, page: str) -> str:
        host, port = self.address(name)
        return f"http://{host}:{port}/{page}"

    @asynccontextmanager
    async def another(
        self, name: str, command: Sequence[str], output: int, cwd: Path | None = None, **environment: str
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """One more replica beside the others, through the first one's doors, that prints to `output`; ready."""
        port = free_port()
        given = self.cluster.members[self.names[0]].environment
        process = await asyncio.create_subprocess_exec(
            *dying_with_us(),
            *command,
            env={**os.environ, **given, "REPLICA_ID": name, "PORT": str(port), **environment},
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        self.ports = {**self.ports, name: port}
        try:
            async with asyncio.timeout(START_S):
                while not (await self.readiness(name))[0]:
                    if process.returncode is not None:
                        raise TimeoutError(f"{name} ended with status {process.returncode} before it was ready")
                    await asyncio.sleep(0.05)
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    # waiting

    async def until(self, reached: Callable[[], bool], within_s: float, what: str) -> None:
        """Raises: TimeoutError."""
        give_up = time.monotonic() + within_s
        while not reached():
            if time.monotonic() > give_up:
                raise TimeoutError(f"not within {within_s:g} s: {what}")
            await asyncio.sleep(LOOK_S)

    async def settles(self, within_s: float = 60.0) -> None:
        """Every update handled and every message sent. Raises: TimeoutError."""
        await self.world.settles(within_s)

    def logged(self, event: str, since: float) -> list[dict[str, Any]]:
        """Log lines of any replica with that event, from that Unix time on."""
        self.feed.read()
        return [entry for entry in self.feed.entries if entry["event"] == event and entry["at"] >= since]

    async def heal(self) -> None:
        """Nobody is cut off, frozen or dead any more; all stores serve; somebody leads."""
        for store in (self.stores.postgres, self.stores.redis):
            store.thaw()
            if not store.is_running:
                await store.start()
        await self.world.engine.dispose()  # its connections may have died with the server
        for doors in self.doors.values():
            await doors.open()
        for name in self.names:
            self.send(name, signal.SIGCONT)
        self.world.tg.faults.clear()
        await self.revive()
        await self.holder()
