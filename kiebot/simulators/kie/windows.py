"""Rate windows: how many calls a period lets through."""

from collections import deque
from typing import Literal

from kiebot.simulators.clock import SimClock


class Window:
    """Admits at most `limit` calls per `period_s`; a refused call takes no room.

    Sliding looks back from the present instant; fixed counts anew at every multiple of the period.
    """

    def __init__(self, clock: SimClock, period_s: float, shape: Literal["sliding", "fixed"] = "sliding") -> None:
        self._clock, self._period_s, self.shape = clock, period_s, shape
        self._admitted: deque[float] = deque()

    def admits(self, limit: int) -> bool:
        """Count one call; False when it has to be refused."""
        now = self._clock.monotonic()
        start = now - now % self._period_s if self.shape == "fixed" else now - self._period_s
        while self._admitted and (
            self._admitted[0] < start or (self.shape == "sliding" and self._admitted[0] <= start)
        ):
            self._admitted.popleft()
        if len(self._admitted) >= limit:
            return False
        self._admitted.append(now)
        return True
