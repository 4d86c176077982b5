"""What the provider took, or may have taken, and nobody paid for: booked on the attempt, and reckoned per day."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Literal

import pytest
from sqlalchemy import text

from kiebot.admin.acts import Doer, perform
from kiebot.admin.model import Act, Action, Loss, Margin
from kiebot.clock import SystemClock
from kiebot.errors import Transient
from kiebot.generation.model import State
from kiebot.generation.ports import TaskReport
from kiebot.sweepers import Sweeper
from tests.faults.conftest import HeldProvider
from tests.generation.conftest import ANNA, Rig

COST, PRICE = 800, 1600  # of one picture, in millicredits


async def lost(rig: Rig) -> list[tuple[str, bool, int]]:
    return [(loss.why, loss.is_certain, loss.amount) for loss in await all_losses(rig)]


async def all_losses(rig: Rig) -> list[Loss]:
    async with rig.database.transaction() as tx:
        return await tx.reckoning.losses(days=1)


async def the_margin(rig: Rig) -> Margin:
    async with rig.database.transaction() as tx:
        (margin,) = await tx.reckoning.margins(days=1)
    return margin


async def hold_runs_out(rig: Rig) -> None:
    """By the database's time; then a sweeper looks."""
    async with rig.database.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE holds DISABLE TRIGGER USER"))
        await connection.execute(text("UPDATE holds SET expires_at = now() - interval '1 second'"))
        await connection.execute(text("ALTER TABLE holds ENABLE TRIGGER USER"))
    sweeper = Sweeper(rig.database, SystemClock(), on_backlog=lambda _: None, on_books=lambda _: None)
    await sweeper.purge()


async def test_what_was_sold_is_no_loss_and_its_margin_is_the_markup(rig: Rig) -> None:
    await rig.grant(10)
    await rig.settles((await rig.order()).id)
    assert await lost(rig) == []
    margin = await the_margin(rig)
    assert (margin.sold, margin.captured, margin.quoted, margin.consumed, margin.unreported) == (
        1,
        PRICE,
        COST,
        COST,
        0,
    )
    assert margin.margin == PRICE - COST


async def test_a_lost_answer_is_a_suspected_loss_at_cost(rig: Rig) -> None:
    await rig.grant(10)
    rig.kie.loses_next_answer("a")
    await rig.settles((await rig.order()).id)
    assert await lost(rig) == [("answer_lost", False, COST)]
    margin = await the_margin(rig)
    assert (margin.sold, margin.failed, margin.captured, margin.consumed, margin.lost) == (0, 1, 0, 0, COST)
    assert margin.margin == -COST


async def test_a_task_that_failed_at_the_provider_costs_nothing(rig: Rig) -> None:
    await rig.grant(10)
    await rig.settles((await rig.order(prompt="a cat [[sim:fail=moderation_prompt]]")).id)
    assert await lost(rig) == []
    assert (await the_margin(rig)).margin == 0


async def test_a_result_nobody_could_read_is_a_certain_loss(rig: Rig) -> None:
    await rig.grant(10)
    await rig.settles((await rig.order(prompt="gone [[sim:dead_result]]")).id)
    assert await lost(rig) == [("result_lost", True, COST)]


async def test_a_task_that_timed_out_at_the_provider_is_no_loss_where_its_price_is_not_told(rig: Rig) -> None:
    rig.kie.switches.record_fields = "april"
    await rig.grant(10)
    ended = await rig.settles((await rig.order(prompt="a cat [[sim:fail=timeout]] [[sim:seconds=0]]")).id)
    assert ended.failure == "timeout"
    assert await lost(rig) == [], "it failed there, and what fails is not billed"


@pytest.mark.parametrize("fields", ["april", "newest"])
async def test_a_success_without_a_result_is_a_loss_whether_the_provider_tells_its_price_or_not(
    rig: Rig, fields: Literal["april", "newest"]
) -> None:
    rig.kie.switches.record_fields = fields
    await rig.grant(10)
    await rig.settles((await rig.order(prompt="nothing [[sim:empty]]")).id)
    is_told = fields == "newest"
    assert await lost(rig) == [("empty_result", is_told, COST)] * 2, "it was tried once more"


async def test_a_success_that_comes_after_the_hold_ran_out_is_delivered_free_and_booked_as_a_loss(rig: Rig) -> None:
    rig = rig.with_callbacks()
    await rig.grant(10)
    generation = await rig.order()
    await rig.engine.advance(generation.id)
    running = await rig.read(generation.id)
    assert running.state is State.RUNNING and running.attempt_id is not None
    await hold_runs_out(rig)
    expired = await rig.read(generation.id)
    assert (expired.state, expired.failure) == (State.FAILED, "timeout")
    assert await rig.balance() == (10_000, 0)
    assert await lost(rig) == [("timeout", False, COST)], "it still runs there, and may be billed"
    async with asyncio.timeout(5):
        while len(await rig.told(generation.id)) < 2:
            await asyncio.sleep(0.05)
            with suppress(Transient):  # not seen to have ended yet: the provider is to call again
                await rig.engine.knock(running.attempt_id, running.task_id)
    assert await rig.told(generation.id) == ["failed:timeout", "late_result"]
    assert await rig.balance() == (10_000, 0)
    assert await lost(rig) == [("timeout", True, COST)]
    async with rig.database.transaction() as tx:
        assert (await tx.ledger.balance(ANNA)).running == 0
    await rig.books_are_right()


async def test_a_hold_that_runs_out_between_intent_and_answer_leaves_a_suspected_loss(rig: Rig) -> None:
    await rig.grant(10)
    generation = await rig.order()
    rig.kie.faults.next_create("slow_headers")
    submitting = asyncio.create_task(rig.engine.advance(generation.id))
    async with asyncio.timeout(5):
        while not rig.kie.journal.creates():
            await asyncio.sleep(0.01)
    await hold_runs_out(rig)
    ended = await rig.read(generation.id)
    assert (ended.state, ended.failure) == (State.FAILED, "answer_lost")
    assert await lost(rig) == [("answer_lost", False, COST)]
    assert await rig.balance() == (10_000, 0)
    submitting.cancel()
    await asyncio.gather(submitting, return_exceptions=True)
    await rig.books_are_right()


async def test_a_work_that_never_began_is_no_loss_when_its_hold_runs_out(rig: Rig) -> None:
    await rig.grant(10)
    generation = await rig.order()
    await hold_runs_out(rig)
    assert (await rig.read(generation.id)).failure == "expired"
    assert await rig.told(generation.id) == ["failed:expired"]
    assert await lost(rig) == []


async def test_a_running_work_that_an_admin_stops_is_a_suspected_loss_and_one_that_waits_is_none(rig: Rig) -> None:
    await rig.grant(10)
    running, waiting = await rig.order(prompt="a cat [[sim:profile=E]]"), await rig.order()
    await rig.engine.advance(running.id)
    assert (await rig.read(running.id)).state is State.RUNNING
    for each in (running, waiting):
        async with rig.database.transaction() as tx:
            await perform(tx, Act(Action.GIVE_UP, str(each.number), {"reason": "stuck"}), Doer("ann", each.id.hex))
    assert await lost(rig) == [("given_up", False, COST)]
    assert await rig.balance() == (10_000, 0)
    await rig.books_are_right()


async def test_a_work_that_waits_for_its_second_task_leaves_no_loss_when_it_is_stopped(rig: Rig) -> None:
    rig.kie.switches.record_fields = "april"  # what a task consumed is not told
    await rig.grant(10)
    generation = await rig.order(prompt="a cat [[sim:fail=server]] [[sim:seconds=0]]")
    async with asyncio.timeout(5):
        while (await rig.read(generation.id)).retakes == 0:
            await rig.engine.advance(generation.id)
    async with rig.database.transaction() as tx:
        await perform(tx, Act(Action.GIVE_UP, str(generation.number)), Doer("ann", "k"))
    assert await lost(rig) == [], "the provider said that the first one failed"


async def test_a_running_work_given_up_for_a_bug_of_ours_is_a_suspected_loss(rig: Rig) -> None:
    await rig.grant(10)
    generation = await rig.order(prompt="a cat [[sim:profile=E]]")
    await rig.engine.advance(generation.id)

    async def breaks(_: TaskReport) -> TaskReport:
        raise KeyError("a bug of ours")

    provider = HeldProvider(rig.tools.provider)
    provider.after_query = breaks
    rig.tools = replace(rig.tools, provider=provider)
    assert (await rig.settles(generation.id, tries=2000)).failure == "server"
    assert await lost(rig) == [("server", False, COST)]


async def test_an_orphan_that_came_home_in_time_is_paid_for_and_no_loss(rig: Rig) -> None:
    rig = rig.with_callbacks()
    await rig.grant(10)
    rig.kie.loses_next_answer("a")
    generation = await rig.order()
    await rig.engine.advance(generation.id)
    unknown = await rig.read(generation.id)
    assert unknown.attempt_id is not None
    assert await lost(rig) == [], "nothing is decided yet"
    (task,) = rig.kie.tasks.values()
    await rig.engine.knock(unknown.attempt_id, task.task_id)
    assert (await rig.settles(generation.id)).state is State.SUCCEEDED
    assert await lost(rig) == []
