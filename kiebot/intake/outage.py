"""Patience with something that is out of reach, and its end."""

from __future__ import annotations

import random

import structlog

from kiebot.clock import Clock
from kiebot.errors import Transient
from kiebot.lease.term import StepDown, Term

log = structlog.get_logger(__name__)

UNREACHABLE_S = 5.0  # Postgres or Telegram gone for this long: let another replica lead
_FIRST_S = 0.25


class Outage:
    """Back-off with jitter, pauses of at most `most_s`; after `limit_s` without a success it asks to step down: another
    replica may reach it."""

    def __init__(self, what: str, *, clock: Clock, rng: random.Random, limit_s: float, most_s: float) -> None:
        self._what = what
        self._clock = clock
        self._rng = rng
        self._limit_s = limit_s
        self._most_s = most_s
        self._since: float | None = None
        self._pause_s = _FIRST_S

    @property
    def is_on(self) -> bool:
        """Whether the last try failed."""
        return self._since is not None

    async def endure(self, term: Term, error: Transient, *, asked_at: float | None = None) -> None:
        """Wait before the next try. `asked_at`: when the try that failed began, if it may have been long ago.

        Raises: StepDown, when it has lasted; TermOver, when the term ended meanwhile.
        """
        now = self._clock.monotonic()
        if self._since is None:
            self._since = now if asked_at is None else asked_at
            log.warning("poller.unreachable", what=self._what, error=str(error))
        left_s = self._since + self._limit_s - now
        if left_s <= 0:
            raise StepDown(f"{self._what} out of reach for {now - self._since:.1f} s") from error
        pause_s = max(self._pause_s * self._rng.uniform(0.5, 1.0), error.retry_after_s)
        self._pause_s = min(self._pause_s * 2, self._most_s)
        await self._clock.sleep(min(pause_s, left_s))
        term.check()

    def over(self) -> None:
        """It answered."""
        if self._since is not None:
            log.info("poller.reachable", what=self._what, away_s=round(self._clock.monotonic() - self._since, 3))
        self._since = None
        self._pause_s = _FIRST_S
