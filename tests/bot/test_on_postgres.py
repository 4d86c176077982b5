"""The same conversation on the real store: what the double promises is what the database does."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.bot.application import BotHandler
from kiebot.storage.transaction import Database
from kiebot.wakeups import Advance, RefreshCard
from tests.bot.doubles import FakeTx
from tests.bot.people import photo
from tests.bot.stored import Queue, StoredPhone

CREATE = "f1:g:"


async def test_a_whole_conversation_buys_once_shows_it_and_takes_it_back(
    handler: BotHandler, engine: AsyncEngine
) -> None:
    queue = Queue()
    anna = StoredPhone(handler, FakeTx())
    anna.database = Database(engine, queue)
    await anna.says("/start")
    await anna.presses_word("n1:example")
    create = anna.button(CREATE)
    await anna.presses(create)
    await anna.presses(create)
    assert "Already started" in anna.screen.text
    assert [type(each) for each in queue.wakeups if not hasattr(each, "chat_id")] == [Advance, RefreshCard]
    await anna.says("/balance")
    assert "1 work under way" in anna.screen.text
    await anna.says("/history")
    await anna.presses_word("h1:v:")
    await anna.presses_word("c1:")
    await anna.says("/balance")
    assert "You have 50 credits." in anna.screen.text
    await anna.says("/cancel")
    await anna.sends(**photo(media_group_id="g"))
    await anna.sends(**photo(media_group_id="g"))
    await anna.presses_word("o1:edit:0")
    await anna.presses_word("m1:")
    await anna.says('make it "snow" {now}')
    assert 'make it "snow" {now}' in anna.screen.text
