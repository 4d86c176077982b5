"""Replicas as processes, started as operators start them; everything they print is kept."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.scenarios.world import World

KIEBOT_RUN = (sys.executable, "-m", "kiebot", "run")
ARQ = (sys.executable, "-m", "arq", "workers.settings")
ROOT = Path(__file__).parents[2]
START_S = 40.0
END_S = 30.0


@dataclass
class Ship:
    """One process and the file it prints to."""

    name: str
    process: asyncio.subprocess.Process
    output: Path

    @property
    def printed(self) -> str:
        return self.output.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ends(self, timeout: float = END_S) -> int:
        """Its exit status. Raises: TimeoutError, with what it printed."""
        try:
            async with asyncio.timeout(timeout):
                return await self.process.wait()
        except TimeoutError:
            raise TimeoutError(f"{self.name} still runs after {timeout} s:\n{self.printed[-3000:]}") from None


@dataclass
class Fleet:
    """Processes of one test, all ended with it."""

    world: World
    directory: Path
    ships: dict[str, Ship] = field(default_factory=dict)

    async def start(self, name: str, command: Sequence[str] = KIEBOT_RUN, **environment: str) -> Ship:
        ship = await launch(name, command, self.world.environment(REPLICA_ID=name, **environment), self.directory)
        self.ships[name] = ship
        return ship

    async def are_ready(self, *names: str, timeout: float = START_S) -> None:
        """Until each of them beats, and one of all polls. Raises: TimeoutError, with what they printed."""
        wanted = list(names or self.ships)
        query = "SELECT count(DISTINCT name) = :count FROM replicas WHERE name = ANY(:names)"
        try:
            await self.world.until_row(query, timeout, count=len(wanted), names=wanted)
            await self.world.until(lambda: self.world.tg.bot.polls.parked is not None, timeout)
        except TimeoutError:
            said = "\n".join(f"--- {ship.name}\n{ship.printed[-2000:]}" for ship in self.ships.values())
            raise TimeoutError(f"not ready: {wanted}\n{said}") from None

    async def poller(self, *, other_than: str = "", timeout: float = START_S) -> str:
        """The replica whose poll is parked now."""
        bot = self.world.tg.bot

        def somebody_polls() -> bool:
            return bot.polls.parked is not None and bot.polls.parked.process != other_than

        await self.world.until(somebody_polls, timeout)
        parked = bot.polls.parked
        assert parked is not None
        return parked.process

    async def stop_all(self) -> None:
        """SIGTERM to what is left; whoever has to be killed failed to drain."""
        left = [ship for ship in self.ships.values() if ship.process.returncode is None]
        for ship in left:
            ship.send(signal.SIGTERM)
        try:
            statuses = [await ship.ends() for ship in left]
        finally:
            for ship in left:
                if ship.process.returncode is None:
                    ship.process.kill()
                    await ship.process.wait()
        assert not any(statuses), {ship.name: status for ship, status in zip(left, statuses, strict=True)}


async def launch(name: str, command: Sequence[str], environment: Mapping[str, str], directory: Path) -> Ship:
    """A process with this environment and nothing else of ours; outputs go to one file per process."""
    output = directory / f"{name}-{time.monotonic_ns()}.log"
    inherited = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if key in os.environ}
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**inherited, **environment},
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=asyncio.subprocess.STDOUT,
        )
    return Ship(name, process, output)


async def ends(command: Sequence[str], environment: Mapping[str, str], directory: Path) -> tuple[int, str]:
    """Run a command to its end: exit status and everything it printed."""
    ship = await launch(Path(command[0]).name, command, environment, directory)
    try:
        return await ship.ends(START_S), ship.printed
    finally:
        if ship.process.returncode is None:
            ship.process.kill()
            await ship.process.wait()
