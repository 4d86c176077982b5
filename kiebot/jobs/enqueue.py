"""Putting jobs into the queue: one script, one round trip, arq's own layout."""

from __future__ import annotations

from collections.abc import Sequence

from arq.connections import ArqRedis
from arq.constants import expires_extra_ms, in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.jobs import serialize_job
from arq.utils import timestamp_ms

from kiebot.errors import Transient
from kiebot.jobs.bell import RING_LUA
from kiebot.jobs.keys import QueueKeys
from kiebot.jobs.names import Job
from kiebot.jobs.pool import OUTAGES, serialize

SOON_MS = 500  # how long a worker rests at least, when it knows of nothing sooner
BATCH = 500  # jobs per script, so that no script holds up the server for more than a few milliseconds

# Due times are the server's time, as in the claim: replicas' clocks need not agree.
# An id that waits is left alone, but for one case: asked for earlier than it is due, it moves forward, unless it is
# waiting out a retry, whose delay somebody asked for.
# A job with a place takes one of the place's two ids, for the one in progress may have looked at its row already. Both
# in progress is rare; then its own id serves.
_ENQUEUE = (
    f"local SOON = {SOON_MS}\n"
    + RING_LUA
    + """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local added, due_now, soon = 0, 0, SOON
local function seat(place, id)
  local free = id
  for _, name in ipairs({place .. ':b', place .. ':a'}) do
    local due = redis.call('ZSCORE', KEYS[1], name)
    if not due then free = name
    elseif tonumber(due) <= now and redis.call('EXISTS', ARGV[3] .. name) == 0 then return nil end
  end
  return free
end
for i = 4, #ARGV, 5 do
  local id, payload, delay, expires = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  if ARGV[i + 4] ~= '' then id = seat(ARGV[i + 4], id) end
  local due, waiting = now + delay, id and redis.call('ZSCORE', KEYS[1], id)
  local moved = false
  if not id then  -- one that waits will do it
  elseif not waiting then
    redis.call('SET', ARGV[1] .. id, payload, 'PX', expires)
    redis.call('ZADD', KEYS[1], due, id)
    added, moved = added + 1, true
  elseif tonumber(waiting) > due and redis.call('EXISTS', ARGV[2] .. id) == 0 then
    redis.call('ZADD', KEYS[1], 'XX', due, id)
    moved = true
  end
  if moved and delay == 0 then due_now = due_now + 1 end
  if moved and delay > 0 and delay < soon then soon = delay end
end
-- Who has seen nothing that falls due so soon rests for longer; who waits for the first one sees to all of them.
if due_now == 0 and soon < SOON then
  local first = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if first[2] and tonumber(first[2]) >= now + soon then due_now = 1 end
end
ring(KEYS[2], due_now)
return added
"""
)


class Enqueuer:
    """Queues jobs for the workers of one kiebot."""

    def __init__(self, pool: ArqRedis, *, prefix: str) -> None:
        self._keys = QueueKeys(prefix)
        self._enqueue = pool.register_script(_ENQUEUE)

    async def enqueue(self, jobs: Sequence[Job]) -> None:
        """Queue every job whose id does not wait or run already, nor one of its place, and wake as many idle workers.

        Call it after the commit that made the jobs worthwhile.
        Raises: Transient, when Redis did not answer. Some jobs may be queued then; a sweeper will find the others.
        """
        try:
            for start in range(0, len(jobs), BATCH):
                await self._enqueue(
                    keys=[self._keys.queue, self._keys.bell],
                    args=self._arguments(jobs[start : start + BATCH]),
                )
        except OUTAGES as error:
            raise Transient(f"enqueue: {type(error).__name__}: {error}", retry_after_s=1.0) from error

    def _arguments(self, jobs: Sequence[Job]) -> list[str | bytes | int]:
        arguments: list[str | bytes | int] = [job_key_prefix, retry_key_prefix, in_progress_key_prefix]
        enqueued_ms = timestamp_ms()
        for job in jobs:
            payload = serialize_job(job.name, job.args, {}, None, enqueued_ms, serializer=serialize)
            delay_ms = int(job.delay_s * 1000)
            place = self._keys.job_id(job.place) if job.place else ""
            arguments += (self._keys.job_id(job.id), payload, delay_ms, delay_ms + expires_extra_ms, place)
        return arguments
