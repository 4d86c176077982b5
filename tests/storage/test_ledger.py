from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.errors import KeyReused, Refused
from kiebot.generation.model import Order, Quoted
from kiebot.storage.transaction import Database

ANNA = 7


async def grant(database: Database, amount: int, key: str = "g1") -> bool:
    async with database.transaction() as tx:
        return await tx.ledger.grant(key, ANNA, amount, reason="test", actor="tester")


async def held(
    database: Database, amount: int, *, max_open: int = 20, user: int = ANNA, per_user: int = 0, per_day: int = 0
) -> UUID:
    generation_id = uuid4()
    order = Order(generation_id, str(generation_id), user, 1, "m", {}, Quoted(amount // 2, amount), "en")
    async with database.transaction() as tx:
        await tx.generations.add(order)
        await tx.ledger.hold(
            generation_id, user, amount, max_open=max_open, spend_per_user=per_user, spend_per_day=per_day
        )
    return generation_id


async def balance(database: Database) -> tuple[int, int]:
    async with database.transaction() as tx:
        wallet = await tx.ledger.balance(ANNA)
    return wallet.available, wallet.held


async def test_a_grant_counts_once_under_one_key(database: Database) -> None:
    assert await grant(database, 5000)
    assert not await grant(database, 5000)
    assert await balance(database) == (5000, 0)


async def test_one_key_with_other_facts_is_an_error(database: Database) -> None:
    await grant(database, 5000)
    with pytest.raises(KeyReused):
        await grant(database, 6000)
    assert await balance(database) == (5000, 0)


async def test_a_hold_moves_money_out_of_reach_and_a_void_brings_all_of_it_back(database: Database) -> None:
    await grant(database, 5000)
    generation = await held(database, 4000)
    assert await balance(database) == (1000, 4000)
    async with database.transaction() as tx:
        assert await tx.ledger.void(generation, ANNA, "test", slot=False) == 4000
        assert await tx.ledger.void(generation, ANNA, "test", slot=False) is None
        assert await tx.ledger.capture(generation, ANNA, None, slot=False) is None
    assert await balance(database) == (5000, 0)


async def test_a_partial_capture_gives_the_rest_back(database: Database) -> None:
    await grant(database, 5000)
    generation = await held(database, 4000)
    async with database.transaction() as tx:
        assert await tx.ledger.capture(generation, ANNA, 2500, slot=False) == 2500
    assert await balance(database) == (2500, 0)


async def test_a_hundred_confirms_at_once_with_credit_for_seven_hold_exactly_seven(database: Database) -> None:
    await grant(database, 7500)
    results = await asyncio.gather(*(held(database, 1000, max_open=1000) for _ in range(100)), return_exceptions=True)
    refused = [r for r in results if isinstance(r, Refused)]
    assert len(results) - len(refused) == 7
    assert {r.code for r in refused} == {"not_enough"}
    assert await balance(database) == (500, 7000)


async def test_a_refused_hold_tells_what_is_missing(database: Database) -> None:
    await grant(database, 1500)
    with pytest.raises(Refused) as refused:
        await held(database, 4000)
    assert refused.value.facts["missing"] == 2500


async def test_the_open_cap_refuses_before_money_does(database: Database) -> None:
    await grant(database, 9000)
    await held(database, 1000, max_open=1)
    with pytest.raises(Refused, match="too_many_open"):
        await held(database, 1000, max_open=1)


async def test_capture_and_void_at_once_end_in_exactly_one(database: Database) -> None:
    await grant(database, 50_000)
    for _ in range(20):
        generation = await held(database, 1000)

        async def capture(generation: UUID = generation) -> int | None:
            async with database.transaction() as tx:
                return await tx.ledger.capture(generation, ANNA, None, slot=False)

        async def void(generation: UUID = generation) -> int | None:
            async with database.transaction() as tx:
                return await tx.ledger.void(generation, ANNA, "race", slot=False)

        endings = await asyncio.gather(capture(), void(), void(), capture())
        assert sum(ending is not None for ending in endings) == 1


async def test_what_was_posted_can_not_be_changed(database: Database, engine: AsyncEngine) -> None:
    await grant(database, 5000)
    for statement in ("UPDATE entries SET delta_available = 1", "DELETE FROM postings", "TRUNCATE settlements CASCADE"):
        with pytest.raises(DBAPIError, match="never changed"):
            async with engine.begin() as connection:
                await connection.execute(text(statement))


async def test_running_slots_are_given_and_taken_with_the_money(database: Database) -> None:
    await grant(database, 5000)
    generation = await held(database, 1000)
    async with database.transaction() as tx:
        assert await tx.ledger.take_slot(ANNA, most=1)
        assert not await tx.ledger.take_slot(ANNA, most=1)
    async with database.transaction() as tx:
        await tx.ledger.capture(generation, ANNA, None, slot=True)
        wallet = await tx.ledger.balance(ANNA)
    assert (wallet.running, wallet.open_count) == (0, 0)


async def test_a_user_spends_no_more_than_the_limit_of_a_day_however_many_ask_at_once(database: Database) -> None:
    await grant(database, 50_000)
    buys = (held(database, 1000, max_open=1000, per_user=7500) for _ in range(30))
    results = await asyncio.gather(*buys, return_exceptions=True)
    refused = [r for r in results if isinstance(r, Refused)]
    assert len(results) - len(refused) == 7
    assert {r.code for r in refused} == {"spent_user"}
    assert refused[-1].facts["limit"] == 7500
    assert await balance(database) == (43_000, 7000)


async def test_all_together_spend_no_more_than_the_limit_of_a_day(database: Database) -> None:
    users = range(100, 110)
    async with database.transaction() as tx:
        for user in users:
            await tx.ledger.grant(f"g{user}", user, 10_000, reason="test", actor="tester")
    buys = [held(database, 1000, user=user, per_day=12_500) for user in users for _ in range(3)]
    results = await asyncio.gather(*buys, return_exceptions=True)
    assert sum(isinstance(r, UUID) for r in results) == 12
    assert {r.code for r in results if isinstance(r, Refused)} == {"spent_all"}


@pytest.mark.parametrize("limits", [{"per_user": 1000}, {"per_day": 1000}])
async def test_what_comes_back_may_be_spent_again_the_same_day(database: Database, limits: dict[str, int]) -> None:
    await grant(database, 5000)
    failed = await held(database, 1000, **limits)
    with pytest.raises(Refused, match="spent"):
        await held(database, 10, **limits)
    async with database.transaction() as tx:
        await tx.ledger.void(failed, ANNA, "test", slot=False)
    cheaper = await held(database, 1000, **limits)
    async with database.transaction() as tx:
        await tx.ledger.capture(cheaper, ANNA, 400, slot=False)
    await held(database, 600, **limits)
    with pytest.raises(Refused, match="spent"):
        await held(database, 10, **limits)


async def test_a_new_day_begins_with_nothing_spent(database: Database, engine: AsyncEngine) -> None:
    await grant(database, 5000)
    yesterdays = await held(database, 1000, per_user=1000, per_day=1000)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE accounts SET spent_on = spent_on - 1 WHERE spent > 0"))
        await connection.execute(text("UPDATE spending SET day = day - 1"))
        await connection.execute(text("ALTER TABLE holds DISABLE TRIGGER USER"))
        await connection.execute(text("UPDATE holds SET held_at = held_at - interval '1 day'"))
        await connection.execute(text("ALTER TABLE holds ENABLE TRIGGER USER"))
    await held(database, 1000, per_user=1000, per_day=1000)
    async with database.transaction() as tx:  # what comes back of yesterday is not today's to spend
        await tx.ledger.void(yesterdays, ANNA, "test", slot=False)
    with pytest.raises(Refused, match="spent_user"):
        await held(database, 10, per_user=1000, per_day=1000)


async def test_too_little_money_is_told_before_any_limit(database: Database) -> None:
    await grant(database, 500)
    with pytest.raises(Refused, match="not_enough"):
        await held(database, 1000, per_user=100, per_day=100)


async def test_the_free_credits_of_a_day_are_given_once_also_to_two_at_once(database: Database) -> None:
    async def visit() -> bool:
        async with database.transaction() as tx:
            return await tx.ledger.give_daily(ANNA, 3000)

    assert sorted(await asyncio.gather(*(visit() for _ in range(5)))) == [False] * 4 + [True]
    assert not await visit()
    assert await balance(database) == (3000, 0)
