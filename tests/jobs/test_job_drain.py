"""Leaving, and being seen to live."""

from __future__ import annotations

import asyncio

import pytest
from arq.connections import RedisSettings
from arq.constants import retry_key_prefix
from arq.jobs import JobStatus
from arq.worker import async_check_health

from .rig import Rig, Server, noop, until


async def test_a_drain_lets_running_jobs_end_and_takes_no_new_ones(rig: Rig) -> None:
    done: list[int] = []

    async def note(context: object, number: int) -> None:
        await asyncio.sleep(0.2)
        done.append(number)

    worker = rig.worker(note=note)
    await rig.enqueue(noop(1))
    await until(lambda: worker.running == 1)
    draining = asyncio.create_task(worker.drain(60))
    await asyncio.sleep(0.05)
    await rig.enqueue(noop(2))
    async with asyncio.timeout(30):  # its grace is not waited out
        assert await draining == 0
    assert done == [1]
    assert await rig.arq_job(noop(2)).status() == JobStatus.queued
    assert worker.main_task is not None
    assert worker.main_task.done()


async def test_what_does_not_end_in_time_is_handed_back_and_another_takes_it_at_once(rig: Rig) -> None:
    log: list[str] = []

    async def note(context: str, number: int) -> None:
        log.append(f"{context} started")
        try:
            await asyncio.sleep(60 if context == "old" else 0)
        except asyncio.CancelledError:
            log.append(f"{context} cancelled")
            raise

    old = rig.worker(note=note, context="old")
    await rig.enqueue(noop(1))
    await until(lambda: log == ["old started"])
    rig.worker(note=note, context="new", poll_delay_s=30)
    await asyncio.sleep(0.1)  # the new one waits at the bell
    assert await old.drain(0.1) == 1
    took = await until(lambda: log == ["old started", "old cancelled", "new started"])
    assert took < 0.2
    assert old.running == 0


async def test_a_job_handed_back_has_spent_no_try(rig: Rig) -> None:
    async def note(context: object, number: int) -> None:
        await asyncio.sleep(60)

    for _ in range(3):
        worker = rig.worker(note=note, max_tries=1)
        await rig.enqueue(noop(1))
        await until(lambda worker=worker: len(worker.job_tasks) == 1)
        await worker.drain(0)
    assert await rig.arq_job(noop(1)).status() == JobStatus.queued
    assert await rig.pool.get(retry_key_prefix + rig.keys.job_id(noop(1).id)) == b"0"


async def test_a_second_drain_cuts_the_first_short(rig: Rig) -> None:
    async def note(context: object, number: int) -> None:
        await asyncio.sleep(60)

    worker = rig.worker(note=note)
    await rig.enqueue(noop(1))
    await until(lambda: worker.running == 1)
    patient = asyncio.create_task(worker.drain(30))
    await asyncio.sleep(0.05)
    assert await worker.drain(0) == 1
    await asyncio.wait_for(patient, 1)


async def test_a_cancelled_worker_hands_its_jobs_back_first(rig: Rig) -> None:
    async def note(context: object, number: int) -> None:
        await asyncio.sleep(60)

    worker = rig.worker(note=note)
    await rig.enqueue(noop(1))
    await until(lambda: worker.running == 1)
    assert worker.main_task is not None
    worker.main_task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker.main_task
    assert await rig.arq_job(noop(1)).status() == JobStatus.queued


async def test_a_drain_ends_although_redis_stands_still(fragile: Rig, own_server: Server) -> None:
    async def note(context: object, number: int) -> None:
        await asyncio.sleep(60)

    worker = fragile.worker(note=note)
    await fragile.enqueue(noop(1))
    await until(lambda: worker.running == 1)
    own_server.pause()
    async with asyncio.timeout(30):
        await worker.drain(0.1)
    own_server.resume()


async def test_arqs_check_says_alive_while_any_replica_lives(rig: Rig) -> None:
    async def note(context: object, number: int) -> None: ...

    leaving, staying = rig.worker(note=note, replica="a"), rig.worker(note=note, replica="b")
    await until(lambda: _exists(rig, rig.keys.replica_health("a")))
    await until(lambda: _exists(rig, rig.keys.replica_health("b")))
    await leaving.drain(0)
    assert not await _exists(rig, rig.keys.replica_health("a"))
    settings = RedisSettings.from_dsn(rig.url)
    assert await async_check_health(settings, queue_name=rig.keys.queue) == 0
    assert 0 < await rig.pool.pttl(rig.keys.health) <= 30_000
    assert staying.running == 0


async def _exists(rig: Rig, key: str) -> bool:
    return bool(await rig.pool.exists(key))
