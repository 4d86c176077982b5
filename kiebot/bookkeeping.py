"""Once a day the holder of the lease lays our books beside those of others: payments taken, credits that KIE used.

It only tells: what is to be booked an operator decides (`kiebot ledger reconcile`). What another program sold with the
same bot, before anybody came to this one, is left alone.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

import structlog

from kiebot.admin.model import Margin
from kiebot.clock import Clock
from kiebot.errors import KiebotError
from kiebot.lease.chronicle import Standing
from kiebot.observe.metrics import METRICS
from kiebot.payments.ports import Words
from kiebot.payments.providers import Providers
from kiebot.payments.reconcile import TOO_FRESH_S, Difference, Finding, Reconciliation
from kiebot.storage.transaction import Database

log = structlog.get_logger()

LOOK_EVERY_S = 60.0
STEADY_S = 600.0  # a holder of a moment leaves it to the next one
EVERY_S = 24 * 3600.0
AGAIN_S = 3600.0  # after a failure
MARGIN_DAYS = 7
_MOST_NAMED = 10


class Present(Protocol):
    @property
    def standing(self) -> Standing | None: ...


class Bookkeeper:
    """`fresh_s`: payments younger than this are not judged, their update may be on its way."""

    def __init__(
        self, database: Database, providers: Providers, words: Words, clock: Clock, *, fresh_s: float = TOO_FRESH_S
    ) -> None:
        self._database = database
        self._providers = providers
        self._words = words
        self._clock = clock
        self._fresh_s = fresh_s
        self._due_at = clock.monotonic()

    async def run(self, present: Present) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            await self.look(present)

    async def look(self, present: Present) -> bool:
        """Compare, when it is due and ours to do; whether that was done. An outage is passed over."""
        if not _holds_steadily(present.standing) or self._clock.monotonic() < self._due_at:
            return False
        is_done = await self._survives()
        self._due_at = self._clock.monotonic() + (EVERY_S if is_done else AGAIN_S)
        return is_done

    async def compare(self) -> None:
        """Everything once. Raises: KiebotError, when a store or a provider is away."""
        differences: list[Difference] = []
        for provider in self._providers:
            books = Reconciliation(self._database, provider, self._words, self._clock)
            differences += (await books.run(apply=False, fresh_s=self._fresh_s)).differences
        _note_payments(differences)
        async with self._database.transaction() as tx:
            _note_margins(await tx.reckoning.margins(days=MARGIN_DAYS))
        METRICS.books_compared_timestamp_seconds.set(time.time())

    async def _survives(self) -> bool:
        try:
            await self.compare()
        except KiebotError as error:
            log.warning("books.not_compared", why=str(error))
        except Exception:
            log.exception("books.not_compared")
        else:
            return True
        return False


def _holds_steadily(standing: Standing | None) -> bool:
    return standing is not None and standing.is_holder and standing.held_s >= STEADY_S


def _note_payments(differences: Sequence[Difference]) -> None:
    uncredited = [each for each in differences if each.finding is Finding.NEVER_SEEN]
    METRICS.payments_uncredited.set(len(uncredited))
    METRICS.payment_differences.set(len(differences))
    for each in differences[:_MOST_NAMED]:
        facts = {"user_id": each.user_id, "amount": each.amount, "why": each.finding.value}
        log.error("payment.difference", charge_id=each.charge_id, advice="kiebot ledger reconcile", **facts)


def _note_margins(margins: Sequence[Margin]) -> None:
    by_model: dict[str, int] = defaultdict(int)
    for each in margins:
        by_model[each.model_id] += each.margin
    losing = sorted((margin, model_id) for model_id, margin in by_model.items() if margin < 0)
    METRICS.margin_credits.set(sum(by_model.values()) / 1000)
    METRICS.models_at_a_loss.set(len(losing))
    for margin, model_id in losing[:_MOST_NAMED]:
        log.warning("margin.negative", model=model_id, credits=margin / 1000, days=MARGIN_DAYS)
