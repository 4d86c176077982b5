"""The lease store of the simulation: the memory store behind lines, which may forget, and whose clock may be set."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from kiebot.lease.memory import MemoryLeaseStore
from kiebot.lease.protocol import Holder, Lease, StoreUnreachable
from tests.simulation.line import Line, NodeClock, Reply, Serve
from tests.simulation.loop import VirtualLoop

NAME = "poller"
T = TypeVar("T")


class StoreClock:
    """The store's wall clock, which an operator or NTP may set."""

    def __init__(self, loop: VirtualLoop, rate: float) -> None:
        self._loop = loop
        self._rate = rate
        self.set_by_s = 1e6  # as far from zero as a real one: it may be set back

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return self._loop.time() * self._rate + self.set_by_s

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class LeaseServer:
    """Keeps what no store could tell: which terms were taken away before their time, and when."""

    def __init__(self, loop: VirtualLoop, *, rate: float, tells_connections: bool) -> None:
        self.loop = loop
        self.clock = StoreClock(loop, rate)
        self.store = MemoryLeaseStore(self.clock, tells_connections=tells_connections)
        self.robbed: dict[str, float] = {}
        self._granted: dict[str, float] = {}

    def grant(self, reply: Reply, granting: Coroutine[Any, Any, Lease | None]) -> None:
        lease = at_once(granting)
        if lease is not None:
            self._granted[lease.token] = self.loop.time()
        reply(lease)

    def forget(self) -> None:
        """Emptied: nobody holds the lease, and nobody is told."""
        self.rob()
        self.store.forget(NAME)

    def set_clock(self, by_s: float) -> None:
        if by_s > 0:
            self.rob()
        self.clock.set_by_s += by_s

    def rob(self) -> None:
        """From here on the store may let another in although this term was promised more time."""
        if (holder := at_once(self.store.holder(NAME))) is not None:
            self.robbed[holder.token] = self.loop.time()

    def rob_if_promised(self, token: str, ttl_s: float) -> None:
        """A term that is seized after its time has been promised nothing more."""
        if self.loop.time() - self._granted.get(token, 0.0) < ttl_s:
            self.robbed[token] = self.loop.time()


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waited")


class LeaseLine:
    """One replica's LeaseStore. `stamps_late` counts trust from the answer, which the port forbids."""

    def __init__(self, server: LeaseServer, line: Line, clock: NodeClock, *, stamps_late: bool) -> None:
        self._server = server
        self._store = server.store
        self._line = line
        self._clock = clock
        self._stamps_late = stamps_late
        self._waiting: set[asyncio.Task[Any]] = set()
        self.on_answer = lambda: None

    async def acquire(self, name: str, replica: str, *, token: str, ttl_s: float) -> Lease | None:
        acquire = self._store.acquire
        return await self._grant(lambda r: self._server.grant(r, acquire(name, replica, token=token, ttl_s=ttl_s)))

    async def renew(self, lease: Lease, *, ttl_s: float) -> Lease | None:
        return await self._grant(lambda reply: self._server.grant(reply, self._store.renew(lease, ttl_s=ttl_s)))

    async def release(self, lease: Lease) -> None:
        await self._line.call(lambda r: r(at_once(self._store.release(lease))))

    async def holder(self, name: str) -> Holder | None:
        found: Holder | None = await self._line.call(lambda r: r(at_once(self._store.holder(name))))
        return found

    async def seize(self, name: str, replica: str, *, dead_token: str, token: str, ttl_s: float) -> Lease | None:
        def serve(reply: Reply) -> None:
            self._server.rob_if_promised(dead_token, ttl_s)
            seizing = self._store.seize(name, replica, dead_token=dead_token, token=token, ttl_s=ttl_s)
            self._server.grant(reply, seizing)

        return await self._grant(serve)

    async def holder_is_connected(self, name: str, token: str) -> bool | None:
        told: bool | None = await self._line.call(lambda r: r(at_once(self._store.holder_is_connected(name, token))))
        return told

    async def wait_for_change(self, name: str, timeout_s: float) -> bool:
        if self._line.weather.is_cut or self._line.is_closed:
            return bool(await self._line.call(lambda r: r(False)))
        rung: bool = await self._wait(self._store.wait_for_change(name, timeout_s))
        return rung

    async def nudge(self, token: str) -> None:
        self._line.tell(lambda r: at_once(self._store.nudge(token)))

    async def wait_for_nudge(self, token: str) -> None:
        await self._wait(self._store.wait_for_nudge(token))

    async def close(self) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """What the kernel does with the waiting calls of a process that has died."""
        for task in self._waiting:
            task.cancel()

    async def _grant(self, serve: Serve) -> Lease | None:
        sent_at = self._clock.monotonic()
        lease: Lease | None = await self._line.call(serve)
        if self._stamps_late:
            sent_at = self._clock.monotonic()
        self._server.loop.call_soon(self.on_answer)
        return None if lease is None else replace(lease, sent_at=sent_at)

    async def _wait(self, waits: Coroutine[Any, Any, Any]) -> Any:
        task = self._server.loop.create_task(waits, context=Context())
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard, context=Context())
        try:
            await asyncio.wait({task})
            if task.cancelled():
                raise StoreUnreachable("hung up")
            return task.result()
        finally:
            task.cancel()
