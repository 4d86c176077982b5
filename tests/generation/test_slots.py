"""A user's running slots: whoever waits for one is told when it comes free, and nobody keeps one that is of no use."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import text

from kiebot.generation.effects import apply
from kiebot.generation.machine import Broke
from kiebot.generation.model import Generation, State
from kiebot.generation.pace import Pace
from kiebot.generation.tools import Limits
from tests.generation.conftest import ANNA, Rig, Unlimited

OTHER = "google/nano-banana"
PICTURE = {"file_id": "AgAC1", "kind": "image", "mime": "image/png", "file_name": "a.png"}


@pytest.fixture
async def rig(rig: Rig) -> Rig:
    await rig.grant(1000)
    rig.tools = replace(rig.tools, limits=Limits(running=2, open=20), pace=Pace(scale=1.0))
    return rig


async def queue(rig: Rig, *model_ids: str) -> list[Generation]:
    """Works that were each looked at once: the first ones run, the others wait for a slot, for minutes by now."""
    works = [await rig.order(model_id) for model_id in model_ids]
    for work in works:
        await rig.engine.advance(work.id)
    await put_off(rig, works)
    return works


async def put_off(rig: Rig, works: Sequence[Generation]) -> None:
    async with rig.database.engine.begin() as connection:
        later = "UPDATE generations SET due_at = now() + interval '10 minutes' WHERE id = ANY(:ids)"
        await connection.execute(text(later), {"ids": [work.id for work in works]})


async def ends(rig: Rig, work: Generation) -> None:
    async with rig.database.transaction() as tx:
        await apply(tx, work.id, Broke("server"))


async def jobs_run(rig: Rig) -> None:
    """All that is due, once more for what that made due."""
    for _ in range(6):
        due = text("SELECT id FROM generations WHERE state = 'accepted' AND due_at <= now() ORDER BY number")
        async with rig.database.engine.connect() as connection:
            ids = list(await connection.scalars(due))
        for generation_id in ids:
            await rig.engine.advance(generation_id)


async def states(rig: Rig, works: Sequence[Generation]) -> list[str]:
    return [(await rig.read(work.id)).state.value for work in works]


async def due_in_s(rig: Rig, generation_id: UUID) -> float:
    due = text("SELECT extract(epoch FROM due_at - now())::float8 FROM generations WHERE id = :id")
    async with rig.database.engine.connect() as connection:
        return float(await connection.scalar(due, {"id": generation_id}) or 0.0)


async def test_two_slots_that_come_free_before_anybody_looks_are_both_taken(rig: Rig) -> None:
    """Works that were begun together end together, and the oldest one that waits is woken by both."""
    first, second, third, fourth = await queue(rig, *["z-image"] * 4)
    await ends(rig, first)
    await ends(rig, second)
    await jobs_run(rig)
    assert await states(rig, [third, fourth]) == ["running"] * 2


async def test_a_slot_that_comes_free_is_not_lost_on_a_model_that_is_off(rig: Rig) -> None:
    first, _, stopped, able = await queue(rig, "z-image", "z-image", OTHER, "z-image")
    async with rig.database.transaction() as tx:
        await tx.switches.turn_off(OTHER, "too dear", "admin")
    await ends(rig, first)
    await jobs_run(rig)
    assert await states(rig, [stopped, able]) == ["accepted", "running"]


async def test_a_slot_that_comes_free_while_somebody_finds_none_is_not_missed(rig: Rig) -> None:
    """Who gives it back passes over a work that is being looked at: the look must see the slot, then."""
    _, _, waiting = await queue(rig, *["z-image"] * 3)
    await rig.is_due(waiting.id)
    async with rig.database.engine.connect() as ending:
        await ending.execute(text("UPDATE accounts SET running = running - 1 WHERE key = 'wallet:7'"))
        looking = asyncio.create_task(rig.engine.advance(waiting.id))
        await asyncio.sleep(0.3)
        await ending.commit()
        await looking
    assert (await rig.read(waiting.id)).state is State.RUNNING


async def test_a_task_that_found_no_room_waits_for_a_slot_like_every_other(rig: Rig) -> None:
    """How often its first task was asked about says nothing of its wait; and who waits for a slot is woken."""
    first, second, third = await queue(rig, *["z-image"] * 3)
    async with rig.database.engine.begin() as connection:
        await connection.execute(text("UPDATE generations SET polls = 9 WHERE id = :id"), {"id": first.id})
    async with rig.database.transaction() as tx:
        await apply(tx, first.id, Broke("capacity", again=True), due_in_s=120.0)
    await jobs_run(rig)
    assert await states(rig, [first, second, third]) == ["accepted", "running", "running"]
    await rig.is_due(first.id)
    await rig.engine.advance(first.id)
    assert 10 < await due_in_s(rig, first.id) < 20
    await put_off(rig, [first])
    await ends(rig, third)
    await jobs_run(rig)
    assert await states(rig, [first]) == ["running"]


async def test_works_of_a_model_that_is_switched_off_do_not_keep_the_slots_they_have(rig: Rig) -> None:
    """They had their slots and waited for their turn when it was switched off."""
    rig.tools = replace(rig.tools, create_budget=(budget := Unlimited()))
    budget.waits = [60.0, 60.0]
    stopped = [await rig.order(OTHER), await rig.order(OTHER)]
    for work in stopped:
        await rig.engine.advance(work.id)
    (other,) = await queue(rig, "z-image")
    assert [(await rig.read(work.id)).holds_slot for work in (*stopped, other)] == [True, True, False]
    async with rig.database.transaction() as tx:
        await tx.switches.turn_off(OTHER, "too dear", "admin")
    await rig.is_due(stopped[0].id)
    await rig.engine.advance(stopped[0].id)
    await jobs_run(rig)
    assert await states(rig, [*stopped, other]) == ["accepted", "accepted", "running"]
    assert await due_in_s(rig, stopped[0].id) > 30
    async with rig.database.transaction() as tx:
        assert (await tx.ledger.balance(ANNA)).running == 2


async def test_a_slot_that_comes_free_just_after_somebody_found_none_wakes_them(rig: Rig) -> None:
    """They have not gone to sleep yet: who gives it back waits until they have."""
    first, _, third = await queue(rig, *["z-image"] * 3)

    async def gives_back() -> tuple[UUID, int] | None:
        async with rig.database.transaction() as tx:
            await tx.ledger.give_slot(ANNA)
            return await tx.generations.hurry_next_of(ANNA, but=first.id)

    async with rig.database.transaction() as tx:
        assert await tx.generations.mark_slot(third.id)
        assert await tx.ledger.take_slot(ANNA, most=2) is None
        giving = asyncio.create_task(gives_back())
        async with rig.database.engine.connect() as watching, asyncio.timeout(20):
            while not await watching.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                await asyncio.sleep(0.01)
        await tx.generations.unmark_slot(third.id)
    woken = await giving
    assert woken is not None and woken[0] == third.id
    assert await due_in_s(rig, third.id) <= 0


async def test_who_is_held_back_between_two_uploads_keeps_no_slot(rig: Rig) -> None:
    rig.tools = replace(rig.tools, limits=replace(rig.tools.limits, running=1))
    rig.kie.faults.next_upload("html_502")
    work = await rig.order("google/nano-banana-edit", image_urls=[PICTURE])
    await rig.engine.advance(work.id)
    (other,) = await queue(rig, "z-image")
    async with rig.database.transaction() as tx:
        await tx.switches.turn_off("google/nano-banana-edit", "tests", "admin")
    await rig.is_due(work.id)
    await jobs_run(rig)
    assert await states(rig, [work, other]) == ["accepted", "running"]
