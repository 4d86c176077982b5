"""A payment has arrived, or went back; and whom to ask about one (/paysupport, which Telegram requires)."""

from __future__ import annotations

from telegram.ext import filters

from kiebot.bot.receipts import Receipts
from kiebot.bot.routing import command, message
from kiebot.bot.screens import TOP_UP, home_button
from kiebot.bot.unit import Unit
from kiebot.bot.words import credits
from kiebot.payments.credit import credit, stars_payment
from kiebot.payments.model import Paid, RefundState

SHOWN = 5
_WORDS = Receipts()


async def paid(unit: Unit) -> None:
    """Credited whatever else is true: the money was taken."""
    facts = unit.message.successful_payment
    if facts is None:
        raise LookupError("a message without a payment: the route looks first")
    payment = stars_payment(
        unit.settings.payment_terms,
        charge_id=facts.telegram_payment_charge_id,
        user_id=unit.user.id,
        amount=facts.total_amount,
        currency=facts.currency,
        payload=facts.invoice_payload,
        language=unit.language,
    )
    receipt = await credit(unit.tx, payment, _WORDS)
    if receipt is not None:
        unit.drafts.append(receipt)


async def pay_support(unit: Unit) -> None:
    contact = unit.settings.support_contact
    if contact:
        whom = unit.t("About a payment, or to ask for a refund, write to {contact}.", contact=contact)
    else:
        whom = unit.t("About a payment, or to ask for a refund, write to whoever runs this bot.")
    if not unit.is_private:
        unit.say(whom)
        return
    payments = await unit.tx.payments.of_user(unit.user.id, most=SHOWN)
    parts = [whom]
    if payments:
        parts.append(unit.t("Name the payment, so that it is found. Your last ones:"))
        parts += [_line(unit, each) for each in payments]
    else:
        parts.append(unit.t("You have paid nothing yet."))
    keyboard = ((unit.button(unit.t("⭐ Top up"), TOP_UP), home_button(unit)),)
    unit.say("\n\n".join(parts), keyboard)


def _line(unit: Unit, each: Paid) -> str:
    payment = each.payment
    facts = unit.t(
        "{date} · ⭐ {stars} · {amount}",
        date=f"{each.recorded_at:%d.%m.%Y}",
        stars=payment.amount,
        amount=credits(unit.translator, payment.credits),
    )
    state = ""
    if each.refund is RefundState.DONE:
        state = unit.t("refunded")
    elif each.refund is RefundState.OPEN:
        state = unit.t("refund under way")
    return "\n".join(filter(None, (facts, state, payment.charge_id)))


ROUTES = (message(filters.SUCCESSFUL_PAYMENT, paid), command("paysupport", pay_support))
