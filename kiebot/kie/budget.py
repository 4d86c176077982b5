"""What one KIE account may do per second, shared by all replicas through Redis.

KIE refuses the 21st create within ten seconds and does not say whether its window slides or is fixed. So the last N
admissions are remembered, and one more is let through when the Nth last is older than the window: then *no* stretch
of that length, wherever it begins, holds more than N. (A token bucket would allow burst + rate x window.) The window
is stretched a little, because two calls let through ten seconds apart may reach KIE closer together than that.

A 429 halves the limit for a minute, once per window however many replicas report it. With Redis out of reach every
replica keeps to a fixed share of its own; calls it made just before are counted against that share too.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from importlib.resources import files

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kiebot.clock import Clock, SystemClock

_ADMIT = files(__package__).joinpath("budget.lua").read_text()
# One halving per window: a storm of refusals from many replicas is one piece of news.
_SHRINK = """
if redis.call('SET', KEYS[3], '1', 'NX', 'PX', ARGV[1]) then
  if redis.call('INCR', KEYS[1]) > tonumber(ARGV[4]) then redis.call('SET', KEYS[1], ARGV[4]) end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
local pause = tonumber(ARGV[3])
if pause > 0 and redis.call('PTTL', KEYS[2]) < pause then redis.call('SET', KEYS[2], '1', 'PX', pause) end
return 1
"""
_SHRINK_S = 60.0
_MAX_HALVINGS = 4
_MAX_PAUSE_S = 60.0
_REDIS_RETRY_S = 1.0  # after a failure, so that not every call waits for a time-out of its own


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `calls` within any `window_s` seconds; `margin_s` more, for what the network may squeeze together."""

    calls: int
    window_s: float
    margin_s: float

    @property
    def span_s(self) -> float:
        return self.window_s + self.margin_s


def create_limit(per_10s: int = 20) -> Limit:
    """New tasks of the account (KIE_CREATE_PER_10S). Raises: ValueError, unless positive."""
    if per_10s < 1:
        raise ValueError("at least one create per ten seconds must be allowed")
    return Limit(per_10s, 10.0, 1.0)


POLL_LIMIT = Limit(3, 1.0, 0.2)  # 2.5 a second in the long run; three a second has met 429


class Budget:
    """One limit of the account, as the Budget port promises: neither method ever raises.

    Args: redis, with short time-outs of its own; key, the name of this budget under the cluster's prefix;
        expected_replicas, how many share the limit while Redis cannot say.
    """

    def __init__(
        self,
        redis: Redis,
        key: str,
        limit: Limit,
        *,
        expected_replicas: int = 4,
        clock: Clock | None = None,
    ) -> None:
        self._limit = limit
        self._keys = [f"{key}:admitted", f"{key}:penalty", f"{key}:pause"]
        self._shrink_keys = [f"{key}:penalty", f"{key}:pause", f"{key}:news"]
        self._admit = redis.register_script(_ADMIT)
        self._shrink = redis.register_script(_SHRINK)
        self._clock: Clock = clock or SystemClock()
        self._share = _LocalShare(max(1, limit.calls // max(1, expected_replicas)), limit.span_s)
        self._redis_again_at = 0.0

    async def take(self) -> float:
        """0 when one call may go out now (it is counted), else the seconds after which to ask again."""
        wait_s = await self._ask_redis()
        now = self._clock.monotonic()
        if wait_s is None:
            wait_s = self._share.wait_s(now)
        if wait_s == 0:
            self._share.count(now)
        return wait_s

    async def refused(self, *, pause_s: float = 0.0) -> None:
        """KIE refused a call as one too many: half the limit for a minute, and nothing at all for `pause_s`."""
        pause_ms = int(min(pause_s, _MAX_PAUSE_S) * 1000)
        args = [int(self._limit.span_s * 1000), int(_SHRINK_S * 1000), pause_ms, _MAX_HALVINGS]
        self._share.pause_until(self._clock.monotonic() + pause_ms / 1000)
        try:
            await self._shrink(keys=self._shrink_keys, args=args)
        except (RedisError, OSError):
            self._redis_again_at = self._clock.monotonic() + _REDIS_RETRY_S

    async def _ask_redis(self) -> float | None:
        if self._clock.monotonic() < self._redis_again_at:
            return None
        try:
            wait_ms = await self._admit(keys=self._keys, args=[self._limit.calls, int(self._limit.span_s * 1000)])
        except (RedisError, OSError):  # redis-py's own time-outs are RedisErrors, its pool's may be OSErrors
            self._redis_again_at = self._clock.monotonic() + _REDIS_RETRY_S
            return None
        return int(wait_ms) / 1000


class _LocalShare:
    """The same rule within one process: at most `calls` within any `span_s`, every admission counted."""

    def __init__(self, calls: int, span_s: float) -> None:
        self._calls = calls
        self._span_s = span_s
        self._admitted: deque[float] = deque(maxlen=calls)
        self._paused_until = 0.0

    def wait_s(self, now: float) -> float:
        if now < self._paused_until:
            return self._paused_until - now
        if len(self._admitted) < self._calls:
            return 0.0
        return max(0.0, self._admitted[0] + self._span_s - now)

    def count(self, now: float) -> None:
        self._admitted.append(now)

    def pause_until(self, instant: float) -> None:
        self._paused_until = max(self._paused_until, instant)
