"""The payer's side of Stars: the pre-checkout question, and what happens when the bot agrees in time, or does not."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from kiebot.simulators.telegram.answers import Json
from kiebot.simulators.telegram.bot import Bot
from kiebot.simulators.telegram.messages import ChatMessage
from kiebot.simulators.telegram.payments import LINK_PREFIX, Charge, Checkout


@dataclass(frozen=True, slots=True)
class Payment:
    """How paying went. Without a `charge_id` no Stars moved; `error` says why ("" when nobody answered in time)."""

    charge_id: str | None
    amount: int
    payload: str
    error: str = ""

    @property
    def is_paid(self) -> bool:
        return self.charge_id is not None


def invoice_of(bot: Bot, invoice: ChatMessage | str) -> Json:
    """The facts of an invoice message or link, payload included. Raises: LookupError, when that is no invoice."""
    if isinstance(invoice, ChatMessage):
        if invoice.invoice is None or invoice.invoice_payload is None:
            raise LookupError("that message is no invoice")
        return invoice.invoice | {"payload": invoice.invoice_payload}
    found = bot.world.invoice_links.get(invoice.removeprefix(LINK_PREFIX))
    if found is None:
        raise LookupError(f"no such invoice: {invoice}")
    return found[1]


async def pay(bot: Bot, user: Json, invoice: Json, ask: Callable[[Json], None]) -> Payment:
    """Ask the bot through `ask`, wait for its verdict up to the deadline, and book the charge if it agrees."""
    amount, payload = int(invoice["total_amount"]), str(invoice["payload"])
    world = bot.world
    verdict: asyncio.Future[tuple[bool, str]] = asyncio.get_running_loop().create_future()
    checkout = Checkout(str(world.rng.randrange(10**17, 10**18)), world.clock.monotonic(), verdict)
    bot.till.open(checkout)
    query: Json = {"id": checkout.query_id, "from": user, "currency": "XTR"}
    ask(query | {"total_amount": amount, "invoice_payload": payload})
    agreed, error = await _verdict(bot, checkout)
    return _charge(bot, user, amount, payload) if agreed else Payment(None, amount, payload, error)


async def _verdict(bot: Bot, checkout: Checkout) -> tuple[bool, str]:
    deadline = asyncio.ensure_future(bot.world.clock.sleep(bot.world.rules.pre_checkout_deadline_s))
    try:
        await asyncio.wait((checkout.verdict, deadline), return_when=asyncio.FIRST_COMPLETED)
        return checkout.verdict.result() if checkout.verdict.done() else (False, "")
    finally:
        deadline.cancel()
        checkout.verdict.cancel()  # an answer from now on is too late


def _charge(bot: Bot, user: Json, amount: int, payload: str) -> Payment:
    charge = Charge("stx" + bot.world.rng.randbytes(24).hex(), int(user["id"]), amount, payload)
    bot.till.earn(charge, user, bot.world.unix())
    return Payment(charge.charge_id, amount, payload)


def renewal(bot: Bot, user: Json, payment: Payment) -> Payment:
    """Charge the next period of a subscription. Raises: LookupError, when nothing was paid before."""
    if payment.charge_id is None:
        raise LookupError("nothing was paid")
    return _charge(bot, user, payment.amount, payment.payload)


def successful_payment(bot: Bot, user_id: int, payment: Payment, period_s: int, *, is_first: bool) -> Json:
    """The `successful_payment` field of the message that says so. Raises: LookupError, when nothing was paid."""
    if payment.charge_id is None:
        raise LookupError("nothing was paid")
    facts: Json = {"currency": "XTR", "total_amount": payment.amount, "invoice_payload": payment.payload}
    facts |= {"telegram_payment_charge_id": payment.charge_id, "provider_payment_charge_id": str(user_id)}
    if period_s:
        facts |= {"is_recurring": True, "subscription_expiration_date": bot.world.unix() + period_s}
        facts |= {"is_first_recurring": True} if is_first else {}
    return facts
