"""What one KIE account may do per second, shared by all replicas through Redis.

KIE refuses the 21st create within ten seconds and does not say whether its window slides or is fixed. So the calls let
through are remembered, and one more goes out when fewer than N of them count: then *no* stretch of that length,
wherever it begins, holds more than N. (A token bucket would allow burst + rate x window.) A call counts for one window
from its answer, because KIE counted it before it answered, however long the call was on its way; without an answer,
from the margin after it was let through. So two calls never reach KIE closer together than the rule allows, and no
more of the quota is given away than the time that calls travel.

Whoever has to wait stands in a line and is told when its turn will come. First come, first served: nobody who happens
to ask at the right moment goes first. A thousand that wait ask a few times each, not all of them each second. Who does
not come when told, because it was cancelled or its replica died, keeps nobody waiting.

A 429 halves the limit for a minute, once per window however many replicas report it. With Redis out of reach every
replica keeps to a fixed share of its own; calls it made just before are counted against that share too.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
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
# Calls on their way count from a time to come; the answered one counts from now.
_ANSWERED = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, call in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')) do
  if string.match(call, '^%d+:(.*)$') == ARGV[1] then redis.call('ZADD', KEYS[1], now, call) end
end
return 1
"""
_HURRY = """
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000) - 4e12, ARGV[1])
redis.call('ZADD', KEYS[2], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
redis.call('PEXPIRE', KEYS[1], 3600000)
redis.call('PEXPIRE', KEYS[2], 3600000)
return 1
"""
_SHRINK_S = 60.0
_MAX_HALVINGS = 4
_MAX_PAUSE_S = 60.0
_CLOCKS_DIFFER_S = 0.05  # ten seconds of Redis' host may be a little less by KIE's
_REDIS_RETRY_S = 1.0  # after a failure, so that not every call waits for a time-out of its own


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `calls` within any `window_s` seconds. A call counts from its answer; when none is told, from `margin_s`
    after it was let through: for what the network may squeeze together."""

    calls: int
    window_s: float
    margin_s: float

    @property
    def span_s(self) -> float:
        """The longest that one call may count."""
        return self.window_s + self.margin_s

    @property
    def local_s(self) -> float:
        """For who does not know of answers: a tenth more, for what the network may squeeze together."""
        return self.window_s + min(self.margin_s, 1.0)


def create_limit(per_10s: int = 20) -> Limit:
    """New tasks of the account (KIE_CREATE_PER_10S). Raises: ValueError, unless positive."""
    if per_10s < 1:
        raise ValueError("at least one create per ten seconds must be allowed")
    return Limit(per_10s, 10.0 + _CLOCKS_DIFFER_S, 10.0)


def poll_limit(per_s: int = 3) -> Limit:
    """Questions about tasks (KIE_POLLS_PER_S). Answers are not told: 2.5 a second in the long run; three a second has
    met 429."""
    return Limit(per_s, 1.0, 0.2)


class Budget:
    """One limit of the account, as the Budget port promises: no method ever raises.

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
        self._line_keys = [f"{key}:line", f"{key}:due"]
        self._keys = [f"{key}:calls", f"{key}:penalty", f"{key}:pause", *self._line_keys]
        self._shrink_keys = [f"{key}:penalty", f"{key}:pause", f"{key}:news"]
        self._admit = redis.register_script(_ADMIT)
        self._answered = redis.register_script(_ANSWERED)
        self._hurry = redis.register_script(_HURRY)
        self._shrink = redis.register_script(_SHRINK)
        self._clock: Clock = clock or SystemClock()
        self._share = _LocalShare(max(1, limit.calls // max(1, expected_replicas)), limit.local_s)
        self._facts = [limit.calls, round(limit.window_s * 1000), round(limit.margin_s * 1000)]
        self._redis_again_at = 0.0

    async def take(self, turn: str, since: datetime | None = None) -> float:
        """0 when one call may go out now (it is counted), else the seconds after which `turn` is to ask again.

        since: its place in the line is that of who asked then; None means now.
        """
        wait_s = await self._ask_redis(turn, round(since.timestamp() * 1000) if since is not None else 0)
        now = self._clock.monotonic()
        if wait_s is None:
            wait_s = self._share.wait_s(now)
        if wait_s == 0:
            self._share.count(now)
        return wait_s

    async def answered(self, turn: str) -> None:
        """The call of this turn has its answer, whatever it says: it counts for one window from now."""
        await self._tell(self._answered, self._keys[:1], [turn])

    async def hurry(self, turn: str) -> None:
        """There is news for this turn: it goes first when it asks next."""
        await self._tell(self._hurry, self._line_keys, [turn])

    async def refused(self, *, pause_s: float = 0.0) -> None:
        """KIE refused a call as one too many: half the limit for a minute, and nothing at all for `pause_s`."""
        pause_ms = int(min(pause_s, _MAX_PAUSE_S) * 1000)
        args = [int(self._limit.span_s * 1000), int(_SHRINK_S * 1000), pause_ms, _MAX_HALVINGS]
        self._share.pause_until(self._clock.monotonic() + pause_ms / 1000)
        await self._tell(self._shrink, self._shrink_keys, args)

    async def _tell(self, script: AsyncScript, keys: list[str], args: list[str] | list[int]) -> None:
        try:
            await script(keys=keys, args=args)
        except (RedisError, OSError):
            self._redis_again_at = self._clock.monotonic() + _REDIS_RETRY_S

    async def _ask_redis(self, turn: str, since_ms: int) -> float | None:
        if self._clock.monotonic() < self._redis_again_at:
            return None
        try:
            wait_ms = await self._admit(keys=self._keys, args=[*self._facts, turn, since_ms])
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
