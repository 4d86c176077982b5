"""The usual way to wait for generations: arq's stock Worker with one long job for each, which asks and sleeps in turns.

Run as a process: it says `ready`, then works off WATCH jobs until it is killed. No Postgres: the jobs are all it has.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Any

from arq.connections import RedisSettings, create_pool
from arq.worker import Worker, func

from kiebot.errors import Transient
from kiebot.kie.client import KieProvider

ASKS_EVERY_S = 30.0
QUEUE = "bench-watchers"


async def watch(ctx: dict[str, Any], task_id: str) -> None:
    provider: KieProvider = ctx["provider"]
    while True:
        with suppress(Transient):
            await provider.query(task_id)
        await asyncio.sleep(ASKS_EVERY_S)


async def enqueue(redis_url: str, task_ids: list[str]) -> None:
    pool = await create_pool(RedisSettings.from_dsn(redis_url), default_queue_name=QUEUE)
    for task_id in task_ids:
        await pool.enqueue_job("watch", task_id)
    await pool.aclose()


async def main() -> None:
    url = os.environ["KIE_API_URL"]
    provider = KieProvider(os.environ["KIE_API_KEY"], api_url=url, upload_url=url)
    worker = Worker(
        [func(watch, name="watch")],
        queue_name=QUEUE,
        redis_settings=RedisSettings.from_dsn(os.environ["REDIS_URL"]),
        max_jobs=100_000,
        job_timeout=100_000,
        handle_signals=False,
        ctx={"provider": provider},
    )
    await worker.async_run()


if __name__ == "__main__":
    asyncio.run(main())
