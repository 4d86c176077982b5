"""A bot with nothing to do: what each of its processes costs, beside an idle plain bot.

Shares of one core and resident memory by process; commands and statements per second by what is counted where they
arrive or leave: Redis by INFO commandstats (those inside scripts too), Postgres by what the replica executes (BEGIN and
COMMIT not counted). A standby's are what a second replica adds to those of the first. One variant runs at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
from redis.asyncio import Redis

from benchmarks.rig.replica import statements
from benchmarks.rig.report import ratio, spread, table
from benchmarks.rig.stage import House, Stage, Variant

SECONDS = 10.0  # processor time comes in hundredths of a second
MUST_PERCENT = 1.0
MUST_MB = 120.0
_SETTLES_S = 8.0  # a start is not rest yet


@dataclass(frozen=True)
class Rest:
    """Of one process for a while. percent: of a core; redis, postgres: per second."""

    percent: float
    mb: float
    redis: float = 0.0
    postgres: float = 0.0


async def compare(house: House, rounds: int) -> None:
    """Raises: RuntimeError, when a replica at rest costs more than it may."""
    (plain,) = (await _watch(house, Variant("plain"), rounds)).values()
    (alone,) = (await _watch(house, Variant("kiebot"), rounds)).values()
    pair = await _watch(house, Variant("kiebot", 2), rounds)
    standby = [_beyond(rest, first) for rest, first in zip(pair["standby"], alone, strict=True)]
    _print({"plain bot": plain, "kiebot, holder": alone, "kiebot, standby": standby})
    for who, rests in (("holder", alone), ("standby", standby)):
        _must(who, rests)


def _beyond(rest: Rest, alone: Rest) -> Rest:
    """The stores count for both replicas."""
    return Rest(rest.percent, rest.mb, rest.redis - alone.redis, rest.postgres)


async def _watch(house: House, variant: Variant, rounds: int) -> dict[str, list[Rest]]:
    """By part: holder, standby."""
    async with (
        house.stage(variant, BENCH_STATEMENTS="statements") as stage,
        Redis.from_url(house.engines.redis_url) as redis,
    ):
        await asyncio.sleep(_SETTLES_S)
        polls = stage.telegram.bot.polls
        holder = int(polls.parked.process.removeprefix("r")) if polls.parked else 0
        parts = {"holder" if place == holder else "standby": place for place in range(variant.processes)}
        found: dict[str, list[Rest]] = {part: [] for part in parts}
        for _ in range(rounds):
            seen = await observed(stage, redis)
            for part, place in parts.items():
                found[part].append(seen[place])
        return found


async def observed(stage: Stage, redis: Redis) -> list[Rest]:
    processes = [psutil.Process(pid) for pid in stage.pids]
    places = range(len(processes))
    began, asked = time.monotonic(), await _commands(redis)
    used, executed = [_cpu_s(each) for each in processes], [_executed(stage, place) for place in places]
    await asyncio.sleep(SECONDS)
    seconds, commands = time.monotonic() - began, await _commands(redis) - asked
    return [
        Rest(
            percent=(_cpu_s(processes[place]) - used[place]) / seconds * 100,
            mb=processes[place].memory_info().rss / 1e6,
            redis=commands / seconds,
            postgres=(_executed(stage, place) - executed[place]) / seconds,
        )
        for place in places
    ]


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _executed(stage: Stage, place: int) -> int:
    return statements(stage.directory / f"statements.r{place}")


async def _commands(redis: Redis) -> int:
    facts = await redis.info("commandstats")
    return sum(int(each["calls"]) for name, each in facts.items() if name != "cmdstat_info")


def _print(found: dict[str, list[Rest]]) -> None:
    plain = found["plain bot"]
    rows = [_row(name, rests, plain) for name, rests in found.items()]
    head = ("", "% of a core", "x plain", "MB", "x plain", "Redis commands/s", "Postgres statements/s")
    table("At rest", head, rows)


def _row(name: str, rests: Sequence[Rest], plain: Sequence[Rest]) -> tuple[str, ...]:
    percents, sizes = [each.percent for each in rests], [each.mb for each in rests]
    is_plain = rests is plain
    return (
        name,
        spread(percents, 2),
        ratio(percents, [max(each.percent, 0.01) for each in plain]),
        spread(sizes),
        ratio(sizes, [each.mb for each in plain]),
        "" if is_plain else spread([each.redis for each in rests]),
        "" if is_plain else spread([each.postgres for each in rests], 1),
    )


def _must(who: str, rests: Sequence[Rest]) -> None:
    percent = sorted(each.percent for each in rests)[len(rests) // 2]
    size = max(each.mb for each in rests)
    if percent > MUST_PERCENT or size > MUST_MB:
        raise RuntimeError(
            f"an idle {who} costs {percent:.2f} % and {size:.0f} MB; at most {MUST_PERCENT} % and {MUST_MB:.0f} MB"
        )
