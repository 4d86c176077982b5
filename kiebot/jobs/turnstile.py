"""The gate of intake: at most so many updates of a lane are worked on, counted by all replicas together in Redis.

A leaky bucket for each lane, in the time at which its updates were sent. Most lanes never come near it, so they are not
counted in Redis: each replica lets a few through by itself, and asks only for a lane that has more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files

from arq.connections import ArqRedis

from kiebot.jobs.pool import OUTAGES

_TAKE = files(__package__).joinpath("turnstile.lua").read_text()
_REDIS_RETRY_S = 1.0
_LANES_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Share:
    """`burst` at once, and one more each `interval_s` seconds."""

    interval_s: float
    burst: int


OWN = Share(1.0, 5)  # of one replica, without asking
ALL = Share(1.0, 100)  # Telegram delivers one answer a second; a person who taps quickly stays far below


@dataclass(slots=True)
class Level:
    """A bucket: empty again at `empty_at`. `last_at`: the latest that was sent, for the time in it never goes back."""

    empty_at: float = 0.0
    last_at: float = 0.0

    def take(self, sent_at: float, share: Share) -> bool:
        at = self.last_at = max(self.last_at, sent_at)
        if self.empty_at - share.interval_s * (share.burst - 1) > at:
            return False
        self.empty_at = max(self.empty_at, at) + share.interval_s
        return True


class Turnstile:
    """The Gate port. `now`: Unix seconds."""

    def __init__(
        self, pool: ArqRedis, *, prefix: str, share: Share = ALL, now: Callable[[], float] = time.time
    ) -> None:
        self._prefix = f"{prefix}:turnstile"
        self._share = share
        self._now = now
        self._take = pool.register_script(_TAKE)
        self._calm: dict[str, Level] = {}
        self._alone: dict[str, Level] = {}
        self._redis_again_at = 0.0

    async def admit(self, lane: str, sent_at: Sequence[float]) -> list[bool]:
        if self._is_calm(lane, len(sent_at)):
            return [True] * len(sent_at)
        if self._now() >= self._redis_again_at:
            args = [round(self._share.interval_s * 1000), self._share.burst, *(round(at * 1000) for at in sent_at)]
            try:
                return [bool(each) for each in await self._take(keys=[f"{self._prefix}:{lane}"], args=args)]
            except OUTAGES:
                self._redis_again_at = self._now() + _REDIS_RETRY_S
        level = _of(self._alone, lane, self._now())
        return [level.take(at, self._share) for at in sent_at]

    def _is_calm(self, lane: str, count: int) -> bool:
        """So few of late that nobody needs to be asked."""
        now = self._now()
        level = _of(self._calm, lane, now)
        return all(level.take(now, OWN) for _ in range(min(count, OWN.burst + 1)))


def _of(levels: dict[str, Level], lane: str, now: float) -> Level:
    if len(levels) > _LANES_KEPT:
        for gone in [name for name, level in levels.items() if level.empty_at <= now]:
            del levels[gone]
    return levels.setdefault(lane, Level())
