"""`kiebot run` as the benchmarks need it: wide send limits, a profile on request, and what it is compared with.

BENCH_WORKER=arq         arq's Worker instead of ours, on the same jobs; "arq alone": nor does a sweeper help it
BENCH_PROFILE=<file>     cProfile's statistics, written when the process has drained
BENCH_STATEMENTS=<file>  keeps count of executed statements in <file>.<replica>
BENCH_BUDGET="fixed share" each process keeps to a fixed share of KIE's creates, as the usual limiter does
BENCH_SENDING=real       the send limits as they are
BENCH_GATE=open          nobody is turned away
BENCH_HANDLER=<file>     a handler that does next to nothing, its notes in <file>.<replica> (light.py)
"""

from __future__ import annotations

import asyncio
import cProfile
import mmap
import os
import struct
import time
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import arq.worker
from arq.connections import ArqRedis, RedisSettings
from arq.typing import WorkerCoroutine
from sqlalchemy import Engine, event

from benchmarks.rig.light import LightHandler
from kiebot import bootstrap, replica
from kiebot.botapi.buckets import Bucket, Limits
from kiebot.botapi.ratelimit import SharedRateLimiter
from kiebot.cli import cli
from kiebot.intake.gate import OpenGate
from kiebot.jobs.keys import QueueKeys
from kiebot.jobs.pool import deserialize, serialize
from kiebot.jobs.worker import JobFunction
from kiebot.kie.budget import Limit
from kiebot.sweepers import Sweeper

POLL_DELAY_S = 0.02  # arq's default is 0.5, with which it would be the poll that is measured
_COUNT = struct.Struct("q")
_WIDE = Bucket(1e-5, 1000)  # a booking costs what it always does; nobody waits


class StockWorker(arq.worker.Worker):
    """arq's Worker behind the constructor of ours, with as many slots; it keeps no results, else it would be slower."""

    def __init__(
        self,
        functions: Mapping[str, JobFunction],
        *,
        context: object,
        pool: ArqRedis,
        prefix: str,
        replica: str,
        max_jobs: int,
        **_: object,
    ) -> None:
        super().__init__(
            [arq.worker.func(_with(context, function), name=name) for name, function in functions.items()],
            queue_name=QueueKeys(prefix).queue,
            redis_settings=RedisSettings.from_dsn(os.environ["REDIS_URL"]),
            max_jobs=max_jobs,
            poll_delay=POLL_DELAY_S,
            keep_result=0,
            handle_signals=False,
            log_results=False,
            job_serializer=serialize,
            job_deserializer=deserialize,
        )

    @property
    def running(self) -> int:
        return self.job_counter

    @property
    def outage_s(self) -> float:
        return 0.0

    async def drain(self, wait_s: float) -> int:
        self.allow_pick_jobs = False
        if pending := set(self.tasks.values()):
            await asyncio.wait(pending, timeout=wait_s)
        await self.close()
        return 0


def _with(context: object, function: JobFunction) -> WorkerCoroutine:
    async def run(_: dict[Any, Any], *args: Any) -> None:
        await function(context, *args)

    return cast(WorkerCoroutine, run)


def count_statements(path: Path) -> None:
    """Keep the number of statements executed from now on in a file; `statements` reads it."""
    path.write_bytes(bytes(_COUNT.size))
    with path.open("r+b") as file:
        count = mmap.mmap(file.fileno(), _COUNT.size)

    @event.listens_for(Engine, "before_cursor_execute")
    def _(*_: object) -> None:
        _COUNT.pack_into(count, 0, _COUNT.unpack_from(count)[0] + 1)


def statements(path: Path) -> int:
    """0, when nobody counts."""
    return int(_COUNT.unpack(path.read_bytes())[0]) if path.exists() else 0


class FixedShare:
    """What every process may do on its own, when there may be SHARERS of them: so many calls per window."""

    SHARERS = 4

    def __init__(self, _: object, __: str, limit: Limit, **___: object) -> None:
        self._limit = limit
        self._calls: deque[float] = deque(maxlen=max(1, limit.calls // self.SHARERS))

    async def take(self, turn: str, since: datetime | None = None) -> float:
        now, full = time.monotonic(), len(self._calls) == self._calls.maxlen
        if full and (wait_s := self._calls[0] + self._limit.window_s - now) > 0:
            return wait_s
        self._calls.append(now)
        return 0.0

    async def answered(self, turn: str) -> None: ...

    async def hurry(self, turn: str) -> None: ...

    async def refused(self, *, pause_s: float = 0.0) -> None: ...


async def _finds_nothing(_: Sweeper) -> int:
    return 0


def _open_gate(_: object, **__: object) -> OpenGate:
    return OpenGate()


def main() -> None:
    wide = partial(SharedRateLimiter, limits=Limits(_WIDE, _WIDE, _WIDE))
    with ExitStack() as patches:
        if os.environ.get("BENCH_SENDING") != "real":
            patches.enter_context(patch.object(bootstrap, "SharedRateLimiter", wide))
        if os.environ.get("BENCH_GATE") == "open":
            patches.enter_context(patch.object(bootstrap, "Turnstile", _open_gate))
        if os.environ.get("BENCH_BUDGET") == "fixed share":
            patches.enter_context(patch.object(bootstrap, "Budget", FixedShare))
        if os.environ.get("BENCH_WORKER", "").startswith("arq"):
            patches.enter_context(patch.object(replica, "Worker", StockWorker))
        if os.environ.get("BENCH_WORKER") == "arq alone":
            patches.enter_context(patch.object(Sweeper, "sweep", _finds_nothing))
        if path := os.environ.get("BENCH_HANDLER"):
            light = LightHandler(Path(f"{path}.{os.environ['REPLICA_ID']}"))
            patches.enter_context(patch.object(replica, "BotHandler", lambda *_: light))
        if path := os.environ.get("BENCH_STATEMENTS"):
            count_statements(Path(f"{path}.{os.environ['REPLICA_ID']}"))
        if path := os.environ.get("BENCH_PROFILE"):
            profile = patches.enter_context(cProfile.Profile())
            patches.callback(profile.dump_stats, path)
        cli(["run"])


if __name__ == "__main__":
    main()
