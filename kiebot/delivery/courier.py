"""Sends outbox rows: one row, one message; in order within a chat; every failure has its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import structlog

from kiebot.clock import Clock
from kiebot.delivery.outbox import Row, bill_of, say_of
from kiebot.delivery.ports import ChatGone, ChatMigrated, MessageGone, Messenger, Say, Sent
from kiebot.delivery.results import ResultSender
from kiebot.errors import AccountStopped, OutcomeUnknown, Permanent, RateLimited, Transient
from kiebot.insist import insist
from kiebot.observe.metrics import METRICS
from kiebot.store import Store, Tx
from kiebot.wakeups import Deliver, RefreshCard, unique

log = structlog.get_logger()

MAX_TRIES = 8
MAX_LASTING_TRIES = 60  # with pauses of five minutes at last: four hours and more
LONGEST_PAUSE_S = 300.0
MOST_PER_JOB = 20
SEND_WITHIN_S = 330.0  # below the job's own time-out: what takes longer is cut off here, where it is noted
CUT_OFF_PAUSE_S = 5.0
OUTCOMES = ("result", "failed", "late_result")


class Courier:
    """One replica's courier. `owner` is its incarnation."""

    def __init__(self, store: Store, messenger: Messenger, results: ResultSender, owner: UUID, clock: Clock) -> None:
        self._store = store
        self._messenger = messenger
        self._results = results
        self._owner = owner
        self._clock = clock
        self._answers: set[asyncio.Task[None]] = set()

    def answer_press(self, callback_query_id: str) -> None:
        """Answer a press at once, beside everything else. Best effort."""
        task = asyncio.create_task(self._messenger.answer_press(callback_query_id))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def send_claimed(self, rows: Sequence[Row]) -> None:
        """Send rows that this replica holds claimed, in their order; what fails is left to be tried later."""
        for position, row in enumerate(rows):
            try:
                goes_on = await self._send(row)
            except asyncio.CancelledError:  # the job was taken from us, we live on: our claims would hold for minutes
                await asyncio.shield(self._hand_back(rows[position + 1 :]))
                raise
            if not goes_on:
                await self._hand_back(rows[position + 1 :])
                return

    async def deliver(self, chat_id: int) -> None:
        """Send what waits in a chat, oldest first."""
        for _ in range(MOST_PER_JOB):
            row = await self._claim_head(chat_id)
            if row is None or not await self._send(row):
                break
        async with self._store.single() as tx:
            waiting = await tx.outbox.left_behind(chat_id)
            if waiting is not None:
                tx.wakeups.append(Deliver(chat_id, unique()))

    async def _claim_head(self, chat_id: int) -> Row | None:
        """A claim whose commit was not answered may stand, and would keep the chat silent for minutes."""
        row: Row | None = None
        try:
            async with self._store.transaction() as tx:
                row = await tx.outbox.claim_head(chat_id, self._owner)
        except (Transient, asyncio.CancelledError):
            if row is not None:
                await asyncio.shield(self._later(row, 0.0, "claimed in vain", free_try=True))
            raise
        return row

    async def _send(self, row: Row) -> bool:
        """True when the chat may go on to its next message."""
        if row.attempts > _most_tries(row):  # its tries ended without an answer: cut off, or taking us along
            await self._bury(row, Permanent("tried too often", code="worn_out"))
            return True
        try:
            async with asyncio.timeout(SEND_WITHIN_S):
                sent = await self._dispatch(row)
        except asyncio.CancelledError:
            await asyncio.shield(self._later(row, CUT_OFF_PAUSE_S, "cut off"))
            raise
        except ChatMigrated as error:
            await self._moved(row, error.new_chat_id)
            return False
        except (RateLimited, AccountStopped) as error:  # none of this message's doing: it waits for Telegram, or for us
            await self._later(row, max(error.retry_after_s, 1.0), str(error), free_try=True)
            return False
        except (Transient, OutcomeUnknown, TimeoutError) as error:
            return await self._try_again(row, max(getattr(error, "retry_after_s", 0.0), _pause_s(row)), error)
        except Permanent as error:
            await self._bury(row, error)
            return True
        except Exception as error:  # a bug of ours must not stop the chat for ever
            log.exception("outbox.failed", outbox_id=row.id)
            return await self._try_again(row, _pause_s(row), error)
        await asyncio.shield(self._mark_sent(row, sent))  # it stands in the chat: forgotten, it would go out again
        METRICS.messages.labels(kind=row.kind, outcome="sent").inc()
        return True

    async def _dispatch(self, row: Row) -> Sent:
        if row.kind in OUTCOMES:
            return await self._results.send(row)
        if row.kind == "bill":
            return await self._messenger.send_bill(row.chat_id, bill_of(row.payload))
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

        screen = row.payload.get("screen")

        async def write(tx: Tx) -> None:
            await tx.outbox.sent(row.id, self._owner, sent.message_id)
            if isinstance(screen, dict):
                await tx.drafts.screen_is(screen["user_id"], row.chat_id, screen["version"], sent.message_id)
            await _take_card_away(tx, row)

        await self._write("outbox.sent", write, alone=screen is None and row.kind not in OUTCOMES)

    async def _later(self, row: Row, pause_s: float, reason: str, *, free_try: bool = False) -> None:
        METRICS.messages.labels(kind=row.kind, outcome="later").inc()

        async def write(tx: Tx) -> None:
            await tx.outbox.later(row.id, self._owner, pause_s=pause_s, reason=reason, free_try=free_try)
            tx.wakeups.append(Deliver(row.chat_id, unique(), pause_s))

        await self._write("outbox.later", write, alone=True)

    async def _hand_back(self, rows: Sequence[Row]) -> None:
        """What stood behind a message that must wait, waits too."""
        if not rows:
            return

        async def write(tx: Tx) -> None:
            for row in rows:
                await tx.outbox.later(row.id, self._owner, pause_s=0.0, reason="behind another", free_try=True)

        await self._write("outbox.hand_back", write)

    async def _try_again(self, row: Row, pause_s: float, error: Exception) -> bool:
        if row.attempts >= _most_tries(row):
            await self._bury(row, error)
            return True
        log.warning("outbox.later", outbox_id=row.id, tries=row.attempts, why=str(error))
        await self._later(row, pause_s, str(error))
        return False

    async def _moved(self, row: Row, new_chat_id: int) -> None:
        async def write(tx: Tx) -> None:
            await tx.outbox.move_chat(row.chat_id, new_chat_id)
            await tx.outbox.later(row.id, self._owner, pause_s=0.0, reason="chat moved", free_try=True)
            tx.wakeups.append(Deliver(new_chat_id, unique()))

        await self._write("outbox.moved", write)

    async def _bury(self, row: Row, error: Exception) -> None:
        METRICS.messages.labels(kind=row.kind, outcome="buried").inc()
        log.warning("outbox.buried", outbox_id=row.id, kind=row.kind, why=str(error))

        async def write(tx: Tx) -> None:
            await tx.outbox.bury(row.id, self._owner, str(error))
            await _take_card_away(tx, row)
            if isinstance(error, ChatGone) and row.chat_id > 0:
                await tx.users.blocked_bot(row.chat_id)

        await self._write("outbox.bury", write)

    async def _write(self, what: str, write: Callable[[Tx], Awaitable[None]], *, alone: bool = False) -> None:
        """What became of a send has happened already: it is written, or the message goes out again.

        alone: it is one statement.
        """

        async def once() -> None:
            async with self._store.single() if alone else self._store.transaction() as tx:
                await write(tx)

        await insist(once, self._clock, what=what)


async def _take_card_away(tx: Tx, row: Row) -> None:
    """The outcome stands in the chat, or never will: either way nothing is being made any more."""
    if row.kind in OUTCOMES and row.generation_id is not None and not row.payload.get("resent"):
        version = await tx.cards.want_gone(row.generation_id)
        if version:
            tx.wakeups.append(RefreshCard(row.generation_id, version))


def _most_tries(row: Row) -> int:
    """What was paid for, and news of money, are worth hours; a screen that comes minutes late is not."""
    return MAX_LASTING_TRIES if row.kind in OUTCOMES or row.payload.get("news") else MAX_TRIES


def _pause_s(row: Row) -> float:
    return min(2.0**row.attempts, LONGEST_PAUSE_S)
