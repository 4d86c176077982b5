"""What a worker does with the jobs it finds."""

from __future__ import annotations

import asyncio
import pickle
import random
import time
from typing import Any, ClassVar

import pytest
from arq.constants import in_progress_key_prefix, job_key_prefix
from arq.jobs import Job as ArqJob
from arq.jobs import JobStatus
from structlog.testing import capture_logs

from kiebot.errors import RateLimited, Transient
from kiebot.jobs import names
from kiebot.jobs.names import Job
from kiebot.jobs.worker import Worker

from .rig import Rig, noop, until


async def test_a_job_is_called_with_the_context_and_its_arguments_and_then_gone(rig: Rig) -> None:
    calls: list[tuple[object, ...]] = []

    async def note(*args: object) -> None:
        calls.append(args)

    context = object()
    worker = rig.worker(note=note, context=context)
    await rig.enqueue(Job("note", ("chat:7", 3), "note:chat:7:3"))
    await until(lambda: calls == [(context, "chat:7", 3)])
    await until(lambda: worker.running == 0)
    assert await rig.waiting() == 0
    assert not await rig.pool.keys("arq:*")


async def test_a_job_of_arqs_own_client_is_run(rig: Rig) -> None:
    done = asyncio.Event()

    async def note(context: object, number: int, *, word: str) -> None:
        done.set()

    rig.worker(note=note)
    queued = await rig.pool.enqueue_job("note", 1, word="x")
    assert queued is not None
    await asyncio.wait_for(done.wait(), 2)
    await until(lambda: _is(queued, JobStatus.not_found))


async def _is(job: ArqJob, status: JobStatus) -> bool:
    return await job.status() == status


async def test_arqs_client_sees_a_running_job_and_can_abort_it(rig: Rig) -> None:
    ended: list[str] = []

    async def note(context: object, number: int) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    worker = rig.worker(note=note)
    await rig.enqueue(noop(1))
    job = rig.arq_job(noop(1))
    await until(lambda: _is(job, JobStatus.in_progress))
    await job.abort(timeout=3, poll_delay=0.05)
    assert ended == ["cancelled"]
    assert worker.jobs_retried == 0
    assert await job.status() == JobStatus.not_found
    assert not await rig.pool.exists("arq:abort")


async def test_a_deferred_job_that_is_aborted_never_starts(rig: Rig) -> None:
    calls: list[int] = []

    async def note(context: object, number: int) -> None:
        calls.append(number)

    rig.worker(note=note)
    await rig.enqueue(noop(1, delay_s=60))
    await rig.arq_job(noop(1)).abort(timeout=3, poll_delay=0.05)
    assert await rig.waiting() == 0
    assert calls == []


async def test_an_idle_worker_is_woken_long_before_it_would_look_by_itself(rig: Rig) -> None:
    started: list[float] = []

    async def note(context: object, number: int) -> None:
        started.append(time.monotonic())

    worker = rig.worker(note=note, poll_delay_s=30)
    await until(lambda: worker._has_room.is_set())
    waits = []
    for number in range(20):
        asked = time.monotonic()
        await rig.enqueue(noop(number))
        await until(lambda number=number: len(started) > number)
        waits.append(started[-1] - asked)
    assert sorted(waits)[10] < 0.05


async def test_one_token_wakes_one_of_two_idle_workers(rig: Rig) -> None:
    claims: list[str] = []

    async def note(context: str, number: int) -> None:
        claims.append(context)
        await asyncio.sleep(0.05)

    workers = [rig.worker(note=note, context=name, poll_delay_s=30) for name in ("a", "b")]
    for worker in workers:
        await until(worker._has_room.is_set)
    await asyncio.sleep(0.05)  # both wait on the server
    await rig.enqueue(noop(1))
    await until(lambda: len(claims) == 1)
    await rig.enqueue(noop(2))  # the first is back in the queue of listeners, so the other is served
    await until(lambda: len(claims) == 2)
    assert set(claims) == {"a", "b"}


async def test_no_more_jobs_run_at_once_than_there_are_slots(rig: Rig) -> None:
    now, most, done = 0, 0, 0

    async def note(context: object, number: int) -> None:
        nonlocal now, most, done
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        done += 1

    worker = rig.worker(note=note, max_jobs=4, poll_delay_s=30)
    await rig.enqueue(*(noop(number) for number in range(200)))
    await until(lambda: done == 200)
    assert most == 4
    await until(lambda: worker.running == 0)
    assert worker.free_slots == 4


async def test_two_workers_never_run_one_job_at_once_and_leave_none(rig: Rig) -> None:
    running: set[int] = set()
    done: list[int] = []

    async def note(context: object, number: int) -> None:
        assert number not in running
        running.add(number)
        await asyncio.sleep(0.002)
        running.discard(number)
        done.append(number)

    for _ in range(2):
        rig.worker(note=note, max_jobs=16)
    for start in range(0, 600, 100):
        await rig.enqueue(*(noop(number) for number in range(start, start + 100)))
    await until(lambda: _is_empty(rig))
    assert sorted(done) == list(range(600))


async def test_a_lane_marked_at_any_instant_is_looked_at_afterwards(rig: Rig) -> None:
    """The row is marked before the job is queued; each job looks at it once, when it begins."""
    marks, seen = [0], [0]

    async def drain_lane(context: object, lane: str, revision: int) -> None:
        seen.append(len(marks))
        await asyncio.sleep(random.uniform(0.0, 0.004))

    workers = [rig.worker(drain_lane=drain_lane, max_jobs=4) for _ in range(2)]
    for _ in range(40):
        for _ in range(random.randrange(1, 12)):
            marks.append(0)
            await rig.enqueue(names.drain_lane("c7", len(marks)))
            await asyncio.sleep(random.choice((0.0, 0.0, 0.001, 0.003)))
        await until(lambda: max(seen) == len(marks), within_s=2.0)
    await until(lambda: not any(worker.running for worker in workers))
    assert await rig.waiting() == 0


class EndsLate(Worker):
    """Its tasks live on for a while after their jobs were settled."""

    gate: ClassVar[asyncio.Event]

    async def finish_job(self, *settlement: Any) -> None:
        await super().finish_job(*settlement)
        await self.gate.wait()


async def test_a_job_queued_anew_under_an_id_whose_task_is_about_to_end_runs_at_once(rig: Rig) -> None:
    runs: list[int] = []
    EndsLate.gate = asyncio.Event()

    async def note(context: object, number: int) -> None:
        runs.append(number)

    worker = rig.worker(note=note, kind=EndsLate, lease_s=6.0)
    await rig.enqueue(noop(1))
    await until(lambda: runs == [1])
    await until(lambda: _is_empty(rig))
    await rig.enqueue(noop(1))
    await until(lambda: _is_claimed(rig))
    assert runs == [1]
    EndsLate.gate.set()
    await until(lambda: runs == [1, 1], within_s=1.0)
    await until(lambda: worker.running == 0)
    assert await rig.waiting() == 0


async def _is_claimed(rig: Rig) -> bool:
    return bool(await rig.pool.exists(in_progress_key_prefix + rig.keys.job_id(noop(1).id)))


async def test_a_deferred_job_starts_when_it_is_due_and_not_before(rig: Rig) -> None:
    started: list[float] = []

    async def note(context: object, number: int) -> None:
        started.append(time.monotonic())

    rig.worker(note=note, poll_delay_s=30)
    asked = time.monotonic()
    await rig.enqueue(noop(1, delay_s=0.2))
    await rig.enqueue(noop(2))  # its token lets the worker learn of the other's due time
    await until(lambda: len(started) == 2)
    assert 0.19 < started[1] - asked < 0.4


async def test_a_thousand_deferred_jobs_do_not_slow_a_claim(rig: Rig) -> None:
    async def median_claim_s() -> float:
        took = []
        for _ in range(50):
            began = time.perf_counter()
            await worker._claims.claim(10)
            took.append(time.perf_counter() - began)
        return sorted(took)[25]

    async def note(context: object, number: int) -> None: ...

    worker = rig.worker(note=note)
    await until(lambda: worker._has_room.is_set())
    before = await median_claim_s()
    await rig.enqueue(*(noop(number, delay_s=3600) for number in range(1000)))
    assert await rig.waiting() == 1000
    assert await median_claim_s() < 3 * before + 0.001


async def test_a_transient_failure_is_tried_again_later_until_the_tries_are_spent(rig: Rig) -> None:
    attempts: list[float] = []

    async def note(context: object, number: int) -> None:
        attempts.append(time.monotonic())
        raise Transient("busy", retry_after_s=0.3)

    rig.worker(note=note, max_tries=2)
    await rig.enqueue(noop(1))
    await until(lambda: len(attempts) == 2)
    assert attempts[1] - attempts[0] >= 0.29
    await until(lambda: _is_empty(rig))
    assert len(attempts) == 2


async def _is_empty(rig: Rig) -> bool:
    return await rig.waiting() == 0


async def test_being_told_to_wait_never_counts_as_a_try(rig: Rig) -> None:
    attempts = 0

    async def note(context: object, number: int) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise RateLimited("slow down")

    rig.worker(note=note, max_tries=1)
    await rig.enqueue(noop(1))
    await until(lambda: attempts == 3)


async def test_a_job_that_raises_is_dropped_and_the_next_one_runs(rig: Rig) -> None:
    attempts: list[int] = []

    async def note(context: object, number: int) -> None:
        attempts.append(number)
        if number == 1:
            raise ZeroDivisionError

    worker = rig.worker(note=note)
    await rig.enqueue(noop(1), noop(2))
    await until(lambda: _is_empty(rig))
    assert sorted(attempts) == [1, 2]  # both slots start at once
    assert worker.jobs_failed == 1


async def test_a_pickled_payload_is_refused_and_removed(rig: Rig) -> None:
    calls: list[int] = []

    async def note(context: object, number: int) -> None:
        calls.append(number)

    payload: dict[str, object] = {"t": None, "f": "note", "a": (1,), "k": {}, "et": 1}
    worker = rig.worker(note=note)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        await rig.pool.set(f"{job_key_prefix}pickled-{protocol}", pickle.dumps(payload, protocol))
        await rig.pool.zadd(rig.keys.queue, {f"pickled-{protocol}": 1})
    await until(lambda: _is_empty(rig))
    assert calls == []
    assert worker.jobs_failed == pickle.HIGHEST_PROTOCOL + 1
    assert not await rig.pool.keys("arq:*")


async def test_a_job_this_version_does_not_know_is_left_for_one_that_does(rig: Rig) -> None:
    calls: list[str] = []

    async def note(context: str, number: int) -> None:
        calls.append(f"{context} note")

    async def novelty(context: str, number: int) -> None:
        calls.append(f"{context} novelty")

    with capture_logs() as logs:
        rig.worker(note=note, context="old")
        await rig.enqueue(noop(1, name="novelty"), noop(2))
        await until(lambda: calls == ["old note"])
        await rig.enqueue(noop(3))
        await until(lambda: len(calls) == 2)
    assert [entry["job"] for entry in logs if entry["event"] == "job.unknown"] == ["novelty"]

    async def only_the_unknown_waits() -> bool:
        return await rig.waiting() == 1

    await until(only_the_unknown_waits)  # a job has ended a moment after it was called
    rig.worker(note=note, novelty=novelty, context="new")
    await until(lambda: "new novelty" in calls)


async def test_a_job_whose_payload_expired_is_dropped(rig: Rig) -> None:
    async def note(context: object, number: int) -> None: ...

    await rig.enqueue(noop(1))
    await rig.pool.delete(job_key_prefix + rig.keys.job_id(noop(1).id))
    rig.worker(note=note)
    await until(lambda: _is_empty(rig))
    assert not await rig.pool.keys(in_progress_key_prefix + "*")


async def test_a_job_past_its_time_is_cancelled_and_dropped(rig: Rig) -> None:
    async def note(context: object, number: int) -> None:
        await asyncio.sleep(60)

    worker = rig.worker(note=note, job_timeout_s=0.05)
    await rig.enqueue(noop(1))
    await until(lambda: worker.jobs_failed == 1)
    await until(lambda: _is_empty(rig))


async def test_a_poll_delay_that_would_replace_the_bell_is_refused(rig: Rig) -> None:
    with pytest.raises(ValueError, match="poll_delay_s"):
        rig.worker(poll_delay_s=0.02)
