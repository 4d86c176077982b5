"""Faults beside the real thing: a store that is away for a moment, a provider whose answers can be held back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID, uuid4

from sqlalchemy import text

from kiebot.errors import Transient
from kiebot.generation.ports import Provider, Submission, TaskReport, Upload
from kiebot.generation.service import Generations
from kiebot.storage.transaction import Database
from kiebot.store import Tx
from tests.generation.conftest import Rig
from tests.generation.conftest import rig as rig

Hook = Callable[[], Awaitable[None]]


class ShakyStore:
    """The real database; transactions may be refused as in an outage, or something may happen before the n-th."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.is_away = False
        self.refuse: set[int] = set()
        self.before: dict[int, Hook] = {}
        self.lose: set[int] = set()  # committed, and nobody hears of it
        self.opened = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        number = await self._opening()
        async with self._database.transaction() as tx:
            yield tx
        if number in self.lose:
            raise Transient("the answer to COMMIT was lost", retry_after_s=0.5)

    @asynccontextmanager
    async def single(self) -> AsyncIterator[Tx]:
        await self._opening()
        async with self._database.single() as tx:
            yield tx

    async def _opening(self) -> int:
        self.opened += 1
        if hook := self.before.pop(self.opened, None):
            await hook()
        if self.is_away or self.opened in self.refuse:
            raise Transient("the database is out of reach", retry_after_s=0.5)
        return self.opened


class HeldProvider:
    """The real client; `after_submit` and `after_query` run between the provider's answer and its arrival."""

    def __init__(self, inner: Provider) -> None:
        self._inner = inner
        self.before_submit: Callable[[Submission], Awaitable[None]] | None = None
        self.after_submit: Callable[[Submission, str], Awaitable[None]] | None = None
        self.after_query: Callable[[TaskReport], Awaitable[TaskReport]] | None = None

    async def submit(self, submission: Submission) -> str:
        if self.before_submit is not None:
            await self.before_submit(submission)
        task_id = await self._inner.submit(submission)
        if self.after_submit is not None:
            await self.after_submit(submission, task_id)
        return task_id

    async def query(self, task_id: str) -> TaskReport:
        report = await self._inner.query(task_id)
        return report if self.after_query is None else await self.after_query(report)

    async def upload(self, upload: Upload) -> str:
        return await self._inner.upload(upload)

    async def credits_left(self) -> int:
        return await self._inner.credits_left()


async def another_replica(rig: Rig) -> Generations:
    """An engine of another living incarnation."""
    owner = uuid4()
    async with rig.database.transaction() as tx:
        await tx.replicas.beat(owner, "other", {})
    return Generations(replace(rig.tools, owner=owner))


async def heartbeat_is_late(rig: Rig, owner: UUID, seconds: float = 5.0) -> None:
    """What an outage or a pause of five seconds leaves behind: the owner lives, its last beat is old."""
    async with rig.database.engine.begin() as connection:
        await connection.execute(
            text("UPDATE replicas SET beat_at = now() - make_interval(secs => :s) WHERE id = :id"),
            {"s": seconds, "id": owner},
        )
