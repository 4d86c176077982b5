"""A web part whose callables remember what they were given, and a client for it without sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import httpx
from starlette.types import ASGIApp

from kiebot.web.app import make_app
from kiebot.web.server import bind, serve

SECRET = "webhook-secret-0123456789"
SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"


@dataclass
class Behind:
    """What lies behind the web part. `gate`, when set, keeps every call waiting until it is opened."""

    states: dict[str, str] = field(default_factory=lambda: {"postgres": "ok", "redis": "ok"})
    received: list[bytes] = field(default_factory=list)
    knocks: list[tuple[UUID, Mapping[str, str], bytes]] = field(default_factory=list)
    failure: Exception | None = None
    knock_status: int = 200
    gate: asyncio.Event | None = None
    asked: int = 0
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    async def ready(self) -> Mapping[str, str]:
        self.asked += 1
        await self._pass()
        return self.states

    async def receive(self, raw: bytes) -> None:
        await self._pass()
        self.received.append(raw)

    async def knock(self, attempt: UUID, headers: Mapping[str, str], body: bytes) -> int:
        await self._pass()
        self.knocks.append((attempt, headers, body))
        return self.knock_status

    async def _pass(self) -> None:
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure

    def app(self, *, has_webhook: bool = True, has_callback: bool = True) -> ASGIApp:
        return make_app(
            ready=self.ready,
            metrics=lambda: b"kiebot_is_leader 1\n",
            receive=self.receive if has_webhook else None,
            webhook_secret=SECRET if has_webhook else None,
            knock=self.knock if has_callback else None,
        )


def client(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://replica")


@dataclass
class Serving:
    """A web part on a port of this machine."""

    port: int
    task: asyncio.Task[None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


@asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket | None = None) -> AsyncIterator[Serving]:
    own = listener or bind("127.0.0.1", 0)
    task = asyncio.create_task(serve(app, host="127.0.0.1", port=0, listener=own))
    running = Serving(own.getsockname()[1], task)
    await asyncio.sleep(0)  # the server has its own hold on the socket from here on
    if listener is None:
        own.close()  # else the kernel would go on taking connections that nobody serves
    try:
        yield running
    finally:
        await running.stop()
