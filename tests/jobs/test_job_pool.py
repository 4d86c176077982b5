"""Connections: which kind a URL gives, and that every call ends."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any

import pytest
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

from kiebot.jobs.pool import OUTAGES, blocking_twin, make_pool

from .rig import Server


def connection_to(url: str, timeout_s: float = 2.0) -> Any:
    pool: Any = make_pool(url, prefix="kiebot", timeout_s=timeout_s).connection_pool
    return pool.make_connection()


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://user:word@host:6380/2", Connection),
        ("rediss://host", SSLConnection),
        ("unix:///run/x.sock?db=3", UnixDomainSocketConnection),
    ],
)
def test_each_kind_of_url_gives_its_connection_with_deadlines(url: str, kind: type[Connection]) -> None:
    connection = connection_to(url, timeout_s=1.5)
    assert type(connection) is kind
    assert (connection.socket_timeout, connection.socket_connect_timeout) == (1.5, 1.5)


def test_another_kind_of_url_is_refused() -> None:
    with pytest.raises(ValueError, match="schemes"):
        make_pool("http://host", prefix="kiebot")


def test_tls_checks_the_hosts_name_unless_the_url_waives_certificates() -> None:
    strict = connection_to("rediss://host").ssl_context.get()
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert connection_to("rediss://host?ssl_cert_reqs=none").ssl_context.get().verify_mode == ssl.CERT_NONE


async def test_every_call_to_a_stopped_server_ends_in_bounded_time(own_server: Server) -> None:
    pool = make_pool(own_server.url, prefix="kiebot", timeout_s=0.3, max_connections=4)
    await asyncio.gather(*(pool.ping() for _ in range(4)))  # some connections are open when it stops
    own_server.pause()

    async def call() -> None:
        with pytest.raises(OUTAGES):
            await pool.set("key", "value")

    async with asyncio.timeout(10):
        await call()
        await asyncio.gather(*(call() for _ in range(20)))  # more callers than connections
    own_server.resume()
    assert await pool.ping()
    await pool.aclose()


async def test_a_blocking_command_waits_longer_than_other_calls_may(own_server: Server) -> None:
    pool = make_pool(own_server.url, prefix="kiebot", timeout_s=0.2)
    line = blocking_twin(pool, block_s=1)
    began = time.monotonic()
    assert await line.blpop(["nothing"], timeout=1) is None  # type: ignore[misc]  # redis-py's types know only sync
    assert time.monotonic() - began > 0.9
    own_server.pause()
    async with asyncio.timeout(15):
        with pytest.raises(OUTAGES):
            await line.blpop(["nothing"], timeout=1)  # type: ignore[misc]
    own_server.resume()
    await line.aclose()
    await pool.aclose()
