"""A callback that is sent again: a captured signature is worth one knock, and one that failed may be repeated."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from kiebot.clock import ManualClock
from kiebot.generation.model import Generation, State
from kiebot.jobs.pool import make_pool
from kiebot.kie.callbacks import sign
from kiebot.kie.replays import Replays
from kiebot.observe.metrics import METRICS
from kiebot.visitors import Visitors
from kiebot.web.app import make_app
from tests.generation.conftest import Rig, Unlimited
from tests.generation.conftest import rig as rig
from tests.web.web_kit import Behind, client

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


async def ended_task(rig: Rig, state: State) -> tuple[Rig, Generation, str]:
    """A work in this state, whose task has ended at the provider and calls back."""
    rig = rig.with_callbacks()
    await rig.grant(10)
    if state is not State.RUNNING:
        rig.kie.loses_next_answer("a")
    generation = await rig.order()
    await rig.engine.advance(generation.id)
    await asyncio.sleep(0.1)  # the task's own time, and the wait for an orphan
    if state is State.FAILED:
        await rig.settles(generation.id)
    found = await rig.read(generation.id)
    assert found.state is state
    (task,) = rig.kie.tasks.values()
    return rig, found, task.task_id


@pytest.mark.parametrize(
    ("state", "ending", "told", "available"),
    [
        (State.RUNNING, State.SUCCEEDED, ["result"], 8400),
        (State.UNKNOWN, State.SUCCEEDED, ["result"], 8400),
        (State.FAILED, State.FAILED, ["failed:answer_lost", "late_result"], 10_000),
    ],
)
async def test_one_signed_callback_sent_a_hundred_times_at_once_has_one_effect(
    rig: Rig, door: Door, state: State, ending: State, told: list[str], available: int
) -> None:
    """Through the web part, on real stores: each is answered, and those that were asked to come again do."""
    rig, generation, task_id = await ended_task(rig, state)
    door.replica.generations = rig.engine
    asked = len(rig.kie.journal.polls_of(task_id))
    app = make_app(ready=Behind().ready, metrics=bytes, receive=None, webhook_secret=None, knock=door.visitors.knock)
    stamp = int(door.clock.now().timestamp())
    headers = {"x-webhook-timestamp": str(stamp), "x-webhook-signature": sign(KEY, task_id, stamp)}
    async with client(app) as http, asyncio.timeout(20):

        async def send() -> int:
            path = f"/kie/callback/{generation.attempt_id}"
            return (await http.post(path, json={"data": {"taskId": task_id}}, headers=headers)).status_code

        first = await asyncio.gather(*(send() for _ in range(100)))
        again = await asyncio.gather(*(send() for status in first if status == 503))
    assert 200 in first
    assert set(first) <= {200, 503}
    assert set(again) <= {200}
    assert (await rig.settles(generation.id)).state is ending
    assert len(rig.kie.journal.polls_of(task_id)) - asked <= 2, "the provider was asked for each of them"
    assert len(rig.advances()) <= 5, "a job for each of them"
    assert await rig.told(generation.id) == told
    assert await rig.balance() == (available, 0)
    await rig.books_are_right()
