"""One transaction over all repositories; its wake-ups are queued after the commit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kiebot.storage.audit import AuditRepository, ConfirmationRepository
from kiebot.storage.claims import ReplicaRepository
from kiebot.storage.engine import outages_as_transient
from kiebot.storage.generations import GenerationRepository
from kiebot.storage.inbox import LaneRepository
from kiebot.storage.ledger import LedgerRepository
from kiebot.storage.letters import LetterRepository, WorkRepository
from kiebot.storage.outbox import CardRepository, OutboxRepository
from kiebot.storage.payments import PaymentRepository
from kiebot.storage.reckoning import ReckoningRepository
from kiebot.storage.statistics import StatisticsRepository
from kiebot.storage.sweeps import SweepRepository
from kiebot.storage.switches import SwitchRepository
from kiebot.storage.terms import TermRepository
from kiebot.storage.users import DraftRepository, UserRepository
from kiebot.wakeups import Queue, Wakeup


class Transaction:
    """Repositories of one open transaction, and the wake-ups it will leave behind when it commits."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self.wakeups: list[Wakeup] = []

    def savepoint(self) -> AbstractAsyncContextManager[object]:
        return self.connection.begin_nested()

    @cached_property
    def lanes(self) -> LaneRepository:
        return LaneRepository(self.connection)

    @cached_property
    def ledger(self) -> LedgerRepository:
        return LedgerRepository(self.connection)

    @cached_property
    def payments(self) -> PaymentRepository:
        return PaymentRepository(self.connection)

    @cached_property
    def generations(self) -> GenerationRepository:
        return GenerationRepository(self.connection)

    @cached_property
    def outbox(self) -> OutboxRepository:
        return OutboxRepository(self.connection)

    @cached_property
    def cards(self) -> CardRepository:
        return CardRepository(self.connection)

    @cached_property
    def users(self) -> UserRepository:
        return UserRepository(self.connection)

    @cached_property
    def drafts(self) -> DraftRepository:
        return DraftRepository(self.connection)

    @cached_property
    def switches(self) -> SwitchRepository:
        return SwitchRepository(self.connection)

    @cached_property
    def audit(self) -> AuditRepository:
        return AuditRepository(self.connection)

    @cached_property
    def confirmations(self) -> ConfirmationRepository:
        return ConfirmationRepository(self.connection)

    @cached_property
    def letters(self) -> LetterRepository:
        return LetterRepository(self.connection)

    @cached_property
    def works(self) -> WorkRepository:
        return WorkRepository(self.connection)

    @cached_property
    def reckoning(self) -> ReckoningRepository:
        return ReckoningRepository(self.connection)

    @cached_property
    def statistics(self) -> StatisticsRepository:
        return StatisticsRepository(self.connection)

    @cached_property
    def sweeps(self) -> SweepRepository:
        return SweepRepository(self.connection)

    @cached_property
    def terms(self) -> TermRepository:
        return TermRepository(self.connection)

    @cached_property
    def replicas(self) -> ReplicaRepository:
        return ReplicaRepository(self.connection)


class Database:
    """Opens transactions. An outage is raised as Transient; nothing was committed then, or it may have been: the
    caller's keys make a repetition harmless."""

    def __init__(self, engine: AsyncEngine, queue: Queue) -> None:
        self.engine = engine
        self._autocommitting = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._queue = queue

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Commits when the block ends well, then queues the wake-ups (best effort: sweepers find what is lost)."""
        with outages_as_transient("transaction"):
            async with self.engine.begin() as connection:
                transaction = Transaction(connection)
                yield transaction
        if transaction.wakeups:
            await self._queue.enqueue(transaction.wakeups)

    @asynccontextmanager
    async def single(self) -> AsyncIterator[Transaction]:
        """For a statement that stands alone and commits by itself: a third of the round trips. Then the wake-ups."""
        with outages_as_transient("statement"):
            async with self._autocommitting.connect() as connection:
                transaction = Transaction(connection)
                yield transaction
        if transaction.wakeups:
            await self._queue.enqueue(transaction.wakeups)
