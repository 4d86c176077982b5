"""The queue of wake-ups: a cache that may be emptied. A job that nobody ends in time comes again."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from kiebot.wakeups import Drain
from tests.simulation.line import Reply
from tests.simulation.loop import VirtualLoop

LEASE_S = 6.0
WAIT_S = 2.0


class JobQueue:
    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._jobs: dict[tuple[str, int], Drain] = {}  # waiting or running
        self._due: deque[tuple[str, int]] = deque()
        self._idle: deque[Reply] = deque()

    def put(self, drains: Sequence[Drain], reply: Reply) -> None:
        """An id that waits or runs is left alone."""
        for drain in drains:
            key = (drain.lane, drain.revision)
            if key not in self._jobs:
                self._jobs[key] = drain
                self._loop.outside(drain.delay_s, self._becomes_due, key)
        reply(None)

    def take(self, reply: Reply) -> None:
        """One job for one worker, which waits for it a little. None: nothing came."""
        self._idle.append(reply)
        self._loop.outside(WAIT_S, self._send_away, reply)
        self._hand_out()

    def end(self, drain: Drain) -> None:
        self._jobs.pop((drain.lane, drain.revision), None)

    def forget(self) -> None:
        self._jobs.clear()
        self._due.clear()

    def hang_up(self, replies: set[Reply]) -> None:
        """Nothing is handed to a worker whose connection is gone."""
        self._idle = deque(reply for reply in self._idle if reply not in replies)

    def _becomes_due(self, key: tuple[str, int]) -> None:
        if key in self._jobs and key not in self._due:
            self._due.append(key)
            self._hand_out()

    def _hand_out(self) -> None:
        while self._due and self._idle:
            key = self._due.popleft()
            if key not in self._jobs:  # ended meanwhile, or forgotten
                continue
            self._loop.outside(LEASE_S, self._becomes_due, key)
            self._idle.popleft()(self._jobs[key])

    def _send_away(self, reply: Reply) -> None:
        if reply in self._idle:
            self._idle.remove(reply)
            reply(None)
