"""Booking a payment that was made: once per charge, whatever its invoice says."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import structlog

from kiebot.delivery.outbox import Draft, say_payload
from kiebot.errors import KeyReused
from kiebot.observe.metrics import METRICS
from kiebot.payments import invoice
from kiebot.payments.model import STARS, STARS_CURRENCY, Payment
from kiebot.payments.packages import credits_for
from kiebot.payments.ports import Words
from kiebot.payments.refunds import ALARM, book_refund_made_elsewhere
from kiebot.store import Tx

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Terms:
    """What payments are measured by: the price, and the key that signed the invoices."""

    stars_per_credit: Decimal
    key: bytes = field(repr=False)


def stars_payment(
    terms: Terms, *, charge_id: str, user_id: int, amount: int, currency: str, payload: str, language: str
) -> Payment:
    """What these Stars bought: what the invoice promised, or by the amount when it promised this payer nothing.

    An invoice that ended after the pre-checkout said yes still counts. Another currency than Stars has no price here:
    that was sold by another program with the same bot, and buys nothing.
    """
    if currency != STARS_CURRENCY:
        return Payment(STARS, charge_id, user_id, amount, currency, 0, language, payload[:256], "other_currency")
    offered = invoice.read(payload, terms.key)
    problem = invoice.problem_of(offered, user_id=user_id, amount=amount, currency=currency)
    promised = offered is not None and not problem
    credits = offered.credits * 1000 if promised and offered else credits_for(amount, terms.stars_per_credit)
    spoken = offered.language if promised and offered else language
    return Payment(STARS, charge_id, user_id, amount, currency, credits, spoken, payload[:256], problem)


async def credit(tx: Tx, payment: Payment, words: Words) -> Draft | None:
    """Row, posting and receipt, in the caller's transaction. None: this charge was booked before, or is put aside.

    A charge id that comes again with another payer or amount is nobody's retry: it is put aside with an alarm, and no
    credits move. So is a payment that bought nothing. One that was paid back already is booked with its refund, and the
    payer hears of that alone.
    """
    if not payment.credits:
        await _alarm(tx, payment, payment.problem)
        return None
    try:
        is_new = await tx.payments.add(payment)
    except KeyReused:
        await _alarm(tx, payment, "mismatch")
        return None
    if not is_new:
        METRICS.payments.labels(provider=payment.provider, outcome="repeated").inc()
        return None
    await tx.ledger.top_up(payment.provider, payment.charge_id, payment.user_id, payment.credits)
    if payment.problem:
        await _alarm(tx, payment, payment.problem)
    METRICS.payments.labels(provider=payment.provider, outcome="credited").inc()
    log.info("payment.credited", charge_id=payment.charge_id, user_id=payment.user_id, amount=payment.amount)
    if await tx.audit.tells(ALARM, payment.charge_id):  # a letter, revived too late
        await book_refund_made_elsewhere(tx, payment.charge_id, words, provider=payment.provider)
        return None
    balance = await tx.ledger.balance(payment.user_id)
    said = words.credited(payment, balance.available)
    return Draft(
        payment.user_id, "say", say_payload(said, is_news=True), key=f"receipt:{payment.provider}:{payment.charge_id}"
    )


async def _alarm(tx: Tx, payment: Payment, why: str) -> None:
    """Loud in the log and the metrics, and kept: an operator has to look."""
    METRICS.payments.labels(provider=payment.provider, outcome=why).inc()
    facts = {"user_id": payment.user_id, "amount": payment.amount, "why": why}
    log.error("payment.alarm", charge_id=payment.charge_id, **facts)
    await tx.audit.note(payment.provider, "payment.alarm", payment.charge_id, facts | {"payload": payment.payload})
