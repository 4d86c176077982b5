"""The bell: a list of tokens in Redis. Whoever enqueues leaves tokens; each wakes exactly one idle worker.

Polling fast enough for low latency costs every worker CPU for nothing, and a published message wakes all of them for
one job. Tokens are a hint: bounded, expiring, and a lost one costs no more than the fallback poll.
"""

from __future__ import annotations

from typing import Any

from arq.connections import ArqRedis

from kiebot.jobs.pool import blocking_twin

BLOCK_S = 2.0
MAX_TOKENS = 32
TOKENS_TTL_MS = 10_000

RING_LUA = f"""
local function ring(bell, wanted)
  local missing = math.min(wanted, {MAX_TOKENS}) - redis.call('LLEN', bell)
  for _ = 1, missing do redis.call('RPUSH', bell, '1') end
  if missing > 0 then redis.call('PEXPIRE', bell, {TOKENS_TTL_MS}) end
end
"""

_RING = RING_LUA + "ring(KEYS[1], tonumber(ARGV[1]))"


class Bell:
    """One listener on the bell `key`. It has a connection of its own, because it waits on the server."""

    def __init__(self, pool: ArqRedis, key: str) -> None:
        self._key = key
        self._ring = pool.register_script(_RING)
        self._line = blocking_twin(pool, block_s=BLOCK_S)

    async def wait(self, *, at_most_s: float = BLOCK_S) -> bool:
        """True when this listener took a token; False when none came in time (`BLOCK_S` seconds at most)."""
        line: Any = self._line  # redis-py's types allow for its sync twin, and no fractions of seconds
        return await line.blpop([self._key], timeout=at_most_s) is not None

    async def ring(self, tokens: int = 1) -> None:
        """Wake up to `tokens` idle workers; one that nobody waits for is kept for a few seconds."""
        await self._ring(keys=[self._key], args=[tokens])

    async def aclose(self) -> None:
        await self._line.aclose()
