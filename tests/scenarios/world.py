"""What a cluster lives in: both services as simulators on ports, and fresh stores. Shared by all scenarios."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.simulators.kie import KieSimulator
from kiebot.simulators.server import AsgiApp, Receive, Scope, Send, SimulatorServer
from kiebot.simulators.telegram import TelegramSimulator, make_token
from kiebot.simulators.telegram.rules import FloodRules, Rules
from kiebot.storage.engine import make_engine
from kiebot.storage.verify import verify

SETTLE_S = 30.0
_LOOK_AGAIN_S = 0.1  # commits that follow a request's answer are seen no later than this
_seeds = itertools.count(1000)
_WAITING = text("""
    SELECT
        (SELECT count(*) FROM inbox WHERE done_at IS NULL) AS updates,
        (SELECT count(*) FROM outbox WHERE sent_at IS NULL AND buried_at IS NULL) AS messages,
        (SELECT count(*) FROM generations WHERE finished_at IS NULL) AS generations,
        (SELECT count(*) FROM cards WHERE wanted_version > sent_version AND NOT is_gone) AS cards
""")


class Watched:
    """An ASGI program that tells when a request has ended, so that nobody has to look all the time."""

    def __init__(self, app: AsgiApp, moved: asyncio.Event) -> None:
        self._app = app
        self._moved = moved

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            self._moved.set()


@dataclass
class World:
    """Two simulators and the stores. `environment` is what a replica must be told to live in it."""

    tg: TelegramSimulator
    kie: KieSimulator
    tg_url: str
    kie_url: str
    database_url: str
    redis_url: str
    redis_prefix: str
    engine: AsyncEngine
    moved: asyncio.Event

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "TELEGRAM_BOT_TOKEN": self.tg.token,
            "KIE_API_KEY": self.kie.api_key,
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "REDIS_PREFIX": self.redis_prefix,
            "TELEGRAM_API_URL": self.tg_url,
            "KIE_API_URL": self.kie_url,
            "KIE_UPLOAD_URL": self.kie_url,
            "KIE_RESULT_HOSTS": self.kie_url.removeprefix("http://"),
            "KIE_PACE": "0.05",
            "KIE_POLLS_PER_S": "50",
            "KIE_CREATE_PER_10S": "500",
            "WELCOME_CREDITS": "100",
            "SUPPORT_CONTACT": "@shop_help",
            "SHUTDOWN_GRACE_S": "10",
            "DB_POOL_SIZE": "6",
            "LOG_FORMAT": "json",
            **more,
        }

    async def settles(self, timeout: float = SETTLE_S) -> None:
        """Every update handled, every generation ended, every message and card sent. Raises: TimeoutError."""
        waiting: Mapping[str, Any] = {}
        try:
            async with asyncio.timeout(timeout):
                while True:
                    self.moved.clear()
                    waiting = await self.waiting()
                    if not any(waiting.values()):
                        return
                    await self._something_happens()
        except TimeoutError:
            raise TimeoutError(f"after {timeout} s there still wait {dict(waiting)}") from None

    async def until(self, reached: Callable[[], bool], timeout: float = SETTLE_S) -> None:
        """Until `reached()`; asked whenever a simulator has answered something. Raises: TimeoutError."""
        async with asyncio.timeout(timeout):
            while True:
                self.moved.clear()
                if reached():
                    return
                await self._something_happens()

    async def until_row(self, query: str, timeout: float = SETTLE_S, **facts: object) -> Any:
        """Until the query's first value is true; returns it. Raises: TimeoutError."""
        async with asyncio.timeout(timeout):
            while True:
                self.moved.clear()
                if found := await self.scalar(query, **facts):
                    return found
                await self._something_happens()

    async def waiting(self) -> dict[str, int]:
        async with self.engine.connect() as connection:
            row = (await connection.execute(_WAITING)).one()
        return {**row._mapping, "at Telegram": len(self.tg.bot.queue)}

    async def scalar(self, query: str, **facts: object) -> Any:
        async with self.engine.connect() as connection:
            return await connection.scalar(text(query), facts)

    async def rows(self, query: str, **facts: object) -> list[Any]:
        async with self.engine.connect() as connection:
            return list((await connection.execute(text(query), facts)).all())

    async def execute(self, statement: str, **facts: object) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text(statement), facts)

    async def available(self, user_id: int) -> int:
        """Millicredits a user may spend."""
        return int(await self.scalar("SELECT available FROM accounts WHERE key = :key", key=f"wallet:{user_id}") or 0)

    async def assert_books_are_right(self) -> None:
        breaches = await verify(self.engine)
        assert not breaches, breaches

    async def assert_nothing_is_held(self) -> None:
        held = await self.rows("SELECT key, held FROM accounts WHERE held <> 0 AND key LIKE 'wallet:%'")
        assert held == []

    def pollers(self) -> set[str]:
        """Replicas that ever asked for updates."""
        return {call.process for call in self.tg.journal.polls()}

    async def _something_happens(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_AGAIN_S):
                await self.moved.wait()
        except TimeoutError:
            return


@asynccontextmanager
async def open_world(
    database_url: str,
    redis_url: str,
    redis_prefix: str,
    *,
    flood: FloodRules | None = None,
    token: str | None = None,
    api_key: str = "sim-kie-key",
    tap: Callable[[AsgiApp], AsgiApp] = lambda app: app,
    seed: int | None = None,
) -> AsyncIterator[World]:
    """Both simulators on ports of their own, their ids unlike those of any other test unless a seed is given.

    `tap` hears what KIE hears.
    """
    seed = next(_seeds) if seed is None else seed
    moved = asyncio.Event()
    rules = Rules(flood=flood or FloodRules(), local_server=True)
    tg = TelegramSimulator({token or make_token(bot_id=7_000_000 + seed): "kiebot_bot"}, seed=seed, rules=rules)
    kie = KieSimulator(api_key=api_key, seed=seed, duration_scale=0.01)
    kie.switches.rate_limits = False
    engine = make_engine(database_url, pool_size=4, application="test")
    async with (
        tg,
        kie,
        SimulatorServer(Watched(tg.asgi, moved)) as ts,
        SimulatorServer(Watched(tap(kie.asgi), moved)) as ks,
    ):
        yield World(tg, kie, ts.url, ks.url, database_url, redis_url, redis_prefix, engine, moved)
        await engine.dispose()
