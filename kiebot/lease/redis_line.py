"""One connection to Redis, used for one question at a time and dropped at the first doubt.

redis-py's own clients pool connections, retry and check health behind the caller's back. An election needs the
opposite: a call that ends in time with an answer or an error, on a connection whose state is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redis.asyncio.connection import AbstractConnection, Connection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from kiebot.keepalive import noticed_soon
from kiebot.lease.protocol import StoreUnreachable

ConnectionFactory = Callable[[], AbstractConnection]


def connection_factory(url: str, connect_timeout_s: float) -> ConnectionFactory:
    """Makes connections to `url` that never retry, never check health and notice a dead peer within seconds.

    Reads are bounded by the caller, because a wait at the doorbell is meant to last.
    Raises: ValueError, when the URL cannot be read.
    """
    options: dict[str, Any] = dict(parse_url(url))
    make = options.pop("connection_class", Connection)
    options.pop("retry_on_timeout", None)
    options.update(
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        socket_timeout=None,
        socket_connect_timeout=connect_timeout_s,
        client_name="kiebot-lease",
        lib_name=None,  # two round trips less before the first question
        lib_version=None,
        decode_responses=False,
    )
    if not issubclass(make, UnixDomainSocketConnection):
        options.update(socket_keepalive=True, socket_keepalive_options=noticed_soon())
    return lambda: make(**options)


class Line:
    """Any failure, a cancelled wait included, closes the connection: the next question starts on a fresh one."""

    def __init__(self, make: ConnectionFactory) -> None:
        self._make = make
        self._lock = asyncio.Lock()
        self._connection: AbstractConnection | None = None

    async def ask(self, *command: str | int, timeout_s: float) -> Any:
        """One command, one answer. Raises: StoreUnreachable, with redis-py's error as its cause."""
        return await self._bounded(timeout_s, lambda: self._exchange(*command))

    async def ask_script(self, text: str, digest: str, keys: list[str], *args: str | int, timeout_s: float) -> Any:
        """Run a script by its digest; a server that lost it (restart, SCRIPT FLUSH) gets the text again."""

        async def run() -> Any:
            try:
                return await self._exchange("EVALSHA", digest, len(keys), *keys, *args)
            except NoScriptError:
                return await self._exchange("EVAL", text, len(keys), *keys, *args)

        return await self._bounded(timeout_s, run)

    async def listen(self, timeout_s: float) -> bool:
        """Wait until something is pushed to us (True) or the time is up (False).

        Raises: StoreUnreachable, when the peer hangs up."""

        async def read() -> Any:
            connection = await self._connected()
            return await connection.read_response(timeout=timeout_s)

        return await self._bounded(timeout_s + 1, read) is not None

    async def drop(self) -> None:
        """Close the connection without waiting for the other side."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def _bounded(self, timeout_s: float, action: Callable[[], Any]) -> Any:
        try:
            async with asyncio.timeout(timeout_s), self._lock:
                return await self._dropping(action)
        except TimeoutError as error:
            raise StoreUnreachable(f"no answer within {timeout_s:g} s") from error
        except (RedisError, OSError) as error:
            raise StoreUnreachable(f"{type(error).__name__}: {str(error)[:200]}") from error

    async def _dropping(self, action: Callable[[], Any]) -> Any:
        try:
            return await action()
        except BaseException:
            await self.drop()
            raise

    async def _exchange(self, *command: str | int) -> Any:
        connection = await self._connected()
        await connection.send_command(*command)
        return await connection.read_response()

    async def _connected(self) -> AbstractConnection:
        if self._connection is None:
            self._connection = self._make()
        await self._connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it unannotated
        return self._connection
