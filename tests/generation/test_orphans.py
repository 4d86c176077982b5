"""Tasks whose createTask was never answered: they come home by their callback, early, late, or in a bad moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime

import pytest
from sqlalchemy import text

from kiebot.errors import Transient
from kiebot.generation.effects import apply
from kiebot.generation.machine import Begun, Broke, NotCreated, TaskCreated
from kiebot.generation.model import Generation, State
from kiebot.simulators.kie import Task
from kiebot.store import Store, Tx
from tests.generation.conftest import Rig, Unlimited


@pytest.fixture
async def rig(rig: Rig) -> Rig:
    await rig.grant(10)
    return rig.with_callbacks()


async def orphaned(rig: Rig, marks: str) -> tuple[Generation, Task]:
    """A generation whose answer was lost, and its task."""
    generation = await rig.order(prompt=f"a cat [[sim:lose=a]] {marks}")
    await rig.engine.advance(generation.id)
    unknown = await rig.read(generation.id)
    assert unknown.state is State.UNKNOWN
    (task,) = rig.kie.tasks.values()
    return unknown, task


async def knocks(rig: Rig, generation: Generation, task: Task) -> None:
    assert generation.attempt_id is not None
    await rig.engine.knock(generation.attempt_id, task.task_id)


async def knocks_until_heard(rig: Rig, generation: Generation, task: Task) -> None:
    async with asyncio.timeout(20):
        while True:
            with suppress(Transient):
                return await knocks(rig, generation, task)
            await asyncio.sleep(0.1)


async def test_a_callback_that_comes_before_its_task_can_be_seen_is_asked_for_again(rig: Rig) -> None:
    unknown, task = await orphaned(rig, "[[sim:gap=2]]")
    with pytest.raises(Transient):  # the provider calls again after any answer but 200
        await knocks(rig, unknown, task)
    await knocks_until_heard(rig, unknown, task)
    assert (await rig.settles(unknown.id)).state is State.SUCCEEDED


async def test_a_callback_after_the_void_that_comes_before_the_end_can_be_seen_is_asked_for_again(rig: Rig) -> None:
    unknown, task = await orphaned(rig, "[[sim:seconds=2]]")
    await asyncio.sleep(0.1)  # the wait for an orphan is over
    assert (await rig.settles(unknown.id)).state is State.FAILED
    with pytest.raises(Transient):
        await knocks(rig, unknown, task)
    await knocks_until_heard(rig, unknown, task)
    assert await rig.told(unknown.id) == ["failed:answer_lost", "late_result"]
    assert await rig.balance() == (10_000, 0)


async def test_a_callback_of_a_task_that_failed_after_the_void_needs_no_other(rig: Rig) -> None:
    unknown, task = await orphaned(rig, "[[sim:fail=rights]] [[sim:seconds=0]]")
    await asyncio.sleep(0.1)
    assert (await rig.settles(unknown.id)).state is State.FAILED
    await knocks(rig, unknown, task)
    assert await rig.told(unknown.id) == ["failed:answer_lost"]


@pytest.mark.parametrize("mode", ["dead", "zero"])
async def test_a_callback_after_a_result_was_found_dead_makes_no_gift_of_it(rig: Rig, mode: str) -> None:
    generation = await rig.order(prompt=f"a cat [[sim:result={mode}]]")
    ended = await rig.settles(generation.id)
    assert (ended.state, ended.failure) == (State.FAILED, "result_lost")
    (task,) = rig.kie.tasks.values()
    with suppress(Transient):
        await knocks(rig, ended, task)
    assert await rig.told(generation.id) == ["failed:result_lost"]


async def test_an_orphan_adopted_in_the_very_moment_of_giving_it_up_stays_adopted(rig: Rig) -> None:
    unknown, task = await orphaned(rig, "[[sim:seconds=0]]")
    await asyncio.sleep(0.12)  # the wait for an orphan is over

    async def comes_home() -> None:
        await knocks(rig, unknown, task)

    tools = replace(rig.tools, store=Interrupted(rig.tools.store, comes_home))
    await replace(rig, tools=tools).engine.advance(unknown.id)
    assert (await rig.read(unknown.id)).state is State.RUNNING
    assert (await rig.settles(unknown.id)).state is State.SUCCEEDED
    assert await rig.told(unknown.id) == ["result"]
    assert await rig.balance() == (8400, 0)
    await rig.books_are_right()


async def test_an_orphan_given_up_in_the_very_moment_it_comes_home_is_a_gift(rig: Rig) -> None:
    """The callback was read while it was waited for; nobody would call again after a 200."""
    unknown, task = await orphaned(rig, "[[sim:seconds=0]]")
    await asyncio.sleep(0.12)  # the wait for an orphan is over

    async def is_given_up() -> None:
        await rig.engine.advance(unknown.id)

    tools = replace(rig.tools, store=Interrupted(rig.tools.store, is_given_up))
    await knocks(replace(rig, tools=tools), unknown, task)
    assert await rig.told(unknown.id) == ["failed:answer_lost", "late_result"]
    assert await rig.balance() == (10_000, 0)
    await rig.books_are_right()


async def test_an_orphan_given_up_in_the_moment_of_an_early_callback_is_called_for_again(rig: Rig) -> None:
    unknown, task = await orphaned(rig, "[[sim:seconds=2]]")
    await asyncio.sleep(0.12)

    async def is_given_up() -> None:
        await rig.engine.advance(unknown.id)

    tools = replace(rig.tools, store=Interrupted(rig.tools.store, is_given_up))
    with pytest.raises(Transient):
        await knocks(replace(rig, tools=tools), unknown, task)
    await knocks_until_heard(rig, unknown, task)
    assert await rig.told(unknown.id) == ["failed:answer_lost", "late_result"]


async def test_an_orphan_of_an_earlier_attempt_is_a_gift_and_stays_that_attempts_task(rig: Rig) -> None:
    """Its callback was read while nothing else was known; then the work went on without it, and failed."""
    unknown, task = await orphaned(rig, "[[sim:seconds=0]]")
    await asyncio.sleep(0.05)
    async with rig.database.engine.begin() as connection:
        await connection.execute(text("UPDATE generations SET state = 'submitting'"))

    async def another_fails() -> None:
        async with rig.database.transaction() as tx:
            for event in (NotCreated(), Begun(), Broke("moderation")):
                await apply(tx, unknown.id, event)

    tools = replace(rig.tools, store=Interrupted(rig.tools.store, another_fails))
    await knocks(replace(rig, tools=tools), unknown, task)
    assert await rig.told(unknown.id) == ["failed:moderation", "late_result"]
    assert (await rig.read(unknown.id)).attempt_id != unknown.attempt_id
    async with rig.database.engine.connect() as connection:
        query = text("SELECT task_id FROM attempts ORDER BY no")
        assert list(await connection.scalars(query)) == [task.task_id, None]


async def test_a_callback_hurries_a_work_whose_submit_was_answered_in_the_very_moment(rig: Rig) -> None:
    generation = await rig.order(prompt="a cat [[sim:lose=b]] [[sim:seconds=0]]")
    submitting = asyncio.create_task(rig.engine.advance(generation.id))
    while not rig.kie.tasks:
        await asyncio.sleep(0.01)
    (task,) = rig.kie.tasks.values()
    begun = await rig.read(generation.id)

    async def is_answered() -> None:
        async with rig.database.transaction() as tx:
            await apply(tx, generation.id, TaskCreated(task.task_id), due_in_s=10.0, attempt_id=begun.attempt_id)

    tools = replace(rig.tools, store=Interrupted(rig.tools.store, is_answered))
    rig.queue.wakeups.clear()
    await knocks(replace(rig, tools=tools), begun, task)
    assert 0.0 in [wakeup.delay_s for wakeup in rig.advances()], "its result waits for no poll"
    submitting.cancel()
    await asyncio.gather(submitting, return_exceptions=True)


async def test_a_callback_does_not_cut_the_pause_of_a_task_that_found_no_room(rig: Rig) -> None:
    generation = await rig.order()
    await rig.engine.advance(generation.id)
    running = await rig.read(generation.id)
    (task,) = rig.kie.tasks.values()

    async def finds_no_room() -> None:
        async with rig.database.transaction() as tx:
            await apply(tx, generation.id, Broke("capacity", again=True), due_in_s=120.0)

    tools = replace(rig.tools, store=Interrupted(rig.tools.store, finds_no_room))
    await knocks(replace(rig, tools=tools), running, task)
    async with rig.database.engine.connect() as connection:
        query = text("SELECT extract(epoch FROM due_at - now())::float8 FROM generations")
        assert (await connection.scalar(query) or 0.0) > 100


async def test_a_task_that_ends_while_the_answer_to_its_submit_still_hangs_is_delivered_at_once(rig: Rig) -> None:
    generation = await rig.order(prompt="a cat [[sim:lose=b]] [[sim:seconds=0]]")
    submitting = asyncio.create_task(rig.engine.advance(generation.id))
    while not rig.kie.tasks:
        await asyncio.sleep(0.01)
    (task,) = rig.kie.tasks.values()
    await knocks(rig, await rig.read(generation.id), task)
    assert (await rig.settles(generation.id, tries=100)).state is State.SUCCEEDED
    assert not submitting.done()
    submitting.cancel()
    await asyncio.gather(submitting, return_exceptions=True)
    assert await rig.told(generation.id) == ["result"]
    assert await rig.balance() == (8400, 0)
    await rig.books_are_right()


async def test_a_callback_that_names_another_attempts_task_is_refused(rig: Rig) -> None:
    """The body is unsigned: whoever knows a callback address could point it at a result that somebody else paid for."""
    other = await rig.order()
    await rig.engine.advance(other.id)
    (paid,) = rig.kie.tasks.values()
    rig.kie.loses_next_answer("a")
    generation = await rig.order()
    await rig.engine.advance(generation.id)
    unknown = await rig.read(generation.id)
    assert unknown.state is State.UNKNOWN and unknown.attempt_id is not None
    assert not await rig.engine.knock(unknown.attempt_id, paid.task_id)
    assert (await rig.read(generation.id)).state is State.UNKNOWN
    await rig.settles(other.id)


async def test_after_its_end_an_attempt_takes_no_other_task_than_its_own(rig: Rig) -> None:
    rig.kie.fails_next("moderation_prompt")
    generation = await rig.order()
    ended = await rig.settles(generation.id)
    assert ended.state is State.FAILED and ended.attempt_id is not None
    rig.kie.loses_next_answer("a")
    await rig.engine.advance((await rig.order()).id)
    stray = next(task for task in rig.kie.tasks.values() if task.task_id != ended.task_id)
    await asyncio.sleep(0.05)
    assert not await rig.engine.knock(ended.attempt_id, stray.task_id)
    assert await rig.told(generation.id) == ["failed:moderation"]
    assert await rig.engine.knock(ended.attempt_id, ended.task_id)


async def test_the_question_after_a_callback_keeps_to_the_budget_of_polls(rig: Rig) -> None:
    unknown, task = await orphaned(rig, "[[sim:seconds=0]]")
    budget = Crowded(0.05, times=2)
    rig.tools = replace(rig.tools, poll_budget=budget)
    await knocks(rig, unknown, task)
    assert budget.events[:3] == [f"hurried {unknown.id}", "told to wait", "told to wait"]
    assert (await rig.read(unknown.id)).state is State.RUNNING


async def test_a_callback_for_which_there_is_no_room_in_time_is_asked_for_again(rig: Rig) -> None:
    unknown, task = await orphaned(rig, "[[sim:seconds=0]]")
    rig.tools = replace(rig.tools, poll_budget=Crowded(60.0, times=1))
    with pytest.raises(Transient):
        await knocks(rig, unknown, task)
    assert rig.kie.journal.polls_of(task.task_id) == []


class Crowded(Unlimited):
    """A budget that has no room for the first few who ask."""

    def __init__(self, wait_s: float, *, times: int) -> None:
        super().__init__()
        self._wait_s, self._times = wait_s, times

    async def take(self, turn: str, since: datetime | None = None) -> float:
        if self._times > 0:
            self._times -= 1
            self.events.append("told to wait")
            return self._wait_s
        return await super().take(turn, since)


class Interrupted:
    """A store; between its first transaction, in which a generation is claimed, and the next, something happens."""

    def __init__(self, store: Store, between: Callable[[], Awaitable[None]]) -> None:
        self._store, self._between, self._count = store, between, 0

    def transaction(self) -> AbstractAsyncContextManager[Tx]:
        self._count += 1
        return self._interrupted() if self._count == 2 else self._store.transaction()

    def single(self) -> AbstractAsyncContextManager[Tx]:
        return self.transaction()

    @asynccontextmanager
    async def _interrupted(self) -> AsyncIterator[Tx]:
        await self._between()
        async with self._store.transaction() as tx:
            yield tx
