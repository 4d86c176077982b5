"""A job that is taken away in the middle of its messages leaves none of them claimed by a replica that lives on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.clock import SystemClock
from kiebot.delivery.courier import Courier
from kiebot.delivery.outbox import Draft
from kiebot.delivery.ports import Bill, Keyboard, Media, Sent
from kiebot.delivery.results import ResultSender
from kiebot.ids import new_id
from kiebot.storage.transaction import Database
from kiebot.wakeups import Wakeup

CHAT = 70


class NoQueue:
    async def enqueue(self, wakeups: Sequence[Wakeup]) -> None:
        return


class SlowTelegram:
    """Never answers a text; nothing else is asked of it."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def send_text(self, chat_id: int, text: str, keyboard: Keyboard = ()) -> Sent:
        self.reached.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def edit_text(self, chat_id: int, message_id: int, text: str, keyboard: Keyboard = ()) -> None: ...
    async def delete(self, chat_id: int, message_id: int) -> None: ...
    async def answer_press(self, callback_query_id: str, text: str | None = None) -> None: ...

    async def send_media(self, chat_id: int, media: Media, caption: str, keyboard: Keyboard = ()) -> Sent:
        return await self.send_text(chat_id, caption)

    async def send_bill(self, chat_id: int, bill: Bill) -> Sent:
        return await self.send_text(chat_id, bill.title)

    async def send_album(self, chat_id: int, media: Sequence[Media]) -> Sent:
        return await self.send_text(chat_id, "")


async def test_messages_behind_one_that_was_cut_off_are_free_again(engine: AsyncEngine) -> None:
    database, owner, telegram = Database(engine, NoQueue()), new_id(), SlowTelegram()
    results: ResultSender = ResultSender(database, telegram, None, None, SystemClock())  # type: ignore[arg-type]  # no outcome
    courier = Courier(database, telegram, results, owner, SystemClock())
    async with database.transaction() as tx:
        await tx.replicas.beat(owner, "replica-0", {})
        rows, _ = await tx.outbox.add_all([Draft(CHAT, "say", {"text": line}) for line in ("one", "two")], owner)
    sending = asyncio.create_task(courier.send_claimed(rows))
    await telegram.reached.wait()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM outbox WHERE claimed_by IS NOT NULL")) == 0
