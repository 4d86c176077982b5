"""Repositories on a real Postgres, with a queue that only remembers."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.storage.transaction import Database
from kiebot.wakeups import Wakeup


class RememberingQueue:
    def __init__(self) -> None:
        self.wakeups: list[Wakeup] = []

    async def enqueue(self, wakeups: Sequence[Wakeup]) -> None:
        self.wakeups.extend(wakeups)


@pytest.fixture
def queue() -> RememberingQueue:
    return RememberingQueue()


@pytest.fixture
def database(engine: AsyncEngine, queue: RememberingQueue) -> Database:
    return Database(engine, queue)


@pytest.fixture
async def owner(database: Database) -> UUID:
    """A living incarnation."""
    return await living(database)


async def living(database: Database) -> UUID:
    incarnation = uuid4()
    async with database.transaction() as tx:
        await tx.replicas.beat(incarnation, "r", {})
    return incarnation
