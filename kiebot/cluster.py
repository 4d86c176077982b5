"""Replicas as child processes of this one: started, watched, restarted, rolled. Used by `up` and by the demo."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import structlog

log = structlog.get_logger()

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
WELL_AFTER_S = 30.0
NO_RESTART = 78  # the configuration is wrong: starting again changes nothing


@dataclass(slots=True)
class Member:
    """One replica's process, and how it was started. `enter`: put before the cluster's command; it ends in that very
    process, as `nsenter` does."""

    name: str
    environment: Mapping[str, str]
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    enter: Sequence[str] = ()

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.returncode is None


class Cluster:
    """N replicas. `command` starts one; `output` takes what they print (None: our own output)."""

    def __init__(
        self,
        members: Sequence[Member],
        *,
        command: Sequence[str] = (sys.executable, "-m", "kiebot", "run"),
        output: IO[bytes] | None = None,
    ) -> None:
        self.members = {member.name: member for member in members}
        self._command = tuple(command)
        self._output = output
        self._watchers: dict[str, asyncio.Task[None]] = {}

    async def start(self, name: str) -> None:
        """Start a member that does not run."""
        member = self.members[name]
        if member.is_alive:
            return
        options: dict[str, Any] = {"stdout": self._output, "stderr": self._output} if self._output else {}
        member.process = await asyncio.create_subprocess_exec(
            *member.enter,
            *self._command,
            env={**os.environ, **member.environment},
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches this process only; it stops the others in order
            **options,
        )
        member.starts += 1

    async def start_all(self) -> None:
        for name in self.members:
            await self.start(name)

    def send(self, name: str, number: signal.Signals) -> None:
        """A signal to one member, if it lives."""
        process = self.members[name].process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(number)

    async def wait(self, name: str, timeout_s: float) -> int | None:
        """Its exit status, or None when it still runs after `timeout_s`."""
        process = self.members[name].process
        if process is None:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                return await process.wait()
        return process.returncode

    async def stop_all(self, *, grace_s: float) -> None:
        """SIGTERM to all, SIGKILL to what is left after `grace_s`."""
        for watcher in self._watchers.values():
            watcher.cancel()
        for name in self.members:
            self.send(name, signal.SIGTERM)
        await asyncio.gather(*(self.wait(name, grace_s) for name in self.members))
        for name in self.members:
            self.send(name, signal.SIGKILL)
        await asyncio.gather(*(self.wait(name, 5.0) for name in self.members))

    async def keep_running(self) -> int:
        """Start all and restart whichever dies, with back-off, until cancelled or until none is left to restart."""
        await self.start_all()
        for name in self.members:
            self._watchers[name] = asyncio.create_task(self._keep(name))
        statuses = await asyncio.gather(*self._watchers.values(), return_exceptions=True)
        return NO_RESTART if statuses else 0

    async def _keep(self, name: str) -> None:
        pause_s = FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            status = await self.wait(name, 10**9)
            if status == NO_RESTART:
                log.error("cluster.not_restarted", replica=name, status=status)
                return
            pause_s = FIRST_PAUSE_S if loop.time() - started > WELL_AFTER_S else min(pause_s * 2, LONGEST_PAUSE_S)
            log.warning("cluster.restarts", replica=name, status=status, pause_s=pause_s)
            await asyncio.sleep(pause_s)
            try:
                await self.start(name)
            except OSError as error:  # no memory, no process slots: the next round tries again
                log.error("cluster.start_failed", replica=name, why=str(error))
