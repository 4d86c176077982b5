"""What all bots of one simulator share: time, chance, rules, journal, faults, background tasks."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import httpx

from kiebot.simulators.clock import SimClock
from kiebot.simulators.telegram.answers import Json
from kiebot.simulators.telegram.faults import Faults
from kiebot.simulators.telegram.files import UrlContent
from kiebot.simulators.telegram.journal import Journal
from kiebot.simulators.telegram.rules import Rules

UrlFetcher = Callable[[str], Awaitable[UrlContent | None]]


class BackgroundTasks:
    """Keeps tasks alive and ends them together."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closings: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self._start(work, self._tasks)

    def spawn_closing(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """For what gives resources back: in the end it is awaited, not cancelled."""
        return self._start(work, self._closings)

    async def aclose(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._closings, return_exceptions=True)

    @staticmethod
    def _start(work: Coroutine[Any, Any, Any], kept: set[asyncio.Task[Any]]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        kept.add(task)
        task.add_done_callback(kept.discard)
        return task


@dataclass(slots=True)
class World:
    """One per simulator. `urls` and `fetch_url` answer sends by URL; without either they fail as unreachable."""

    clock: SimClock
    rng: random.Random
    rules: Rules
    journal: Journal
    faults: Faults
    tasks: BackgroundTasks = field(default_factory=BackgroundTasks)
    urls: dict[str, UrlContent | None] = field(default_factory=dict)
    fetch_url: UrlFetcher | None = None
    webhook_transport: httpx.AsyncBaseTransport | None = None
    invoice_links: dict[str, tuple[int, Json]] = field(default_factory=dict)
    """Invoice slug -> (bot id, invoice)."""

    def unix(self) -> int:
        """Whole Unix seconds, as dates go over the wire."""
        return int(self.clock.now())

    async def fetch(self, url: str) -> UrlContent | None:
        """What lies at an address; None when it cannot be had."""
        if url in self.urls:
            return self.urls[url]
        return None if self.fetch_url is None else await self.fetch_url(url)
