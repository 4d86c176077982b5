"""Only a few works of one user run at once: who waits for a slot is woken when one comes free, and never forgotten."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime

import pytest
from sqlalchemy import text

from kiebot.generation.model import Generation, State
from kiebot.generation.pace import Pace
from kiebot.store import Tx
from tests.generation.conftest import ANNA, Rig, Unlimited

OTHER = "google/nano-banana"
PICTURE = {"file_id": "AgAC1", "kind": "image", "mime": "image/png", "file_name": "a.png"}


@pytest.fixture
async def rig(rig: Rig) -> Rig:
    """One slot a user; waits last as long as they do in earnest."""
    await rig.grant(100)
    rig.tools = replace(rig.tools, pace=Pace(scale=1.0), limits=replace(rig.tools.limits, running=1))
    return rig


class Meanwhile(Unlimited):
    """A budget of creates; while it is asked, somebody switches a model off."""

    def __init__(self, rig: Rig, model_id: str) -> None:
        super().__init__()
        self._rig, self._model_id = rig, model_id

    async def take(self, turn: str, since: datetime | None = None) -> float:
        async with self._rig.database.transaction() as tx:
            await tx.switches.turn_off(self._model_id, "tests", "admin")
        return 0.0


async def due_in_s(rig: Rig, generation: Generation) -> float:
    async with rig.database.engine.connect() as connection:
        query = text("SELECT extract(epoch FROM due_at - now())::float8 FROM generations WHERE id = :id")
        return float(await connection.scalar(query, {"id": generation.id}) or 0.0)


async def waiting(rig: Rig, model_id: str = "z-image") -> Generation:
    """Asked for a slot in vain."""
    work = await rig.order(model_id)
    await rig.engine.advance(work.id)
    found = await rig.read(work.id)
    assert (found.state, found.holds_slot) == (State.ACCEPTED, False)
    assert await due_in_s(rig, work) > 10
    return found


async def someone_waits_for_a_lock(rig: Rig) -> None:
    async with rig.database.engine.connect() as watching, asyncio.timeout(20):
        while not await watching.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
            await asyncio.sleep(0.01)


async def test_a_slot_that_comes_free_while_the_next_one_asks_in_vain_wakes_it_all_the_same(rig: Rig) -> None:
    """Else it would sleep for ten minutes beside a free slot."""
    first = await rig.order()
    await rig.engine.advance(first.id)
    assert (await rig.read(first.id)).holds_slot
    second = await waiting(rig)

    async def comes_free(tx: Tx) -> tuple[object, ...] | None:
        await tx.generations.lock(first.id)
        await tx.ledger.give_slot(ANNA)
        return await tx.generations.hurry_next_of(ANNA)

    async def freeing() -> tuple[object, ...] | None:
        async with rig.database.transaction() as tx:
            return await comes_free(tx)

    async with rig.database.transaction() as tx:
        assert await tx.generations.mark_slot(second.id)
        assert not await tx.ledger.take_slot(ANNA, most=1)
        free = asyncio.create_task(freeing())
        await someone_waits_for_a_lock(rig)
        await tx.generations.unmark_slot(second.id)
    woken = await free
    assert woken is not None and woken[0] == second.id
    assert await due_in_s(rig, second) <= 0


async def test_who_asks_while_a_slot_comes_free_gets_it(rig: Rig) -> None:
    first = await rig.order()
    await rig.engine.advance(first.id)
    second = await waiting(rig)
    async with rig.database.transaction() as tx:
        await tx.ledger.give_slot(ANNA)
        await rig.is_due(second.id)
        asking = asyncio.create_task(rig.engine.advance(second.id))
        await someone_waits_for_a_lock(rig)
    await asking
    assert (await rig.read(second.id)).state is State.RUNNING


async def test_who_is_held_back_at_the_last_moment_wakes_a_work_of_another_model(rig: Rig) -> None:
    held = await rig.order()
    budget = rig.tools.create_budget
    rig.tools = replace(rig.tools, limits=replace(rig.tools.limits, running=0))
    same, other = await waiting(rig), await waiting(rig, OTHER)
    rig.tools = replace(rig.tools, create_budget=Meanwhile(rig, "z-image"), limits=replace(rig.tools.limits, running=1))
    rig.queue.wakeups.clear()
    await rig.engine.advance(held.id)
    assert not (await rig.read(held.id)).holds_slot
    assert await due_in_s(rig, same) > 10, "its model is off too: a slot is of no use to it"
    assert await due_in_s(rig, other) <= 0
    assert other.id in [each.generation_id for each in rig.advances()]
    rig.tools = replace(rig.tools, create_budget=budget)
    await rig.engine.advance(other.id)
    assert (await rig.read(other.id)).state is State.RUNNING


async def test_who_is_held_back_between_two_uploads_keeps_no_slot(rig: Rig) -> None:
    rig.kie.faults.next_upload("html_502")
    work = await rig.order("google/nano-banana-edit", image_urls=[PICTURE])
    await rig.engine.advance(work.id)
    assert (await rig.read(work.id)).holds_slot
    other = await waiting(rig)
    async with rig.database.transaction() as tx:
        await tx.switches.turn_off("google/nano-banana-edit", "tests", "admin")
    await rig.is_due(work.id)
    await rig.engine.advance(work.id)
    assert not (await rig.read(work.id)).holds_slot
    assert await due_in_s(rig, other) <= 0
