"""Redis stopped, killed, emptied, read-only: the worker stays, and goes on."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from kiebot.errors import Transient

from .rig import Rig, Server, noop, until


async def test_a_stopped_server_is_survived_and_told_in_two_lines(fragile: Rig, own_server: Server) -> None:
    done: list[int] = []

    async def note(context: object, number: int) -> None:
        done.append(number)

    with capture_logs() as logs:
        worker = fragile.worker(note=note)
        await fragile.enqueue(noop(1))
        await until(lambda: done == [1])
        own_server.pause()
        await until(lambda: worker.outage_s > 0.7)
        own_server.resume()
        await until(lambda: worker.outage_s == 0)
        await fragile.enqueue(noop(2))
        await until(lambda: done == [1, 2])
    events = [entry["event"] for entry in logs]
    assert (events.count("worker.outage"), events.count("worker.resumed")) == (1, 1)


async def test_a_server_that_comes_back_empty_is_served_at_once(fragile: Rig, own_server: Server) -> None:
    done: list[int] = []
    started, release = asyncio.Event(), asyncio.Event()

    async def note(context: object, number: int) -> None:
        if number == 1:
            started.set()
            await release.wait()
        done.append(number)

    worker = fragile.worker(note=note, lease_s=0.6)
    await fragile.enqueue(noop(1))
    await until(started.is_set)  # a job that is only claimed still has questions to the server
    own_server.kill()
    await until(lambda: worker.outage_s > 0.3)
    release.set()
    await until(lambda: worker.running == 0)  # ended while Redis was away: noted, no crash
    assert done == [1]
    with pytest.raises(Transient):
        await fragile.enqueue(noop(2))
    own_server.start()
    await until(lambda: worker.outage_s == 0)
    await fragile.enqueue(noop(2))
    await until(lambda: done == [1, 2])
    await until(lambda: _is_clean(fragile))
    await until(lambda: _is_healthy(fragile))


async def _is_clean(rig: Rig) -> bool:
    return not await rig.pool.keys("arq:*") and await rig.waiting() == 0


async def _is_healthy(rig: Rig) -> bool:
    return bool(await rig.pool.exists(rig.keys.health))


async def test_a_job_that_ended_while_redis_stood_still_is_settled_and_not_run_again(
    fragile: Rig, own_server: Server
) -> None:
    runs: list[int] = []
    release = asyncio.Event()

    async def note(context: object, number: int) -> None:
        runs.append(number)
        await release.wait()

    worker = fragile.worker(note=note, lease_s=0.6)
    await fragile.enqueue(*(noop(number) for number in range(5)))
    await until(lambda: len(runs) == 5)
    own_server.pause()
    release.set()
    await until(lambda: worker.running == 0)
    await until(lambda: worker.outage_s > 0.7)  # the leases have run out meanwhile
    own_server.resume()
    await until(lambda: _is_clean(fragile))
    assert len(runs) == 5


async def test_a_read_only_server_is_an_outage_and_its_connections_are_given_up(fragile: Rig) -> None:
    done: list[int] = []

    async def note(context: object, number: int) -> None:
        done.append(number)

    worker = fragile.worker(note=note)
    await fragile.enqueue(noop(1))
    await until(lambda: done == [1])
    await fragile.pool.replicaof("127.0.0.1", "1")
    await until(lambda: worker.outage_s > 0)
    await fragile.pool.replicaof("NO", "ONE")
    await until(lambda: worker.outage_s == 0)
    await fragile.enqueue(noop(2))
    await until(lambda: done == [1, 2])


async def test_a_full_server_still_lets_running_jobs_settle(fragile: Rig) -> None:
    release = asyncio.Event()

    async def note(context: object, number: int) -> None:
        await release.wait()

    worker = fragile.worker(note=note)
    await fragile.enqueue(noop(1))
    await until(lambda: len(worker.job_tasks) == 1)
    await fragile.pool.config_set("maxmemory", "1")
    release.set()
    await until(lambda: worker.running == 0)
    assert await fragile.waiting() == 0
    await fragile.pool.config_set("maxmemory", "0")
    await until(lambda: worker.outage_s == 0)


async def test_a_worker_may_start_before_its_server(fragile: Rig, own_server: Server) -> None:
    done: list[int] = []

    async def note(context: object, number: int) -> None:
        done.append(number)

    own_server.kill()
    worker = fragile.worker(note=note)
    await until(lambda: worker.outage_s > 0)
    own_server.start()
    await until(lambda: worker.outage_s == 0)
    await fragile.enqueue(noop(1))
    await until(lambda: done == [1])
