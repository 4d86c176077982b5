"""A worker's leases on jobs: taking, renewing and settling them, each in one script.

A lease is arq's in-progress key, short, holding the worker's token. It belongs to one entry of the queue, told by its
score: an id that was finished elsewhere and queued again has another score, so a worker that comes back late from a
long pause cannot renew, finish or put back what is no longer its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from arq.connections import ArqRedis
from arq.constants import abort_jobs_ss, in_progress_key_prefix, job_key_prefix, retry_key_prefix

from kiebot.jobs.bell import RING_LUA
from kiebot.jobs.keys import QueueKeys

SCAN_PAGE = 200
SCAN_LIMIT = 10_000  # due ids looked at per claim; those in progress or unknown stand at the head of the queue

# ARGV: token, lease in ms, jobs wanted, lease prefix, payload prefix, then the names this worker knows.
# Leases are looked up a page at a time: hundreds of jobs may be in progress, and they stand before all others.
# A payload that cannot be read is claimed like a known one: the worker refuses it, says so and removes it.
# Fewer jobs than wanted means that everything due is taken, so tokens still on the bell would wake others for nothing;
# a job of unknown name keeps them: they were rung for a newer replica.
_CLAIM = f"""
local known, unknown, claimed, aborted = {{}}, {{}}, {{}}, {{}}
for i = 6, #ARGV do known[ARGV[i]] = true end
local function stranger(id)
  local payload = redis.call('GET', ARGV[5] .. id)
  local ok, job = pcall(cmsgpack.unpack, payload)
  if ok and type(job) == 'table' and type(job.f) == 'string' and not known[job.f] then return job.f end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local wanted, seen = tonumber(ARGV[3]), 0
while wanted > 0 and seen < {SCAN_LIMIT} do
  local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', seen, {SCAN_PAGE})
  if #due == 0 then break end
  local leases = {{}}
  for i = 1, #due do leases[i] = ARGV[4] .. due[i] end
  local held = redis.call('MGET', unpack(leases))
  for i = 1, #due do
    local id = due[i]
    if wanted > 0 and not held[i] then
      local name = stranger(id)
      if name then unknown[#unknown + 1] = name
      else
        redis.call('SET', leases[i], ARGV[1], 'PX', ARGV[2])
        claimed[#claimed + 1] = id
        claimed[#claimed + 1] = redis.call('ZSCORE', KEYS[1], id)
        wanted = wanted - 1
      end
    end
  end
  seen = seen + #due
end
if wanted > 0 and #unknown == 0 then redis.call('DEL', KEYS[2]) end
for _, id in ipairs(redis.call('ZRANGE', KEYS[3], 0, {SCAN_PAGE})) do
  if redis.call('ZSCORE', KEYS[1], id) then aborted[#aborted + 1] = id end
end
local later = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
return {{claimed, unknown, aborted, later[2] and math.ceil(later[2] - now) or -1}}
"""

# ARGV: token, lease in ms, lease prefix, then id and score of each job. A lease that ran out, or was lost with the
# server's memory, is taken again while the very entry it was for is still there and nobody else has claimed it.
_RENEW = """
local lost = {}
for i = 4, #ARGV, 2 do
  local id, score = ARGV[i], tonumber(ARGV[i + 1])
  local lease = ARGV[3] .. id
  local holder = redis.call('GET', lease)
  if holder == ARGV[1] then redis.call('PEXPIRE', lease, ARGV[2])
  elseif holder then lost[#lost + 1] = id
  elseif tonumber(redis.call('ZSCORE', KEYS[1], id) or '-1') == score then
    redis.call('SET', lease, ARGV[1], 'PX', ARGV[2])
  end
end
return lost
"""

# ARGV: token, lease prefix, payload prefix, tries prefix, then five per job: id, score, what ('done', 'later' or
# 'again'), delay in ms, '1' to take the try back. Returns the ids that are not ours to settle.
# Commands that need memory come last and may fail: a full server still frees the jobs.
_SETTLE = (
    RING_LUA
    + """
local strangers, tokens = {}, 0
local function settle(id, score, what, delay, refunds)
  local lease, payload, tries = ARGV[2] .. id, ARGV[3] .. id, ARGV[4] .. id
  local holder = redis.call('GET', lease)
  if holder and holder ~= ARGV[1] then return false end
  redis.call('DEL', lease)
  if tonumber(redis.call('ZSCORE', KEYS[1], id) or '-1') ~= tonumber(score) then return false end
  if what == 'done' then
    redis.call('DEL', payload, tries)
    redis.call('ZREM', KEYS[1], id)
    redis.call('ZREM', KEYS[3], id)
    return true
  end
  if refunds == '1' and redis.call('EXISTS', tries) == 1 then redis.pcall('DECR', tries) end
  if what == 'later' then redis.pcall('ZINCRBY', KEYS[1], delay, id) else tokens = tokens + 1 end
  return true
end
for i = 5, #ARGV, 5 do
  if not settle(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]) then
    strangers[#strangers + 1] = ARGV[i]
  end
end
pcall(ring, KEYS[2], tokens)
return strangers
"""
)


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim found: the jobs now leased to the caller (id and score), due names it does not know, ids that a
    client wants aborted, and the seconds until the next entry falls due (None: nothing waits)."""

    jobs: tuple[tuple[str, float], ...]
    unknown: tuple[str, ...]
    aborted: tuple[str, ...]
    next_due_s: float | None


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a claimed job ended: done for good, or to run again `later_ms` after its due time (0: at once)."""

    job_id: str
    score: float
    is_done: bool
    later_ms: int = 0
    refunds_try: bool = False

    @property
    def what(self) -> str:
        if self.is_done:
            return "done"
        return "later" if self.later_ms else "again"


class Claims:
    """The leases of one worker. Its `token` must be new for every worker object, even under the same replica name.

    Every method is one round trip and raises what Redis raises.
    """

    def __init__(self, pool: ArqRedis, keys: QueueKeys, *, token: str, lease_s: float, known: Iterable[str]) -> None:
        self._keys = keys
        self._token = token
        self._lease_ms = int(lease_s * 1000)
        self._known = tuple(known)
        self._claim = pool.register_script(_CLAIM)
        self._renew = pool.register_script(_RENEW)
        self._settle = pool.register_script(_SETTLE)

    async def claim(self, wanted: int) -> Claimed:
        """Lease up to `wanted` due jobs, oldest first; 0 only looks."""
        jobs, unknown, aborted, next_due_ms = await self._claim(
            keys=[self._keys.queue, self._keys.bell, abort_jobs_ss],
            args=[self._token, self._lease_ms, wanted, in_progress_key_prefix, job_key_prefix, *self._known],
        )
        return Claimed(
            jobs=tuple((job_id.decode(), float(score)) for job_id, score in zip(jobs[::2], jobs[1::2], strict=True)),
            unknown=tuple(name.decode() for name in unknown),
            aborted=tuple(job_id.decode() for job_id in aborted),
            next_due_s=None if next_due_ms < 0 else next_due_ms / 1000,
        )

    async def renew(self, held: Mapping[str, float]) -> list[str]:
        """Renew the leases on `held` (id -> score); returns the ids that another worker has taken over."""
        pairs = (part for job_id, score in held.items() for part in (job_id, score))
        lost = await self._renew(
            keys=[self._keys.queue], args=[self._token, self._lease_ms, in_progress_key_prefix, *pairs]
        )
        return [job_id.decode() for job_id in lost]

    async def settle(self, ended: Sequence[Settlement]) -> list[str]:
        """Give the leases up and act on how the jobs ended; returns the ids that were no longer this worker's."""
        fields = (
            field
            for one in ended
            for field in (one.job_id, one.score, one.what, one.later_ms, "1" if one.refunds_try else "0")
        )
        strangers = await self._settle(
            keys=[self._keys.queue, self._keys.bell, abort_jobs_ss],
            args=[self._token, in_progress_key_prefix, job_key_prefix, retry_key_prefix, *fields],
        )
        return [job_id.decode() for job_id in strangers]
