"""The answer to a pre-checkout question: beside the intake, without Postgres, while the payer looks at a spinner."""

from __future__ import annotations

import msgspec
import structlog

from kiebot.clock import Clock
from kiebot.errors import OutcomeUnknown, Permanent, Transient
from kiebot.intake.ports import RawUpdate
from kiebot.observe.metrics import METRICS
from kiebot.payments import invoice
from kiebot.payments.ports import Verdicts, Words

log = structlog.get_logger()

AGAIN_S = 0.3


class _Payer(msgspec.Struct):
    id: int
    language_code: str = ""


class _Query(msgspec.Struct):
    id: str
    payer: _Payer = msgspec.field(name="from")
    currency: str
    total_amount: int
    invoice_payload: str


class _Update(msgspec.Struct):
    pre_checkout_query: _Query


class Checkout:
    """Implements kiebot.intake.ports.PreCheckout. It believes what it signed, and nothing else.

    A yes is final: Telegram takes the Stars at once. So everything that can be checked is checked here; a payment that
    comes without having been asked about is credited all the same (credit.py).
    """

    def __init__(self, verdicts: Verdicts, words: Words, key: bytes, clock: Clock) -> None:
        self._verdicts = verdicts
        self._words = words
        self._key = key
        self._clock = clock

    async def answer(self, update: RawUpdate) -> None:
        """Until it is answered, too late, or cancelled. Raises: ValueError, for a question of another shape."""
        query = msgspec.json.decode(update.payload, type=_Update).pre_checkout_query
        offered = invoice.read(query.invoice_payload, self._key)
        problem = self._problem(query, offered)
        language = query.payer.language_code
        if offered is not None and offered.user_id == query.payer.id:
            language = offered.language  # the one they chose
        refusal = self._words.checkout_refusal(problem, language) if problem else None
        METRICS.pre_checkouts.labels(outcome=problem or "ok").inc()
        if problem:
            log.warning("checkout.refused", why=problem, user_id=query.payer.id, amount=query.total_amount)
        await self._insist(query.id, refusal)

    def _problem(self, query: _Query, offered: invoice.Invoice | None) -> str:
        problem = invoice.problem_of(
            offered, user_id=query.payer.id, amount=query.total_amount, currency=query.currency
        )
        if not problem and offered is not None and offered.until <= self._clock.now().timestamp():
            return "expired"
        return problem

    async def _insist(self, query_id: str, refusal: str | None) -> None:
        """A second answer to one question does nothing, so a lost one is simply given again."""
        while True:
            try:
                await self._verdicts.answer(query_id, refusal)
                return
            except (Transient, OutcomeUnknown) as error:
                log.info("checkout.again", why=str(error))
                await self._clock.sleep(max(AGAIN_S, getattr(error, "retry_after_s", 0.0)))
            except Permanent as error:  # too late, or answered by another replica: either way it is decided
                METRICS.pre_checkouts.labels(outcome="too_late").inc()
                log.warning("checkout.too_late", why=str(error))
                return
