"""A process that forks one replica per line it reads, and tells how each ended: `python -m tests.crashpoints.doomed`.

A line is JSON: {"environment": ..., "callbacks": ..., "point": where to end, or null, "time": which time it comes by,
"done": a query, "facts": its values}. Two lines answer: {"pid": of the replica}, and when it has ended {"status": exit
status, "passed": how often it came by each point, unless it was killed}. SIGUSR1 cancels the job that it has in hand.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from tests.crashpoints import points

points.install()

import structlog  # noqa: E402 - after the hook, which has to be there first
from sqlalchemy import text  # noqa: E402

from kiebot.botapi.connection import trusted_roots  # noqa: E402
from tests.crashpoints.small_replica import SmallReplica  # noqa: E402

LONGEST_S = 15


async def _lives(job: dict[str, Any]) -> None:
    replica = SmallReplica(job["environment"], callbacks=job["callbacks"])
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, replica.cuts_job)

    async def done() -> bool:
        async with replica.database.transaction() as tx:
            return bool(await tx.connection.scalar(text(job["done"]), job["facts"]))

    await replica.begins(alone=True)
    points.Watch.ends_at, points.Watch.ends_at_time = job["point"], job["time"]
    points.Watch.is_armed = True
    await replica.works(done)
    points.Watch.is_armed = False
    await replica.ends()


def _forked(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(LONGEST_S)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        status = 1
        try:
            asyncio.run(_lives(job))
            os.write(writing, json.dumps(points.Watch.passed).encode())
            status = 0
        finally:
            os._exit(status)
    yield {"pid": pid}
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    _, status = os.waitpid(pid, 0)
    yield {"status": os.waitstatus_to_exitcode(status), "passed": json.loads(said or "{}")}


def main() -> None:
    # Unconfigured, structlog draws tracebacks with every local in a frame, which takes seconds for each.
    structlog.configure(processors=[structlog.processors.KeyValueRenderer(repr_native_str=False)])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a replica prints is no answer
    trusted_roots()  # each would read them for itself, and that takes longer than its whole life
    gc.freeze()
    for line in sys.stdin:
        for answer in _forked(json.loads(line)):
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
