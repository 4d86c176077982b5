"""Giving a payment back: an intent, the provider's call with no transaction open, and its end. Twice is once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import structlog

from kiebot.clock import Clock
from kiebot.delivery.outbox import Draft, say_payload
from kiebot.errors import OutcomeUnknown, Permanent, Refused, Transient
from kiebot.insist import insist
from kiebot.observe.metrics import METRICS
from kiebot.payments.model import STARS, Payment, Refund, RefundState
from kiebot.payments.ports import Words
from kiebot.payments.providers import Providers
from kiebot.store import Store, Tx
from kiebot.wakeups import Repay, unique

log = structlog.get_logger()

CALL_WITHIN_S = 60.0  # how long a try is left alone before another replica may ask as well
LONGEST_PAUSE_S = 600.0
ALARM = "refund.alarm"


async def request_refund(tx: Tx, charge_id: str, *, actor: str, reason: str, provider: str = STARS) -> Refund:
    """Decide to give a payment back as a whole; a job asks the provider after the commit. For handlers, which wait for
    nobody. Asked again, it is the refund decided before, open or done.

    Raises: Refused("no_payment"), for an unknown charge; Refused("under_way"), while works that are being made hold
    credits which this refund needs: they end by themselves, and then it is known what was spent. `tx` is to be rolled
    back then.
    """
    payment = await _payment(tx, provider, charge_id)
    standing = await tx.payments.standing_refund(provider, charge_id)
    if standing is not None:
        return standing
    refund = await _open(tx, payment, actor=actor, reason=reason, may_be_held=False)
    tx.wakeups.append(Repay(refund.id, unique()))
    return refund


async def book_refund_made_elsewhere(
    tx: Tx, charge_id: str, words: Words, *, provider: str = STARS, actor: str = "telegram"
) -> Refund | None:
    """The provider says that it paid back, asked by us or not. None: we know no such payment: an alarm.

    The message to the payer is written into `tx` once.
    """
    payment = await tx.payments.get(provider, charge_id)
    if payment is None:
        METRICS.refunds.labels(outcome="unknown_payment").inc()
        log.error(ALARM, charge_id=charge_id, why="unknown_payment", advice="kiebot ledger reconcile")
        await tx.audit.note(actor, ALARM, charge_id, {"why": "unknown_payment"})
        return None
    refund = await tx.payments.standing_refund(provider, charge_id)
    if refund is None:
        refund = await _open(tx, payment, actor=actor, reason="refunded by the provider", may_be_held=True)
    return await _finish(tx, payment, refund.id, words)


class Refunds:
    """Carries refunds out. Every step may be repeated, anywhere."""

    def __init__(self, store: Store, providers: Providers, words: Words, clock: Clock) -> None:
        self._store = store
        self._providers = providers
        self._words = words
        self._clock = clock

    async def refund(self, charge_id: str, actor: str, reason: str, *, provider: str = STARS) -> Refund:
        """Decide and ask at once; the refund as it stands then: done, refused, or open to be tried again by a replica.

        Raises: Refused, as request_refund; Transient, when the store is away.
        """
        async with self._store.transaction() as tx:
            asked = await request_refund(tx, charge_id, actor=actor, reason=reason, provider=provider)
            tx.wakeups.clear()  # asked right here
        if asked.state is RefundState.OPEN:
            await self.advance(asked.id, is_urgent=True)
        async with self._store.transaction() as tx:
            return await tx.payments.lock_refund(asked.id)

    async def advance(self, refund_id: int, *, is_urgent: bool = False) -> None:
        """Ask the provider, and write what came of it. Nothing, while another asks, unless `is_urgent`."""
        async with self._store.transaction() as tx:
            refund = await tx.payments.begin_try(refund_id, CALL_WITHIN_S, is_urgent=is_urgent)
        if refund is None:
            return
        try:
            await self._providers.named(refund.provider).pay_back(refund.user_id, refund.charge_id)
        except (Transient, OutcomeUnknown) as error:
            await self._write("refund.later", partial(self._later, refund, error))
        except Permanent as error:
            await self._write("refund.refused", partial(self._give_up, refund, error))
        else:
            await self._write("refund.done", partial(self._done, refund))

    async def _done(self, refund: Refund, tx: Tx) -> None:
        payment = await _payment(tx, refund.provider, refund.charge_id)
        await _finish(tx, payment, refund.id, self._words)

    async def _later(self, refund: Refund, error: Exception, tx: Tx) -> None:
        pause_s = min(max(getattr(error, "retry_after_s", 0.0), 2.0 ** min(refund.tries, 20)), LONGEST_PAUSE_S)
        METRICS.refunds.labels(outcome="later").inc()
        log.warning("refund.later", refund_id=refund.id, tries=refund.tries, why=str(error))
        await tx.payments.defer_refund(refund.id, pause_s, str(error))
        tx.wakeups.append(Repay(refund.id, unique(), pause_s))

    async def _give_up(self, refund: Refund, error: Exception, tx: Tx) -> None:
        """The provider will not: the credits go back to where they were taken."""
        now = await tx.payments.lock_refund(refund.id)
        if now.state is not RefundState.OPEN:
            return
        METRICS.refunds.labels(outcome="refused").inc()
        log.error("refund.refused", refund_id=refund.id, charge_id=refund.charge_id, why=str(error))
        await tx.ledger.refund_void(now.id, now.user_id, now.taken, reason=str(error)[:200], actor=now.provider)
        await tx.payments.end_refund(now.id, RefundState.REFUSED, str(error))

    async def _write(self, what: str, write: Callable[[Tx], Awaitable[None]]) -> None:
        async def once() -> None:
            async with self._store.transaction() as tx:
                await write(tx)

        await insist(once, self._clock, what=what)


async def _payment(tx: Tx, provider: str, charge_id: str) -> Payment:
    payment = await tx.payments.get(provider, charge_id)
    if payment is None:
        raise Refused("no_payment", charge_id=charge_id)
    return payment


async def _open(tx: Tx, payment: Payment, *, actor: str, reason: str, may_be_held: bool) -> Refund:
    """The intent, and what the wallet has of it set aside; or what another decided in the meantime.

    may_be_held: the rest may be reserved for works under way, not spent: the provider has paid back already.
    """
    opened = await tx.payments.open_refund(payment, actor=actor, reason=reason)
    if opened is None:
        standing = await tx.payments.standing_refund(payment.provider, payment.charge_id)
        if standing is None:  # the conflict that made open_refund() return None is this very row
            raise LookupError(f"no refund of {payment.charge_id}")
        return standing
    taken = await tx.ledger.set_aside(
        opened.id, payment.provider, payment.user_id, payment.credits, reason=reason, actor=actor
    )
    if taken < payment.credits and not may_be_held:
        # Only now: the wallet is locked, so a work begun a moment ago is seen, and none can begin before the commit.
        held = (await tx.ledger.balance(payment.user_id)).held
        if held:
            raise Refused("under_way", held=held, user_id=payment.user_id)
    await tx.payments.mark_taken(opened.id, taken)
    METRICS.refunds.labels(outcome="opened").inc()
    facts = {"user_id": payment.user_id, "taken": taken, "reason": reason}
    await tx.audit.note(actor, "refund.opened", payment.charge_id, facts)
    return replace(opened, taken=taken)


async def _finish(tx: Tx, payment: Payment, refund_id: int, words: Words) -> Refund:
    """The money is back with the payer: booked and told, once."""
    refund = await tx.payments.lock_refund(refund_id)
    if refund.state is not RefundState.OPEN:
        return refund
    await tx.ledger.refund(
        refund.id, refund.provider, amount=refund.amount, taken=refund.taken, reason=refund.reason, actor=refund.actor
    )
    await tx.payments.end_refund(refund.id, RefundState.DONE, None)
    METRICS.refunds.labels(outcome="done").inc()
    log.info("refund.done", refund_id=refund.id, charge_id=refund.charge_id, owed=refund.amount - refund.taken)
    balance = await tx.ledger.balance(refund.user_id)
    say = words.refunded(payment, refund, balance.available)
    draft = Draft(refund.user_id, "say", say_payload(say, is_news=True), key=f"refunded:{refund.id}")
    _, deliveries = await tx.outbox.add_all([draft], None)
    tx.wakeups.extend(deliveries)
    return replace(refund, state=RefundState.DONE)
