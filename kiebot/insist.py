"""Writes that must not be given up at the first outage: what they record has happened already, or frees others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from kiebot.clock import Clock
from kiebot.errors import Transient

log = structlog.get_logger()

T = TypeVar("T")

PATIENCE_S = 120.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 3.0


async def insist(write: Callable[[], Awaitable[T]], clock: Clock, *, what: str, patience_s: float = PATIENCE_S) -> T:
    """Repeat `write` while it raises Transient, with growing pauses. It must be safe to repeat.

    Raises: Transient, when it still fails after `patience_s` seconds; anything else at once.
    """
    give_up_at, pause_s = clock.monotonic() + patience_s, FIRST_PAUSE_S
    while True:
        try:
            return await write()
        except Transient as error:
            if clock.monotonic() + pause_s > give_up_at:
                log.error("write.given_up", what=what, why=str(error), after_s=patience_s)
                raise
        await clock.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
