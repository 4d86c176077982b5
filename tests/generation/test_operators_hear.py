"""Operators hear of a stop of the whole account when it begins and when it is over, once each."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from kiebot.admin.model import EVERYTHING
from kiebot.bot.notices import Notices
from kiebot.generation.alarm import Operators
from kiebot.generation.model import State
from kiebot.generation.service import cancel
from tests.generation.conftest import Rig

BOSS, DEPUTY, NEVER_SEEN = 900, 901, 902


@pytest.fixture
async def shop(rig: Rig) -> Rig:
    async with rig.database.transaction() as tx:
        await tx.users.seen(BOSS, "Boss", "en")
        await tx.users.seen(DEPUTY, "Deputy", "ru")
    await rig.grant(100)
    return replace(rig, tools=replace(rig.tools, operators=Operators({BOSS, DEPUTY, NEVER_SEEN}, Notices())))


async def heard(rig: Rig, admin_id: int) -> list[str]:
    async with rig.database.engine.connect() as connection:
        found = await connection.execute(
            text("SELECT payload->>'text' FROM outbox WHERE chat_id = :id ORDER BY id"), {"id": admin_id}
        )
        return [row[0] for row in found]


async def pauses_ended(rig: Rig, *, ago_s: float) -> None:
    async with rig.database.engine.begin() as connection:
        for statement in (
            "UPDATE model_switches SET until = now() - make_interval(secs => :s)",
            "UPDATE generations SET due_at = now() - make_interval(secs => :s) WHERE finished_at IS NULL",
        ):
            await connection.execute(text(statement), {"s": ago_s})


async def test_a_stop_of_the_account_is_told_once_however_many_works_meet_it(shop: Rig) -> None:
    shop.kie.set_credits(0)
    works = [await shop.order() for _ in range(3)]
    for work in works:
        await shop.engine.advance(work.id)
        await pauses_ended(shop, ago_s=0.1)
    for admin_id, word in ((BOSS, "KIE makes nothing"), (DEPUTY, "ничего не делает")):
        (said,) = await heard(shop, admin_id)
        assert word in said
    assert await heard(shop, NEVER_SEEN) == []
    async with shop.database.transaction() as tx:
        assert await tx.switches.stopped() == (1, 0)


async def test_its_end_is_told_once_when_a_work_was_taken_again(shop: Rig) -> None:
    shop.kie.set_credits(0)
    work = await shop.order()
    await shop.engine.advance(work.id)
    shop.kie.set_credits(1000)
    await pauses_ended(shop, ago_s=1)
    assert (await shop.settles(work.id)).state is State.SUCCEEDED
    for _ in range(2):
        await shop.settles((await shop.order()).id)
    assert [said[:1] for said in await heard(shop, BOSS)] == ["🚨", "✅"]
    async with shop.database.transaction() as tx:
        assert await tx.switches.stopped() == (0, 0)


async def test_while_nothing_waits_nobody_knows_of_the_end_and_the_first_notice_says_when_it_is_told(shop: Rig) -> None:
    shop.kie.set_credits(0)
    work = await shop.order()
    await shop.engine.advance(work.id)
    async with shop.database.transaction() as tx:
        assert await cancel(tx, work.id)
    await pauses_ended(shop, ago_s=3600)
    (said,) = await heard(shop, BOSS)
    assert "you hear of the end with the first work that KIE takes" in said
    shop.kie.set_credits(1000)
    await shop.settles((await shop.order()).id)
    assert [each[:1] for each in await heard(shop, BOSS)] == ["🚨", "✅"]


async def test_stops_within_a_quarter_of_an_hour_are_one_piece_of_news(shop: Rig) -> None:
    at = datetime(2026, 5, 4, 12, 1, tzinfo=UTC)
    operators = shop.tools.operators
    assert operators is not None
    async with shop.database.transaction() as tx:
        for minutes in (0, 5, 20):
            since = at + timedelta(minutes=minutes)
            await operators.stopped(tx, EVERYTHING, since, "no credits", now=since)
            await operators.works(tx, EVERYTHING, since, now=since + timedelta(minutes=2))
    assert [said[:1] for said in await heard(shop, BOSS)] == ["🚨", "✅"] * 2


async def test_a_stop_that_lasts_after_a_short_one_is_not_hidden_by_the_end_of_that(shop: Rig) -> None:
    """The last word of an outage of hours would be that all is well."""
    first, second = (datetime(2026, 5, 4, 12, minute, tzinfo=UTC) for minute in (1, 14))
    operators = shop.tools.operators
    assert operators is not None
    async with shop.database.transaction() as tx:
        await operators.stopped(tx, EVERYTHING, first, "no credits", now=first)
        await operators.works(tx, EVERYTHING, first, now=first + timedelta(minutes=2))
        for minutes in range(0, 120, 4):
            now = second + timedelta(minutes=minutes)
            await operators.stopped(tx, EVERYTHING, second, "no credits", now=now)
        await operators.works(tx, EVERYTHING, second, now=now)
    said = await heard(shop, BOSS)
    assert [each[:1] for each in said] == ["🚨", "✅", "🚨", "✅"]
    assert "still makes nothing" in said[2]


async def test_a_model_that_rests_is_told_by_its_name_and_an_admins_own_switch_is_no_news(shop: Rig) -> None:
    shop.kie.switches.maintenance = True
    work = await shop.order()
    await shop.engine.advance(work.id)
    (said,) = await heard(shop, BOSS)
    assert said.startswith("⚠️ KIE does not make Z-Image")
    async with shop.database.transaction() as tx:
        assert await tx.switches.stopped() == (0, 1)
        assert await tx.switches.turn_off(EVERYTHING, "moving house", "admin:900")
        assert await tx.switches.switch_off(EVERYTHING, "no credits", "provider", for_s=60) is None
