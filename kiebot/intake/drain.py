"""Drains a lane: its updates in order of receipt, each handled in one transaction with its effects.

    claim -> for each update: [finish + effects + outbox] -> send what was decided -> ... -> release -> look again

The release is committed before the lane is looked at again: whatever was recorded while the lane was held is seen then,
so no wake-up is lost although the jobs that found the lane held did nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol
from uuid import UUID
from weakref import WeakValueDictionary

import structlog

from kiebot.clock import Clock
from kiebot.delivery.outbox import Draft, Row
from kiebot.errors import Transient
from kiebot.insist import insist
from kiebot.intake.gate import Gate, OpenGate, sift
from kiebot.intake.lanes import LaneClaim, Waiting
from kiebot.observe.metrics import METRICS
from kiebot.store import Store, Tx
from kiebot.wakeups import Deliver, Drain, unique

log = structlog.get_logger()

MOST_PER_DRAIN = 10  # then the lane queues itself at the tail, so that a hot chat does not slow the others
MOST_OF_A_FLOOD = 200  # claimed at once where most of it is turned away
MAX_TRIES = 5
RETRY_PAUSES_S = (0.5, 2.0, 8.0, 20.0)
UNDO_WITHIN_S = 2.0
CLOCKS_DIFFER_S = 0.1  # a retry that came before its time by the database's clock would be left to the sweepers


class Malformed(Exception):
    """This is not an update of Telegram's: it is buried with its reason, and the lane goes on."""


class UpdateHandler(Protocol):
    """The bot. No I/O but the given transaction."""

    async def handle(self, tx: Tx, payload: bytes) -> list[Draft]:
        """The effects of one update, written into `tx`; the messages it decides. Raises: Malformed, or anything."""
        ...

    def press_of(self, payload: bytes) -> str | None:
        """The callback query to answer before anything else, when the update is a press."""
        ...

    async def apologise(self, tx: Tx, payload: bytes, error_id: str) -> list[Draft]:
        """What the user is told when the update was given up."""
        ...

    async def too_fast(self, tx: Tx, payload: bytes) -> list[Draft]:
        """What the user is told when this update, and perhaps many before it, were not read; once in a while only."""
        ...


class Measurer(Protocol):
    """Looks at the files of updates before they are handled."""

    async def complete(self, payload: bytes) -> bytes:
        """The update, with the length of a film or sound of which Telegram does not tell it; else as it is. Takes
        seconds at most, and never raises for want of the file."""
        ...


class Sender(Protocol):
    """The courier, as the drain needs it."""

    def answer_press(self, callback_query_id: str) -> None:
        """Start answering a press; returns at once, never raises."""
        ...

    async def send_claimed(self, rows: Sequence[Row]) -> None: ...


class Drainer:
    """Handles updates for one replica. `owner` is its incarnation."""

    def __init__(
        self,
        store: Store,
        handler: UpdateHandler,
        sender: Sender,
        owner: UUID,
        clock: Clock,
        gate: Gate | None = None,
        measurer: Measurer | None = None,
    ) -> None:
        self._store = store
        self._handler = handler
        self._sender = sender
        self._owner = owner
        self._clock = clock
        self._gate: Gate = gate or OpenGate()
        self._measurer = measurer
        self._flooded: set[str] = set()  # lanes of which much was turned away the last time
        self._claiming: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._in_hand: set[str] = set()  # lanes whose claim was answered

    async def drain(self, lane: str) -> None:
        """Work off up to MOST_PER_DRAIN updates of the lane. Does nothing while somebody living drains it."""
        claimed = await self._claim(lane)
        if claimed is None:
            return
        claim, waiting = claimed
        chats: set[int] = set()
        try:
            found = await sift(self._gate, lane, waiting, MOST_PER_DRAIN)
            await self._turn_away(claim, found.away)
            for update in found.admitted:
                if update.not_yet or not await self._work_off(claim, update, chats):
                    break  # order is kept: nothing overtakes an update that is to be tried again
        finally:
            self._in_hand.discard(lane)  # before the release: who claims right after it must not take it for ours
            await asyncio.shield(self._let_go(claim, chats))

    async def _claim(self, lane: str) -> tuple[LaneClaim, list[Waiting]] | None:
        """Insisted on: a claim whose answer was lost keeps everybody out until it lapses, and nobody knows of it.

        One at a time for each lane: so a claim of this replica that is not in hand is one whose answer was lost.
        """

        async def claim() -> tuple[LaneClaim, list[Waiting]] | None:
            again = lane not in self._in_hand
            most = MOST_OF_A_FLOOD if lane in self._flooded else MOST_PER_DRAIN
            async with self._store.single() as tx:
                return await tx.lanes.claim(lane, self._owner, most=most, again=again)

        async with self._claiming.setdefault(lane, asyncio.Lock()):
            claiming = asyncio.create_task(insist(claim, self._clock, what="lane.claim"))
            try:
                claimed = await asyncio.shield(claiming)
            except asyncio.CancelledError:
                await self._undo(claiming)
                raise
            if claimed is not None:
                self._in_hand.add(lane)
        return claimed

    async def _undo(self, claiming: asyncio.Task[tuple[LaneClaim, list[Waiting]] | None]) -> None:
        """The job was taken from us while it claimed: what it gets all the same is given back, best effort."""
        with suppress(Transient, TimeoutError):
            async with asyncio.timeout(UNDO_WITHIN_S):
                if (claimed := await claiming) is not None:
                    await self._let_go(claimed[0], ())

    async def _work_off(self, claim: LaneClaim, update: Waiting, chats: set[int]) -> bool:
        """True when the lane may go on to its next update. Notes the chats written to."""
        press = self._handler.press_of(update.payload) if update.attempts == 0 else None
        if press is not None:
            self._sender.answer_press(press)
        try:
            with METRICS.update("press" if press is not None else "message"):
                rows = await self._handle(claim, update)
        except Transient:
            raise
        except Malformed as error:
            return await self._bury(claim, update, f"malformed: {error}")
        except Exception as error:
            return await self._failed(claim, update, error)
        if rows is None:
            return False  # the claim was lost: another replica goes on from here
        chats.update(row.chat_id for row in rows)
        await self._sender.send_claimed(rows)
        return True

    async def _handle(self, claim: LaneClaim, update: Waiting) -> list[Row] | None:
        """T2: effects, done mark and messages commit together. What must be read of a file first is no part of it."""
        payload = update.payload
        if self._measurer is not None:
            payload = await self._measurer.complete(payload)

        async def decide(tx: Tx) -> list[Draft] | None:
            is_ours = await tx.lanes.finish(claim, update.id)
            return await self._handler.handle(tx, payload) if is_ours else None

        return await self._committed(decide)

    async def _committed(self, decide: Callable[[Tx], Awaitable[list[Draft] | None]]) -> list[Row] | None:
        """The messages that were decided, claimed for us to send; None, when the lane's claim was lost. A commit that
        was not answered may stand, and would leave them claimed by us, and their chat silent, for minutes."""
        rows: list[Row] = []
        try:
            async with self._store.transaction() as tx:
                drafts = await decide(tx)
                if drafts is None:
                    return None
                rows, deliveries = await tx.outbox.add_all(drafts, self._owner)
                tx.wakeups.extend(deliveries)
        except (Transient, asyncio.CancelledError):
            await asyncio.shield(self._give_back(rows))
            raise
        return rows

    async def _give_back(self, rows: Sequence[Row]) -> None:
        async def write() -> None:
            async with self._store.transaction() as tx:
                for row in rows:
                    await tx.outbox.later(row.id, self._owner, pause_s=0.0, reason="not answered", free_try=True)
                    tx.wakeups.append(Deliver(row.chat_id, unique()))

        if rows:
            await insist(write, self._clock, what="outbox.give_back")

    async def _turn_away(self, claim: LaneClaim, updates: Sequence[Waiting]) -> None:
        """What the gate did not let through: done, all in one transaction, and a word to the sender."""
        self._flooded.discard(claim.lane)
        if not updates:
            return

        async def decide(tx: Tx) -> list[Draft] | None:
            is_ours = await tx.lanes.turn_away(claim, [update.id for update in updates])
            return await self._handler.too_fast(tx, updates[-1].payload) if is_ours else None

        rows = await self._committed(decide)
        if rows is None:
            return
        self._flooded.add(claim.lane)
        METRICS.updates_turned_away.inc(len(updates))
        log.info("updates.turned_away", lane=claim.lane, count=len(updates))
        await self._sender.send_claimed(rows)

    async def _failed(self, claim: LaneClaim, update: Waiting, error: Exception) -> bool:
        pause_s = RETRY_PAUSES_S[min(update.attempts, len(RETRY_PAUSES_S) - 1)]
        async with self._store.transaction() as tx:
            tries = await tx.lanes.failed(claim, update.id, f"{type(error).__name__}: {error}", pause_s=pause_s)
            if 0 < tries < MAX_TRIES:
                tx.wakeups.append(Drain(claim.lane, unique(), pause_s + CLOCKS_DIFFER_S))
        log.warning("update.failed", inbox_id=update.id, tries=tries, exc_info=error)
        if tries < MAX_TRIES:
            return False
        return await self._bury(claim, update, f"{type(error).__name__}: {error}", apologise=True)

    async def _bury(self, claim: LaneClaim, update: Waiting, reason: str, *, apologise: bool = False) -> bool:
        """True when the lane may go on to its next update."""
        letter: int | None = None

        async def decide(tx: Tx) -> list[Draft] | None:
            nonlocal letter
            letter = await tx.lanes.bury(claim, update.id, reason)
            if letter is None:
                return None
            return await self._handler.apologise(tx, update.payload, f"U{update.id}") if apologise else []

        rows = await self._committed(decide)
        if rows is None:
            return False  # the claim was lost: another replica goes on from here
        METRICS.updates_buried.inc()
        log.error("update.buried", inbox_id=update.id, dead_letter=letter, lane=claim.lane, reason=reason)
        await self._sender.send_claimed(rows)
        return True

    async def _let_go(self, claim: LaneClaim, chats: Iterable[int]) -> None:
        """Release, then look again: at the lane, and at the chats for what was decided while we were sending."""

        async def release() -> None:
            async with self._store.single() as tx:
                await tx.lanes.release(claim)

        await insist(release, self._clock, what="lane.release")
        async with self._store.single() as tx:
            again = await tx.lanes.look_again(claim.lane)
            if again is not None:
                tx.wakeups.append(again)
        for chat_id in chats:
            async with self._store.single() as tx:
                if await tx.outbox.left_behind(chat_id) is not None:
                    tx.wakeups.append(Deliver(chat_id, unique()))
