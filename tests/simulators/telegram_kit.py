"""A bot's side of the wire for tests of the Telegram simulator: several clients, a manual clock, no sockets."""

import asyncio
import itertools
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from kiebot.simulators.clock import ManualClock
from kiebot.simulators.telegram import Rules, TelegramSimulator
from kiebot.simulators.telegram.rules import FloodRules

_ports = itertools.count(40_000)


def png(width: int, height: int, tail: bytes = b"") -> bytes:
    """A PNG whose header claims that size; `tail` makes files differ."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 16)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"") + tail


MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + b"\0" * 64
MP3 = b"ID3\x04\x00\x00\x00\x00\x00\x00" + b"\0" * 64
OGG = b"OggS\x00\x02" + b"\0" * 64


class Api:
    """One process that talks to the simulator over a connection of its own."""

    def __init__(self, sim: TelegramSimulator, clock: ManualClock, replica: str = "") -> None:
        self.sim = sim
        self.clock = clock
        headers = {"X-Replica-Id": replica} if replica else {}
        transport = httpx.ASGITransport(sim.asgi, client=("127.0.0.1", next(_ports)))
        base = f"http://telegram/bot{sim.token}/"
        self.http = httpx.AsyncClient(transport=transport, base_url=base, headers=headers, timeout=None)

    async def call(self, method: str, files: Any = None, **arguments: Any) -> httpx.Response:
        """POST as a form, or multipart with files."""
        return await self.http.post(method, data=arguments, files=files)

    async def ok(self, method: str, files: Any = None, **arguments: Any) -> Any:
        """The result of a call that must succeed."""
        response = await self.call(method, files, **arguments)
        assert response.status_code == 200, response.text
        return response.json()["result"]

    async def refused(self, method: str, files: Any = None, **arguments: Any) -> tuple[int, str]:
        """Code and description of a call that must fail."""
        response = await self.call(method, files, **arguments)
        body = response.json()
        assert body["ok"] is False
        assert body["error_code"] == response.status_code
        return response.status_code, body["description"]

    async def starts(self, method: str, **arguments: Any) -> asyncio.Task[httpx.Response]:
        """A call under way, as far as it gets without time passing."""
        task = asyncio.create_task(self.call(method, **arguments))
        await self.clock.settle()
        return task

    async def polls(self, offset: int = 0, timeout: int = 30, **more: Any) -> asyncio.Task[httpx.Response]:
        return await self.starts("getUpdates", offset=offset, timeout=timeout, **more)


def ids(response: httpx.Response) -> list[int]:
    assert response.status_code == 200, response.text
    return [update["update_id"] for update in response.json()["result"]]


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something that real sockets bring about; a second at most."""
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError("it never became true")


@asynccontextmanager
async def telegram(
    rules: Rules | None = None, *, limits: bool = False, setup: Callable[[Rules], None] | None = None, **options: Any
) -> AsyncIterator[tuple[TelegramSimulator, ManualClock, Api]]:
    """A simulator on a manual clock and one client; flood limits only with `limits`."""
    clock = ManualClock()
    chosen = rules or Rules(flood=FloodRules(is_on=limits))
    if setup is not None:
        setup(chosen)
    async with TelegramSimulator(clock=clock, rules=chosen, **options) as sim:
        api = Api(sim, clock, "replica-a")
        yield sim, clock, api
