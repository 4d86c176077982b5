"""Every model on sale, from the form to a delivered file of the right kind, through a running cluster."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec
import pytest

from kiebot.bot import form
from kiebot.bot.form_state import FormState
from kiebot.bot.session import Session
from kiebot.generation import media
from kiebot.generation.catalog import models
from kiebot.generation.product import Model
from kiebot.simulators.telegram.messages import ChatMessage, MessageState
from kiebot.simulators.telegram.rules import FloodRules
from kiebot.simulators.users import SimUser
from tests.scenarios.buying import CREATE, answers, can_create, opens
from tests.scenarios.crew import Crew
from tests.scenarios.world import World, open_world

pytestmark = pytest.mark.slow

AT_ONCE = 24  # people in the shop
FIRST_USER = 10_000
RICH = "100000"
MOST_STEPS = 12
PATIENCE_S = 60.0
SHOWN_AS = {"image": {"photo", "document"}, "video": {"video"}, "audio": {"audio"}}


@dataclass(frozen=True)
class Bought:
    """What one person got for one purchase."""

    model: Model
    user_id: int
    kinds: tuple[str, ...]


@pytest.fixture
async def shop(database_url: str, redis_url: str, redis_prefix: str) -> AsyncIterator[Crew]:
    """Two replicas; Telegram's simulator does not hold messages back."""
    async with open_world(database_url, redis_url, redis_prefix, flood=FloodRules(is_on=False)) as world:
        crew = Crew(world)
        crew.start(WELCOME_CREDITS=RICH)
        crew.start(WELCOME_CREDITS=RICH)
        yield crew
        await crew.stop_all()


async def test_every_model_on_sale_delivers_a_file_of_its_kind_for_one_charge(shop: Crew) -> None:
    world, room = shop.world, asyncio.Semaphore(AT_ONCE)

    async def visit(user_id: int, wanted: Model) -> Bought:
        async with room:
            return await buys(world, world.tg.user(user_id, f"P{user_id}"), wanted)

    bought = await asyncio.gather(*(visit(FIRST_USER + place, model) for place, model in enumerate(models())))
    await world.settles()

    assert len(bought) == len(models()) >= 80
    await assert_charged_once(world, bought)
    await world.assert_books_are_right()
    await world.assert_nothing_is_held()
    assert_every_type_delivers(bought)
    assert world.tg.journal.duplicate_sends() == []


async def buys(world: World, anna: SimUser, wanted: Model) -> Bought:
    await fills(world, anna, wanted)
    await anna.presses(CREATE)
    arrived = await anna.hears(lambda state: is_outcome(state, wanted), timeout=PATIENCE_S)
    assert arrived.says("Charged:"), f"{wanted.id}: {arrived.text or arrived.caption}"
    files = [message for message in anna.messages if message.media_kind]
    assert files, f"{wanted.id}: a charge and no file"
    for message in files:
        assert_is(message, wanted)
    return Bought(wanted, anna.user_id, tuple(message.media_kind or "" for message in files))


async def fills(world: World, anna: SimUser, wanted: Model) -> None:
    """Answers what the form asks, one message each, until it offers to create."""
    screen = await opens(anna, wanted)
    for _ in range(MOST_STEPS):
        if can_create(screen):
            return
        asked = form.asked(wanted, await draft_of(world, anna))
        assert asked is not None, f"{wanted.id} asks for nothing and cannot be bought: {screen.text}"
        await answers(anna, asked)
        screen = await anna.hears(wanted.title, timeout=PATIENCE_S)
    raise AssertionError(f"{wanted.id} still asks: {screen.text}")


async def draft_of(world: World, anna: SimUser) -> FormState:
    """What stands on the desk, as the cluster keeps it."""
    row = await world.scalar("SELECT state::text FROM drafts WHERE user_id = :user", user=anna.user_id)
    session = msgspec.json.decode(row, type=Session)
    assert session.form is not None
    return session.form


def is_outcome(state: MessageState, wanted: Model) -> bool:
    return state.says(wanted.title, "No.") and state.says("You have")


def assert_is(message: ChatMessage, wanted: Model) -> None:
    """The right kind in the chat, and bytes that really are one."""
    assert message.media is not None
    content = message.media.content
    found = media.sniff(content.data[: media.HEAD_BYTES])
    assert message.media_kind in SHOWN_AS[wanted.output], (wanted.id, message.media_kind)
    assert found is not None, f"{wanted.id}: what Telegram got is no media file"
    assert found.kind == wanted.output, (wanted.id, found)
    assert message.media.content_type == found.mime, (
        f"{wanted.id}: called {message.media.content_type}, is {found.mime}"
    )


async def assert_charged_once(world: World, bought: list[Bought]) -> None:
    """One generation, one task at the maker, one capture each; the charge is never above the quote."""
    rows = await world.rows("""
        SELECT g.user_id, g.model_id, g.state, g.price_millicredits, s.outcome, s.amount,
            (SELECT count(*) FROM postings p WHERE p.generation_id = g.id AND p.kind = 'capture') AS captures
        FROM generations g JOIN settlements s ON s.generation_id = g.id
    """)
    assert sorted((row.user_id, row.model_id) for row in rows) == sorted(
        (each.user_id, each.model.id) for each in bought
    )
    for row in rows:
        facts = (row.model_id, row.state, row.outcome, row.captures)
        assert facts == (row.model_id, "succeeded", "captured", 1)
        assert 0 < row.amount <= row.price_millicredits, row.model_id
    made = Counter(task.model for task in world.kie.billed_tasks())
    assert made == Counter(each.model.id for each in bought)
    assert world.kie.journal.key_leaks() == []


def assert_every_type_delivers(bought: list[Bought]) -> None:
    """The table: type, models on sale, what arrived. Shown with -s, and when something is missing."""
    by_type: dict[str, list[Bought]] = defaultdict(list)
    for each in bought:
        by_type[each.model.type].append(each)
    lines = [f"{'type':<18} {'models':>6}  delivered"]
    for name, sold in sorted(by_type.items()):
        kinds = Counter(kind for each in sold for kind in each.kinds)
        lines.append(f"{name:<18} {len(sold):>6}  {', '.join(f'{count} {kind}' for kind, count in kinds.items())}")
    table = "\n".join(lines)
    sys.stdout.write(f"\n{table}\n")
    assert set(by_type) == {model.type for model in models()}, table
    assert all(len(sold) == len([m for m in models() if m.type == name]) for name, sold in by_type.items()), table
