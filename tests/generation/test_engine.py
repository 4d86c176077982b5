from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import get_args
from uuid import uuid4

import pytest

from kiebot.errors import KeyReused, Refused
from kiebot.generation.model import Quoted, State
from kiebot.generation.pace import Pace
from kiebot.generation.service import accept, cancel
from kiebot.generation.tools import Limits
from kiebot.simulators.kie.failures import FAILURES, FailureClass
from tests.generation.conftest import ANNA, Rig, Unlimited, an_order


async def test_a_generation_is_held_made_captured_and_its_result_decided(rig: Rig) -> None:
    await rig.grant(10)
    generation = await rig.order()
    assert await rig.balance() == (8400, 1600)
    ended = await rig.settles(generation.id)
    assert ended.state is State.SUCCEEDED
    assert await rig.balance() == (8400, 0)
    assert await rig.told(generation.id) == ["result"]
    assert len(rig.kie.billed_tasks()) == 1
    await rig.books_are_right()


async def test_a_failed_generation_gives_the_held_credits_back(rig: Rig) -> None:
    await rig.grant(10)
    rig.kie.fails_next("moderation_prompt")
    generation = await rig.order()
    ended = await rig.settles(generation.id)
    assert (ended.state, ended.failure) == (State.FAILED, "moderation")
    assert await rig.balance() == (10_000, 0)
    assert await rig.told(generation.id) == ["failed:moderation"]
    await rig.books_are_right()


async def test_a_failure_of_the_providers_servers_is_tried_once_more_as_a_new_task(rig: Rig) -> None:
    await rig.grant(10)
    rig.kie.fails_next("server")
    generation = await rig.order()
    ended = await rig.settles(generation.id)
    assert (ended.state, ended.attempt_no) == (State.SUCCEEDED, 2)
    assert await rig.balance() == (8400, 0)
    await rig.books_are_right()


# What the engine makes of each class of failures: the word it is told by, and how many tasks are made in all.
ENDS: dict[FailureClass, tuple[str, int]] = {
    "moderation_prompt": ("moderation", 1),
    "moderation_media": ("moderation", 1),
    "rights": ("moderation", 1),
    "input_fetch": ("input_fetch", 2),
    "input_semantics": ("input", 1),
    "server": ("server", 2),
    "timeout": ("timeout", 2),
    "capacity": ("capacity", 6),
    "refunded": ("server", 2),
}


@pytest.mark.parametrize("failure_class", get_args(FailureClass))
async def test_every_sentence_of_every_failure_voids_tells_why_and_is_tried_again_where_that_may_help(
    rig: Rig, failure_class: FailureClass
) -> None:
    rig.tools = replace(rig.tools, pace=Pace(scale=0.00001))
    await rig.grant(10)
    word, tasks = ENDS[failure_class]
    for failure in FAILURES[failure_class]:
        for _ in range(tasks):
            rig.kie.fails_next(failure.text)
        generation = await rig.order()
        ended = await rig.settles(generation.id, tries=2000)
        assert (ended.state, ended.failure, ended.attempt_no) == (State.FAILED, word, tasks), failure.text
        assert await rig.told(generation.id) == [f"failed:{word}"]
        assert await rig.balance() == (10_000, 0)
    await rig.books_are_right()


@pytest.mark.parametrize("variant", ["a", "d", "e"])
async def test_a_lost_answer_is_never_submitted_again_and_the_money_goes_back(rig: Rig, variant: str) -> None:
    await rig.grant(10)
    rig.kie.loses_next_answer(variant)
    generation = await rig.order()
    ended = await rig.settles(generation.id)
    assert (ended.state, ended.failure) == (State.FAILED, "answer_lost")
    assert await rig.balance() == (10_000, 0)
    assert len(rig.kie.tasks) == 1
    assert await rig.told(generation.id) == ["failed:answer_lost"]
    await rig.books_are_right()


async def test_a_press_that_is_repeated_buys_once_and_one_key_for_two_orders_is_a_bug(rig: Rig) -> None:
    await rig.grant(100)
    first = await rig.order(key="press", image_size=1.0)
    assert (await rig.order(key="press", image_size=1.0)).id == first.id
    for other in ({"image_size": 2.0}, {"model_id": "qwen/text-to-image"}):
        with pytest.raises(KeyReused):
            await rig.order(key="press", **other)
    dearer = replace(an_order(key="press", image_size=1.0), quote=Quoted(800, 1610))
    stranger = replace(an_order(key="press", image_size=1.0), user_id=8)
    for order in (dearer, stranger):
        with pytest.raises(KeyReused):
            async with rig.database.transaction() as tx:
                await accept(tx, order, rig.tools.limits)
    assert await rig.balance() == (98_400, 1600)
    await rig.books_are_right()


async def test_with_a_callback_address_a_lost_task_finds_its_owner_and_is_charged_once(rig: Rig) -> None:
    rig = rig.with_callbacks()
    await rig.grant(10)
    rig.kie.loses_next_answer("a")
    generation = await rig.order()
    await rig.engine.advance(generation.id)
    unknown = await rig.read(generation.id)
    assert unknown.state is State.UNKNOWN
    (task,) = rig.kie.tasks.values()
    assert unknown.attempt_id is not None
    assert await rig.engine.knock(unknown.attempt_id, task.task_id)
    ended = await rig.settles(generation.id)
    assert ended.state is State.SUCCEEDED
    assert await rig.balance() == (8400, 0)
    await rig.books_are_right()


async def test_an_orphan_that_turns_up_after_the_void_is_a_gift(rig: Rig) -> None:
    rig = rig.with_callbacks()
    await rig.grant(10)
    rig.kie.loses_next_answer("a")
    generation = await rig.order()
    await rig.engine.advance(generation.id)
    unknown = await rig.read(generation.id)
    await asyncio.sleep(0.1)  # the wait for an orphan is over
    ended = await rig.settles(generation.id)
    assert ended.state is State.FAILED
    (task,) = rig.kie.tasks.values()
    assert unknown.attempt_id is not None
    for _ in range(3):
        await rig.engine.knock(unknown.attempt_id, task.task_id)
    assert await rig.told(generation.id) == ["failed:answer_lost", "late_result"]
    assert await rig.balance() == (10_000, 0)
    await rig.books_are_right()


async def test_a_knock_for_an_attempt_nobody_made_has_no_effect(rig: Rig) -> None:
    assert not await rig.engine.knock(uuid4(), "0" * 32)


async def test_an_intent_without_an_answer_left_by_a_dead_worker_is_not_submitted_again(rig: Rig) -> None:
    await rig.grant(10)
    generation = await rig.order()
    rig.kie.faults.next_create("slow_headers")
    dying = asyncio.create_task(rig.engine.advance(generation.id))
    while not rig.kie.journal.creates():  # the intent is committed a moment before the call leaves
        await asyncio.sleep(0.01)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    ended = await rig.settles(generation.id)
    assert (ended.state, ended.failure) == (State.FAILED, "answer_lost")
    assert len(rig.kie.journal.creates()) == 1
    assert await rig.balance() == (10_000, 0)


async def test_a_repeated_confirm_press_buys_once(rig: Rig) -> None:
    await rig.grant(10)
    first, second = await asyncio.gather(rig.order(key="press-1"), rig.order(key="press-1"))
    assert first.id == second.id
    assert await rig.balance() == (8400, 1600)


async def test_not_enough_credits_writes_nothing(rig: Rig) -> None:
    await rig.grant(1)
    with pytest.raises(Refused, match="not_enough"):
        await rig.order()
    assert await rig.balance() == (1000, 0)
    await rig.books_are_right()


async def test_cancel_before_the_submit_gives_everything_back(rig: Rig) -> None:
    await rig.grant(10)
    generation = await rig.order()
    async with rig.database.transaction() as tx:
        assert await cancel(tx, generation.id)
    await rig.engine.advance(generation.id)
    assert await rig.balance() == (10_000, 0)
    assert rig.kie.tasks == {}
    await rig.books_are_right()


async def test_cancel_of_a_running_one_is_honestly_too_late(rig: Rig) -> None:
    await rig.grant(10)
    generation = await rig.order()
    await rig.engine.advance(generation.id)
    async with rig.database.transaction() as tx:
        assert not await cancel(tx, generation.id)
    assert (await rig.settles(generation.id)).state is State.SUCCEEDED


async def test_beyond_the_running_cap_a_generation_waits_and_the_next_one_is_woken(rig: Rig) -> None:
    rig.tools = replace(rig.tools, limits=Limits(running=1, open=20))
    await rig.grant(10)
    first, second = await rig.order(), await rig.order()
    await rig.engine.advance(first.id)
    await rig.engine.advance(second.id)
    assert (await rig.read(second.id)).state is State.ACCEPTED
    rig.queue.wakeups.clear()
    await rig.settles(first.id)
    assert second.id in [wakeup.generation_id for wakeup in rig.advances()]
    assert (await rig.settles(second.id)).state is State.SUCCEEDED
    await rig.books_are_right()


async def test_an_account_without_credits_pauses_the_queue_instead_of_failing_jobs(rig: Rig) -> None:
    await rig.grant(10)
    rig.kie.set_credits(0)
    first, second = await rig.order(), await rig.order()
    await rig.engine.advance(first.id)
    await rig.engine.advance(second.id)
    assert (await rig.read(first.id)).state is State.ACCEPTED
    assert (await rig.read(second.id)).state is State.ACCEPTED
    assert len(rig.kie.journal.creates()) == 1  # the second one did not even ask
    rig.kie.set_credits(1000)
    assert (await rig.settles(first.id)).state is State.SUCCEEDED
    assert (await rig.settles(second.id)).state is State.SUCCEEDED


async def test_too_many_requests_is_no_failure_and_shrinks_the_budget(rig: Rig) -> None:
    await rig.grant(10)
    rig.kie.faults.next_create("code_429", count=3)
    generation = await rig.order()
    assert (await rig.settles(generation.id)).state is State.SUCCEEDED
    assert rig.tools.create_budget.refusals == 3  # type: ignore[attr-defined]  # the test's own budget


async def test_success_without_a_result_is_a_failure_and_free(rig: Rig) -> None:
    await rig.grant(10)
    generation = await rig.order(prompt="nothing [[sim:empty]]")
    ended = await rig.settles(generation.id)
    assert (ended.state, ended.failure) == (State.FAILED, "empty_result")
    assert await rig.balance() == (10_000, 0)


async def test_a_result_whose_file_is_dead_is_not_paid_for(rig: Rig) -> None:
    await rig.grant(10)
    generation = await rig.order(prompt="gone [[sim:dead_result]]")
    ended = await rig.settles(generation.id)
    assert (ended.state, ended.failure) == (State.FAILED, "result_lost")
    assert await rig.balance() == (10_000, 0)
    await rig.books_are_right()


async def test_a_users_picture_is_uploaded_and_its_address_is_not_telegrams(rig: Rig) -> None:
    await rig.grant(100)
    picture = {"file_id": "AgAC1", "kind": "image", "mime": "image/png", "file_name": "a.png"}
    generation = await rig.order("google/nano-banana-edit", image_urls=[picture])
    assert (await rig.settles(generation.id)).state is State.SUCCEEDED
    (task,) = rig.kie.tasks.values()
    assert "telegram" not in str(task.input)
    assert rig.files.opened == 1


async def test_who_waits_for_a_slot_asks_ever_more_seldom_and_is_woken_when_one_comes_free(rig: Rig) -> None:
    """A user's many works must not cost the more the longer they wait."""
    rig.tools = replace(rig.tools, limits=Limits(running=1, open=20))
    await rig.grant(100)
    first, second = await rig.order(), await rig.order()
    await rig.engine.advance(first.id)
    waits = []
    for _ in range(8):
        await rig.is_due(second.id)
        rig.queue.wakeups.clear()
        await rig.engine.advance(second.id)
        (wakeup,) = rig.advances()
        waits.append(round(wakeup.delay_s))
    assert waits == [15, 30, 60, 120, 240, 480, 600, 600]
    await rig.settles(first.id)
    assert second.id in [wakeup.generation_id for wakeup in rig.advances() if wakeup.delay_s == 0]
    assert (await rig.settles(second.id)).state is State.SUCCEEDED


async def test_waiting_while_all_is_off_does_not_count_against_who_then_waits_for_a_slot(rig: Rig) -> None:
    rig.tools = replace(rig.tools, limits=Limits(running=1, open=20))
    await rig.grant(100)
    first, second = await rig.order(), await rig.order()
    await rig.engine.advance(first.id)
    async with rig.database.transaction() as tx:
        await tx.switches.switch_off("*", "no credits", "provider", for_s=60.0)
    for _ in range(6):
        await rig.is_due(second.id)
        await rig.engine.advance(second.id)
    async with rig.database.transaction() as tx:
        await tx.switches.turn_on("*")
    await rig.is_due(second.id)
    rig.queue.wakeups.clear()
    await rig.engine.advance(second.id)
    (wakeup,) = rig.advances()
    assert round(wakeup.delay_s) == 15


async def test_the_budget_is_asked_after_the_uploads_and_told_of_the_answer(rig: Rig) -> None:
    """An upload may take longer than the provider's window: a create let through before it would not be counted."""
    budget = rig.tools.create_budget
    assert isinstance(budget, Unlimited)
    rig.files.on_open = lambda: budget.events.append("uploading")
    await rig.grant(100)
    picture = {"file_id": "AgAC1", "kind": "image", "mime": "image/png", "file_name": "a.png"}
    generation = await rig.order("google/nano-banana-edit", image_urls=[picture])
    await rig.engine.advance(generation.id)
    assert (await rig.read(generation.id)).state is State.RUNNING
    assert budget.events == ["uploading", "let through", "answered"]


async def test_whose_turn_is_near_waits_for_it_and_whose_is_not_comes_back_a_little_early(rig: Rig) -> None:
    """The way through the queue takes its time, and the quota would lie idle meanwhile."""
    budget = rig.tools.create_budget
    assert isinstance(budget, Unlimited)
    await rig.grant(10)
    near, far = await rig.order(), await rig.order()
    budget.waits = [0.05, 0.02]
    await rig.engine.advance(near.id)
    assert (await rig.read(near.id)).state is State.RUNNING
    budget.waits = [30.0]
    rig.queue.wakeups.clear()
    await rig.engine.advance(far.id)
    (wakeup,) = rig.advances()
    assert wakeup.delay_s == pytest.approx(29.0)


async def test_a_knock_lets_its_generation_go_before_those_of_which_nothing_is_known(rig: Rig) -> None:
    rig = rig.with_callbacks()
    await rig.grant(10)
    generation = await rig.order()
    await rig.engine.advance(generation.id)
    running = await rig.read(generation.id)
    assert running.attempt_id is not None
    await rig.engine.knock(running.attempt_id, running.task_id)
    budget = rig.tools.poll_budget
    assert isinstance(budget, Unlimited)
    assert budget.events == [f"hurried {generation.id}"]


async def test_a_picture_that_cannot_be_uploaded_ends_the_generation_and_not_the_patience(rig: Rig) -> None:
    await rig.grant(100)
    picture = {"file_id": "AgAC1", "kind": "image", "mime": "image/png", "size": 10**6, "file_name": "a.png"}
    rig.tools = replace(rig.tools, pace=Pace(scale=0.00001))
    generation = await rig.order("google/nano-banana-edit", image_urls=[picture])  # larger than what will come
    ended = await rig.settles(generation.id)
    assert (ended.state, ended.failure) == (State.FAILED, "input_fetch")
    assert await rig.balance() == (100_000, 0)


async def test_two_workers_at_once_submit_one_task(rig: Rig) -> None:
    await rig.grant(10)
    other = uuid4()
    async with rig.database.transaction() as tx:
        await tx.replicas.beat(other, "other", {})
    twin = replace(rig, tools=replace(rig.tools, owner=other))
    generation = await rig.order()
    await asyncio.gather(*(engine.advance(generation.id) for engine in (rig.engine, twin.engine, rig.engine)))
    await rig.settles(generation.id)
    assert len(rig.kie.tasks) == 1


async def test_an_unknown_user_has_nothing(rig: Rig) -> None:
    async with rig.database.transaction() as tx:
        wallet = await tx.ledger.balance(ANNA + 1)
    assert (wallet.available, wallet.held) == (0, 0)
