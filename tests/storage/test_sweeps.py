"""A sweeper at rest, and one that has something to find."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.clock import ManualClock
from kiebot.delivery.outbox import Draft
from kiebot.intake.ports import RawUpdate
from kiebot.storage.inbox import PostgresInbox
from kiebot.storage.sweeps import Backlog
from kiebot.storage.transaction import Database
from kiebot.sweepers import Sweeper
from kiebot.wakeups import Advance, Deliver, Drain
from tests.storage.conftest import RememberingQueue


@pytest.fixture
def statements(engine: AsyncEngine) -> Iterator[list[str]]:
    """What was executed, in order."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine.sync_engine, "before_cursor_execute", note)


@pytest.fixture
def backlogs() -> list[Backlog]:
    return []


@pytest.fixture
def sweeper(database: Database, backlogs: list[Backlog]) -> Sweeper:
    return Sweeper(database, ManualClock(), on_backlog=backlogs.append, on_books=lambda breaches: None)


async def test_a_sweep_with_nothing_to_find_asks_one_question(
    sweeper: Sweeper, statements: list[str], backlogs: list[Backlog]
) -> None:
    assert await sweeper.sweep() == 0
    assert len(statements) == 1
    assert backlogs == [Backlog()]


async def test_what_a_dead_replica_held_is_queued_beside_the_job_that_died_with_it(
    sweeper: Sweeper, engine: AsyncEngine, database: Database, owner: UUID, queue: RememberingQueue
) -> None:
    """The dead worker's job keeps its id for seconds yet: the same id would be refused until then."""
    (lane,) = await PostgresInbox(engine, 42).record([RawUpdate(1, "c1", b"{}")], token=None)
    generation_id = await _running(engine)
    async with database.transaction() as tx:
        assert await tx.lanes.claim(lane.lane, owner, most=10) is not None
        held = await tx.generations.claim(generation_id, owner)
    assert held is not None
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE replicas SET beat_at = now() - interval '1 minute'"))
        await connection.execute(text("UPDATE inbox SET next_at = now() - interval '1 minute'"))
    queue.wakeups.clear()
    await sweeper.sweep()
    await sweeper.sweep()
    drains = {each for each in queue.wakeups if isinstance(each, Drain)}
    advances = {each for each in queue.wakeups if isinstance(each, Advance)}
    assert len(drains) == len(advances) == 1  # and one id for each death: a busy queue does not fill up with them
    assert drains != {Drain(lane.lane, lane.revision)}
    assert advances != {Advance(generation_id, held.revision)}


async def test_what_nobody_held_is_queued_under_the_id_of_its_lost_wake_up(
    sweeper: Sweeper, engine: AsyncEngine, queue: RememberingQueue
) -> None:
    (lane,) = await PostgresInbox(engine, 42).record([RawUpdate(1, "c1", b"{}")], token=None)
    generation_id = await _running(engine)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE inbox SET next_at = now() - interval '1 minute'"))
    queue.wakeups.clear()
    await sweeper.sweep()
    assert set(queue.wakeups) == {lane, Advance(generation_id, 0)}


async def _running(engine: AsyncEngine) -> UUID:
    """A generation that is to be looked at since a minute."""
    async with engine.begin() as connection:
        found: UUID = await connection.scalar(
            text("""
                INSERT INTO generations (id, confirm_key, user_id, chat_id, model_id, inputs, language, state,
                    cost_millicredits, price_millicredits, is_maximum, due_at)
                VALUES (gen_random_uuid(), 'k', 1, 1, 'm', '{}', 'en', 'running', 5, 10, false,
                    now() - interval '1 minute')
                RETURNING id
            """)
        )
    return found


async def test_a_sweep_finds_lanes_in_every_order_and_chats_left_behind(
    sweeper: Sweeper,
    engine: AsyncEngine,
    database: Database,
    owner: UUID,
    queue: RememberingQueue,
    backlogs: list[Backlog],
) -> None:
    lanes = ("c9", "c10", "u1", "b", "c9")
    await PostgresInbox(engine, 42).record([RawUpdate(n, lane, b"{}") for n, lane in enumerate(lanes)], token=None)
    async with database.transaction() as tx:
        await tx.outbox.add_all([Draft(7, "say", {"text": "hi"})], owner)
    async with engine.begin() as connection:
        for table in ("inbox", "outbox"):
            await connection.execute(text(f"UPDATE {table} SET next_at = now() - interval '1 minute'"))
        await connection.execute(text("UPDATE outbox SET claimed_by = NULL"))
        await connection.execute(text("UPDATE inbox SET received_at = now() - interval '1 minute'"))
    queue.wakeups.clear()
    assert await sweeper.sweep() == 5
    assert sorted(each.lane for each in queue.wakeups if isinstance(each, Drain)) == [
        "42/b",
        "42/c10",
        "42/c9",
        "42/u1",
    ]
    assert [each.chat_id for each in queue.wakeups if isinstance(each, Deliver)] == [7]
    assert (backlogs[0].has_updates, backlogs[0].outbox) == (True, 1)
    assert 60 <= backlogs[0].oldest_update_s < 120
