"""The way to Postgres and to the queue, as one replica has it: transactions, wake-ups after the commit."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

from kiebot.delivery.outbox import Draft, Row
from kiebot.errors import Transient
from kiebot.intake.lanes import LaneClaim, Waiting
from kiebot.intake.ports import FenceRow, RawUpdate
from kiebot.storage.sweeps import Backlog
from kiebot.wakeups import Advance, Deliver, Drain, RefreshCard, Repay, Wakeup
from tests.simulation.line import Line
from tests.simulation.loop import VirtualLoop
from tests.simulation.postgres import Postgres
from tests.simulation.queue import JobQueue
from tests.simulation.sessions import Session, Statement


class MemoryInbox:
    """Intake's Inbox port. Each call is one statement and one transaction."""

    def __init__(self, postgres: Postgres, line: Line) -> None:
        self._postgres = postgres
        self._line = line

    async def take_fence(self, token: str, replica: str) -> FenceRow:
        fence: FenceRow = await self._run(self._postgres.take_fence(token, replica))
        return fence

    async def record(self, updates: Sequence[RawUpdate], *, token: str | None) -> list[Drain]:
        drains: list[Drain] = await self._run(self._postgres.record(updates, token))
        return drains

    async def _run(self, statement: Statement) -> Any:
        return await self._line.call(lambda reply: self._postgres.run_alone(statement, reply))


class MemoryQueue:
    """The Queue and Wakeups ports: what the queue does not take is left to the sweepers."""

    def __init__(self, jobs: JobQueue, line: Line) -> None:
        self._jobs = jobs
        self._line = line

    async def enqueue(self, wakeups: Sequence[Wakeup]) -> None:
        drains = [wakeup for wakeup in wakeups if isinstance(wakeup, Drain)]
        try:
            await self._line.call(lambda reply: self._jobs.put(drains, reply))
        except Transient:
            return

    async def drains(self, drains: Sequence[Drain]) -> None:
        await self.enqueue(drains)


class MemoryTransaction:
    """What a drain, a heartbeat and a sweep need of an open transaction."""

    def __init__(self, postgres: Postgres, line: Line) -> None:
        self._postgres = postgres
        self._line = line
        self.session = Session()
        self.wakeups: list[Wakeup] = []
        self.lanes = _Lanes(self)
        self.replicas = _Replicas(self)
        self.sweeps = _Sweeps(self)
        self.outbox = _Outbox()

    @property
    def tables(self) -> Postgres:
        return self._postgres

    async def run(self, statement: Statement) -> Any:
        return await self._line.call(lambda reply: self._postgres.run(self.session, statement, reply))


class _Alone(MemoryTransaction):
    """One statement, which commits by itself."""

    async def run(self, statement: Statement) -> Any:
        return await self._line.call(lambda reply: self._postgres.run_alone(statement, reply))


class MemoryDatabase:
    def __init__(
        self, loop: VirtualLoop, postgres: Postgres, queue: MemoryQueue, line: Line, rng: random.Random
    ) -> None:
        self._loop = loop
        self._postgres = postgres
        self._queue = queue
        self._line = line
        self._rng = rng
        self._sessions: set[Session] = set()

    @asynccontextmanager
    async def single(self) -> AsyncIterator[MemoryTransaction]:
        transaction = _Alone(self._postgres, self._line)
        yield transaction
        if transaction.wakeups:
            await self._queue.enqueue(transaction.wakeups)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemoryTransaction]:
        """Commits when the block ends well. Raises: Transient; then it may be committed all the same."""
        transaction = MemoryTransaction(self._postgres, self._line)
        session = transaction.session
        self._sessions.add(session)
        try:
            yield transaction
            await transaction.run(self._postgres.commit)
        except Transient:
            raise
        except Exception:
            with suppress(Transient):
                await transaction.run(self._postgres.abort)
            raise
        finally:
            self._sessions.discard(session)
            if not session.is_over:  # the server hears of it when the connection's end reaches it
                self._loop.outside(self._rng.uniform(0.001, 2.0), self._postgres.abort, session)
        if transaction.wakeups:
            await self._queue.enqueue(transaction.wakeups)

    def hang_up(self) -> None:
        """What the kernel does with the connections of a process that has died."""
        for session in self._sessions:
            self._loop.outside(self._rng.uniform(0.001, 0.01), self._postgres.abort, session)


class _Lanes:
    def __init__(self, transaction: MemoryTransaction) -> None:
        self._tx = transaction

    async def claim(
        self, lane: str, owner: UUID, *, most: int, again: bool = False
    ) -> tuple[LaneClaim, list[Waiting]] | None:
        claimed: tuple[LaneClaim, list[Waiting]] | None
        claimed = await self._tx.run(self._tx.tables.claim(lane, owner, most, again=again))
        return claimed

    async def release(self, claim: LaneClaim) -> None:
        await self._tx.run(self._tx.tables.release(claim))

    async def look_again(self, lane: str) -> Drain | None:
        again: Drain | None = await self._tx.run(self._tx.tables.look_again(lane))
        return again

    async def finish(self, claim: LaneClaim, inbox_id: int) -> bool:
        return bool(await self._tx.run(self._tx.tables.finish(claim, inbox_id)))

    async def failed(self, claim: LaneClaim, inbox_id: int, error: str, *, pause_s: float) -> int:
        return int(await self._tx.run(self._tx.tables.failed(claim, inbox_id, pause_s)))

    async def bury(self, claim: LaneClaim, inbox_id: int, reason: str) -> int | None:
        letter: int | None = await self._tx.run(self._tx.tables.bury(claim, inbox_id))
        return letter


class _Replicas:
    def __init__(self, transaction: MemoryTransaction) -> None:
        self._tx = transaction

    async def beat(self, incarnation: UUID, name: str, facts: Mapping[str, object]) -> None:
        await self._tx.run(self._tx.tables.beat(incarnation))

    async def leave(self, incarnation: UUID) -> None:
        await self._tx.run(self._tx.tables.leave(incarnation))


class _Sweeps:
    def __init__(self, transaction: MemoryTransaction) -> None:
        self._tx = transaction

    async def stranded_lanes(self, *, grace_s: float) -> list[Drain]:
        stranded: list[Drain] = await self._tx.run(self._tx.tables.stranded(grace_s))
        return stranded

    async def due_generations(self, *, grace_s: float) -> list[Advance]:
        return []

    async def waiting_chats(self, *, grace_s: float) -> list[Deliver]:
        return []

    async def cards_behind(self, *, grace_s: float) -> list[RefreshCard]:
        return []

    async def open_refunds(self, *, grace_s: float) -> list[Repay]:
        return []

    async def backlog(self) -> Backlog:
        found: Backlog = await self._tx.run(self._tx.tables.waits())
        return found


class _Outbox:
    """Delivery is not part of this: every message is sent at once by whoever decided it."""

    async def add_all(self, drafts: Sequence[Draft], owner: UUID | None) -> tuple[list[Row], list[Deliver]]:
        return [Row(0, draft.chat_id, draft.kind, draft.payload, None, 1) for draft in drafts], []

    async def later(self, row_id: int, owner: UUID, *, pause_s: float, reason: str, free_try: bool = False) -> None:
        """Given back by who does not know whether it was decided: then another sends it, at once too."""

    async def left_behind(self, chat_id: int) -> int | None:
        return None
