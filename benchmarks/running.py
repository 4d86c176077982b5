"""What a generation costs that is running at KIE and has nothing to do: memory, processor, statements.

One replica, none, 1,000 and 5,000 generations whose tasks never end, all of them to be asked about as often as the
account allows; and the 5,000 once more when none is due. Beside it arq's stock Worker with a long job for each, which
asks about it every half minute (more than the account allows, and less than kiebot would like).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from redis.asyncio import Redis
from sqlalchemy import text

from benchmarks.idle import Rest, observed
from benchmarks.rig import watchers
from benchmarks.rig.report import spread, table
from benchmarks.rig.stage import ROOT, House, Stage, Variant
from kiebot.generation.ports import Submission
from kiebot.jobs.keys import QueueKeys
from kiebot.kie.client import KieProvider

LEVELS = (0, 1000, 5000)
MOST_ROUNDS = 3
MUST_KB, MUST_GROW = 1.0, 1.5  # per generation; processor time for the most, times that for the fewer
_AT_ONCE = 20
_SETTLES_S = 8.0
_RUNNING = text("""
    INSERT INTO generations (id, confirm_key, user_id, chat_id, model_id, inputs, language, state, cost_millicredits,
        price_millicredits, is_maximum, attempt_no, attempt_id, task_id, polls, submitted_at, due_at)
    SELECT u.id, u.id::text, 1, 1, 'z-image', '{}', 'en', 'running', 500, 1000, false, 1, u.id, u.task_id, 9, now(),
        now() + random() * interval '10 seconds'
    FROM unnest(CAST(:ids AS uuid[]), CAST(:tasks AS text[])) AS u (id, task_id)
""")
_ATTEMPTS = text("""
    INSERT INTO attempts (id, generation_id, no, state, task_id)
    SELECT id, id, 1, 'created', task_id FROM generations WHERE id = ANY(CAST(:ids AS uuid[]))
""")
_NEVER_ASKED = "SELECT count(*) FROM generations WHERE claim_no = 0"
_NONE_DUE = text("UPDATE generations SET due_at = now() + interval '1 hour', revision = revision + 1")


@dataclass(frozen=True)
class Cost:
    """Of one process with `generations` running: its rest, round by round."""

    name: str
    generations: int
    rests: list[Rest]

    @property
    def mb(self) -> float:
        return sorted(rest.mb for rest in self.rests)[len(self.rests) // 2]

    @property
    def percent(self) -> float:
        return sorted(rest.percent for rest in self.rests)[len(self.rests) // 2]


async def compare(house: House, rounds: int) -> list[Cost]:
    """kiebot's costs. Asked for more, it measures MOST_ROUNDS rounds."""
    rounds = min(rounds, MOST_ROUNDS)
    async with (
        house.stage(Variant("kiebot"), BENCH_STATEMENTS="statements") as stage,
        Redis.from_url(house.engines.redis_url) as redis,
        KieProvider(stage.kie.api_key, api_url=stage.environment["KIE_API_URL"], upload_url="") as provider,
    ):
        stage.kie.switches.set(rate_limits=False, profile="E")
        tasks: list[str] = []
        ours, theirs = [], []
        for level in LEVELS:
            fresh = await _create(provider, level - len(tasks))
            tasks += fresh
            await _insert(stage, fresh)
            await _until_all_wait(stage)
            ours.append(Cost("kiebot", level, [(await observed(stage, redis))[0] for _ in range(rounds)]))
        await _none_is_due(stage, redis)
        ours.append(Cost("kiebot, none due", LEVELS[-1], [(await observed(stage, redis))[0] for _ in range(rounds)]))
        async with _stock_worker(stage) as stock:
            for before, level in itertools.pairwise((0, *LEVELS)):
                await watchers.enqueue(house.engines.redis_url, tasks[before:level])
                await asyncio.sleep(_SETTLES_S + level / 500)
                theirs.append(
                    Cost("arq, a job each", level, [(await observed(stock, redis))[0] for _ in range(rounds)])
                )
    _print([*ours, *theirs])
    return ours


async def _create(provider: KieProvider, count: int) -> list[str]:
    """That many tasks at KIE."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def make() -> str:
        async with turns:
            return await provider.submit(Submission(uuid4(), "z-image", {"prompt": "fog", "aspect_ratio": "1:1"}, None))

    return await asyncio.gather(*(make() for _ in range(count)))


async def _insert(stage: Stage, tasks: Sequence[str]) -> None:
    assert stage.engine is not None
    ids: list[UUID] = [uuid4() for _ in tasks]
    async with stage.engine.begin() as connection:
        await connection.execute(_RUNNING, {"ids": ids, "tasks": list(tasks)})
        await connection.execute(_ATTEMPTS, {"ids": ids})


async def _until_all_wait(stage: Stage) -> None:
    """Until each of them has asked for its turn once: that is not what they cost afterwards."""
    async with asyncio.timeout(180):
        while await stage.count(_NEVER_ASKED):  # noqa: ASYNC110 - another process sees to it
            await asyncio.sleep(0.2)
    await asyncio.sleep(_SETTLES_S)


async def _none_is_due(stage: Stage, redis: Redis) -> None:
    """Nor are there wake-ups of before on their way."""
    assert stage.engine is not None
    async with stage.engine.begin() as connection:
        await connection.execute(_NONE_DUE)
    await redis.delete(QueueKeys(stage.environment["REDIS_PREFIX"]).queue)
    await asyncio.sleep(_SETTLES_S)


@asynccontextmanager
async def _stock_worker(stage: Stage) -> AsyncIterator[Stage]:
    """A stage that has only the stock worker's process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.rig.watchers"),
        env={**os.environ, **stage.environment, "PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await asyncio.sleep(_SETTLES_S)
        yield replace(stage, pids=[process.pid])
    finally:
        process.kill()
        await process.wait()


def kb_each(cost: Cost, fewer: Cost) -> float:
    """What each generation more takes, in kilobytes: what the first thousand brings along is the program's own."""
    return (cost.mb - fewer.mb) * 1000 / (cost.generations - fewer.generations)


def _print(costs: Sequence[Cost]) -> None:
    rows = []
    for before, cost in itertools.pairwise([costs[0], *costs]):
        is_more = cost.generations > before.generations
        rows.append(
            (
                f"{cost.name}: {cost.generations}",
                spread([rest.mb for rest in cost.rests]),
                f"{kb_each(cost, before):.2f}" if is_more else "",
                spread([rest.percent for rest in cost.rests], 1),
                spread([rest.postgres for rest in cost.rests]) if cost.name.startswith("kiebot") else "",
                spread([rest.redis for rest in cost.rests]),
            )
        )
    head = ("", "MB", "KB for each more", "% of a core", "Postgres statements/s", "Redis commands/s")
    table("Generations that run at KIE, one replica", head, rows)
