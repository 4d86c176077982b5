"""Replicas in the test's own event loop: quick to start, and their exit statuses at hand."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field

from kiebot.bootstrap import open_stores
from kiebot.replica import Replica
from kiebot.settings import Settings
from tests.scenarios.world import World

STOP_S = 20.0
_names = itertools.count()


@dataclass
class Crew:
    """A cluster in process. `kie`, `tg` and `settles` are at `world`."""

    world: World
    replicas: dict[str, Replica] = field(default_factory=dict)
    _running: dict[str, asyncio.Task[int]] = field(default_factory=dict)

    def start(self, name: str = "", **environment: str) -> str:
        """One more replica. The environment's names are those of the settings; returns its name."""
        name = name or f"r{next(_names)}"
        given = self.world.environment(REPLICA_ID=name, **environment)
        values = {key.lower(): value for key, value in given.items()}
        settings = Settings(_env_file=None, **values)  # type: ignore[call-arg,arg-type]  # pydantic turns texts into types
        replica = Replica(settings, open_stores(settings))
        self.replicas[name] = replica
        self._running[name] = asyncio.create_task(replica.run(), name=f"replica {name}")
        return name

    async def stop(self, name: str) -> int:
        """Ask it to drain; its exit status."""
        self.replicas.pop(name).request_stop()
        async with asyncio.timeout(STOP_S):
            return await self._running.pop(name)

    async def stop_all(self) -> None:
        statuses = await asyncio.gather(*(self.stop(name) for name in list(self.replicas)))
        assert all(status == 0 for status in statuses), statuses
