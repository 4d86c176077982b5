"""A door in front of a store: closed, nothing listens there; open, every byte goes through; stuck, none does."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from sqlalchemy.engine import make_url

LOOPBACK = "127.0.0.1"
Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@dataclass
class Gate:
    """Forwards a port to whatever `connect` connects to, while it is open."""

    connect: Callable[[], Awaitable[Pipe]]
    port: int = field(default_factory=free_port)
    _server: asyncio.Server | None = None
    is_stuck: bool = False  # connections stay and are taken, and nothing passes: a frozen server, a lost network
    _through: set[asyncio.Task[None]] = field(default_factory=set)

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._enter, LOOPBACK, self.port)

    async def close(self) -> None:
        """Nobody enters any more, and who is inside is thrown out."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._through):
            task.cancel()
        await asyncio.gather(*self._through, return_exceptions=True)

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._through.add(task)
        writers = [writer]
        try:
            inner_reader, inner_writer = await self.connect()
            writers.append(inner_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, inner_writer))
                group.create_task(self._copy(inner_reader, writer))
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            return
        finally:
            await _close(writers)
            self._through.discard(task)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until one side has said all: then both are done."""
        while chunk := await reader.read(65536):
            while self.is_stuck:
                await asyncio.sleep(0.05)
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError


class Balancer(Gate):
    """One public address before several replicas: each connection goes to the next one that listens."""

    def __init__(self, addresses: Iterable[tuple[str, int]]) -> None:
        super().__init__(self._next)
        self.addresses = list(addresses)
        self._turn = itertools.count()

    async def _next(self) -> Pipe:
        turn = next(self._turn)
        for place in range(len(self.addresses)):
            try:
                return await asyncio.open_connection(*self.addresses[(turn + place) % len(self.addresses)])
            except OSError:
                continue
        raise ConnectionRefusedError


async def _close(writers: list[asyncio.StreamWriter]) -> None:
    for writer in writers:
        writer.close()
    for writer in writers:
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def before_postgres(database_url: str) -> tuple[Gate, str]:
    """A gate to the server of a URL with a socket directory, and the URL through the gate."""
    url = make_url(database_url)
    folder, port = url.query["host"], url.query.get("port") or url.port or 5432
    gate = Gate(lambda: asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{port}"))
    through = url.set(host=LOOPBACK, port=gate.port, query={})
    return gate, through.render_as_string(hide_password=False)


def before_redis(redis_url: str) -> tuple[Gate, str]:
    """The same for a server on a socket of its own."""
    parts = urlsplit(redis_url)
    gate = Gate(lambda: asyncio.open_unix_connection(parts.path))
    who = f"{parts.username or ''}:{parts.password or ''}@" if parts.password else ""
    number = parse_qs(parts.query).get("db", ["0"])[0]
    return gate, f"redis://{who}{LOOPBACK}:{gate.port}/{number}"
