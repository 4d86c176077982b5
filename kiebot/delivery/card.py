"""The status card: one message per generation that shows where it stands, until the outcome takes its place."""

from __future__ import annotations

import asyncio
from uuid import UUID

import structlog

from kiebot.admin.model import EVERYTHING
from kiebot.clock import Clock
from kiebot.delivery.outbox import Card
from kiebot.delivery.ports import ChatMigrated, MessageGone, Messenger, Renderer, Say
from kiebot.errors import OutcomeUnknown, Permanent, RateLimited, Transient
from kiebot.generation.catalog import model_by_id
from kiebot.generation.model import Generation, State
from kiebot.insist import insist
from kiebot.store import Store, Tx
from kiebot.wakeups import Deliver, RefreshCard, unique

log = structlog.get_logger()

QUIET_S = 3.0  # between two edits of one card: Telegram bears about one message a second in a chat


class CardKeeper:
    """Brings cards to their wanted version. Edits coalesce: only the newest version is sent.

    Args: create_every_s, the pace at which works leave the queue; running, how many of one user run at once.
    """

    def __init__(
        self,
        store: Store,
        messenger: Messenger,
        renderer: Renderer,
        owner: UUID,
        clock: Clock,
        *,
        create_every_s: float,
        running: int,
    ) -> None:
        self._store = store
        self._messenger = messenger
        self._renderer = renderer
        self._owner = owner
        self._clock = clock
        self._create_every_s = create_every_s
        self._running = running

    async def refresh(self, generation_id: UUID) -> None:
        """Show the newest version, unless another shows it just now or the last edit is too fresh."""
        card: Card | None = None
        try:
            async with self._store.transaction() as tx:
                card = await tx.cards.claim(generation_id, self._owner)
                generation = None if card is None else await tx.generations.get(generation_id)
                facts = {} if generation is None else await self._facts(tx, generation)
                if card is None:
                    quiet_s = await tx.cards.quiet_for(generation_id)
                    if quiet_s is not None:  # the last edit is too fresh: once more when the chat may bear it
                        tx.wakeups.append(RefreshCard(generation_id, unique(), quiet_s))
            if card is not None and generation is not None:
                await self._bring(card, generation, facts)
        except (Transient, asyncio.CancelledError) as error:
            # Cut off, or the commit of the claim was not answered: it would hold for minutes.
            if card is not None:
                await asyncio.shield(self._later(card, error))
            raise

    async def _bring(self, card: Card, generation: Generation, facts: dict[str, object]) -> None:
        try:
            message_id = await self._show(card, generation, facts)
        except ChatMigrated as error:
            await self._moved(card, error.new_chat_id)
        except (Transient, OutcomeUnknown) as error:
            await self._later(card, error)
        except Permanent as error:  # the chat is gone, or Telegram will not have it: a card is worth no fight
            log.info("card.given_up", generation_id=str(card.generation_id), why=str(error))
            await self._done(card, card.message_id, generation)
        else:
            await self._done(card, message_id, generation)

    async def _show(self, card: Card, generation: Generation, facts: dict[str, object]) -> int | None:
        if card.is_gone or generation.state.is_final:
            return await self._remove(card)
        say = self._renderer.card(generation, facts)
        if card.message_id is None:
            return (await self._messenger.send_text(card.chat_id, say.text, say.keyboard)).message_id
        is_news = card.told_state != generation.state.value
        return await self._edit(card.chat_id, card.message_id, say, is_news=is_news)

    async def _remove(self, card: Card) -> int | None:
        if card.is_gone and card.message_id is not None:
            await self._messenger.delete(card.chat_id, card.message_id)
        return card.message_id

    async def _edit(self, chat_id: int, message_id: int, say: Say, *, is_news: bool) -> int:
        """A card that was deleted comes back with news, not with the same once more."""
        try:
            await self._messenger.edit_text(chat_id, message_id, say.text, say.keyboard)
        except MessageGone:
            if is_news:
                return (await self._messenger.send_text(chat_id, say.text, say.keyboard)).message_id
        return message_id

    async def _done(self, card: Card, message_id: int | None, generation: Generation) -> None:
        told = generation.state.value

        async def write() -> None:
            async with self._store.transaction() as tx:
                if not await tx.cards.sent(card, self._owner, message_id=message_id, told=told, quiet_s=QUIET_S):
                    return
                tx.wakeups.append(RefreshCard(card.generation_id, unique(), QUIET_S))

        await insist(write, self._clock, what="card.sent")

    async def _moved(self, card: Card, new_chat_id: int) -> None:
        """The card goes along with everything else of its chat, and is shown there at once."""

        async def write() -> None:
            async with self._store.transaction() as tx:
                await tx.outbox.move_chat(card.chat_id, new_chat_id)
                await tx.cards.later(card, self._owner, 0.0)
                tx.wakeups += [RefreshCard(card.generation_id, unique()), Deliver(new_chat_id, unique())]

        await insist(write, self._clock, what="card.moved")

    async def _later(self, card: Card, error: BaseException) -> None:
        pause_s = max(getattr(error, "retry_after_s", 0.0), QUIET_S)
        if isinstance(error, RateLimited):
            pause_s = max(pause_s, 5.0)

        async def write() -> None:
            async with self._store.transaction() as tx:
                await tx.cards.later(card, self._owner, pause_s)
                tx.wakeups.append(RefreshCard(card.generation_id, unique(), pause_s))

        await insist(write, self._clock, what="card.later")

    async def _facts(self, tx: Tx, generation: Generation) -> dict[str, object]:
        """What the card tells beside the row: the place in the queue, the usual time, the time so far."""
        typical_s = await tx.generations.typical_seconds(generation.model_id)
        queue = await self._queue(tx, generation, typical_s) if generation.state is State.ACCEPTED else {}
        elapsed_s = _elapsed_s(generation, self._clock)
        is_off = generation.state is State.ACCEPTED and await _is_off(tx, generation.model_id)
        return {"typical_s": typical_s, "elapsed_s": elapsed_s, "is_off": is_off, **queue}

    async def _queue(self, tx: Tx, generation: Generation, typical_s: float | None) -> dict[str, object]:
        ahead = await tx.generations.ahead_of(generation.id)
        model = model_by_id(generation.model_id)
        usual_s = typical_s or (float(model.expected_seconds) if model else 60.0)
        wait_s = ahead.wait_s(usual_s, create_every_s=self._create_every_s, running=self._running)
        return {"ahead": ahead.works, "eta_s": wait_s + usual_s}


def _elapsed_s(generation: Generation, clock: Clock) -> float:
    """Since it came into its state, more or less: accepted, or with the provider."""
    since = generation.submitted_at or generation.accepted_at
    return max(0.0, (clock.now() - since).total_seconds())


async def _is_off(tx: Tx, model_id: str) -> bool:
    return await tx.generations.model_is_off(EVERYTHING) or await tx.generations.model_is_off(model_id)
