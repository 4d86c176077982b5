"""The lease in Redis: one string with an expiry, five small scripts, a doorbell list and a liveness channel.

Redis 7.0 commands only. All keys share one hash tag. Three connections of our own, each with short timeouts and no
hidden retries (a client that retries for a minute outlives any lease): one for questions, one that waits at the
doorbell, one that stays subscribed while we hold a term. A connection that gave any error is dropped and made anew: a
server that answers READONLY after a failover would answer it for as long as we stay connected.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from contextlib import suppress
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

from kiebot.clock import Clock
from kiebot.lease.protocol import Holder, Lease, StoreUnreachable
from kiebot.lease.redis_line import Line, connection_factory

_BELL_KEPT_MS = 2000
_HEARTBEAT_S = 2.0
_RECONNECT_FIRST_S = 0.02
_RECONNECT_MOST_S = 0.5

# A stored grant is "token|replica". `mine` compares tokens only. Every script declares allow-oom: at maxmemory a lease
# must still be taken, renewed and given back, and it takes a hundred bytes.
_MINE = """#!lua flags=allow-oom
local held = redis.call('GET', KEYS[1])
local function mine(token) return held and string.sub(held, 1, #token + 1) == token .. '|' end
"""


class _Script:
    """A script and the digest it is called by."""

    def __init__(self, body: str) -> None:
        self.text = body
        self.digest = hashlib.sha1(body.encode(), usedforsecurity=False).hexdigest()


_ACQUIRE = _Script(
    _MINE
    + """if held and not mine(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. '|' .. ARGV[2], 'PX', ARGV[3])
return 1"""
)
_RENEW = _Script(
    _MINE
    + """if not mine(ARGV[1]) then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])"""
)
_RELEASE = _Script(  # exactly one item on the list: a blocking pop wakes one waiter, so no herd
    _MINE
    + """if not mine(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('LPUSH', KEYS[2], '1')
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1"""
)
_SEIZE = _Script(
    _MINE
    + """if not mine(ARGV[1]) and not mine(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[2] .. '|' .. ARGV[3], 'PX', ARGV[4])
return 1"""
)
_HOLDER = _Script(  # the third answer is missing where an ACL forbids PUBSUB
    """#!lua flags=no-writes
local held = redis.call('GET', KEYS[1])
if not held then return {} end
local alive = redis.pcall('PUBSUB', 'NUMSUB', ARGV[1] .. string.match(held, '^[^|]*'))
return {held, redis.call('PTTL', KEYS[1]), alive[2]}"""
)


class RedisLeaseStore:
    """One replica's view of the lease in Redis. `url` may be redis://, rediss:// or unix://."""

    def __init__(self, url: str, *, clock: Clock, prefix: str = "kiebot", call_timeout_s: float = 1.5) -> None:
        """Connects on first use. Raises: ValueError, when the URL cannot be read."""
        self._clock = clock
        self._timeout_s = call_timeout_s
        self._root = f"{{{prefix}}}:lease"
        self._connections = connection_factory(url, call_timeout_s)
        self._asking = Line(self._connections)
        self._waiting = Line(self._connections)
        self._alive: dict[str, asyncio.Task[None]] = {}
        self._nudges: dict[str, asyncio.Event] = {}
        self._may_probe = True

    async def acquire(self, name: str, replica: str, *, token: str, ttl_s: float) -> Lease | None:
        lease = Lease(name, replica, token, self._clock.monotonic())
        if not await self._run(_ACQUIRE, [self._key(name)], token, replica, _ms(ttl_s)):
            return None
        self._stay_connected(token)
        return lease

    async def renew(self, lease: Lease, *, ttl_s: float) -> Lease | None:
        renewed = Lease(lease.name, lease.replica, lease.token, self._clock.monotonic())
        if await self._run(_RENEW, [self._key(lease.name)], lease.token, _ms(ttl_s)):
            return renewed
        self._hang_up(lease.token)
        return None

    async def release(self, lease: Lease) -> None:
        try:
            await self._run(_RELEASE, [self._key(lease.name), self._bell(lease.name)], lease.token, _BELL_KEPT_MS)
        finally:
            self._hang_up(lease.token)

    async def holder(self, name: str) -> Holder | None:
        held, *facts = await self._run(_HOLDER, [self._key(name)], self._channel("")) or [None]
        if held is None:
            return None
        token, _, replica = held.decode(errors="replace").partition("|")
        left_ms, listeners = (*facts, None)[:2]
        remaining_s = left_ms / 1000 if left_ms >= 0 else math.inf
        return Holder(replica, token, remaining_s, None if listeners is None else bool(listeners))

    async def wait_for_change(self, name: str, timeout_s: float) -> bool:
        rung = await self._waiting.ask(
            "BLPOP", self._bell(name), f"{max(timeout_s, 0.01):.3f}", timeout_s=timeout_s + self._timeout_s
        )
        return rung is not None

    async def seize(self, name: str, replica: str, *, dead_token: str, token: str, ttl_s: float) -> Lease | None:
        lease = Lease(name, replica, token, self._clock.monotonic())
        if not await self._run(_SEIZE, [self._key(name)], dead_token, token, replica, _ms(ttl_s)):
            return None
        self._stay_connected(token)
        return lease

    async def holder_is_connected(self, name: str, token: str) -> bool | None:
        if not self._may_probe:
            return None
        try:
            answer = await self._asking.ask("PUBSUB NUMSUB", self._channel(token), timeout_s=self._timeout_s)
        except StoreUnreachable as error:
            if not isinstance(error.__cause__, NoPermissionError):
                raise
            self._may_probe = False  # an ACL without PUBSUB: expiry has to do
            return None
        return bool(answer[1])

    async def nudge(self, token: str) -> None:
        with suppress(StoreUnreachable):
            await self._asking.ask("PUBLISH", self._channel(token), "look", timeout_s=self._timeout_s)

    async def wait_for_nudge(self, token: str) -> None:
        nudged = self._nudges.setdefault(token, asyncio.Event())
        try:
            await nudged.wait()
        finally:
            self._nudges.pop(token, None)

    async def close(self) -> None:
        tasks = list(self._alive.values())
        for token in list(self._alive):
            self._hang_up(token)
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._asking.drop()
        await self._waiting.drop()

    async def _run(self, script: _Script, keys: list[str], *args: str | int) -> Any:
        try:
            return await self._asking.ask_script(script.text, script.digest, keys, *args, timeout_s=self._timeout_s)
        except StoreUnreachable as error:
            if isinstance(error.__cause__, ResponseError):  # READONLY and its like: this is no longer the right server
                self._move_subscriptions()
            raise

    def _move_subscriptions(self) -> None:
        for token in list(self._alive):
            self._hang_up(token)
            self._stay_connected(token)

    def _stay_connected(self, token: str) -> None:
        """Open the liveness connection of this term, unless it is open. It never delays the grant."""
        if token not in self._alive:
            self._alive[token] = asyncio.create_task(self._show_life(token), name=f"lease alive {token[:8]}")

    def _hang_up(self, token: str) -> None:
        task = self._alive.pop(token, None)
        if task is not None:
            task.cancel()

    async def _show_life(self, token: str) -> None:
        """Stay subscribed; come back first thing when the connection breaks, before a standby has missed us thrice."""
        pause_s = _RECONNECT_FIRST_S
        while True:
            line = Line(self._connections)
            try:
                await line.ask("SUBSCRIBE", self._channel(token), timeout_s=self._timeout_s)
                pause_s = _RECONNECT_FIRST_S
                while True:  # the beat finds a connection that the network forgot; the server's answer is not looked at
                    if await line.listen(_HEARTBEAT_S) and token in self._nudges:
                        self._nudges[token].set()
                    await line.ask("PING", timeout_s=self._timeout_s)
            except StoreUnreachable:
                pause_s = min(pause_s * 2, _RECONNECT_MOST_S)
            finally:
                await line.drop()
            await asyncio.sleep(pause_s)

    def _key(self, name: str) -> str:
        return f"{self._root}:{name}"

    def _bell(self, name: str) -> str:
        return f"{self._root}:{name}:bell"

    def _channel(self, token: str) -> str:
        return f"{self._root}:alive:{token}"


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))
