"""The lease inside one process: for tests, and the measure the other stores are held to."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from kiebot.clock import Clock
from kiebot.lease.protocol import Holder, Lease

_BELL_KEPT_S = 2.0


@dataclass(slots=True)
class _Slot:
    """Everything known about one name."""

    lease: Lease | None = None
    expires_at: float = 0.0
    rung_until: float = 0.0
    waiters: deque[asyncio.Future[None]] = field(default_factory=deque)


class MemoryLeaseStore:
    """One object shared by all candidates. `tells_connections` switches the liveness probe on."""

    def __init__(self, clock: Clock, *, tells_connections: bool = True) -> None:
        self._clock = clock
        self._tells_connections = tells_connections
        self._slots: dict[str, _Slot] = {}
        self._connected: set[str] = set()
        self._nudges: dict[str, asyncio.Event] = {}

    async def acquire(self, name: str, replica: str, *, token: str, ttl_s: float) -> Lease | None:
        held = self._held(name)
        if held is not None and held.token != token:
            return None
        return self._grant(Lease(name, replica, token, self._clock.monotonic()), ttl_s)

    async def renew(self, lease: Lease, *, ttl_s: float) -> Lease | None:
        held = self._held(lease.name)
        if held is None or held.token != lease.token:
            return None
        return self._grant(Lease(lease.name, lease.replica, lease.token, self._clock.monotonic()), ttl_s)

    async def release(self, lease: Lease) -> None:
        self.disconnect(lease.token)
        held = self._held(lease.name)
        if held is not None and held.token == lease.token:
            self.forget(lease.name)
            self._ring(lease.name)

    async def holder(self, name: str) -> Holder | None:
        held = self._held(name)
        if held is None:
            return None
        return Holder(held.replica, held.token, self._slot(name).expires_at - self._clock.monotonic())

    async def wait_for_change(self, name: str, timeout_s: float) -> bool:
        slot = self._slot(name)
        if slot.rung_until > self._clock.monotonic():
            slot.rung_until = 0.0
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        slot.waiters.append(waiter)
        timer = asyncio.ensure_future(self._clock.sleep(timeout_s))
        try:
            await asyncio.wait({waiter, timer}, return_when=asyncio.FIRST_COMPLETED)
            return waiter.done()
        finally:
            timer.cancel()
            waiter.cancel()

    async def seize(self, name: str, replica: str, *, dead_token: str, token: str, ttl_s: float) -> Lease | None:
        held = self._held(name)
        if held is None or held.token not in (dead_token, token):
            return None
        return self._grant(Lease(name, replica, token, self._clock.monotonic()), ttl_s)

    async def holder_is_connected(self, name: str, token: str) -> bool | None:
        return token in self._connected if self._tells_connections else None

    async def nudge(self, token: str) -> None:
        self._nudge(token).set()

    async def wait_for_nudge(self, token: str) -> None:
        await self._nudge(token).wait()
        self._nudge(token).clear()

    def _nudge(self, token: str) -> asyncio.Event:
        return self._nudges.setdefault(token, asyncio.Event())

    async def close(self) -> None:
        """Nothing to close: the object belongs to all candidates."""

    def disconnect(self, token: str) -> None:
        """What the kernel does when the holder's process dies."""
        self._connected.discard(token)

    def forget(self, name: str) -> None:
        """What an emptied store does: nobody holds the lease, and nobody is told."""
        self._slot(name).lease = None

    def _grant(self, lease: Lease, ttl_s: float) -> Lease:
        slot = self._slot(lease.name)
        slot.lease, slot.expires_at = lease, self._clock.monotonic() + ttl_s
        self._connected.add(lease.token)
        return lease

    def _held(self, name: str) -> Lease | None:
        slot = self._slot(name)
        return slot.lease if slot.expires_at > self._clock.monotonic() else None

    def _slot(self, name: str) -> _Slot:
        return self._slots.setdefault(name, _Slot())

    def _ring(self, name: str) -> None:
        slot = self._slot(name)
        while slot.waiters:
            waiter = slot.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        slot.rung_until = self._clock.monotonic() + _BELL_KEPT_S
