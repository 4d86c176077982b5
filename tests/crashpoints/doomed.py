"""A process that forks one replica per line it reads, and tells how each ended: `python -m tests.crashpoints.doomed`.

A line is JSON: {"environment": ..., "callbacks": ..., "point": where to end, or null, "done": a query}. The answer:
{"status": exit status, "passed": the points it came by, in order, unless it was killed}.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

from tests.crashpoints import points

points.install()

from sqlalchemy import text  # noqa: E402 - after the hook, which has to be there first

from tests.crashpoints.small_replica import SmallReplica  # noqa: E402

LONGEST_S = 12


async def _lives(job: dict[str, Any]) -> None:
    replica = SmallReplica(job["environment"], callbacks=job["callbacks"])

    async def done() -> bool:
        async with replica.database.transaction() as tx:
            return bool(await tx.connection.scalar(text(job["done"])))

    await replica.begins(alone=True)
    points.Watch.ends_at, points.Watch.is_armed = job["point"], True
    await replica.works(done)
    points.Watch.is_armed = False
    await replica.ends()


def _forked(job: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(LONGEST_S)
        status = 1
        try:
            asyncio.run(_lives(job))
            os.write(writing, json.dumps(list(points.Watch.passed)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    _, status = os.waitpid(pid, 0)
    return {"status": os.waitstatus_to_exitcode(status), "passed": json.loads(said or "[]")}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a replica prints is no answer
    for line in sys.stdin:
        answers.write(json.dumps(_forked(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
