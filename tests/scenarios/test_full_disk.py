"""Postgres' disk is full for a while: every table that grows refuses its rows, with a replica at work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.scenarios.buying import CREATE, PATIENCE_S, can_create, creates, gets_media, model, opens
from tests.scenarios.crew import Crew
from tests.scenarios.world import World

FULL_S = 2.0
GROWING = ("inbox", "outbox", "generations", "settlements", "postings")
PRICE = 1600


@asynccontextmanager
async def disk_full(world: World) -> AsyncIterator[None]:
    """Nothing new finds room, neither a row nor a new version of one."""
    refuse = """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$
    """
    await world.execute(refuse)
    for table in GROWING:
        await world.execute(
            f"CREATE TRIGGER is_full BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    yield
    await world.execute("DROP FUNCTION refuse CASCADE")


async def test_a_disk_that_was_full_for_a_while_costs_time_and_nothing_else(world: World, crew: Crew) -> None:
    """One work runs, another is confirmed and somebody writes for the first time while there is no room."""
    crew.start()
    crew.start()
    anna, boris = world.tg.user(501, "Anna", "en"), world.tg.user(502, "Boris", "en")
    await opens(boris, model())
    await boris.sends("a dog on a tram")
    await boris.hears(can_create, timeout=PATIENCE_S)
    await creates(anna, prompt="a cat [[sim:seconds=1]]")
    await world.until_row("SELECT count(*) FROM generations WHERE state = 'running'")
    async with disk_full(world):
        settled = await world.scalar("SELECT count(*) FROM settlements")
        await boris.presses(CREATE)
        await world.tg.user(503, "Vera", "en").sends("/start")
        await asyncio.sleep(FULL_S)
        assert await world.scalar("SELECT count(*) FROM settlements") == settled
        assert await world.scalar("SELECT count(*) FROM generations") == 1
    vera = world.tg.user(503)
    await asyncio.gather(gets_media(anna), gets_media(boris), vera.hears("Hello", timeout=PATIENCE_S, ever=True))
    await world.settles()
    for person in (anna, boris):
        assert await world.available(person.user_id) == 100_000 - PRICE
    assert world.tg.journal.duplicate_sends() == []
    assert await world.scalar("SELECT count(*) FROM generations") == 2
    assert await world.scalar("SELECT coalesce(sum(stumbles), 0) FROM generations") == 0
    assert await world.scalar("SELECT count(*) FROM dead_letters") == 0
    assert len(world.kie.billed_tasks()) == 2
    await world.assert_books_are_right()
    await world.assert_nothing_is_held()
