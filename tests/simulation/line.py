"""The way from one replica to one service, and all that can happen on it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.simulation.loop import Process, VirtualLoop

_START = datetime(2026, 1, 1, tzinfo=UTC)


class NodeClock:
    """Virtual time as one replica's own, imprecise clock tells it."""

    def __init__(self, loop: VirtualLoop, rng: random.Random) -> None:
        self._loop = loop
        self._rate = rng.choice((0.98, 0.99, 1.0, 1.01, 1.02))
        self._ahead_s = rng.uniform(0.0, 1000.0)

    def now(self) -> datetime:
        return _START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return self._ahead_s + self._loop.time() * self._rate

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._rate)


@dataclass
class Weather:
    """On one line. `delay_s` is the most that each way of a call may take."""

    delay_s: float = 0.0
    loss: float = 0.0
    duplicates: float = 0.0
    is_cut: bool = False


@dataclass
class Ambush:
    """Where the process is stopped next: between a check and its request, or between the request and its answer."""

    line: str
    is_before_sending: bool
    seconds: float


class Reply:
    """What a service answers with, once. It travels back unless the call's fate is to be lost."""

    def __init__(self, line: Line, future: asyncio.Future[Any] | None, back_s: float) -> None:
        self._line = line
        self._future = future
        self._back_s = back_s

    def __call__(self, value: Any) -> None:
        if self._future is not None:
            self._line.loop.outside(self._back_s, self._line.deliver, self._future, value, None)

    def fails(self, error: Exception) -> None:
        if self._future is not None:
            self._line.loop.outside(self._back_s, self._line.deliver, self._future, None, error)


Serve = Callable[[Reply], None]


class Line:
    """Calls end within their timeout, as every adapter promises; what they carry may arrive much later, or twice."""

    def __init__(
        self,
        name: str,
        loop: VirtualLoop,
        process: Process,
        rng: random.Random,
        faults: Counter[str],
        *,
        timeout_s: float,
        error: Callable[[str], Exception],
        repeats: bool = True,
    ) -> None:
        """`repeats`: a request may come twice (a retry below us); never on a connection with a transaction."""
        self.name = name
        self.loop = loop
        self.weather = Weather()
        self.ambush: Ambush | None = None
        self.on_ambush: Callable[[Ambush], None] = lambda ambush: None
        self.is_closed = False
        self._process = process
        self._rng = rng
        self._faults = faults
        self._timeout_s = timeout_s
        self._error = error
        self._repeats = repeats

    async def call(self, serve: Serve, *, timeout_s: float | None = None) -> Any:
        """Have the service run `serve` and give its reply. Raises the line's error when none comes in time."""
        if self.is_closed:
            raise self._error("closed")
        if self._is_ambushed(before_sending=True):
            await asyncio.sleep(0)  # it stands still here, and what it has checked may be untrue when it goes on
        future = self.loop.create_future()
        self._send(serve, future)
        timer = self.loop.call_later(timeout_s or self._timeout_s, self._expire, future)
        self._is_ambushed(before_sending=False)
        try:
            return await future
        finally:
            timer.cancel()

    def tell(self, serve: Serve) -> None:
        """Without waiting for an answer."""
        if not self.is_closed:
            self._send(serve, None)

    def deliver(self, future: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
        if future.done() or self.weather.is_cut:
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)

    def _send(self, serve: Serve, future: asyncio.Future[Any] | None) -> None:
        weather, rng = self.weather, self._rng
        if weather.is_cut:
            self._faults["cut calls"] += 1
            return
        there_s, back_s = (rng.uniform(0.0005, 0.003) + rng.random() * weather.delay_s for _ in range(2))
        if weather.delay_s:
            self._faults["delayed calls"] += 1
        if weather.loss and rng.random() < weather.loss:
            if rng.random() < 0.5:
                self._faults["lost requests"] += 1
                return
            self._faults["lost answers"] += 1
            future = None
        if self._repeats and weather.duplicates and rng.random() < weather.duplicates:
            self._faults["doubled calls"] += 1
            again_s = there_s + rng.uniform(0.0, 2.0)
            self.loop.outside(again_s, serve, Reply(self, future, back_s))
        self.loop.outside(there_s, serve, Reply(self, future, back_s))

    def _expire(self, future: asyncio.Future[Any]) -> None:
        if not future.done():
            future.set_exception(self._error("no answer"))

    def _is_ambushed(self, *, before_sending: bool) -> bool:
        ambush = self.ambush
        if ambush is None or ambush.is_before_sending is not before_sending:
            return False
        self.ambush = None
        self.on_ambush(ambush)
        return True
