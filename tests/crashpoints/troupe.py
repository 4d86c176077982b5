"""Several theatres at once, each a process with a database of its own: most of a story is waiting."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass

from sqlalchemy import text
from sqlalchemy.engine import make_url

from kiebot.storage.engine import make_engine
from kiebot.storage.migrate import migrate
from tests.crashpoints.mutants import MUTANT
from tests.crashpoints.points import ROOT
from tests.crashpoints.run import Played

SPEAK = "CRASHPOINTS_SPEAK"  # in the environment: what the processes have to say is shown
_TEMPLATE = "crash_template"


@dataclass(frozen=True)
class Job:
    """One life: of which story, and where it ends; None: nobody is killed. at: which time of coming by is the last."""

    story: str
    point: str | None = None
    at: int = 1


class Player:
    """One theatre's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def plays(self, job: Job) -> Played:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
        await self._process.stdin.drain()
        said = await self._process.stdout.readline()
        if not said:
            raise ChildProcessError(f"a theatre has ended in {job}; {SPEAK}=1 lets it say why")
        facts = json.loads(said)
        return Played(**facts | {"wrong": tuple(facts["wrong"])})

    async def ends(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                await self._process.wait()
                return
        self._process.kill()


class Troupe:
    def __init__(self, players: list[Player]) -> None:
        self._free: asyncio.Queue[Player] = asyncio.Queue()
        for player in players:
            self._free.put_nowait(player)

    async def play(self, job: Job) -> Played:
        """With whoever is free next."""
        player = await self._free.get()
        try:
            return await player.plays(job)
        finally:
            self._free.put_nowait(player)


@asynccontextmanager
async def open_troupe(
    database_url: str, redis_url: str, prefix: str, *, size: int, mutant: str | None = None
) -> AsyncIterator[Troupe]:
    """On a server that has no such databases yet: `prefix` names them."""
    names = [f"{prefix}_{number}" for number in range(size)]
    await _copies(database_url, f"{prefix}{_TEMPLATE}", names)
    players = [await _begun(_named(database_url, name), redis_url, name, mutant) for name in names]
    try:
        yield Troupe(players)
    finally:
        await asyncio.gather(*(player.ends() for player in players))


async def _begun(database_url: str, redis_url: str, prefix: str, mutant: str | None) -> Player:
    more = {} if mutant is None else {MUTANT: mutant}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.crashpoints.player", database_url, redis_url, prefix),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=None if SPEAK in os.environ else asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), **more},
        cwd=ROOT,
        limit=2**20,
    )
    return Player(process)


async def _copies(database_url: str, template: str, names: Iterable[str]) -> None:
    """Empty databases; migrated once, then copied."""
    server = make_engine(database_url, pool_size=1).execution_options(isolation_level="AUTOCOMMIT")
    async with server.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {template}"))
        engine = make_engine(_named(database_url, template), pool_size=1)
        await migrate(engine)
        await engine.dispose()
        for name in names:
            await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    await server.dispose()


def _named(database_url: str, name: str) -> str:
    return make_url(database_url).set(database=name).render_as_string(hide_password=False)
