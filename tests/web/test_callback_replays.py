"""A callback that is sent again: a captured signature is worth one knock, and one that failed may be repeated."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from kiebot.clock import ManualClock
from kiebot.generation.model import State
from kiebot.jobs.pool import make_pool
from kiebot.kie.callbacks import sign
from kiebot.kie.replays import Replays
from kiebot.observe.metrics import METRICS
from kiebot.visitors import Visitors
from tests.generation.conftest import Rig, Unlimited
from tests.generation.conftest import rig as rig

KEY = "whk_test_key"


class Door:
    """The web part's way in, before an engine that runs by hand."""

    def __init__(self, rig: Rig, redis: Any, prefix: str) -> None:
        self.clock = ManualClock()
        self.replica = SimpleNamespace(generations=rig.engine)
        settings = SimpleNamespace(kie_webhook_key=SecretStr(KEY), bot_mode="polling")
        adapters = SimpleNamespace(settings=settings, clock=self.clock, replays=Replays(redis, prefix))
        self.visitors = Visitors(cast("Any", adapters), cast("Any", self.replica))

    async def knock(self, attempt_id: UUID, task_id: str, *, at: int | None = None, noise: str = "") -> int:
        stamp = int(self.clock.now().timestamp()) if at is None else at
        headers = {"x-webhook-timestamp": str(stamp), "x-webhook-signature": sign(KEY, task_id, stamp)}
        body = json.dumps({"data": {"taskId": task_id}, "noise": noise}).encode()
        return await self.visitors.knock(attempt_id, headers, body)


@pytest.fixture
async def door(rig: Rig, redis_url: str, redis_prefix: str) -> AsyncIterator[Door]:
    pool = make_pool(redis_url, prefix=redis_prefix)
    yield Door(rig, pool, redis_prefix)
    await pool.aclose()


def counted(outcome: str) -> float:
    return METRICS.registry.get_sample_value("kiebot_callbacks_total", {"outcome": outcome}) or 0.0


def hurried(rig: Rig) -> int:
    assert isinstance(rig.tools.poll_budget, Unlimited)
    return sum(event.startswith("hurried") for event in rig.tools.poll_budget.events)


async def running(rig: Rig) -> tuple[UUID, str]:
    await rig.grant(10)
    generation = await rig.order()
    await rig.engine.advance(generation.id)
    found = await rig.read(generation.id)
    assert found.state is State.RUNNING
    assert found.attempt_id is not None
    assert found.task_id is not None
    return found.attempt_id, found.task_id


async def test_a_replayed_callback_is_answered_and_brings_no_work(rig: Rig, door: Door) -> None:
    attempt_id, task_id = await running(rig)
    at, before = int(door.clock.now().timestamp()), counted("replayed")
    assert await door.knock(attempt_id, task_id, at=at) == 200
    for number in range(5):  # the body may be altered: only the task and the time are signed
        assert await door.knock(attempt_id, task_id, at=at, noise=f"{number}") == 200
    assert hurried(rig) == 1
    assert counted("replayed") == before + 5


async def test_a_callback_that_was_stamped_anew_is_heard(rig: Rig, door: Door) -> None:
    attempt_id, task_id = await running(rig)
    at = int(door.clock.now().timestamp())
    assert [await door.knock(attempt_id, task_id, at=at + later) for later in (0, 5)] == [200, 200]
    assert hurried(rig) == 2


async def test_a_callback_that_could_not_be_taken_may_come_again_as_it_was(rig: Rig, door: Door) -> None:
    attempt_id, task_id = await running(rig)
    door.replica.generations = None
    assert await door.knock(attempt_id, task_id) == 503
    assert await door.knock(uuid4(), task_id) == 503
    door.replica.generations = rig.engine
    assert await door.knock(uuid4(), task_id) == 404
    assert await door.knock(attempt_id, task_id) == 200
    assert hurried(rig) == 1


async def test_without_redis_callbacks_are_heard_and_nothing_is_remembered(rig: Rig) -> None:
    away = make_pool("redis://127.0.0.1:1/0", prefix="p")
    door = Door(rig, away, "p")
    attempt_id, task_id = await running(rig)
    assert [await door.knock(attempt_id, task_id) for _ in range(2)] == [200, 200]
    assert hurried(rig) == 2
    await away.aclose()


async def test_refused_callbacks_are_counted_by_their_reason(rig: Rig, door: Door) -> None:
    before = {why: counted(why) for why in ("forged", "stale", "unsigned", "unknown")}
    attempt_id, task_id = await running(rig)
    now = int(door.clock.now().timestamp())
    body = json.dumps({"data": {"taskId": task_id}}).encode()
    forged = {"x-webhook-timestamp": str(now), "x-webhook-signature": sign("another", task_id, now)}
    assert await door.visitors.knock(attempt_id, forged, body) == 401
    assert await door.visitors.knock(attempt_id, {}, body) == 401
    assert await door.knock(attempt_id, task_id, at=now - 301) == 401
    assert await door.knock(uuid4(), task_id) == 404
    assert {why: counted(why) - before[why] for why in before} == dict.fromkeys(before, 1.0)
