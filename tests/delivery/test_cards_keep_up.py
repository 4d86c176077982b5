"""A card that tells of waiting is shown anew while it waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import text

from kiebot.generation.model import State
from kiebot.generation.pace import Pace
from kiebot.generation.ports import Submission
from kiebot.simulators.users import SimUser
from kiebot.wakeups import RefreshCard
from tests.delivery.conftest import CHAT, Office
from tests.faults.conftest import HeldProvider
from tests.generation.conftest import Unlimited

_AGE = text("""
    WITH works AS (UPDATE generations SET accepted_at = accepted_at - make_interval(secs => :s),
        submitted_at = submitted_at - make_interval(secs => :s), due_at = now())
    UPDATE cards SET next_at = next_at - make_interval(secs => :s)
""")


@pytest.fixture(autouse=True)
def anna(office: Office) -> None:
    office.telegram.user(CHAT)


def _card(office: Office) -> str:
    """The newest one, as it stands in the chat."""
    return office.telegram.user(CHAT).messages[-1].text or ""


async def _after(office: Office, seconds: float) -> None:
    """As if so much time had passed since the card was shown, and the work were due for a look."""
    async with office.rig.database.engine.begin() as connection:
        await connection.execute(_AGE, {"s": seconds})
    office.rig.queue.wakeups.clear()


def _deletes_all(office: Office) -> SimUser:
    """What stands in their chat; whose it is."""
    anna = office.telegram.user(CHAT)
    for message in anna.messages:
        anna.chat.delete(message)
    return anna


async def _wanted(office: Office) -> None:
    """As when a model is switched: all cards are shown anew."""
    async with office.rig.database.engine.begin() as connection:
        await connection.execute(text("UPDATE cards SET wanted_version = wanted_version + 1"))


async def _looked_at(office: Office, generation_id: UUID) -> int:
    """One more look at the work; how many refreshes of its card it asked for."""
    budget = office.rig.tools.create_budget
    assert isinstance(budget, Unlimited)
    budget.waits = [100.0]
    await office.rig.engine.advance(generation_id)
    return sum(
        wakeup.generation_id == generation_id for wakeup in office.rig.queue.wakeups if isinstance(wakeup, RefreshCard)
    )


async def test_the_card_of_a_work_in_the_queue_tells_its_new_place_once_a_minute_has_passed(office: Office) -> None:
    await office.rig.grant(20)
    first, second = await office.rig.order(), await office.rig.order()
    for each in (first, second):
        await office.cards.refresh(each.id)
    assert "1 work before yours" in _card(office)
    await office.rig.settles(first.id)
    await _after(office, 30.0)
    assert await _looked_at(office, second.id) == 0
    await _after(office, 40.0)
    assert await _looked_at(office, second.id) == 1
    await office.cards.refresh(second.id)
    assert "Next in the queue" in _card(office)
    await _after(office, 20.0)
    assert await _looked_at(office, second.id) == 0


async def test_the_longer_a_work_waits_the_more_seldom_its_card_is_shown_anew(office: Office) -> None:
    await office.rig.grant(20)
    work = await office.rig.order()
    await office.cards.refresh(work.id)
    shown_after = []
    for minute in range(1, 31):
        await _after(office, 65.0)
        if await _looked_at(office, work.id):
            await office.cards.refresh(work.id)
            shown_after.append(minute)
    assert shown_after[:2] == [1, 2]
    assert len(shown_after) <= 10


async def test_the_card_of_a_work_that_takes_too_long_says_so(office: Office) -> None:
    office.rig.kie.switches.set(duration_scale=10_000.0)
    office.rig.tools = replace(office.rig.tools, pace=Pace())
    await office.rig.grant(20)
    work = await office.rig.order()
    await office.rig.engine.advance(work.id)
    await office.cards.refresh(work.id)
    assert "Usually about" in _card(office)
    await _after(office, 130.0)
    assert await _looked_at(office, work.id) == 1
    assert (await office.rig.read(work.id)).state is State.RUNNING
    await office.cards.refresh(work.id)
    assert "takes longer than usual" in _card(office)


async def test_a_card_that_was_deleted_comes_back_with_news_and_not_with_the_same_once_more(office: Office) -> None:
    await office.rig.grant(20)
    work = await office.rig.order()
    await office.cards.refresh(work.id)
    anna = office.telegram.user(CHAT)
    for _ in range(2):
        for message in anna.messages:
            anna.chat.delete(message)
        await _after(office, 200.0)
        await _looked_at(office, work.id)
        await office.cards.refresh(work.id)
        assert anna.messages == []
    await office.rig.is_due(work.id)
    await office.rig.engine.advance(work.id)
    await office.refresh(work.id)
    assert "Being made" in _card(office)


async def test_a_card_that_is_deleted_just_after_it_told_the_news_stays_away(office: Office) -> None:
    office.rig.tools = replace(office.rig.tools, pace=Pace())
    await office.rig.grant(20)
    work = await office.rig.order()
    await office.rig.engine.advance(work.id)
    await office.refresh(work.id)
    anna = _deletes_all(office)
    await _after(office, 5.0)
    await _wanted(office)
    await office.refresh(work.id)
    assert anna.messages == []


async def test_a_deleted_card_comes_back_when_the_provider_sends_a_work_back_after_minutes(office: Office) -> None:
    office.rig.tools = replace(office.rig.tools, pace=Pace())
    office.rig.kie.fails_next("Reached the limit for concurrent generations.")
    await office.rig.grant(20)
    work = await office.rig.order()
    await office.rig.engine.advance(work.id)
    await office.refresh(work.id)
    _deletes_all(office)
    await _after(office, 300.0)
    await office.rig.engine.advance(work.id)
    assert (await office.rig.read(work.id)).state is State.ACCEPTED
    await office.refresh(work.id)
    assert "has not taken it yet" in _card(office)


async def _creates(office: Office, generation_id: UUID, during: Callable[[], Awaitable[None]]) -> None:
    """One more try to submit; `during` runs while the create is on its way."""
    tools = office.rig.tools
    provider = HeldProvider(tools.provider)

    async def on_its_way(_: Submission) -> None:
        await during()

    provider.before_submit = on_its_way
    office.rig.tools = replace(tools, provider=provider)
    async with office.rig.database.engine.begin() as connection:
        await connection.execute(text("UPDATE model_switches SET until = now()"))
    await office.rig.is_due(generation_id)
    office.rig.queue.wakeups.clear()
    await office.rig.engine.advance(generation_id)
    office.rig.tools = tools
    await _refreshed(office)


async def _refreshed(office: Office, within_s: float = 0.0) -> None:
    """The refreshes that are queued by now, as their jobs would do them."""
    queued = [each for each in office.rig.queue.wakeups if isinstance(each, RefreshCard) and each.delay_s <= within_s]
    for each in queued:
        await office.refresh(each.generation_id)


async def test_a_try_that_comes_to_nothing_at_once_leaves_the_card_of_a_stop_as_it_is(office: Office) -> None:
    office.rig.kie.set_credits(0)
    await office.rig.grant(20)
    work = await office.rig.order()
    await office.rig.engine.advance(work.id)
    await office.refresh(work.id)
    anna = office.telegram.user(CHAT)
    seen: list[tuple[str, int]] = []

    async def looks() -> None:
        await _refreshed(office)
        seen.append((_card(office), len(anna.messages[-1].buttons)))

    for _ in range(3):
        await _creates(office, work.id, looks)
        await looks()
    assert all("It waits" in told and buttons == 1 for told, buttons in seen), seen
    assert len(seen) == 6


async def test_a_slow_create_is_told_while_it_lasts_and_what_follows_after_it(office: Office) -> None:
    office.rig.tools = replace(office.rig.tools, pace=Pace())
    await office.rig.grant(20)
    work = await office.rig.order()
    await office.cards.refresh(work.id)
    told = []

    async def lasts() -> None:
        await _refreshed(office)
        told.append(_card(office))
        for _ in range(2):
            await _refreshed(office, within_s=10.0)
            told.append(_card(office))

    await _creates(office, work.id, lasts)
    assert "Next in the queue" in told[0]
    assert all("Handing it to the maker" in each for each in told[1:])
    assert "Being made" in _card(office)
