"""A door between a replica and whatever it talks to: open, shut, or silent, slow, lossy, or broken at a chosen word.

Silent is what a network that drops packets looks like from both ends: connections stay, nothing arrives, and what was
sent before arrives late, when the door speaks again. Every replica has doors of its own, so one can be cut off alone.
Where there is a line (network.py), packets are really dropped before they come to the door.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

from tests.chaos.network import BOTH, Direction, Line, Weather
from tests.scenarios.gate import LOOPBACK

END = b""

Address = Path | tuple[str, int]
"""A unix socket, or host and port."""


RESENT_S = 0.2  # how late a retransmission makes a piece that was lost


class Door:
    """Forwards a port of its own, the same one from the first opening on. Used as an async context manager.

    Args: line, the one that its client comes by.
    """

    def __init__(
        self, target: Address, *, host: str = LOOPBACK, line: Line | None = None, rng: random.Random | None = None
    ) -> None:
        self.target = target
        self.host, self.port = host, 0
        self._line = line
        self.weather: dict[Direction, Weather] = {"up": Weather(), "down": Weather()}
        self.rng = rng or random.Random(0)
        self.passages: set[Passage] = set()
        self._trap: tuple[Direction, bytes, Callable[[Passage], None]] | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Door:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shut()

    async def open(self) -> None:
        """Everything passes again, what was held back first. Safe to call at any time."""
        if self._line is not None:
            self._line.passes(self.host)
        self.has(Weather())
        self._trap = None
        for passage in list(self.passages):
            passage.flush()
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: Client(self), self.host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Nothing listens; who is inside is thrown out by a reset."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.resets()
        await asyncio.sleep(0.01)  # the loop closes their sockets

    def falls_silent(self, *directions: Direction) -> None:
        """Nothing passes in these directions (default: both). Connections stay, new ones are not answered."""
        if self._line is not None:
            self._line.drops(self.host, *directions)
        else:
            self.holds(*directions)

    def holds(self, *directions: Direction) -> None:
        """The door itself is silent, whatever the network: connections are taken, what comes is kept in it."""
        for direction in directions or BOTH:
            self.weather[direction].is_silent = True

    def has(self, weather: Weather) -> None:
        """In both directions."""
        self.weather = {direction: replace(weather) for direction in BOTH}

    def resets(self) -> None:
        """Break every connection once."""
        for passage in list(self.passages):
            passage.abort()

    def breaks_after(self, word: bytes) -> None:
        """The next piece to the server with this word reaches it; its answer never comes: a reset."""
        self._trap = ("up", word, lambda passage: passage.abort_at_the_answer())

    def held_back(self, word: bytes) -> bool:
        """Whether a door that holds keeps this word from the server."""
        return any(word in passage.waiting("up") for passage in self.passages)

    def springs(self, passage: Passage, direction: Direction, piece: bytes) -> None:
        if self._trap is not None and self._trap[0] == direction and self._trap[1] in piece:
            _, _, spring = self._trap
            self._trap = None
            spring(passage)


class Pipe:
    """One direction of one connection: pieces in order, each due at its time."""

    def __init__(self, passage: Passage, direction: Direction) -> None:
        self._passage, self._direction = passage, direction
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.to: asyncio.Transport | None = None

    @property
    def waiting(self) -> bytes:
        return b"".join(piece for _, piece in self._pieces)

    def takes(self, piece: bytes) -> None:
        weather, now = self._passage.door.weather[self._direction], asyncio.get_running_loop().time()
        due = now + weather.delay_s + (RESENT_S if self._passage.door.rng.random() < weather.loss else 0.0)
        if weather.bytes_per_s:
            due = max(due, self._free_at) + len(piece) / weather.bytes_per_s
        self._free_at = max(due, self._free_at)
        self._pieces.append((self._free_at, piece))
        self.flush()

    def flush(self) -> None:
        """Let out what is due; come back for the rest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.to is None or self._passage.door.weather[self._direction].is_silent:
            return
        loop = asyncio.get_running_loop()
        while self._pieces:
            due, piece = self._pieces[0]
            if due > loop.time():
                self._timer = loop.call_at(due, self.flush)
                return
            self._pieces.popleft()
            if piece == END:
                self._passage.close()
            else:
                self.to.write(piece)

    def hurry(self) -> None:
        self._pieces = deque((0.0, piece) for _, piece in self._pieces)
        self.flush()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class Passage:
    """A client's connection and its continuation to the server."""

    def __init__(self, door: Door, client: asyncio.Transport) -> None:
        self.door = door
        self._pipes: dict[Direction, Pipe] = {"up": Pipe(self, "up"), "down": Pipe(self, "down")}
        self._pipes["down"].to = client
        self._aborts_at_the_answer = False
        door.passages.add(self)
        self._connecting = asyncio.create_task(self._connect())

    def takes(self, direction: Direction, piece: bytes) -> None:
        if direction == "down" and self._aborts_at_the_answer:
            self.abort()
            return
        if piece != END:
            self.door.springs(self, direction, piece)
        self._pipes[direction].takes(piece)

    def waiting(self, direction: Direction) -> bytes:
        return self._pipes[direction].waiting

    def abort_at_the_answer(self) -> None:
        self._aborts_at_the_answer = True

    def flush(self) -> None:
        for pipe in self._pipes.values():
            pipe.hurry()

    def abort(self) -> None:
        self._leave(lambda transport: transport.abort())

    def close(self) -> None:
        self._leave(lambda transport: transport.close())

    def _leave(self, end: Callable[[asyncio.Transport], None]) -> None:
        self.door.passages.discard(self)
        self._connecting.cancel()
        for pipe in self._pipes.values():
            pipe.close()
            if pipe.to is not None:
                end(pipe.to)

    async def _connect(self) -> None:
        """A silent door takes nobody through: a connection that begins now waits at the door."""
        loop, target = asyncio.get_running_loop(), self.door.target
        while self.door.weather["up"].is_silent:
            await asyncio.sleep(0.02)
        try:
            if isinstance(target, Path):
                transport, _ = await loop.create_unix_connection(lambda: Server(self), str(target))
            else:
                transport, _ = await loop.create_connection(lambda: Server(self), *target)
        except OSError:
            self.abort()
            return
        self._pipes["up"].to = transport
        self._pipes["up"].flush()


class Client(asyncio.Protocol):
    def __init__(self, door: Door) -> None:
        self._door = door
        self._passage: Passage | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._passage = Passage(self._door, cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        if self._passage is not None:
            self._passage.takes("up", data)

    def connection_lost(self, error: Exception | None) -> None:
        if self._passage is not None:
            self._passage.takes("up", END)


class Server(asyncio.Protocol):
    def __init__(self, passage: Passage) -> None:
        self._passage = passage

    def data_received(self, data: bytes) -> None:
        self._passage.takes("down", data)

    def connection_lost(self, error: Exception | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closing
            self._passage.takes("down", END)
