"""A PostgreSQL and a Valkey of the rig's own, to be killed, frozen, stopped, and started with or without data."""

from __future__ import annotations

import asyncio
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

from kiebot.engines.binaries import find_binaries
from kiebot.engines.identity import Stage, choose
from kiebot.engines.layout import Layout, make_socket_dir, socket_dir, write_json
from kiebot.engines.pair import postgres_of, valkey_of
from kiebot.engines.plan import Plan
from kiebot.engines.postgres import Postgres
from kiebot.engines.process import Engine
from kiebot.engines.valkey import SOCKET, Valkey

_GONE_S = 15.0
_SERVES_S = 30.0
_LOOK_S = 0.005
_POSTGRES_SOCKET = ".s.PGSQL.5432"


class Store:
    """One engine as a child process of ours."""

    def __init__(self, engine: Engine, kind: Postgres | Valkey, socket: Path, url: str, password: str) -> None:
        self._engine, self._kind = engine, kind
        self.socket, self.url, self.password = socket, url, password
        self._family: list[psutil.Process] = []

    async def start(self) -> None:
        """Returns once it serves. Raises: TimeoutError."""
        self._engine.start()
        async with asyncio.timeout(_SERVES_S):
            while not self._kind.ready(self._engine.pid):
                await asyncio.sleep(_LOOK_S)

    async def kill(self) -> None:
        """SIGKILL; returns when all of its processes are gone."""
        await self._ends(signal.SIGKILL)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """By that signal. PostgreSQL: SIGINT is a fast stop, SIGQUIT an immediate one."""
        await self._ends(number)

    async def empty(self) -> None:
        """For Valkey, when it does not run: forget everything on disk."""
        for place in self._kind.data.iterdir():
            if place.is_dir():
                shutil.rmtree(place)
            elif place.name != "server.conf":
                place.unlink()

    def freeze(self) -> None:
        """SIGSTOP to the server and its children: it accepts connections (the kernel does) and says nothing."""
        self._family = self._processes()
        for process in self._family:
            process.suspend()

    def thaw(self) -> None:
        for process in self._family:
            if process.is_running():
                process.resume()
        self._family = []

    @property
    def is_running(self) -> bool:
        return self._engine.running()

    async def _ends(self, number: signal.Signals) -> None:
        family = self._processes()
        self.thaw()
        self._engine.signal(number)
        async with asyncio.timeout(_GONE_S):
            while self._engine.running() or any(_lives(each) for each in family):
                await asyncio.sleep(_LOOK_S)

    def _processes(self) -> list[psutil.Process]:
        if not self._engine.running():
            return []
        main = psutil.Process(self._engine.pid)
        return [main, *main.children(recursive=True)]


@dataclass(frozen=True)
class Stores:
    postgres: Store
    redis: Store
    sockets: Path

    async def start(self) -> None:
        await asyncio.gather(self.postgres.start(), self.redis.start())

    async def stop(self) -> None:
        for store, number in ((self.redis, signal.SIGTERM), (self.postgres, signal.SIGINT)):
            if store.is_running:
                await store.stop(number)
        shutil.rmtree(self.sockets, ignore_errors=True)


def make_stores(home: Path, *, durable: bool = True) -> Stores:
    """Both prepared in this directory, neither started. Blocking."""
    parts = _ground(home, durable)
    _, layout, sockets, _ = parts
    postgres, passwords = postgres_of(*parts), layout.passwords()
    postgres.prepare(passwords["superuser"], passwords["kiebot"])
    url = f"postgresql://kiebot:{quote(passwords['kiebot'])}@/kiebot?host={sockets}"
    database = Store(postgres.engine(), postgres, sockets / _POSTGRES_SOCKET, url, passwords["kiebot"])
    return Stores(database, _redis(parts), sockets)


def make_redis(home: Path, password: str) -> Store:
    """Another Valkey, prepared in this directory, not started, with the same password."""
    Layout.of(home).make()
    write_json(Layout.of(home).dir / "secrets.json", {"superuser": "", "kiebot": "", "redis": password})
    return _redis(_ground(home, durable=False))


Ground = tuple[Plan, Layout, Path, Stage]


def _ground(home: Path, durable: bool) -> Ground:
    layout = Layout.of(home)
    layout.make()
    plan = Plan(layout.home, find_binaries(), durable=durable, linger_s=0.0, debug_commands=True)
    stage = choose(layout, plan.binaries, existing=None)
    sockets = socket_dir(layout)
    make_socket_dir(sockets, stage.identity.uid, stage.identity.gid)
    return plan, layout, sockets, stage


def _redis(parts: Ground) -> Store:
    valkey = valkey_of(*parts)
    valkey.prepare(None)
    socket = parts[2] / SOCKET
    return Store(valkey.engine(), valkey, socket, f"unix://:{quote(valkey.password)}@{socket}", valkey.password)


def _lives(process: psutil.Process) -> bool:
    """A dead child that nobody has collected yet is dead."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
