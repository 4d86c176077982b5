"""Telegram's update queue as its clients meet it: offsets confirm, the newest long poll wins, the older gets a 409."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kiebot.errors import Transient
from kiebot.intake.ports import Conflict, RawUpdate
from tests.simulation.line import Line, Reply
from tests.simulation.loop import VirtualLoop

_PACE_S = 3.0  # between two conflict answers that are given at once
_TERMINATED = "terminated by other getUpdates request; make sure that only one bot instance is running"


@dataclass(eq=False)
class _Poll:
    offset: int
    limit: int
    reply: Reply


class Telegram:
    """`on_confirm` is called with each update at the moment it is deleted here."""

    def __init__(self, loop: VirtualLoop, on_confirm: Callable[[RawUpdate], None]) -> None:
        self._loop = loop
        self._on_confirm = on_confirm
        self._parked: _Poll | None = None
        self._previous: tuple[int, float] = (-1, -100.0)  # offset, when
        self._told_at = -100.0
        self._is_waking = False
        self._head = self._tail = 1000
        self.stored: dict[int, RawUpdate] = {}
        self.is_down = False
        self.conflicts = 0

    def receive(self, lane: str) -> RawUpdate:
        """A user wrote."""
        update = RawUpdate(self._tail, lane, str(self._tail).encode())
        self.stored[update.update_id] = update
        self._tail += 1
        if self._parked is not None and not self._is_waking:
            self._is_waking = True
            self._loop.outside(0.0015, self._wake)
        return update

    def get_updates(self, offset: int, timeout_s: float, limit: int, reply: Reply) -> None:
        if self.is_down:
            reply.fails(Transient("502"))
            return
        timeout_s, limit = self._slowed(offset, min(timeout_s, 50), limit)
        self._confirm(offset)
        found = self._from(offset, limit)
        if found or timeout_s == 0:
            reply(found)
            return
        if self._parked is not None:
            self._end_with_conflict(self._parked)
        poll = self._parked = _Poll(offset, limit, reply)
        self._loop.outside(timeout_s, self._answer, poll)

    def _slowed(self, offset: int, timeout_s: float, limit: int) -> tuple[float, int]:
        """A poll that repeats the last one's offset too soon is made longer, and then shorter of breath."""
        (last_offset, last_at), now = self._previous, self._loop.time()
        self._previous = (offset, now)
        if offset != last_offset:
            return timeout_s, limit
        if now - last_at < _PACE_S and timeout_s < 3:
            timeout_s = 3.0
        return timeout_s, 1 if now - last_at < 0.5 else limit

    def _confirm(self, offset: int) -> None:
        if not 0 < offset <= self._tail + 10:
            return
        while self._head < min(offset, self._tail):
            self._on_confirm(self.stored.pop(self._head))
            self._head += 1

    def _from(self, offset: int, limit: int) -> list[RawUpdate]:
        first = offset if 0 < offset <= self._tail + 10 else 0
        return [update for key, update in self.stored.items() if key >= first][:limit]

    def _wake(self) -> None:
        self._is_waking = False
        if self._parked is not None and self._from(self._parked.offset, 1):
            self._answer(self._parked)

    def _answer(self, poll: _Poll) -> None:
        if poll is self._parked:
            self._parked = None
            poll.reply(self._from(poll.offset, poll.limit))

    def _end_with_conflict(self, poll: _Poll) -> None:
        self.conflicts += 1
        now = self._loop.time()
        if now - self._told_at >= _PACE_S:
            self._told_at = now
            poll.reply.fails(Conflict(_TERMINATED))
        else:
            self._loop.outside(_PACE_S, poll.reply.fails, Conflict(_TERMINATED))


class TelegramLine:
    """One replica's UpdateSource."""

    def __init__(self, telegram: Telegram, line: Line) -> None:
        self._telegram = telegram
        self._line = line

    async def fetch(self, offset: int, *, timeout_s: int, limit: int = 100) -> list[RawUpdate]:
        updates: list[RawUpdate] = await self._line.call(
            lambda reply: self._telegram.get_updates(offset, timeout_s, limit, reply), timeout_s=timeout_s + 5.0
        )
        return updates
