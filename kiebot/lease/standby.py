"""A standby's ears and eyes: the doorbell, the look at the holder, and how long to wait between looks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kiebot.clock import Clock
from kiebot.lease.protocol import Holder, LeaseStore, StoreUnreachable
from kiebot.lease.term import Timing
from kiebot.lease.watch import DeathWatch, Sign

_BELL_WAIT_S = 5.0
_BACK_OFF_FIRST_S = 0.05
_JUST_AFTER_S = 0.005  # an instant is looked for when it has surely passed


class Standby:
    """Used by one candidate, while it does not hold the lease."""

    def __init__(self, store: LeaseStore, name: str, clock: Clock, timing: Timing, rng: random.Random) -> None:
        self._store = store
        self._name = name
        self._clock = clock
        self._timing = timing
        self._rng = rng
        self._bell = asyncio.Event()
        self._watch = DeathWatch(timing)
        self._back_off_s = _BACK_OFF_FIRST_S
        self._can_probe = True
        self._vanished_at: float | None = None
        self._seen_at: float | None = None
        self.last_seen = ""  # the replica that held the lease when we looked last

    def unseen_s(self) -> float | None:
        """Seconds since a holder was last seen alive; None when none was, since listening began."""
        return None if self._seen_at is None else self._clock.monotonic() - self._seen_at

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen at the doorbell meanwhile. What was learned of an earlier holder is forgotten."""
        self._watch = DeathWatch(self._timing)
        self._vanished_at = None
        self._seen_at, self.last_seen = None, ""
        self._bell.clear()
        ears = asyncio.create_task(self._listen(), name=f"lease {self._name}: doorbell")
        try:
            yield
        finally:
            ears.cancel()
            await asyncio.wait({ears})

    def was_rung(self) -> bool:
        """True once per ring."""
        rung = self._bell.is_set()
        self._bell.clear()
        return rung

    async def judge(self, holder: Holder) -> Sign | None:
        """Look at a holder that is not us. Raises: StoreUnreachable."""
        connected = holder.is_connected
        if connected is None:
            connected = await self._store.holder_is_connected(self._name, holder.token)
        self._can_probe = connected is not None
        self._vanished_at = None
        self._back_off_s = _BACK_OFF_FIRST_S
        self.last_seen = holder.replica
        if connected is not False:
            self._seen_at = self._clock.monotonic()
        return self._watch.observe(self._clock.monotonic(), holder, connected)

    async def must_wait_for_the_last(self) -> bool:
        """The lease is gone although nobody rang: was the store emptied, and does its holder act on? Then it is told to
        look, and this standby waits, so that two never poll at once; but not longer than a renewal may take.

        Raises: StoreUnreachable.
        """
        token, now = self._watch.token, self._clock.monotonic()
        if token is None or (self._vanished_at is None and self._watch.has_run_out(now)):
            return False
        self._vanished_at = now if self._vanished_at is None else self._vanished_at
        if now - self._vanished_at > 1.5 * self._timing.renew_s:
            return False
        if not await self._store.holder_is_connected(self._name, token):
            return False
        await self._store.nudge(token)
        return True

    async def pause(self) -> None:
        """Until the doorbell rings or it is time to look again: soon after a look that found something amiss, and when
        the lease runs out or has not been renewed for too long."""
        seconds = self._timing.look_s if self._can_probe else max(self._timing.look_s, self._timing.renew_s / 4)
        if self._watch.is_alarmed or self._vanished_at is not None:
            seconds = min(seconds, self._timing.probe_s)
        seconds *= self._rng.uniform(0.9, 1.1)
        due_s = self._watch.due_in_s(self._clock.monotonic()) + _JUST_AFTER_S
        await self._sleep_or_bell(min(seconds, due_s) if due_s > 0.0 else seconds)

    async def back_off(self) -> None:
        """After an error: 50 ms, doubling up to half a renewal interval, with jitter so that replicas do not march."""
        self._watch.blurred()
        await self._clock.sleep(self._back_off_s * self._rng.uniform(0.7, 1.3))
        self._back_off_s = min(self._back_off_s * 2, self._timing.renew_s / 2)

    async def _sleep_or_bell(self, seconds: float) -> None:
        waits = {asyncio.create_task(self._bell.wait()), asyncio.create_task(self._clock.sleep(seconds))}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _listen(self) -> None:
        while True:
            try:
                if await self._store.wait_for_change(self._name, _BELL_WAIT_S):
                    self._bell.set()
            except StoreUnreachable:
                await self._clock.sleep(self._timing.renew_s / 2 * self._rng.uniform(0.5, 1.0))
