"""The same conversation on the real store: what the double promises is what the database does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.bot.application import BotHandler
from kiebot.delivery.outbox import Draft
from kiebot.storage.transaction import Database
from kiebot.wakeups import Advance, RefreshCard, Wakeup
from tests.bot.doubles import FakeTx
from tests.bot.people import Phone, payload, photo

CREATE = "f1:g:"


class Queue:
    def __init__(self) -> None:
        self.wakeups: list[Wakeup] = []

    async def enqueue(self, wakeups: Sequence[Wakeup]) -> None:
        self.wakeups.extend(wakeups)


class StoredPhone(Phone):
    """Every update in a transaction of its own, its messages in the outbox of the same."""

    database: Database

    async def update(self, **content: Any) -> list[Draft]:
        async with self.database.transaction() as tx:
            self.tx = cast(FakeTx, tx)  # the same port; only the double has tables to look into
            drafts = await self.handler.handle(tx, payload(**content))
            await tx.outbox.add_all(drafts, uuid4())
            for draft in drafts:
                await self._receive(draft)
        self.drafts = drafts
        return drafts


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
