"""What the sweeper does on its own: it ends what never ended, and checks the books."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.clock import SystemClock
from kiebot.gauges import note_books
from kiebot.generation.model import Order, Quoted, State
from kiebot.generation.service import accept
from kiebot.generation.tools import Limits
from kiebot.observe.metrics import METRICS
from kiebot.storage.transaction import Database
from kiebot.storage.verify import Breach
from kiebot.sweepers import CHECK_BOOKS_EVERY_S, Sweeper

ANNA = 7


class Hurried(SystemClock):
    """A clock that sleeps no longer than a moment, and lets a quarter of an hour pass meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.slept = 0

    def monotonic(self) -> float:
        return super().monotonic() + self.slept * CHECK_BOOKS_EVERY_S

    async def sleep(self, seconds: float) -> None:
        self.slept += 1
        await asyncio.sleep(0.01)


def sweeper(database: Database, seen: list[Sequence[Breach]], clock: SystemClock | None = None) -> Sweeper:
    return Sweeper(database, clock or SystemClock(), on_backlog=lambda _: None, on_books=seen.append)


async def an_open_generation(database: Database) -> UUID:
    order = Order(uuid4(), str(uuid4()), ANNA, 1, "m", {}, Quoted(500, 1000), "en")
    async with database.transaction() as tx:
        await tx.ledger.grant("g1", ANNA, 5000, reason="test", actor="tester")
        return (await accept(tx, order, Limits())).id


async def hold_runs_out(engine: AsyncEngine, generation_id: UUID, *, ago: str = "1 second") -> None:
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE holds DISABLE TRIGGER USER"))
        await connection.execute(
            text(f"UPDATE holds SET expires_at = now() - interval '{ago}' WHERE generation_id = :id"),
            {"id": generation_id},
        )
        await connection.execute(text("ALTER TABLE holds ENABLE TRIGGER USER"))


async def test_a_hold_that_ran_out_by_the_databases_time_is_given_back(database: Database, engine: AsyncEngine) -> None:
    generation_id = await an_open_generation(database)
    await sweeper(database, []).purge()
    async with database.transaction() as tx:
        assert (await tx.generations.lock(generation_id)).state is State.ACCEPTED, "its time has not come"
    await hold_runs_out(engine, generation_id)
    await asyncio.gather(*(sweeper(database, []).purge() for _ in range(3)))  # every replica finds it
    async with database.transaction() as tx:
        generation, wallet = await tx.generations.lock(generation_id), await tx.ledger.balance(ANNA)
    assert (generation.state, generation.failure) == (State.FAILED, "expired")
    assert (wallet.available, wallet.held, wallet.open_count) == (5000, 0, 0)


async def test_the_books_are_checked_every_quarter_of_an_hour_and_the_gauge_tells(
    database: Database, engine: AsyncEngine
) -> None:
    seen: list[Sequence[Breach]] = []
    running = asyncio.create_task(sweeper(database, seen, Hurried()).run())
    async with asyncio.timeout(10):
        while len(seen) < 2:
            await asyncio.sleep(0.01)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert seen[:2] == [[], []]
    generation_id = await an_open_generation(database)
    await hold_runs_out(engine, generation_id, ago="2 hours")
    await Sweeper(database, SystemClock(), on_backlog=lambda _: None, on_books=note_books).check_books()
    shown = METRICS.registry.get_sample_value
    assert shown("kiebot_ledger_broken") == 1
    assert (shown("kiebot_ledger_checked_timestamp_seconds") or 0) > 1.7e9
    note_books([])
    assert shown("kiebot_ledger_broken") == 0
