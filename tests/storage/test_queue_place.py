"""What a user who waits is told: how many works go first, and when theirs will be done."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.generation.model import Ahead
from kiebot.storage.transaction import Database

ADD = text("""
    INSERT INTO generations (id, confirm_key, user_id, chat_id, model_id, inputs, language, state, cost_millicredits,
        price_millicredits, is_maximum, holds_running_slot)
    VALUES (:id, :key, :user, 1, 'm', '{}', 'en', :state, 5, 10, false, :slot)
""")


async def _add(engine: AsyncEngine, user: int, *, slot: bool = False, state: str = "accepted") -> UUID:
    generation_id = uuid4()
    async with engine.begin() as connection:
        facts = {"id": generation_id, "key": str(generation_id), "user": user, "slot": slot, "state": state}
        await connection.execute(ADD, facts)
    return generation_id


async def test_of_anothers_many_works_only_those_that_may_run_go_first(engine: AsyncEngine, database: Database) -> None:
    for number in range(20):
        await _add(engine, 1, slot=number < 3)
    await _add(engine, 2, slot=True, state="running")
    mine = [await _add(engine, 3, slot=number < 3) for number in range(5)]
    async with database.transaction() as tx:
        assert await tx.generations.ahead_of(mine[0]) == Ahead(3, 0)
        assert await tx.generations.ahead_of(mine[4]) == Ahead(3 + 4, 4)


async def test_a_users_own_works_under_way_are_waited_for_although_they_are_not_in_the_queue(
    engine: AsyncEngine, database: Database
) -> None:
    for state in ("submitting", "running", "unknown"):
        await _add(engine, 1, slot=True, state=state)
        await _add(engine, 2, slot=True, state=state)
    fourth, fifth = [await _add(engine, 1) for _ in range(2)]
    async with database.transaction() as tx:
        assert await tx.generations.ahead_of(fourth) == Ahead(0, 0, under_way=3)
        assert await tx.generations.ahead_of(fifth) == Ahead(1, 1, under_way=3)


@pytest.mark.parametrize(
    ("ahead", "wait_s"),
    [
        (Ahead(0, 0), 0.0),
        (Ahead(100, 0), 50.0),
        (Ahead(2, 2), 1.0),
        (Ahead(7, 7), 3.5 + 2 * 40.0),
        (Ahead(0, 0, under_way=2), 0.0),
        (Ahead(0, 0, under_way=3), 40.0),
        (Ahead(3, 3, under_way=3), 1.5 + 2 * 40.0),
    ],
)
def test_the_wait_counts_creates_one_after_another_and_a_users_own_works_a_few_at_a_time(
    ahead: Ahead, wait_s: float
) -> None:
    assert ahead.wait_s(40.0, create_every_s=0.5, running=3) == wait_s
