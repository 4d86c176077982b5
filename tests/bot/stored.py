"""A phone whose updates are handled on a real database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from uuid import uuid4

from kiebot.delivery.outbox import Draft
from kiebot.storage.transaction import Database
from kiebot.wakeups import Wakeup
from tests.bot.doubles import FakeTx
from tests.bot.people import Phone, payload


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
