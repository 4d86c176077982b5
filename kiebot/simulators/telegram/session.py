"""Whether a bot is logged in here: revoked token, logOut, close, restart. Times are monotonic seconds."""

import math
from typing import Literal

from kiebot.simulators.clock import SimClock
from kiebot.simulators.telegram.answers import ApiError, bad_request, too_many_requests

_HALF_HOUR_S = 1800.0
_CLOSE_AFTER_S = 600.0
_CLOSING_S = 1.0


class Session:
    """The life of one bot instance on the server."""

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock
        self._state: Literal["running", "logged_out", "closed"] = "running"
        self._started_at = clock.monotonic()
        self._changed_at = self._started_at
        self._lingers_s = 0.0
        self._ready_at = self._started_at
        self.is_revoked = False

    @property
    def login_left_s(self) -> float:
        """Seconds until a bot that was just restarted answers; 0 when it does."""
        return max(0.0, self._ready_at - self._clock.monotonic())

    def refusal(self, method: str) -> ApiError | None:
        """Why this request cannot be served, if so; a request after the end starts a new instance."""
        if self.is_revoked:
            return ApiError(401, "Unauthorized")
        if self._state == "running":
            return None
        since = self._clock.monotonic() - self._changed_at
        if self._state == "logged_out" and since < self._lingers_s:
            return ApiError(400, "Logged out")
        if self._state == "closed":
            if since < _CLOSING_S:
                return ApiError(500, "Internal Server Error: restart")
            if method == "close":
                return bad_request("the bot has already been closed")
        self.start(0.0)
        return None

    def start(self, login_s: float) -> None:
        """A new instance, which answers after `login_s` seconds."""
        self._state = "running"
        self._started_at = self._clock.monotonic()
        self._ready_at = self._started_at + login_s

    def log_out(self) -> None:
        """Refuse everything for a second, or up to half an hour for a young instance."""
        age = self._clock.monotonic() - self._started_at
        self._lingers_s = max(1.0, _HALF_HOUR_S - age)
        self._change("logged_out")

    def close(self) -> None:
        """Raises: ApiError 429 during the first ten minutes."""
        left = _CLOSE_AFTER_S - (self._clock.monotonic() - self._started_at)
        if left > 0:
            raise too_many_requests(math.ceil(left))
        self._change("closed")

    def _change(self, state: Literal["logged_out", "closed"]) -> None:
        self._state = state
        self._changed_at = self._clock.monotonic()
