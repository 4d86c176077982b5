"""Answers pre-checkout queries beside the poll loop or the webhook, neither of which waits for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

import structlog

from kiebot.intake.ports import PreCheckout, RawUpdate

log = structlog.get_logger(__name__)

_ANSWER_WITHIN_S = 5.0  # Telegram gives ten


def is_pre_checkout(update: RawUpdate) -> bool:
    """Whether this update asks for a yes or no to a purchase. A text that merely contains the words does not."""
    if b'"pre_checkout_query"' not in update.payload:
        return False
    try:
        facts = json.loads(update.payload)
    except ValueError:
        return False
    return isinstance(facts, dict) and "pre_checkout_query" in facts


class CheckoutDesk:
    """One per replica, one task per query under way. They outlive a poller's term: the buyer waits, whoever leads."""

    def __init__(self, answers: PreCheckout | None) -> None:
        self._answers = answers
        self._under_way: dict[int, asyncio.Task[None]] = {}

    def serve(self, updates: Iterable[RawUpdate]) -> None:
        """Begin to answer whatever of this batch is a pre-checkout query and is not being answered already."""
        if self._answers is None:
            return
        for update in updates:
            if update.update_id not in self._under_way and is_pre_checkout(update):
                self._under_way[update.update_id] = asyncio.create_task(self._answer(self._answers, update))

    async def settle(self) -> None:
        """Wait until everything under way has been answered or given up: five seconds at most."""
        if self._under_way:
            await asyncio.wait(set(self._under_way.values()))

    async def _answer(self, answers: PreCheckout, update: RawUpdate) -> None:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                await answers.answer(update)
        except Exception:
            log.exception("poller.pre_checkout_failed", update_id=update.update_id)
        finally:
            self._under_way.pop(update.update_id, None)
