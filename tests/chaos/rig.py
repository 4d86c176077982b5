"""The rig: real replicas as processes, each behind doors of its own, real stores that can be killed, and who watches.

Everything outside the replicas is the rig's: both simulators, PostgreSQL, Valkey and the doors between them. So what
happened is known without asking a replica: the journals saw every request, and a trigger in the inbox saw who wrote
each row and who held the fence at that instant.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import text

from kiebot.cluster import Cluster, Member
from kiebot.demo import mutants
from kiebot.demo.feed import Feed
from kiebot.simulators.telegram import FloodRules
from kiebot.simulators.telegram.journal import Call
from kiebot.storage.engine import make_engine
from kiebot.storage.migrate import migrate
from tests.chaos.crowd import Crowd
from tests.chaos.door import Door
from tests.chaos.stores import Stores, make_stores
from tests.scenarios.gate import free_port
from tests.scenarios.world import World, open_world

REPLICAS = 3
PREFIX = "chaos"
START_S = 40.0
STOP_S = 20.0
LOOK_S = 0.01
ANSWERED_S = 1.0

# Every row that enters the inbox, who wrote it, and who held the fence at that instant.
_WITNESS = (
    "CREATE TABLE witness (id bigserial PRIMARY KEY, update_id bigint, writer text, holder text, epoch bigint, "
    "at timestamptz DEFAULT clock_timestamp())",
    """CREATE FUNCTION witnesses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO witness (update_id, writer, holder, epoch)
        SELECT NEW.update_id, split_part(current_setting('application_name'), ' ', 2), f.replica, f.epoch
        FROM (SELECT 1) AS one LEFT JOIN fence f ON f.bot_id = NEW.bot_id;
        RETURN NEW; END $$""",
    "CREATE TRIGGER witnessed AFTER INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION witnesses()",
)


@dataclass
class Doors:
    """One replica's ways out."""

    postgres: Door
    redis: Door
    telegram: Door
    kie: Door

    @property
    def all(self) -> tuple[Door, ...]:
        return self.postgres, self.redis, self.telegram, self.kie

    def falls_silent(self) -> None:
        """Host loss, as everybody else sees it: nothing comes, no connection is closed."""
        for door in self.all:
            door.falls_silent()

    async def open(self) -> None:
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
                answer = await http.get(f"http://127.0.0.1:{self.ports[name]}/readyz")
        except httpx.HTTPError:
            return False, {}
        return answer.status_code == 200, dict(answer.json().get("checks", {}))

    async def gauge(self, name: str, metric: str) -> float:
        """What that replica's metrics say; -1.0 when nobody answers or knows it."""
        try:
            async with httpx.AsyncClient(timeout=4.0) as http:
                answer = await http.get(f"http://127.0.0.1:{self.ports[name]}/metrics")
        except httpx.HTTPError:
            return -1.0
        values = (line.split() for line in answer.text.splitlines())
        return next((float(value[1]) for value in values if value[:1] == [metric]), -1.0)

    async def health_s(self, name: str) -> float:
        """How long that replica took to answer /healthz; infinite when it did not."""
        began = time.monotonic()
        try:
            async with httpx.AsyncClient(timeout=4.0) as http:
                await http.get(f"http://127.0.0.1:{self.ports[name]}/healthz")
        except httpx.HTTPError:
            return math.inf
        return time.monotonic() - began

    @asynccontextmanager
    async def another(
        self, name: str, command: Sequence[str], output: int, cwd: Path | None = None, **environment: str
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """One more replica beside the others, through the first one's doors, that prints to `output`; ready."""
        port = free_port()
        given = self.cluster.members[self.names[0]].environment
        process = await asyncio.create_subprocess_exec(
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


@asynccontextmanager
async def open_rig(
    *,
    ttl_s: float = 10.0,
    replicas: int = REPLICAS,
    seed: int = 0,
    durable: bool = True,
    command: Sequence[str] = (sys.executable, "-m", "kiebot", "run"),
    has_web: bool = True,
    mutant: str = "",
    **environment: str,
) -> AsyncIterator[Rig]:
    """Stores, simulators and replicas, all at work; everything is gone in the end. `environment`: more for all.

    `mutant`: the stores become such that replicas with this bug can run; `command` is to start them. Without `has_web`
    the processes are others than kiebot's and are ready when one of them polls."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # of this process alone
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kc", ignore_cleanup_errors=True)))
        stores = make_stores(home, durable=durable)
        stack.push_async_callback(stores.stop)
        await stores.start()
        await _prepare(stores, mutant)
        world = await stack.enter_async_context(
            open_world(stores.postgres.url, stores.redis.url, PREFIX, flood=FloodRules(is_on=False))
        )
        rng = random.Random(seed)
        doors = {f"r{number}": await _doors(stack, stores, world, rng) for number in range(replicas)}
        ports = {name: free_port() for name in doors}
        hosts = [world.kie_url.removeprefix("http://"), *(f"127.0.0.1:{each.kie.port}" for each in doors.values())]
        environment = {"KIE_RESULT_HOSTS": ",".join(hosts)} | environment
        members = [
            Member(name, _environment(world, stores, doors[name], ttl_s) | own | environment)
            for name in doors
            if (own := {"REPLICA_ID": name, "PORT": str(ports[name])})
        ]
        log = home / "replicas.log"
        output = stack.enter_context(log.open("ab"))
        cluster = Cluster(members, command=command, output=output)
        redis = Redis.from_url(stores.redis.url, socket_timeout=5.0)
        stack.push_async_callback(redis.aclose)
        rig = Rig(world, stores, cluster, doors, ports, Feed(log), Crowd(world, rng), redis, rng, ttl_s, home, has_web)
        stack.push_async_callback(_stop, rig)
        await cluster.start_all()
        await rig.are_ready()
        await rig.holder()
        yield rig


def end_in_order() -> None:
    """SIGTERM cancels the calling task: replicas and stores are processes of their own and must not be left behind."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


async def _prepare(stores: Stores, mutant: str) -> None:
    engine = make_engine(stores.postgres.url, pool_size=1)
    await migrate(engine)
    await mutants.prepare(engine, mutant)
    async with engine.begin() as connection:
        for statement in _WITNESS:
            await connection.execute(text(statement))
    await engine.dispose()


async def _doors(stack: AsyncExitStack, stores: Stores, world: World, rng: random.Random) -> Doors:
    targets = (stores.postgres.socket, stores.redis.socket, _address(world.tg_url), _address(world.kie_url))
    made = [await stack.enter_async_context(Door(target, rng=rng)) for target in targets]
    return Doors(*made)


def _address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def _environment(world: World, stores: Stores, doors: Doors, ttl_s: float) -> dict[str, str]:
    kie = f"http://127.0.0.1:{doors.kie.port}"
    return world.environment(
        DATABASE_URL=_through(stores.postgres.url, "postgresql://", doors.postgres) + "/kiebot",
        REDIS_URL=_through(stores.redis.url, "redis://", doors.redis),
        TELEGRAM_API_URL=f"http://127.0.0.1:{doors.telegram.port}",
        KIE_API_URL=kie,
        KIE_UPLOAD_URL=kie,
        LEASE_TTL_S=f"{ttl_s:g}",
        LEASE_RENEW_S=f"{ttl_s / 5:g}",
        MAX_OPEN_PER_USER="100",
    )


def _through(url: str, scheme: str, door: Door) -> str:
    """The same account at the door."""
    account = url.split("://", 1)[1].split("@", 1)[0]
    return f"{scheme}{account}@127.0.0.1:{door.port}"


async def _stop(rig: Rig) -> None:
    """Whoever is frozen or cut off could not drain."""
    rig.stores.postgres.thaw()
    rig.stores.redis.thaw()
    for name in rig.names:
        rig.send(name, signal.SIGCONT)
    for doors in rig.doors.values():
        await doors.open()
    await rig.cluster.stop_all(grace_s=STOP_S)
