"""Updates by webhook, by polling, and from one to the other by a rolling restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import httpx
import pytest
from sqlalchemy import text

from tests.scenarios.buying import creates, gets_media, tops_up
from tests.scenarios.crew import Crew
from tests.scenarios.gate import LOOPBACK, Balancer, free_port
from tests.scenarios.world import World

PATIENCE_S = 30.0


@pytest.fixture
async def address() -> AsyncIterator[Balancer]:
    balancer = Balancer([(LOOPBACK, free_port()), (LOOPBACK, free_port())])
    await balancer.open()
    yield balancer
    await balancer.close()


def by_webhook(address: Balancer, place: int) -> dict[str, str]:
    public_url = f"http://127.0.0.1:{address.port}"
    return {"BOT_MODE": "webhook", "PUBLIC_URL": public_url, "PORT": str(address.addresses[place][1])}


async def greet(world: World, numbers: Iterable[int]) -> None:
    for number in numbers:
        await world.tg.user(number, f"P{number}").sends("/start")


async def are_greeted(world: World, numbers: Iterable[int]) -> None:
    await asyncio.gather(*(world.tg.user(n).hears("Hello", timeout=PATIENCE_S, ever=True) for n in numbers))


def webhook_url(world: World) -> str:
    return world.tg.bot.webhook.settings.url


async def test_two_replicas_take_updates_by_one_webhook(world: World, crew: Crew, address: Balancer) -> None:
    first = crew.start(**by_webhook(address, 0))
    crew.start(**by_webhook(address, 1))
    await world.until(lambda: webhook_url(world).endswith("/telegram/webhook"))
    await greet(world, range(500, 520))
    await are_greeted(world, range(500, 520))
    anna = world.tg.user(500)
    await creates(anna)
    await gets_media(anna)
    before = await world.available(500)
    await tops_up(anna, 50)
    assert await world.available(500) == before + 50_000

    assert await crew.stop(first) == 0
    await greet(world, range(600, 610))
    await are_greeted(world, range(600, 610))
    await world.settles()
    assert world.tg.journal.polls() == [], "nobody polls"
    assert world.tg.journal.duplicate_sends() == []
    async with httpx.AsyncClient() as browser:
        assert (await browser.post(webhook_url(world), json={"update_id": 1})).status_code == 401


async def test_from_polling_to_webhook_and_back_by_rolling_restarts_nothing_is_lost(
    world: World, crew: Crew, address: Balancer
) -> None:
    polling = crew.start()
    await greet(world, range(500, 505))
    await are_greeted(world, range(500, 505))

    hooked = crew.start(**by_webhook(address, 0))
    await greet(world, range(505, 510))
    await crew.stop(polling)
    await greet(world, range(510, 515))
    await world.until(lambda: bool(webhook_url(world)))
    await greet(world, range(515, 520))
    await are_greeted(world, range(505, 520))

    polled = len(world.tg.journal.polls())
    crew.start()
    await greet(world, range(520, 525))
    await crew.stop(hooked)
    await greet(world, range(525, 530))
    await world.until(lambda: len(world.tg.journal.polls()) > polled)
    assert webhook_url(world) == ""
    await greet(world, range(530, 535))
    await are_greeted(world, range(520, 535))

    await world.settles()
    assert await world.scalar("SELECT count(DISTINCT update_id) FROM inbox WHERE done_at IS NOT NULL") == 35
    assert await world.scalar("SELECT count(*) FROM inbox") == 35
    assert world.tg.journal.purges() == []
    assert world.tg.journal.duplicate_sends() == []
    assert world.tg.journal.live_poll_overlaps() == []


async def test_the_first_poll_does_not_wait_for_the_menu(world: World, crew: Crew) -> None:
    """Whoever takes over polls at once; a menu may come later."""
    menu = world.tg.faults.holds("getMyCommands")
    crew.start()
    await world.until(lambda: world.tg.bot.polls.parked is not None)
    await menu.reached()
    menu.release()
    await world.until(lambda: bool(world.tg.journal.calls("setMyCommands")))


async def test_the_look_for_a_webhook_does_not_wait_for_the_fence(world: World, crew: Crew) -> None:
    """Both stand before the first poll, and neither needs the other."""
    looks = world.tg.journal.calls
    async with world.engine.connect() as connection:
        await connection.execute(text("LOCK TABLE fence"))
        crew.start()
        await world.until(lambda: len(looks("getWebhookInfo")) >= 2)  # the first one asks who the bot is
        assert not looks("getUpdates")
    await world.until(lambda: world.tg.bot.polls.parked is not None)
