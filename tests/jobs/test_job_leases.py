"""Who holds a job, and what becomes of it when the holder dies or dozes off."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from arq.constants import in_progress_key_prefix
from arq.jobs import JobStatus

from kiebot.jobs.claims import Claims, Settlement

from .rig import Rig, claims_of, noop, until

ID = "kiebot:note:1:1"


def claims(rig: Rig, token: str, *, lease_s: float = 5.0) -> Claims:
    return claims_of(rig, "note", token=token, lease_s=lease_s)


async def lease_expires(rig: Rig) -> None:
    await rig.pool.delete(in_progress_key_prefix + ID)


async def test_the_job_of_a_killed_replica_runs_elsewhere_within_the_lease(rig: Rig) -> None:
    script = str(Path(__file__).with_name("doomed_replica.py"))
    doomed = await asyncio.create_subprocess_exec(
        sys.executable, script, rig.url, "0.6", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    started = asyncio.Event()

    async def note(context: object, number: int) -> None:
        started.set()

    try:
        await rig.enqueue(noop(1))
        assert doomed.stderr is not None
        assert await doomed.stderr.readline() == b"started\n"
        rig.worker(note=note, lease_s=0.6)
        await asyncio.sleep(0.8)  # longer than a lease: it is being renewed
        assert not started.is_set()
    finally:
        doomed.kill()
        await doomed.communicate()
    killed = time.monotonic()
    await asyncio.wait_for(started.wait(), 3)
    assert time.monotonic() - killed < 0.6 + 0.5 + 0.3  # lease, fallback poll, slack


async def test_a_claimed_job_is_claimed_by_nobody_else(rig: Rig) -> None:
    await rig.enqueue(noop(1))
    assert [job_id for job_id, _ in (await claims(rig, "a").claim(5)).jobs] == [ID]
    assert (await claims(rig, "b").claim(5)).jobs == ()


async def test_jobs_are_claimed_oldest_first_up_to_the_slots(rig: Rig) -> None:
    await rig.enqueue(*(noop(number) for number in range(5)))
    first = await claims(rig, "a").claim(3)
    second = await claims(rig, "b").claim(3)
    assert (len(first.jobs), len(second.jobs)) == (3, 2)
    assert max(score for _, score in first.jobs) <= min(score for _, score in second.jobs)


async def test_jobs_in_progress_at_the_head_do_not_hide_those_behind(rig: Rig) -> None:
    await rig.enqueue(*(noop(number) for number in range(1000)))
    assert len((await claims(rig, "a").claim(990)).jobs) == 990
    assert len((await claims(rig, "b").claim(20)).jobs) == 10


async def test_a_worker_that_slept_through_its_lease_can_settle_nothing_that_another_took(rig: Rig) -> None:
    sleeper, other = claims(rig, "a"), claims(rig, "b")
    await rig.enqueue(noop(1))
    ((_, score),) = (await sleeper.claim(1)).jobs
    await lease_expires(rig)
    assert (await other.claim(1)).jobs == ((ID, score),)
    assert await sleeper.renew({ID: score}) == [ID]
    assert await sleeper.settle([Settlement(ID, score, is_done=True)]) == [ID]
    assert await rig.arq_job(noop(1)).status() == JobStatus.in_progress
    assert await other.settle([Settlement(ID, score, is_done=True)]) == []


async def test_a_late_finish_does_not_swallow_the_same_id_queued_anew(rig: Rig) -> None:
    sleeper, other = claims(rig, "a"), claims(rig, "b")
    await rig.enqueue(noop(1))
    ((_, score),) = (await sleeper.claim(1)).jobs
    await lease_expires(rig)
    await other.claim(1)
    await other.settle([Settlement(ID, score, is_done=True)])
    await asyncio.sleep(0.002)  # scores are milliseconds
    await rig.enqueue(noop(1))
    assert await sleeper.settle([Settlement(ID, score, is_done=True)]) == [ID]
    assert await sleeper.renew({ID: score}) == []
    assert await rig.arq_job(noop(1)).status() == JobStatus.queued


async def test_a_lease_nobody_took_is_renewed_late_and_finished_late(rig: Rig) -> None:
    sleeper = claims(rig, "a")
    await rig.enqueue(noop(1))
    ((_, score),) = (await sleeper.claim(1)).jobs
    await lease_expires(rig)
    assert await sleeper.renew({ID: score}) == []
    assert (await claims(rig, "b").claim(1)).jobs == ()
    await lease_expires(rig)
    assert await sleeper.settle([Settlement(ID, score, is_done=True)]) == []
    assert await rig.waiting() == 0


async def test_a_run_whose_job_was_taken_over_is_cancelled(rig: Rig) -> None:
    ended: list[str] = []

    async def note(context: object, number: int) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    worker = rig.worker(note=note, lease_s=0.3)
    await rig.enqueue(noop(1))
    await until(lambda: worker.running == 1)
    await rig.pool.set(in_progress_key_prefix + ID, "another worker")
    await until(lambda: ended == ["cancelled"])
    await until(lambda: worker.running == 0)
    assert await rig.pool.get(in_progress_key_prefix + ID) == b"another worker"
    assert await rig.waiting() == 1


async def test_a_lease_that_ran_out_under_a_running_job_starts_no_second_run_here(rig: Rig) -> None:
    runs: list[int] = []
    release = asyncio.Event()

    async def note(context: object, number: int) -> None:
        runs.append(number)
        await release.wait()

    worker = rig.worker(note=note)
    await rig.enqueue(noop(1))
    await until(lambda: runs == [1])
    await lease_expires(rig)
    await rig.enqueue(noop(2))  # makes it look again
    await until(lambda: runs == [1, 2])
    assert await rig.pool.exists(in_progress_key_prefix + ID)
    release.set()
    await until(lambda: worker.running == 0)
    assert runs == [1, 2]
    assert await rig.waiting() == 0
