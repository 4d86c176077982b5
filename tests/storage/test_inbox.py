from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.errors import Fenced
from kiebot.intake.lanes import LaneClaim
from kiebot.intake.ports import RawUpdate
from kiebot.storage.inbox import PostgresInbox
from kiebot.storage.transaction import Database
from tests.storage.conftest import living

BOT = 42


def update(update_id: int, lane: str = "c1", *, urgent: bool = False) -> RawUpdate:
    return RawUpdate(update_id, lane, b'{"update_id":%d}' % update_id, urgent)


@pytest.fixture
async def inbox(engine: AsyncEngine) -> PostgresInbox:
    inbox = PostgresInbox(engine, BOT)
    await inbox.take_fence("term-1", "r1")
    return inbox


async def test_an_update_is_recorded_once_however_often_it_is_fetched(inbox: PostgresInbox) -> None:
    first = await inbox.record([update(7), update(8)], token="term-1")
    again = await inbox.record([update(7), update(8)], token="term-1")
    assert [drain.lane for drain in first] == ["42/c1"]
    assert again == []


async def test_an_id_that_telegram_gives_out_again_after_a_quiet_week_is_a_new_update(
    inbox: PostgresInbox, database: Database, owner: UUID, engine: AsyncEngine
) -> None:
    """Nobody was there meanwhile to forget the old row."""
    await inbox.record([update(7), update(8)], token="term-1")
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE inbox SET done_at = now() - interval '7 days', attempts = 3"))
        before = await connection.scalar(text("SELECT max(id) FROM inbox"))
    assert [drain.lane for drain in await inbox.record([update(6), update(7, "c2")], token="term-1")] == [
        "42/c1",
        "42/c2",
    ]
    async with database.transaction() as tx:
        claimed = await tx.lanes.claim("42/c2", owner, most=10)
    assert claimed is not None
    (waiting,) = claimed[1]
    assert (waiting.update_id, waiting.attempts) == (7, 0)
    assert waiting.id > before  # later keys derive from it


async def test_an_update_handled_yesterday_is_not_handled_again(inbox: PostgresInbox, engine: AsyncEngine) -> None:
    await inbox.record([update(7)], token="term-1")
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE inbox SET done_at = now() - interval '1 day'"))
    assert await inbox.record([update(7)], token="term-1") == []


async def test_an_update_that_comes_twice_in_one_batch_is_recorded_once(inbox: PostgresInbox) -> None:
    assert len(await inbox.record([update(7), update(7)], token="term-1")) == 1


async def test_a_poller_of_an_older_term_writes_nothing(inbox: PostgresInbox, engine: AsyncEngine) -> None:
    fence = await inbox.take_fence("term-2", "r2")
    assert fence.epoch == 2
    with pytest.raises(Fenced):
        await inbox.record([update(9)], token="term-1")
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM inbox")) == 0


async def test_two_bots_on_one_database_do_not_swallow_each_others_updates(
    inbox: PostgresInbox, engine: AsyncEngine
) -> None:
    other = PostgresInbox(engine, 43)
    await other.take_fence("term-1", "r1")
    assert await inbox.record([update(7)], token="term-1")
    assert await other.record([update(7)], token="term-1")


async def test_each_marking_of_a_lane_has_its_own_revision(inbox: PostgresInbox) -> None:
    first = await inbox.record([update(1)], token="term-1")
    second = await inbox.record([update(2)], token="term-1")
    assert first[0].revision != second[0].revision


async def test_a_lane_hands_out_its_updates_in_order_of_receipt_and_stop_presses_first(
    inbox: PostgresInbox, database: Database, owner: UUID
) -> None:
    await inbox.record([update(3), update(1), update(2, urgent=True)], token="term-1")
    async with database.transaction() as tx:
        claimed = await tx.lanes.claim("42/c1", owner, most=10)
    assert claimed is not None
    assert [waiting.update_id for waiting in claimed[1]] == [2, 3, 1]


async def test_a_claimed_lane_is_nobody_elses_until_its_owner_dies(
    inbox: PostgresInbox, database: Database, owner: UUID, engine: AsyncEngine
) -> None:
    await inbox.record([update(1)], token="term-1")
    other = await living(database)
    async with database.transaction() as tx:
        assert await tx.lanes.claim("42/c1", owner, most=10) is not None
    async with database.transaction() as tx:
        assert await tx.lanes.claim("42/c1", other, most=10) is None
    async with database.transaction() as tx:
        await tx.replicas.leave(owner)
        assert await tx.lanes.claim("42/c1", other, most=10) is not None


async def test_a_drain_whose_lane_was_taken_over_cannot_finish_an_update(
    inbox: PostgresInbox, database: Database, owner: UUID
) -> None:
    await inbox.record([update(1)], token="term-1")
    async with database.transaction() as tx:
        stale = await tx.lanes.claim("42/c1", owner, most=10)
        await tx.replicas.leave(owner)
    other = await living(database)
    async with database.transaction() as tx:
        fresh = await tx.lanes.claim("42/c1", other, most=10)
    assert stale is not None
    assert fresh is not None
    async with database.transaction() as tx:
        assert not await tx.lanes.finish(stale[0], stale[1][0].id)
        assert await tx.lanes.finish(fresh[0], fresh[1][0].id)
        assert not await tx.lanes.finish(fresh[0], fresh[1][0].id)


async def test_what_was_recorded_while_the_lane_was_held_is_seen_after_the_release(
    inbox: PostgresInbox, database: Database, owner: UUID
) -> None:
    await inbox.record([update(1)], token="term-1")
    async with database.transaction() as tx:
        claimed = await tx.lanes.claim("42/c1", owner, most=10)
    assert claimed is not None
    async with database.transaction() as tx:
        await tx.lanes.finish(claimed[0], claimed[1][0].id)
    await inbox.record([update(2)], token="term-1")
    async with database.transaction() as tx:
        await tx.lanes.release(claimed[0])
    async with database.transaction() as tx:
        assert await tx.lanes.look_again("42/c1") is not None


async def test_a_poison_update_is_buried_once_with_its_reason(
    inbox: PostgresInbox, database: Database, engine: AsyncEngine, owner: UUID
) -> None:
    await inbox.record([update(1)], token="term-1")
    claim = await _claimed(database, owner)
    async with database.transaction() as tx:
        assert await tx.lanes.failed(claim, 1, "boom", pause_s=60) == 1
    async with database.transaction() as tx:
        assert await tx.lanes.bury(claim, 1, "boom") is not None
        assert await tx.lanes.bury(claim, 1, "boom") is None
    async with engine.connect() as connection:
        row = (await connection.execute(text("SELECT kind, reason, payload FROM dead_letters"))).one()
    assert tuple(row) == ("update", "boom", b'{"update_id":1}')


async def test_a_drain_that_lost_its_lane_neither_counts_a_try_nor_buries_anything(
    inbox: PostgresInbox, database: Database, engine: AsyncEngine, owner: UUID
) -> None:
    await inbox.record([update(1)], token="term-1")
    lost = await _claimed(database, owner)
    async with database.transaction() as tx:
        await tx.replicas.leave(owner)
    await _claimed(database, await living(database))
    async with database.transaction() as tx:
        assert await tx.lanes.failed(lost, 1, "boom", pause_s=60) == 0
        assert await tx.lanes.bury(lost, 1, "boom") is None
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT attempts, done_at FROM inbox"))).one() == (0, None)


async def _claimed(database: Database, owner: UUID) -> LaneClaim:
    async with database.transaction() as tx:
        claimed = await tx.lanes.claim("42/c1", owner, most=10)
    assert claimed is not None
    return claimed[0]


async def test_an_update_that_failed_waits_out_its_pause_and_nothing_overtakes_it(
    inbox: PostgresInbox, database: Database, owner: UUID
) -> None:
    await inbox.record([update(1), update(2)], token="term-1")
    async with database.transaction() as tx:
        await tx.lanes.failed(await _claimed(database, owner), 1, "boom", pause_s=60)
        claimed = await tx.lanes.claim("42/c1", owner, most=10, again=True)
    assert claimed is not None
    assert [(waiting.update_id, waiting.not_yet) for waiting in claimed[1]] == [(1, True), (2, False)]
    async with database.transaction() as tx:
        await tx.lanes.release(claimed[0])
    async with database.transaction() as tx:
        assert await tx.lanes.look_again("42/c1") is None
