"""Loops that every replica runs: the heartbeat, and the search for rows left behind. No queue, no leader needed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from uuid import UUID

import structlog

from kiebot.cancelling import stop_if_cancelled
from kiebot.clock import Clock
from kiebot.errors import Transient
from kiebot.generation.effects import apply
from kiebot.generation.machine import AnswerLost, Broke, Event, StayedAway
from kiebot.generation.model import Generation, State
from kiebot.storage.claims import BEAT_EVERY_S
from kiebot.storage.sweeps import Backlog
from kiebot.storage.transaction import Database, Transaction
from kiebot.storage.verify import Breach, verify_unless_another_does
from kiebot.within import within

log = structlog.get_logger()

BEAT_WITHIN_S = 5.0  # longer ones come too late to hold a claim
SILENCE_S = 2.5
LEAVE_S = 2.0
SWEEP_EVERY_S = 1.0
PURGE_EVERY_S = 300.0
PURGE_ROUNDS = 50
CHECK_BOOKS_EVERY_S = 900.0
GRACE_S = 2.0  # a wake-up that has not been acted upon after this long counts as lost
ALONE_GRACE_S = 0.5  # rows whose pause has ended: their delayed wake-up may be lost too


class Heartbeat:
    """Says in Postgres, once a second, that this incarnation lives: its claims hold for as long as it does.

    on_silence: called each second while Postgres does not answer, with the seconds since it last did.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        incarnation: UUID,
        name: str,
        facts: Callable[[], Mapping[str, object]],
        on_silence: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._incarnation = incarnation
        self._name = name
        self._facts = facts
        self._on_silence = on_silence
        self._heard_at = clock.monotonic()

    async def beat(self) -> None:
        """Once. Raises: Transient, after BEAT_WITHIN_S without an answer, too."""
        await within(BEAT_WITHIN_S, self._beat(), self._clock, what="postgres")
        self._heard_at = self._clock.monotonic()

    async def _beat(self) -> None:
        async with self._database.single() as tx:
            await tx.replicas.beat(self._incarnation, self._name, self._facts())

    async def run(self) -> None:
        """Until cancelled. An outage is passed over: claims then lapse, which is right, for nothing can be written."""
        self._heard_at = self._clock.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat_for_ever())
            group.create_task(self._listen())

    async def _beat_for_ever(self) -> None:
        while True:
            try:
                await self.beat()
            except Transient as error:
                log.warning("heartbeat.missed", why=str(error))
            await self._clock.sleep(BEAT_EVERY_S)

    async def _listen(self) -> None:
        """A beat that has no answer yet tells nothing by itself."""
        while True:
            await self._clock.sleep(BEAT_EVERY_S)
            silent_s = self._clock.monotonic() - self._heard_at
            if silent_s > SILENCE_S:
                self._on_silence(silent_s)

    async def leave(self) -> None:
        """This incarnation ends: whatever it still claims is free at once. Best effort, within a moment: a frozen
        Postgres must not keep us until the platform kills us, and the claims lapse by themselves."""
        try:
            async with asyncio.timeout(LEAVE_S), self._database.transaction() as tx:
                await tx.replicas.leave(self._incarnation)
        except (Transient, TimeoutError):
            log.warning("heartbeat.leave_failed")


class Sweeper:
    """Finds rows whose wake-up was lost and queues them again."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        grace_s: float = GRACE_S,
        on_backlog: Callable[[Backlog], None],
        on_books: Callable[[Sequence[Breach]], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._grace_s = grace_s
        self._on_backlog = on_backlog
        self._on_books = on_books
        self._last_purge = clock.monotonic()
        # Replicas that started together check at different times.
        self._last_check = clock.monotonic() - random.uniform(0, CHECK_BOOKS_EVERY_S)  # noqa: S311 - jitter

    async def run(self) -> None:
        """Until cancelled. Jittered, so that replicas do not look at the same instant."""
        while True:
            stop_if_cancelled()
            await self._clock.sleep(SWEEP_EVERY_S * random.uniform(0.7, 1.3))  # noqa: S311 - jitter
            await self._survive(self.sweep)
            if self._clock.monotonic() - self._last_purge > PURGE_EVERY_S:
                self._last_purge = self._clock.monotonic()
                await self._survive(self.purge)
            if self._clock.monotonic() - self._last_check > CHECK_BOOKS_EVERY_S:
                self._last_check = self._clock.monotonic()
                await self._survive(self.check_books)

    async def sweep(self) -> int:
        """Queue whatever waited too long. Returns how many wake-ups that made. One statement when nothing waits."""
        async with self._database.single() as tx:
            backlog = await tx.sweeps.backlog()
        self._on_backlog(backlog)
        if not backlog.is_anything:
            return 0
        async with self._database.transaction() as tx:
            if backlog.has_updates:
                tx.wakeups += await tx.sweeps.stranded_lanes(grace_s=self._grace_s)
            if backlog.generations:
                tx.wakeups += await tx.sweeps.due_generations(grace_s=ALONE_GRACE_S)
            if backlog.outbox:
                tx.wakeups += await tx.sweeps.waiting_chats(grace_s=self._grace_s)
            if backlog.has_cards:
                tx.wakeups += await tx.sweeps.cards_behind(grace_s=self._grace_s)
            if backlog.has_refunds:
                tx.wakeups += await tx.sweeps.open_refunds(grace_s=self._grace_s)
            return len(tx.wakeups)

    async def purge(self) -> None:
        """Forget what is old, a part at a time; end what never ended. One failure does not keep the rest."""
        for forget in (_forget_updates, _forget_messages, _forget_replicas):
            await self._survive(partial(self._until_nothing_goes, forget))
        async with self._database.transaction() as tx:
            expired = await tx.sweeps.expired_holds()
        for generation_id in expired:
            await self._survive(partial(self._expire, generation_id))

    async def check_books(self) -> None:
        """Check every invariant of the money, unless another replica does so now. The log names what is broken."""
        breaches = await verify_unless_another_does(self._database.engine)
        if breaches is None:
            return
        for breach in breaches:
            log.error("ledger.broken", invariant=breach.invariant, rows=list(breach.rows))
        self._on_books(breaches)

    async def _until_nothing_goes(self, forget: Callable[[Transaction], Awaitable[int]]) -> None:
        for _ in range(PURGE_ROUNDS):
            async with self._database.transaction() as tx:
                gone = await forget(tx)
            if gone == 0:
                return

    async def _expire(self, generation_id: UUID) -> None:
        async with self._database.transaction() as tx:
            generation = await tx.generations.lock(generation_id)
            if generation.state.is_final:
                return
            log.error("generation.expired", generation_id=str(generation_id), state=generation.state.value)
            await apply(tx, generation_id, _ending_of(generation))

    @staticmethod
    async def _survive(step: Callable[[], Awaitable[object]]) -> None:
        try:
            await step()
        except Transient as error:
            log.warning("sweep.skipped", why=str(error))
        except Exception:
            log.exception("sweep.failed")


def _ending_of(generation: Generation) -> Event:
    """What ends a generation whose hold ran out. A task that may exist and be billed stays on the books as that."""
    match generation.state:
        case State.SUBMITTING:
            return AnswerLost(may_turn_up=False)
        case State.UNKNOWN:
            return StayedAway()
        case State.ACCEPTED:
            return Broke("expired")
        case _:
            return Broke("result_lost" if generation.ready_at is not None else "timeout", may_be_billed=True)


async def _forget_updates(tx: Transaction) -> int:
    return await tx.sweeps.purge_inbox()


async def _forget_messages(tx: Transaction) -> int:
    return await tx.sweeps.purge_outbox()


async def _forget_replicas(tx: Transaction) -> int:
    await tx.replicas.forget_old()
    return 0
