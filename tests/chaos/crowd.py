"""People who write numbered commands, each of which must have exactly one answer."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from kiebot.demo.evidence import Sent
from kiebot.simulators.users import SimUser
from tests.scenarios.world import World

_FIRST_ID = 600_000
PEOPLE = 60


@dataclass
class Crowd:
    """`sent`: everything so far, in order. A command `/n<serial>` is unknown to the bot, whose answer repeats it."""

    world: World
    rng: random.Random
    sent: list[Sent] = field(default_factory=list)
    serials: list[int] = field(default_factory=list)
    _next: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def says(self, count: int = 1) -> int:
        """So many commands at once, from one person each as far as there are enough; the last one's serial."""
        for number in range(count):
            await self._says(self.person(number))
        return self.serials[-1]

    async def hurries(self, count: int) -> int:
        """So many commands at once, all from the first person; the first one's serial."""
        for _ in range(count):
            await self._says(self.person(0))
        return self.serials[-count]

    @asynccontextmanager
    async def talking(self, per_s: float) -> AsyncIterator[None]:
        """Meanwhile commands arrive at this rate, evenly, from one person after the other."""
        talk = asyncio.create_task(self._talk(per_s))
        try:
            yield
        finally:
            talk.cancel()
            await asyncio.gather(talk, return_exceptions=True)

    def person(self, number: int) -> SimUser:
        user_id = _FIRST_ID + number % PEOPLE
        return self.world.tg.user(user_id, f"P{user_id}", "en")

    async def _talk(self, per_s: float) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in itertools.count():
            await asyncio.sleep(began + number / per_s - loop.time())
            await self._says(self.person(number))

    async def _says(self, person: SimUser) -> None:
        serial = next(self._next)
        action = await person.sends(f"/n{serial}")
        self.serials.append(serial)
        self.sent += [Sent(update_id, f"/n{serial}", action.at) for update_id in action.update_ids]
