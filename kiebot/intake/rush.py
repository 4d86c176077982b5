"""A long queue at Telegram, told by polls that keep coming full: taking it in then comes before working it off.

The poller shares one event loop with its replica's jobs, and each of its steps waits for all of them. With every slot
at work a poll and its record take several times as long as alone, while Telegram's queue is bounded and its updates
grow old. So a replica in a rush runs few jobs, as many as keep the loop responsive; the others go on as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kiebot.clock import Clock
from kiebot.intake.ports import RawUpdate, UpdateSource

FULL_IN_A_ROW = 5  # less is no queue but a busy moment, and soon over
_ANSWERED_WITHIN_S = 1.0  # where updates wait, a poll is answered at once


class Rush:
    """An UpdateSource before another one. `tell(True)` after each full poll of a long row, `tell(False)` when one is
    not full, has to wait, or fails."""

    def __init__(self, source: UpdateSource, tell: Callable[[bool], None], clock: Clock) -> None:
        self._source = source
        self._tell = tell
        self._clock = clock
        self._full = 0

    async def fetch(self, offset: int, *, timeout_s: int, limit: int = 100) -> list[RawUpdate]:
        calm = asyncio.create_task(self._calm_down()) if self._full >= FULL_IN_A_ROW else None
        is_full = False
        try:
            updates = await self._source.fetch(offset, timeout_s=timeout_s, limit=limit)
            is_full = len(updates) >= limit
        finally:
            if calm is not None:
                calm.cancel()
            self._full = self._full + 1 if is_full else 0
            self._tell(self._full >= FULL_IN_A_ROW)
        return updates

    async def _calm_down(self) -> None:
        await self._clock.sleep(_ANSWERED_WITHIN_S)
        self._tell(False)
