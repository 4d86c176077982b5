"""One run: three replicas as processes, both services as simulators, people and weather, rest, and the verdicts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from kiebot.cluster import Cluster, Member
from kiebot.demo.audit import Verdict
from tests.scenarios.gate import LOOPBACK, Balancer, free_port
from tests.scenarios.world import World, open_world
from tests.soak.generations.aim import Aim
from tests.soak.generations.collect import collect, last_end
from tests.soak.generations.crowd import gather, live
from tests.soak.generations.evidence import Asked, Evidence
from tests.soak.generations.promises import judge
from tests.soak.generations.weather import PLENTY, QUICK_STORMS, STORMS, Weather

REPLICAS = 3
WEBHOOK_KEY = "whk_soak_example"
CREATES_PER_10S = 60  # of the simulated account: the bot is told, storms allow less
POLLS_PER_S = 60
START_S = 60.0
STOP_S = 10.0
RESULT_PATIENCE_S = 120  # of KIE's; a day is what the bot has
CREATE_TIMES_OUT_S = 70.0  # after the client has given up

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """pace: how fast KIE's seconds pass, a day of waiting included. within_s: how long people buy.

    kill_every_s, storm_every_s: on average. kills_all: so many of the kills strike all replicas at once. checks: how
    often the ledger is verified while people buy.
    """

    seed: int = 0
    works: int = 1000
    people: int = 200
    within_s: float = 480.0
    pace: float = 0.02
    kill_every_s: float = 5.0
    kills_all: float = 0.08
    storm_every_s: float = 25.0
    checks: int = 120
    rest_s: float = 420.0
    mutant: str | None = None
    log: Path | None = None

    @property
    def asked(self) -> Asked:
        """Chance may take some of the kills and checks."""
        kills = int(self.within_s / self.kill_every_s / 2)
        return Asked(self.works, kills, len(_storms(self)), self.checks * 5 // 6)

    @property
    def is_small(self) -> bool:
        return self.works < 100


async def soak(
    database_url: str, redis_url: str, prefix: str, options: Options, tell: Tell
) -> tuple[Evidence, list[Verdict]]:
    """On an empty, migrated database. Raises: TimeoutError, when no replica came up."""
    rng = random.Random(options.seed)
    async with _stage(database_url, redis_url, prefix, options) as (world, cluster, aim):
        await _until_ready(world)
        weather = Weather(
            world,
            cluster,
            aim,
            random.Random(rng.random()),
            options.pace,
            tell,
            kill_every_s=options.kill_every_s,
            kills_all=options.kills_all,
        )
        aim.kill = lambda name: weather.kill(name, "as KIE answered it")
        buyers = gather(
            world, rng, people=options.people, works=options.works, within_s=options.within_s, pace=options.pace
        )
        tell(f"{len(buyers)} people begin to buy")
        storms = _storms(options)
        async with weather.watched(options.within_s / options.checks):
            async with weather.rages(storms, options.within_s):
                await live(buyers)
            tell(f"everybody has bought; {len(weather.kills)} kills; waiting until everything is done")
            await _come_to_rest(world, options)
        found = await collect(world, buyers)
    evidence = replace(
        found,
        checks=tuple(weather.checks),
        kills=tuple(weather.kills),
        storms=dict(weather.storms),
        asked=options.asked,
        trouble=(*found.trouble, *weather.trouble),
    )
    return evidence, judge(evidence)


def _storms(options: Options) -> list[str]:
    kinds = QUICK_STORMS if options.is_small else STORMS
    count = max(len(QUICK_STORMS), int(options.within_s / options.storm_every_s))
    return [kinds[place % len(kinds)] for place in range(count)]


@asynccontextmanager
async def _stage(
    database_url: str, redis_url: str, prefix: str, options: Options
) -> AsyncIterator[tuple[World, Cluster, Aim]]:
    aim = Aim(pids=dict, kill=lambda _: None)
    async with open_world(database_url, redis_url, prefix, tap=aim.before, seed=options.seed) as world:
        _sets_up(world, options.pace)
        ports = [free_port() for _ in range(REPLICAS)]
        balancer = Balancer((LOOPBACK, port) for port in ports)
        await balancer.open()
        try:
            with (options.log or Path(os.devnull)).open("wb") as output:
                cluster = _cluster(world, options, ports, f"http://127.0.0.1:{balancer.port}", output)
                aim.pids = lambda: {
                    member.process.pid: name
                    for name, member in cluster.members.items()
                    if member.process is not None and member.is_alive
                }
                try:
                    await cluster.start_all()
                    yield world, cluster, aim
                finally:
                    await cluster.stop_all(grace_s=STOP_S)
        finally:
            await balancer.close()


def _sets_up(world: World, pace: float) -> None:
    """KIE's real seconds, as fast as the bot's waits for them."""
    world.kie.set_credits(PLENTY)
    world.kie.switches.set(
        duration_scale=pace,
        rate_limits=True,
        creates_per_10s=CREATES_PER_10S,
        webhook_key=WEBHOOK_KEY,
        callback_late_s=30.0 * pace,
        callback_early_s=10.0 * pace,
        late_file_s=3.0 * pace,
        late_answer_s=CREATE_TIMES_OUT_S,
        endless_cap_bytes=60_000_000,
    )


def _cluster(world: World, options: Options, ports: Sequence[int], public_url: str, output: IO[bytes]) -> Cluster:
    common = world.environment(
        KIE_PACE=f"{options.pace:g}",
        KIE_RESULT_PATIENCE_S=str(RESULT_PATIENCE_S),
        KIE_POLLS_PER_S=str(POLLS_PER_S),
        KIE_CREATE_PER_10S=str(CREATES_PER_10S),
        KIE_WEBHOOK_KEY=WEBHOOK_KEY,
        PUBLIC_URL=public_url,
        WELCOME_CREDITS="10000",
        LEASE_TTL_S="3",
        LEASE_RENEW_S="0.6",
    )
    members = [
        Member(f"replica-{number}", common | {"REPLICA_ID": f"replica-{number}", "PORT": str(port)})
        for number, port in enumerate(ports)
    ]
    mutant = ("--mutant", options.mutant) if options.mutant else ()
    command = (sys.executable, "-m", "tests.soak.generations.replica", *mutant)
    return Cluster(members, command=command, output=output)


async def _until_ready(world: World) -> None:
    await world.until(lambda: world.tg.bot.polls.parked is not None, START_S)
    await world.until_row("SELECT count(DISTINCT name) = :count FROM replicas", START_S, count=REPLICAS)


async def _come_to_rest(world: World, options: Options) -> None:
    """Every generation ended and told, and every orphan had its time to turn up. What is left, the evidence says."""
    give_up = time.monotonic() + options.rest_s
    with contextlib.suppress(TimeoutError):
        await world.settles(options.rest_s)
    retries_s = sum(world.kie.switches.callback_retries_s) * options.pace
    last = last_end(world.kie) + world.kie.switches.callback_late_s + retries_s
    await asyncio.sleep(max(0.0, min(last - time.time(), give_up - time.monotonic())))
    with contextlib.suppress(TimeoutError):
        await world.settles(max(5.0, give_up - time.monotonic()))
