"""Many connections want to end one generation, each in its own way and time: one wins, whatever the isolation."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kiebot.errors import Refused, Transient
from kiebot.generation.effects import apply
from kiebot.generation.machine import Broke, Finished
from kiebot.generation.model import Order, Quoted
from kiebot.generation.service import accept
from kiebot.generation.tools import Limits
from kiebot.storage.transaction import Database, Transaction
from kiebot.storage.verify import verify
from tests.storage.conftest import RememberingQueue

ANNA, PRICE = 7, 1000
LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
WANTED = ("capture", "void", "expire", "capture", "void", "expire")

Settle = Callable[[Transaction], Awaitable[object]]


async def a_generation(database: Database) -> UUID:
    order = Order(uuid4(), str(uuid4()), ANNA, 1, "m", {}, Quoted(500, PRICE), "en")
    async with database.transaction() as tx:
        return (await accept(tx, order, Limits(open=10_000))).id


async def grant(database: Database, amount: int) -> None:
    async with database.transaction() as tx:
        await tx.ledger.grant(str(uuid4()), ANNA, amount, reason="test", actor="tester")


class Slow:
    """A connection that pauses at random before each statement, so that transactions interleave in every way."""

    rng = random.Random(1)

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> object:
        method = getattr(self._connection, name)
        return self._paused(method) if name in ("execute", "scalar", "scalars") else method

    def _paused(self, method: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def later(*args: object) -> object:
            await asyncio.sleep(self.rng.choice((0, 0, 0.001, 0.003)))
            return await method(*args)

        return later


async def once(engine: AsyncEngine, settle: Settle) -> object:
    """One transaction of one connection: what it brought, or the Transient it met."""
    database = Database(engine, RememberingQueue())
    try:
        async with database.transaction() as tx:
            tx.connection = Slow(tx.connection)  # type: ignore[assignment]  # all of it that repositories call
            return await settle(tx)
    except Transient as error:
        return error


def ways_to_end(generation_id: UUID) -> dict[str, Settle]:
    async def capture(tx: Transaction) -> object:
        return await tx.ledger.capture(generation_id, ANNA, None, slot=False)

    async def void(tx: Transaction) -> object:
        return await tx.ledger.void(generation_id, ANNA, "race", slot=False)

    async def expire(tx: Transaction) -> object:
        return await tx.ledger.void(generation_id, ANNA, "timeout", slot=False)

    return {"capture": capture, "void": void, "expire": expire}


@pytest.mark.parametrize("level", LEVELS)
async def test_of_all_who_settle_one_generation_at_once_exactly_one_wins(
    database: Database, engine: AsyncEngine, level: str
) -> None:
    rng = random.Random(level)
    at_level = engine.execution_options(isolation_level=level)
    await grant(database, 50_000)
    for _ in range(8):
        generation_id = await a_generation(database)
        ways = ways_to_end(generation_id)
        wanted = rng.sample(WANTED, len(WANTED))
        results = await asyncio.gather(*(once(at_level, ways[name]) for name in wanted))
        won = [result for result in results if isinstance(result, int)]
        assert won == [PRICE], results
        assert all(result is None or isinstance(result, Transient) for result in results if result not in won), results
        if level == "READ COMMITTED":
            assert not any(isinstance(result, Transient) for result in results), "the waiting ones see the settlement"
        again = await asyncio.gather(*(once(at_level, ways[name]) for name in wanted))
        assert [result for result in again if result is not None and not isinstance(result, Transient)] == []
        assert await ended_as_settled(engine, generation_id)


@pytest.mark.parametrize("level", LEVELS)
async def test_events_that_end_a_generation_at_once_leave_the_books_right(
    database: Database, engine: AsyncEngine, level: str
) -> None:
    """As jobs and sweepers do it: the row is locked first, its state and its money change together."""
    at_level = engine.execution_options(isolation_level=level)
    await grant(database, 50_000)
    events = (Finished(("http://x/1.png",)), Broke("server"), Broke("timeout"), Finished(("http://x/2.png",)))
    for _ in range(5):
        generation_id = await a_generation(database)
        steps = [_step(generation_id, event) for event in events]
        results = await asyncio.gather(*(once(at_level, step) for step in steps))
        assert any(not isinstance(result, Transient) for result in results)
        async with asyncio.timeout(10):  # what met a conflict is tried again, as its job would be
            while again := [step for step, met in zip(steps, results, strict=True) if isinstance(met, Transient)]:
                steps, results = again, await asyncio.gather(*(once(at_level, step) for step in again))
    assert await verify(engine) == []


def _step(generation_id: UUID, event: Finished | Broke) -> Settle:
    return lambda tx: apply(tx, generation_id, event)


async def ended_as_settled(engine: AsyncEngine, generation_id: UUID) -> bool:
    """One posting, of the kind of the one settlement."""
    async with engine.connect() as connection:
        rows = await connection.execute(
            text("""
                SELECT s.outcome || ' ' || p.kind FROM settlements s JOIN postings p USING (generation_id)
                WHERE s.generation_id = :id AND p.kind <> 'hold'
            """),
            {"id": generation_id},
        )
        return [row[0] for row in rows] in (["captured capture"], ["voided void"])


@pytest.mark.parametrize("level", LEVELS)
async def test_of_a_hundred_confirms_at_once_exactly_those_there_is_credit_for_are_bought(
    database: Database, engine: AsyncEngine, level: str
) -> None:
    await grant(database, 7 * PRICE + PRICE // 2)
    at_level = engine.execution_options(isolation_level=level)

    async def confirm() -> object:
        order = Order(uuid4(), str(uuid4()), ANNA, 1, "m", {}, Quoted(500, PRICE), "en")
        while True:
            try:
                async with Database(at_level, RememberingQueue()).transaction() as tx:
                    return (await accept(tx, order, Limits(open=10_000))).id
            except Refused as error:
                return error.code
            except Transient:
                await asyncio.sleep(random.uniform(0, 0.02))

    async with asyncio.timeout(60):
        results = await asyncio.gather(*(confirm() for _ in range(100)))
    assert len([result for result in results if isinstance(result, UUID)]) == 7
    assert {result for result in results if not isinstance(result, UUID)} == {"not_enough"}
    async with database.transaction() as tx:
        wallet = await tx.ledger.balance(ANNA)
    assert (wallet.available, wallet.held, wallet.open_count) == (PRICE // 2, 7 * PRICE, 7)
    assert await verify(engine) == []
