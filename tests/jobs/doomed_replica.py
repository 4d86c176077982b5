"""A replica that starts one job, says so, and waits to be killed: `python doomed_replica.py URL LEASE_S`."""

from __future__ import annotations

import asyncio
import sys

from kiebot.jobs.pool import make_pool
from kiebot.jobs.worker import Worker


async def main(url: str, lease_s: float) -> None:
    pool = make_pool(url, prefix="kiebot")

    async def note(context: object, number: int) -> None:
        sys.stderr.write("started\n")
        sys.stderr.flush()
        await asyncio.sleep(60)

    worker = Worker({"note": note}, context=None, pool=pool, prefix="kiebot", replica="doomed", lease_s=lease_s)
    await worker.async_run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
