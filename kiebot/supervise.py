"""Keeps the parts of a replica running: a part that dies is started again with back-off, and counted.

A part that cannot be kept alive ends the whole process with an error: a replica is never half alive.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from kiebot.clock import Clock

log = structlog.get_logger()

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
WELL_AFTER_S = 30.0  # a part that ran this long starts again from the shortest pause
MAX_QUICK_DEATHS = 20
AGAIN_S = 10.0


class PartFailed(Exception):
    """A part died too often, too quickly. The process must end, so that the platform starts it afresh."""


@dataclass(slots=True)
class Supervisor:
    """Runs parts until told to stop."""

    clock: Clock
    restarts: Counter[str] = field(default_factory=Counter)
    is_leaving: bool = False  # parts may end of themselves now
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def start(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        """Begin to supervise. A part that returns of itself is as dead as one that raises."""
        self._tasks[name] = asyncio.create_task(self._keep(name, part), name=f"part:{name}")

    async def wait(self) -> None:
        """Until a part has failed for good. Raises: PartFailed."""
        if not self._tasks:
            await asyncio.Event().wait()
        done, _ = await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled():
                task.result()

    async def stop(self, name: str) -> None:
        """Cancel one part and wait until it has ended. Libraries swallow a cancellation now and then: a part that goes
        on hears of it again, after longer than any of them takes to end in order."""
        task = self._tasks.pop(name, None)
        if task is None:
            return
        while not task.done():
            task.cancel()
            limit = asyncio.create_task(self.clock.sleep(AGAIN_S))
            await asyncio.wait({task, limit}, return_when=asyncio.FIRST_COMPLETED)
            limit.cancel()
        if not task.cancelled():
            task.exception()  # heard of, if it has one: it was to end anyway

    async def stop_all(self) -> None:
        for name in list(self._tasks):
            await self.stop(name)

    async def _keep(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        pause_s, quick = FIRST_PAUSE_S, 0
        while True:
            started = self.clock.monotonic()
            try:
                await part()
                if self.is_leaving:
                    return
                log.error("part.ended", part=name)
            except Exception:
                log.exception("part.died", part=name)
            if self.clock.monotonic() - started > WELL_AFTER_S:
                pause_s, quick = FIRST_PAUSE_S, 0
            quick += 1
            self.restarts[name] += 1
            if quick > MAX_QUICK_DEATHS:
                raise PartFailed(f"{name} died {quick} times in a row")
            await self.clock.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
