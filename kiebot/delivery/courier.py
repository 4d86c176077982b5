"""Sends outbox rows: one row, one message; in order within a chat; every failure has its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import structlog

from kiebot.delivery.outbox import Row, say_of
from kiebot.delivery.ports import ChatGone, ChatMigrated, MessageGone, Messenger, Renderer, Say, Sent
from kiebot.delivery.results import ResultSender
from kiebot.errors import OutcomeUnknown, Permanent, RateLimited, Transient
from kiebot.observe.metrics import METRICS
from kiebot.store import Store
from kiebot.wakeups import Deliver, RefreshCard

log = structlog.get_logger()

MAX_TRIES = 8
MOST_PER_JOB = 20
OUTCOMES = ("result", "failed", "late_result")


class Courier:
    """One replica's courier. `owner` is its incarnation."""

    def __init__(
        self, store: Store, messenger: Messenger, renderer: Renderer, results: ResultSender, owner: UUID
    ) -> None:
        self._store = store
        self._messenger = messenger
        self._renderer = renderer
        self._results = results
        self._owner = owner
        self._answers: set[asyncio.Task[None]] = set()

    def answer_press(self, callback_query_id: str) -> None:
        """Answer a press at once, beside everything else. Best effort."""
        task = asyncio.create_task(self._messenger.answer_press(callback_query_id))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def send_claimed(self, rows: Sequence[Row]) -> None:
        """Send rows that this replica holds claimed, in their order; what fails is left to be tried later."""
        for position, row in enumerate(rows):
            if not await self._send(row):
                await self._hand_back(rows[position + 1 :])
                return

    async def deliver(self, chat_id: int) -> None:
        """Send what waits in a chat, oldest first."""
        for _ in range(MOST_PER_JOB):
            async with self._store.transaction() as tx:
                row = await tx.outbox.claim_head(chat_id, self._owner)
            if row is None or not await self._send(row):
                return
        async with self._store.transaction() as tx:
            waiting = await tx.outbox.next_of(chat_id)
            if waiting is not None:
                tx.wakeups.append(Deliver(chat_id, waiting))

    async def _send(self, row: Row) -> bool:
        """True when the chat may go on to its next message."""
        try:
            sent = await self._dispatch(row)
        except ChatMigrated as error:
            await self._moved(row, error.new_chat_id)
            return False
        except RateLimited as error:
            await self._later(row, max(error.retry_after_s, 1.0), str(error), free_try=True)
            return False
        except (Transient, OutcomeUnknown) as error:
            pause_s = getattr(error, "retry_after_s", 0.0) or min(2.0**row.attempts, 60.0)
            return await self._try_again(row, pause_s, error)
        except Permanent as error:
            await self._bury(row, error)
            return True
        except Exception as error:  # a bug of ours must not stop the chat for ever
            log.exception("outbox.failed", outbox_id=row.id)
            return await self._try_again(row, min(2.0**row.attempts, 60.0), error)
        await self._mark_sent(row, sent)
        METRICS.messages.labels(kind=row.kind, outcome="sent").inc()
        return True

    async def _dispatch(self, row: Row) -> Sent:
        if row.kind in OUTCOMES:
            return await self._results.send(row)
        say = say_of(row.payload)
        if say.edit_message_id is None:
            return await self._messenger.send_text(row.chat_id, say.text, say.keyboard)
        return await self._edit(row.chat_id, say, say.edit_message_id)

    async def _edit(self, chat_id: int, say: Say, message_id: int) -> Sent:
        try:
            await self._messenger.edit_text(chat_id, message_id, say.text, say.keyboard)
        except MessageGone:  # deleted, too old, or no text message: the answer is worth a new one
            return await self._messenger.send_text(chat_id, say.text, say.keyboard)
        return Sent(message_id)

    async def _mark_sent(self, row: Row, sent: Sent) -> None:
        """T6: the row is sent; a screen knows its message; an outcome takes the status card away."""
        async with self._store.transaction() as tx:
            await tx.outbox.sent(row.id, self._owner, sent.message_id)
            screen = row.payload.get("screen")
            if isinstance(screen, dict):
                await tx.drafts.screen_is(screen["user_id"], row.chat_id, screen["version"], sent.message_id)
            if row.kind in OUTCOMES and row.generation_id is not None and not row.payload.get("resent"):
                version = await tx.cards.want_gone(row.generation_id)
                if version:
                    tx.wakeups.append(RefreshCard(row.generation_id, version))

    async def _later(self, row: Row, pause_s: float, reason: str, *, free_try: bool = False) -> None:
        METRICS.messages.labels(kind=row.kind, outcome="later").inc()
        async with self._store.transaction() as tx:
            await tx.outbox.later(row.id, self._owner, pause_s=pause_s, reason=reason, free_try=free_try)
            tx.wakeups.append(Deliver(row.chat_id, _retry_revision(row), pause_s))

    async def _hand_back(self, rows: Sequence[Row]) -> None:
        """What stood behind a message that must wait, waits too."""
        if not rows:
            return
        async with self._store.transaction() as tx:
            for row in rows:
                await tx.outbox.later(row.id, self._owner, pause_s=0.0, reason="behind another", free_try=True)

    async def _try_again(self, row: Row, pause_s: float, error: Exception) -> bool:
        if row.attempts >= MAX_TRIES:
            await self._bury(row, error)
            return True
        log.warning("outbox.later", outbox_id=row.id, tries=row.attempts, why=str(error))
        await self._later(row, pause_s, str(error))
        return False

    async def _moved(self, row: Row, new_chat_id: int) -> None:
        async with self._store.transaction() as tx:
            await tx.outbox.later(row.id, self._owner, pause_s=0.0, reason="chat moved", free_try=True)
            await tx.outbox.move_chat(row.chat_id, new_chat_id)
            tx.wakeups.append(Deliver(new_chat_id, _retry_revision(row)))

    async def _bury(self, row: Row, error: Exception) -> None:
        METRICS.messages.labels(kind=row.kind, outcome="buried").inc()
        log.warning("outbox.buried", outbox_id=row.id, kind=row.kind, why=str(error))
        async with self._store.transaction() as tx:
            await tx.outbox.bury(row.id, self._owner, str(error))
            if isinstance(error, ChatGone) and row.chat_id > 0:
                await tx.users.blocked_bot(row.chat_id)


def _retry_revision(row: Row) -> int:
    """Distinct for each try, and never the id of a row: a wake-up to try again is not the one that failed."""
    return -(row.id * 1000 + row.attempts)
