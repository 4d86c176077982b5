"""For promises that hold soon, not at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


async def until(fact: Callable[[], Awaitable[object]], expected: object, within_s: float = 2.0) -> None:
    """Ask again until the answer is as expected."""
    deadline = time.monotonic() + within_s
    while (seen := await fact()) != expected:
        assert time.monotonic() < deadline, f"still {seen!r}, expected {expected!r}"
        await asyncio.sleep(0.01)


async def until_true(fact: Callable[[], bool], within_s: float) -> float:
    """Seconds it took."""
    began = time.monotonic()
    while not fact():
        assert time.monotonic() - began < within_s, f"not within {within_s} s"
        await asyncio.sleep(0.002)
    return time.monotonic() - began
