"""Our arq Worker: arq's job format, `run_job` and bookkeeping; other ways of claiming, leasing, waking and leaving.

Stock arq claims job by job with several round trips each, holds a claim for the longest job's time-out (a killed
worker blocks its jobs for minutes), polls for work, ends with Redis, and cancels its own bookkeeping on SIGTERM. See
the package's docstring for what is promised instead.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import arq.worker
import structlog
from arq.connections import ArqRedis
from arq.typing import WorkerCoroutine
from structlog.contextvars import bound_contextvars

from kiebot.cancelling import stop_if_cancelled
from kiebot.errors import RateLimited, Transient
from kiebot.ids import new_token
from kiebot.jobs.bell import BLOCK_S, Bell
from kiebot.jobs.claims import Claimed, Claims
from kiebot.jobs.keys import QueueKeys
from kiebot.jobs.leases import Leases
from kiebot.jobs.outage import Outage
from kiebot.jobs.pool import OUTAGES, deserialize, serialize

JobFunction = Callable[..., Awaitable[None]]
"""Called as `function(context, *args)`. May run twice; what it did stands in rows."""

HEALTH_S = 10.0
LEAVE_S = 5.0  # for cancelled jobs to clean up and be handed back
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0

log = structlog.get_logger()


class Worker(arq.worker.Worker):
    """Runs up to `max_jobs` jobs at once until it is drained. Construct it inside the running event loop, one per run.

    Args: functions, by job name; context, given to every function first; pool, from `make_pool`, stays the caller's
        to close; replica, its name in the health keys; lease_s, seconds after which a dead worker's jobs are free,
        renewed at a third of it; poll_delay_s, seconds between looks when no bell rings (at least 0.5);
        job_timeout_s, a job is cancelled and dropped after it; max_tries, for jobs that raise Transient.
    """

    def __init__(
        self,
        functions: Mapping[str, JobFunction],
        *,
        context: object,
        pool: ArqRedis,
        prefix: str,
        replica: str,
        max_jobs: int = 64,
        lease_s: float = 6.0,
        poll_delay_s: float = 0.5,
        job_timeout_s: float = 120.0,
        max_tries: int = 5,
    ) -> None:
        if poll_delay_s < 0.5:
            raise ValueError("poll_delay_s is only the fallback of the bell: at least 0.5")
        self._keys = QueueKeys(prefix)
        super().__init__(
            [arq.worker.func(self._guarded(name, function), name=name) for name, function in functions.items()],
            queue_name=self._keys.queue,
            redis_pool=pool,
            handle_signals=False,
            max_jobs=max_jobs,
            job_timeout=job_timeout_s,
            keep_result=0,  # a kept result would block its id
            poll_delay=poll_delay_s,
            max_tries=max_tries,
            health_check_interval=HEALTH_S,
            allow_abort_jobs=True,
            job_serializer=serialize,
            job_deserializer=deserialize,
            log_results=False,
        )
        self.in_progress_timeout_s = lease_s
        self._context = context
        self._replica = replica
        token = f"{replica}:{new_token()}"
        self._claims = claims = Claims(pool, self._keys, token=token, lease_s=lease_s, known=functions)
        self._bell = Bell(pool, self._keys.bell)
        self._outage = Outage()
        self._leases = Leases(claims, self._outage, lease_s=lease_s, on_lost=self._cancel)
        self._refunds: set[str] = set()
        self._unknown: set[str] = set()
        self._next: dict[str, float] = {}
        self._is_leaving = False
        self._handed_back = 0
        self._queue_may_hold_more = False
        self._next_health = 0.0
        self._wake = asyncio.Event()
        self._has_room = asyncio.Event()
        self._stopped = asyncio.Event()
        self._looking = asyncio.Lock()

    @property
    def running(self) -> int:
        """Jobs in flight."""
        return len(self.tasks)

    @property
    def free_slots(self) -> int:
        return max(0, self.max_jobs - len(self.tasks))

    @property
    def outage_s(self) -> float:
        """Seconds since Redis was last well; 0 while it is."""
        return self._outage.lasts_s

    async def main(self) -> None:
        """Claim and run jobs until `drain` has ended. Redis outages of any length do not end it.

        Cancelled, it hands its running jobs back first. Await `async_run()` rather than this: `drain` waits for that.
        """
        log.info("worker.started", queue=self.queue_name, jobs=sorted(self.functions), max_jobs=self.max_jobs)
        try:
            async with asyncio.TaskGroup() as group:
                helpers = [group.create_task(self._listen()), group.create_task(self._leases.renew_forever())]
                await self._look_until_stopped()
                for helper in helpers:
                    helper.cancel()
        finally:
            await self._hand_back()
            await self._bell.aclose()

    async def drain(self, wait_s: float) -> int:
        """Take no more jobs, let the running ones end within `wait_s` seconds, hand the rest back and stop.

        Returns how many were handed back. Cancelled or called again, it leaves no later than the shortest wait.
        """
        self.allow_pick_jobs = False
        self._has_room.clear()
        log.info("worker.draining", running=self.running, wait_s=wait_s)
        async with self._looking:  # a claim on its way still starts its jobs
            pending = set(self.tasks.values())
        if pending:
            await asyncio.wait(pending, timeout=wait_s)
        await self._hand_back()
        self._stopped.set()
        self._wake.set()
        if self.main_task is not None:
            await asyncio.wait({self.main_task})
        with suppress(*OUTAGES):
            await self._leases.flush()
            await self._bell.ring()  # our ear may have taken a token with it that was meant for another
            await self.pool.delete(self._keys.replica_health(self._replica))  # never the shared key: others may live
        log.info("worker.drained", handed_back=self._handed_back, unsettled=self._leases.unsettled)
        return self._handed_back

    async def close(self) -> None:
        """Leave at once. The pool stays open: it is the caller's."""
        await self.drain(0.0)

    # Looking for work

    async def _look_until_stopped(self) -> None:
        while not self._stopped.is_set():
            stop_if_cancelled()
            self._wake.clear()
            try:
                async with self._looking:
                    rest_s = await self._look()
            except OUTAGES as error:
                rest_s = self._outage.met("claim", error)
                self._next_health = 0.0
                with suppress(*OUTAGES):  # a demoted or moved server must not keep us by an old connection
                    await self.pool.connection_pool.disconnect(inuse_connections=False)
            else:
                self._outage.passed("claim")
            if rest_s:
                with suppress(TimeoutError):
                    async with asyncio.timeout(rest_s):
                        await self._wake.wait()

    async def _look(self) -> float:
        """Settle what waits for it, claim into the free slots; returns how long to rest, in seconds."""
        if self.outage_s:  # a stopped server obeys later what it was sent: a claim given up on would strand its jobs
            await self.pool.ping()
        await self._leases.flush()
        wanted = self.free_slots if self.allow_pick_jobs else 0
        claimed = await self._claims.claim(wanted)
        for job_id, score in claimed.jobs:
            self._start(job_id, score)
        self._queue_may_hold_more = self.allow_pick_jobs and len(claimed.jobs) == wanted
        await self._mind(claimed)
        await self.heart_beat()
        if self.free_slots and self.allow_pick_jobs:
            self._has_room.set()
        return self._rest_s(claimed.next_due_s)

    def _rest_s(self, next_due_s: float | None) -> float:
        if self._queue_may_hold_more and self.free_slots:
            return 0.0
        if next_due_s is None or not self.free_slots:
            return self.poll_delay_s
        return min(self.poll_delay_s, max(next_due_s, 0.01))  # a dense row of due times must not become a busy loop

    async def _mind(self, claimed: Claimed) -> None:
        for name in set(claimed.unknown) - self._unknown:
            self._unknown.add(name)
            log.warning("job.unknown", job=name, left_for="a newer replica")
        for job_id in claimed.aborted:
            if job_id in self.job_tasks and job_id not in self.aborting_tasks:
                self.aborting_tasks.add(job_id)
                self._cancel(job_id)

    def _cancel(self, job_id: str) -> None:
        if (task := self.job_tasks.get(job_id)) is not None:
            task.cancel()

    async def _listen(self) -> None:
        """Take one token at a time, and none while there is no room: it would be lost to an idle worker."""
        at_most_s = BLOCK_S
        while not self._stopped.is_set():
            stop_if_cancelled()
            await self._has_room.wait()
            try:
                has_rung = await self._bell.wait(at_most_s=at_most_s)
                if has_rung and not (self.free_slots and self.allow_pick_jobs):
                    self._has_room.clear()
                    await self._bell.ring()
                    continue
            except OUTAGES as error:
                await asyncio.sleep(self._outage.met("bell", error))
                at_most_s = 0.1  # learn soon that the outage is over
                continue
            self._outage.passed("bell")
            at_most_s = BLOCK_S
            if has_rung:
                self._has_room.clear()
                self._wake.set()

    # Running

    def _guarded(self, name: str, function: JobFunction) -> WorkerCoroutine:
        """`function` as arq calls it: errors translated to what arq does next."""

        async def run(ctx: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            job_id: str = ctx["job_id"]
            with bound_contextvars(job=name, job_id=job_id, attempt=ctx["job_try"]):
                try:
                    if self._is_leaving:
                        raise asyncio.CancelledError
                    await function(self._context, *args, **kwargs)
                except asyncio.CancelledError:
                    if self._is_leaving:
                        self._handed_back += 1
                        self._refunds.add(job_id)
                    raise
                except Transient as error:
                    raise self._retry(job_id, ctx["job_try"], error) from error

        return cast(WorkerCoroutine, run)  # a protocol that wants a __qualname__, which mypy does not see

    def _retry(self, job_id: str, attempt: int, error: Transient) -> arq.worker.Retry:
        if isinstance(error, RateLimited):
            self._refunds.add(job_id)
        longest = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(attempt - 1, 10))
        wait_s = max(error.retry_after_s, longest * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
        log.info("job.postponed", wait_s=round(wait_s, 3), error=f"{type(error).__name__}: {error}")
        return arq.worker.Retry(defer=wait_s)

    def _start(self, job_id: str, score: float) -> None:
        if job_id in self.tasks:
            if not self._leases.holds(job_id):  # a new entry under its id, and the old one's task is about to end
                self._next[job_id] = score
            return  # else the lease ran out under a job that still runs here; the claim has renewed it
        self._leases.hold(job_id, score)
        task = asyncio.create_task(self.run_job(job_id, int(score)), name=f"job {job_id}")
        self.tasks[job_id] = task
        task.add_done_callback(partial(self._ended, job_id))

    def _ended(self, job_id: str, task: asyncio.Task[None]) -> None:
        del self.tasks[job_id]
        self._leases.drop(job_id)
        self._refunds.discard(job_id)
        self.aborting_tasks.discard(job_id)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("job.not_run", job_id=job_id, error=f"{type(error).__name__}: {error}")
        if (score := self._next.pop(job_id, None)) is not None:
            self._start_next(job_id, score)
        if self._queue_may_hold_more or self._leases.unsettled:
            self._wake.set()

    def _start_next(self, job_id: str, score: float) -> None:
        if self._is_leaving:
            self._leases.hold(job_id, score)
            self._leases.drop(job_id)
        else:
            self._start(job_id, score)

    async def finish_job(
        self,
        job_id: str,
        finish: bool,
        result_data: bytes | None,
        result_timeout_s: float | None,
        keep_result_forever: bool,
        incr_score: int | None,
        keep_in_progress: float | None,
    ) -> None:
        refunds_try = job_id in self._refunds
        await self._leases.settle(job_id, is_done=finish, later_ms=incr_score or 0, refunds_try=refunds_try)

    async def finish_failed_job(self, job_id: str, result_data: bytes | None) -> None:
        await self._leases.settle(job_id, is_done=True)

    # Leaving and health

    async def _hand_back(self) -> None:
        """Cancel the jobs, not arq's `run_job` around them: that one writes the release."""
        self._is_leaving = True
        self.allow_pick_jobs = False
        pending = set(self.tasks.values())
        for task in self.job_tasks.values():
            task.cancel()
        if pending:
            _, stuck = await asyncio.wait(pending, timeout=LEAVE_S)
            if stuck:
                log.error("worker.stuck", jobs=[task.get_name() for task in stuck])

    async def heart_beat(self) -> None:
        loop_time = asyncio.get_running_loop().time()
        if loop_time < self._next_health:
            return
        await self.record_health()
        self._next_health = loop_time + HEALTH_S

    async def record_health(self) -> None:
        """Write this replica's health and the shared one, each to last three beats."""
        queued = await self.pool.zcard(self.queue_name)
        info = (
            f"{datetime.now(UTC):%b-%d %H:%M:%S} j_complete={self.jobs_complete} j_failed={self.jobs_failed} "
            f"j_retried={self.jobs_retried} j_ongoing={self.running} queued={queued}"
        ).encode()
        ttl_ms = int(HEALTH_S * 3000)
        async with self.pool.pipeline(transaction=False) as pipe:
            pipe.psetex(self._keys.health, ttl_ms, info)
            pipe.psetex(self._keys.replica_health(self._replica), ttl_ms, info)
            await pipe.execute()
