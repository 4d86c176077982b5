"""What enqueueing writes, and when it writes nothing."""

from __future__ import annotations

import time

import pytest
from arq.constants import job_key_prefix, retry_key_prefix
from arq.jobs import JobStatus

from kiebot.errors import Transient
from kiebot.jobs.bell import MAX_TOKENS
from kiebot.jobs.enqueue import Enqueuer
from kiebot.jobs.names import deliver, drain_lane

from .rig import Rig, claims_of, noop


async def test_arqs_client_reads_what_we_queued(rig: Rig) -> None:
    await rig.enqueue(deliver(7, 2), deliver(8, 1, delay_s=60))
    now, later = rig.arq_job(deliver(7, 2)), rig.arq_job(deliver(8, 1))
    assert (await now.status(), await later.status()) == (JobStatus.queued, JobStatus.deferred)
    info = await later.info()
    assert info is not None
    assert (info.function, tuple(info.args), info.kwargs) == ("deliver", (8, 1), {})
    assert info.score is not None
    assert 58 < info.score / 1000 - time.time() < 62
    assert [job.job_id for job in await rig.pool.queued_jobs()] == ["kiebot:deliver:7:2", "kiebot:deliver:8:1"]


async def test_an_id_that_waits_is_not_queued_twice_by_us_or_by_arq(rig: Rig) -> None:
    await rig.enqueue(deliver(7, 2), deliver(7, 2))
    await rig.enqueue(deliver(7, 2))
    assert await rig.waiting() == 1
    assert await rig.pool.enqueue_job("deliver", 7, 2, _job_id="kiebot:deliver:7:2") is None
    await rig.enqueue(deliver(7, 3))  # the row changed: a wake-up of its own
    assert await rig.waiting() == 2


async def test_a_lane_marked_many_times_before_its_turn_waits_once(rig: Rig) -> None:
    await rig.enqueue(drain_lane("c7", 1), drain_lane("c8", 1), drain_lane("c7", 2))
    await rig.enqueue(drain_lane("c7", 3))
    assert await rig.waiting() == 2


async def test_a_lane_marked_while_its_job_runs_waits_once_more_however_often(rig: Rig) -> None:
    claims = claims_of(rig, "drain_lane")
    for turn in range(2):
        await rig.enqueue(drain_lane("c7", 10 * turn), drain_lane("c7", 10 * turn + 1))
        assert await rig.waiting() == turn + 1
        assert len((await claims.claim(9)).jobs) == 1
    await rig.enqueue(drain_lane("c7", 30))
    assert len((await claims.claim(9)).jobs) == 1


async def test_a_lane_to_be_tried_again_later_keeps_its_time_beside_a_job_that_is_due(rig: Rig) -> None:
    await rig.enqueue(drain_lane("c7", -5, delay_s=60))
    await rig.enqueue(drain_lane("c7", 1), drain_lane("c7", 2))
    assert await rig.waiting() == 2
    assert await rig.arq_job(drain_lane("c7", -5)).status() == JobStatus.deferred


async def test_a_waiting_job_asked_for_earlier_moves_forward_and_never_back(rig: Rig) -> None:
    await rig.enqueue(deliver(7, 2, delay_s=60))
    await rig.enqueue(deliver(7, 2, delay_s=90))
    assert await rig.arq_job(deliver(7, 2)).status() == JobStatus.deferred
    await rig.enqueue(deliver(7, 2))
    assert await rig.arq_job(deliver(7, 2)).status() == JobStatus.queued
    assert await rig.pool.llen(rig.keys.bell) == 1  # type: ignore[misc]  # redis-py's types know only sync


async def test_a_job_waiting_out_a_retry_keeps_its_time(rig: Rig) -> None:
    await rig.enqueue(deliver(7, 2, delay_s=60))
    await rig.pool.set(retry_key_prefix + rig.keys.job_id(deliver(7, 2).id), 1)
    await rig.enqueue(deliver(7, 2))
    assert await rig.arq_job(deliver(7, 2)).status() == JobStatus.deferred


async def test_a_payload_outlives_its_due_time_by_a_day(rig: Rig) -> None:
    await rig.enqueue(deliver(7, 2, delay_s=3600))
    left_s = await rig.pool.ttl(job_key_prefix + rig.keys.job_id(deliver(7, 2).id))
    assert 24 * 3600 < left_s <= 25 * 3600


async def test_tokens_on_the_bell_are_bounded_and_expire(rig: Rig) -> None:
    await rig.enqueue(*(noop(number) for number in range(1200)))
    await rig.enqueue(noop(5000))
    assert await rig.waiting() == 1201
    assert await rig.pool.llen(rig.keys.bell) == MAX_TOKENS  # type: ignore[misc]
    assert 0 < await rig.pool.pttl(rig.keys.bell) <= 10_000


async def test_a_job_that_falls_due_before_the_workers_look_again_wakes_one_to_wait_for_it(rig: Rig) -> None:
    """A worker rests for half a second when it has seen nothing that is due sooner."""
    await rig.enqueue(deliver(7, 2, delay_s=0.3))
    assert await rig.pool.llen(rig.keys.bell) == 1  # type: ignore[misc]
    await rig.pool.delete(rig.keys.bell)
    await rig.enqueue(deliver(8, 2, delay_s=0.4))  # whoever waits for the first one sees to the second
    assert not await rig.pool.exists(rig.keys.bell)


async def test_deferred_jobs_ring_no_bell(rig: Rig) -> None:
    await rig.enqueue(noop(1, delay_s=60))
    await rig.enqueue()
    assert not await rig.pool.exists(rig.keys.bell)


async def test_two_kiebots_on_one_redis_run_their_own_jobs_only(rig: Rig) -> None:
    other = Rig(rig.url, prefix="other")
    await rig.enqueue(deliver(7, 1))
    await other.enqueue(deliver(7, 1))
    assert (await rig.waiting(), await other.waiting()) == (1, 1)
    assert len(await rig.pool.keys(job_key_prefix + "*")) == 2
    await other.aclose()


async def test_without_redis_enqueueing_is_a_transient_failure(fragile: Rig) -> None:
    await fragile.enqueue(noop(1))
    lost = Rig("unix:///nonexistent/s")
    with pytest.raises(Transient) as raised:
        await Enqueuer(lost.pool, prefix="kiebot").enqueue([noop(1)])
    assert raised.value.retry_after_s > 0
    await lost.aclose()


async def test_scripts_are_loaded_again_when_the_server_forgot_them(rig: Rig) -> None:
    await rig.enqueue(noop(1))
    await rig.pool.script_flush()
    await rig.enqueue(noop(2))
    assert await rig.waiting() == 2
