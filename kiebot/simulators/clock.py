"""Time for simulators: real, scaled or moved by hand. Waiting for hours costs a test nothing."""

import asyncio
import heapq
import itertools
import time
from typing import Protocol

_SETTLE_ROUNDS = 30  # turns of the event loop that tasks get after a sleeper woke; a request needs about ten


class SimClock(Protocol):
    """What a simulator knows of time. All values are seconds."""

    def now(self) -> float:
        """Unix seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    async def sleep(self, s: float) -> None:
        """Return after `s` seconds of this clock; at once when `s` is not positive."""
        ...


class RealClock:
    """The time of this machine."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, s: float) -> None:
        await asyncio.sleep(max(s, 0.0))


class ScaledClock:
    """Runs `factor` times as fast as the machine's time, starting from the present."""

    def __init__(self, factor: float) -> None:
        """Raises: ValueError, unless factor is positive."""
        if factor <= 0:
            raise ValueError("a clock's factor must be positive")
        self.factor = factor
        self._wall_start = time.time()
        self._start = time.monotonic()

    def now(self) -> float:
        return self._wall_start + (time.monotonic() - self._start) * self.factor

    def monotonic(self) -> float:
        return self._start + (time.monotonic() - self._start) * self.factor

    async def sleep(self, s: float) -> None:
        await asyncio.sleep(max(s, 0.0) / self.factor)


class ManualClock:
    """Stands still until `advance` moves it; sleepers wake in the order of their deadlines."""

    def __init__(self, now: float = 1_780_000_000.0) -> None:
        self._wall_start = now
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._wall_start + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, s: float) -> None:
        if s <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + s, next(self._order), woken))
        await woken

    async def advance(self, s: float) -> None:
        """Move time by `s` seconds. Each sleeper sees its own deadline, and tasks run before the next one wakes."""
        target = self._elapsed + s
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            deadline, _, woken = heapq.heappop(self._sleepers)
            if woken.done():  # its sleeper was cancelled
                continue
            self._elapsed = max(self._elapsed, deadline)
            woken.set_result(None)
            await self.settle()
        self._elapsed = target
        await self.settle()

    async def settle(self) -> None:
        """Let every task that can run do so, without moving time."""
        for _ in range(_SETTLE_ROUNDS):
            await asyncio.sleep(0)
