"""Callbacks already heard, remembered in Redis while their signature is fresh.

A signature covers a task and a second, nothing else: whoever captured one could send it for minutes, each time with a
question to KIE in its wake. A callback is remembered for good only once it was acted upon, because one that failed is
sent again as it was, and for an orphan nobody else will ask.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kiebot.kie.callbacks import WINDOW_S

_AWAY = (RedisError, OSError, TimeoutError)
_BUSY_S = 15.0  # longer than the web part works on one; a replica that dies meanwhile blocks it no longer
_KEPT_S = 2 * WINDOW_S + 10.0  # a clock may be ahead by the window, and is then fresh for another one


class Heard(StrEnum):
    NEW = "new"  # act upon it, and say how that went
    BUSY = "busy"  # somebody acts upon it just now
    DONE = "done"


class Replays:
    """With Redis out of reach every callback is new: what follows is only a question to KIE."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = f"{prefix}:kie:heard"

    async def begin(self, task_id: str, stamp: str) -> Heard:
        """Whether this callback is to be acted upon. Never raises."""
        key = self._key(task_id, stamp)
        try:
            if await self._redis.set(key, Heard.BUSY.value, nx=True, px=round(_BUSY_S * 1000)):
                return Heard.NEW
            return Heard.DONE if await self._redis.get(key) in (b"done", "done") else Heard.BUSY
        except _AWAY:
            return Heard.NEW

    async def end(self, task_id: str, stamp: str, *, done: bool) -> None:
        """It was acted upon, or could not be and may come again. Never raises."""
        key = self._key(task_id, stamp)
        try:
            if done:
                await self._redis.set(key, Heard.DONE.value, px=round(_KEPT_S * 1000))
            else:
                await self._redis.delete(key)
        except _AWAY:
            return

    def _key(self, task_id: str, stamp: str) -> str:
        return f"{self._prefix}:{hashlib.sha256(f'{task_id}.{stamp}'.encode()).hexdigest()[:32]}"
