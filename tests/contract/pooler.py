"""A pooler that lends server sessions per transaction, as small as it can be and still speak to a real client.

Clients are let in without a password; the pooler itself logs in by SCRAM over the server's socket. The session used
last is lent first, as PgBouncer does it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import secrets
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

_STARTUP = 196608  # protocol 3.0
_AUTHENTICATED = b"R" + struct.pack("!ii", 8, 0)


@dataclass
class ServerSession:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    greeting: bytes = b""  # what the server told after the log-in, up to its first ReadyForQuery

    async def frame(self) -> tuple[bytes, bytes]:
        return await _frame(self.reader)


@dataclass
class TransactionPooler:
    upstream: str
    sessions: list[ServerSession] = field(default_factory=list)

    async def lend(self) -> ServerSession:
        return self.sessions.pop() if self.sessions else await _log_in(self.upstream)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            (size,) = struct.unpack("!i", await reader.readexactly(4))
            await reader.readexactly(size - 4)
            lent = await self.lend()
            self.sessions.append(lent)
            writer.write(_AUTHENTICATED + lent.greeting)
            await self._relay(reader, writer)
        writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lent: ServerSession | None = None
        pump: asyncio.Task[bytes] | None = None
        while True:
            kind, frame = await _frame(reader)
            if kind == b"X":
                if lent is not None:  # in the middle of a transaction: such a session is not lent again
                    lent.writer.close()
                return
            if lent is None:
                lent = await self.lend()
            if pump is None:
                pump = asyncio.create_task(_until_ready(lent, writer))
            lent.writer.write(frame)
            if kind in (b"S", b"Q"):
                status, pump = await pump, None
                if status == b"I":
                    self.sessions.append(lent)
                    lent = None


async def _until_ready(session: ServerSession, writer: asyncio.StreamWriter) -> bytes:
    """Pass on what the server says until it is ready; returns whether it is idle, or in a transaction."""
    while True:
        kind, frame = await session.frame()
        writer.write(frame)
        if kind == b"Z":
            return frame[5:6]


async def _frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    (size,) = struct.unpack("!i", head[1:])
    return head[:1], head + await reader.readexactly(size - 4)


async def _log_in(url: str) -> ServerSession:
    parts = urlsplit(url)
    session = ServerSession(*await asyncio.open_unix_connection(f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"))
    names = f"user\0{parts.username}\0database\0{parts.path[1:]}\0\0".encode()
    session.writer.write(struct.pack("!ii", 8 + len(names), _STARTUP) + names)
    await _scram(session, unquote(parts.password or ""))
    kind, frame = await session.frame()
    while True:
        session.greeting += frame
        if kind == b"Z":
            return session
        kind, frame = await session.frame()


async def _scram(session: ServerSession, password: str) -> None:
    """RFC 7677, without channel binding."""
    await session.frame()  # the server lists its mechanisms
    bare = f"n=,r={secrets.token_hex(12)}"
    first = f"n,,{bare}".encode()
    _send(session, b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first)
    challenge = (await session.frame())[1][9:].decode()
    nonce, salt, rounds = (part[2:] for part in challenge.split(","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(rounds))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    unproven = f"c=biws,r={nonce}"
    signature = hmac.digest(hashlib.sha256(client_key).digest(), f"{bare},{challenge},{unproven}".encode(), "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    _send(session, f"{unproven},p={base64.b64encode(proof).decode()}".encode())
    await session.frame()  # the server's own proof
    assert (await session.frame())[1] == _AUTHENTICATED


def _send(session: ServerSession, answer: bytes) -> None:
    session.writer.write(b"p" + struct.pack("!i", 4 + len(answer)) + answer)


@contextlib.asynccontextmanager
async def picky_pooler(directory: Path, parameter: str) -> AsyncIterator[str]:
    """The address of one that refuses this startup parameter, as PgBouncer does in every mode by default."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            (size,) = struct.unpack("!i", await reader.readexactly(4))
            if parameter.encode() in await reader.readexactly(size - 4):
                said = f"SFATAL\0C08P01\0Munsupported startup parameter: {parameter}\0\0".encode()
                writer.write(b"E" + struct.pack("!i", 4 + len(said)) + said)
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(refuse, directory / ".s.PGSQL.5432")
    try:
        yield f"postgresql://somebody@/kiebot?host={directory}"
    finally:
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def transaction_pooler(upstream: str, directory: Path) -> AsyncIterator[str]:
    """The address of a running one in front of `upstream`. The directory's path must be short."""
    pooler = TransactionPooler(upstream)
    server = await asyncio.start_unix_server(pooler.serve, directory / ".s.PGSQL.5432")
    parts = urlsplit(upstream)
    try:
        yield f"postgresql://{parts.username}@{parts.path}?host={directory}"
    finally:
        server.close()
        for session in pooler.sessions:
            session.writer.close()
            with contextlib.suppress(ConnectionError):
                await session.writer.wait_closed()
        await asyncio.sleep(0.05)  # clients that were closed just now are let go of
        await server.wait_closed()
