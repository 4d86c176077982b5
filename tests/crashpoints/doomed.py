"""A process that forks one replica per line it reads, and tells how each ended.

It is forked itself, early, by a process that has imported everything: none of them has to do that again. A line is
JSON: {"environment": ..., "callbacks": ..., "point": where to end, or null, "time": which time it comes by, "done": a
query, "facts": its values}. Two lines answer: {"pid": of the replica}, and when it has ended {"status": exit status,
"passed": how often it came by each point, unless it was killed}. SIGUSR1 cancels the job that it has in hand.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import structlog
from sqlalchemy import text

from kiebot.botapi.connection import trusted_roots
from tests.crashpoints import points
from tests.crashpoints.small_replica import SmallReplica

LONGEST_S = 15


def begin() -> socket.socket:
    """The other end of its lines; it ends when that is closed. To be called before there are threads or a loop."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        try:
            _serve(theirs)
        finally:
            os._exit(0)
    theirs.close()
    return ours


def _serve(lines: socket.socket) -> None:
    # Unconfigured, structlog draws tracebacks with every local in a frame, which takes seconds for each.
    structlog.configure(processors=[structlog.processors.KeyValueRenderer(repr_native_str=False)])
    trusted_roots()  # each would read them for itself, and that takes longer than its whole life
    gc.freeze()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # inherited: until a replica has a job, there is none to cut off
    with lines.makefile("r") as jobs, lines.makefile("w") as answers:
        for line in jobs:
            for answer in _forked(json.loads(line)):
                answers.write(json.dumps(answer) + "\n")
                answers.flush()


def _forked(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(LONGEST_S)
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


async def _lives(job: dict[str, Any]) -> None:
    replica = SmallReplica(job["environment"], callbacks=job["callbacks"])
    loop = asyncio.get_running_loop()

    def cut(*_: object) -> None:
        with suppress(RuntimeError):  # it came when all was over
            loop.call_soon_threadsafe(replica.cuts_job)

    signal.signal(signal.SIGUSR1, cut)  # the loop's own handler would be gone with the loop, and the next one kills

    async def done() -> bool:
        async with replica.database.transaction() as tx:
            return bool(await tx.connection.scalar(text(job["done"]), job["facts"]))

    await replica.begins(alone=True)
    points.Watch.ends_at, points.Watch.ends_at_time = job["point"], job["time"]
    points.Watch.is_armed = True
    await replica.works(done)
    points.Watch.is_armed = False
    await replica.ends()
