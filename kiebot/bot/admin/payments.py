"""/refund: a payment goes back as a whole. A user's payments stand on their card."""

from __future__ import annotations

from kiebot.admin.model import Act, Action
from kiebot.bot.admin.confirm import ask
from kiebot.bot.admin.screens import show, stamp, words
from kiebot.bot.press import IN_PLACE
from kiebot.bot.unit import Unit
from kiebot.bot.words import credits, line
from kiebot.delivery.ports import Button
from kiebot.payments.model import Paid, Payment, Refund, RefundState

SHOWN = 5
MAX_REASON = 200
_FINDABLE = 100


async def refund(unit: Unit) -> None:
    """/refund CHARGE REASON"""
    given = words(unit, 2)
    found = await unit.tx.payments.of_charge(given[0]) if given else []
    if not given:
        show(unit, unit.t("Like this: /refund CHARGE REASON\nThe charge stands on the user's card: /user ID"))
    elif len(found) != 1:  # of two providers' payments with one name, the button on the user's card tells which
        show(unit, unit.t("I know no such payment."))
    else:
        await _ask_about(unit, found[0], given[1] if len(given) > 1 else "")


async def pressed(unit: Unit) -> None:
    """z7:<user>:<when, in microseconds>: charges are too long for a button."""
    for each in await unit.tx.payments.of_user(unit.number(0), most=_FINDABLE):
        if unit.argument(1) == _when(each):
            await _ask_about(unit, each.payment, "")
            return
    show(unit, unit.t("I know no such payment."))


def payment_line(unit: Unit, each: Paid) -> str:
    """A payment on its payer's card, with the charge that names it."""
    amount = credits(unit.translator, each.payment.credits)
    parts = [stamp(each.recorded_at), f"⭐ {each.payment.amount}", amount]
    if each.refund is RefundState.DONE:
        parts.append(unit.t("refunded"))
    elif each.refund is RefundState.OPEN:
        parts.append(unit.t("refund under way"))
    return f"{' · '.join(parts)}\n{each.payment.charge_id}"


def refund_button(unit: Unit, each: Paid) -> Button | None:
    """None for what is on its way back, or there."""
    if each.refund in (RefundState.DONE, RefundState.OPEN):
        return None
    label = unit.t("↩️ Refund ⭐ {stars}", stars=each.payment.amount)
    return unit.button(label, f"z7:{each.payment.user_id}:{_when(each)}", IN_PLACE)


async def _ask_about(unit: Unit, payment: Payment, reason: str) -> None:
    standing = await unit.tx.payments.standing_refund(payment.provider, payment.charge_id)
    if standing is not None:
        show(unit, _went_back(unit, standing))
        return
    facts: dict[str, int | str] = {
        "provider": payment.provider,
        "user": payment.user_id,
        "stars": payment.amount,
        "millicredits": payment.credits,
        "reason": line(reason, MAX_REASON),
    }
    await ask(unit, Act(Action.REFUND, payment.charge_id, facts))


def _went_back(unit: Unit, standing: Refund) -> str:
    if standing.state is RefundState.DONE:
        return unit.t("This payment went back already. Nothing was done.")
    return unit.t("This payment is on its way back already. Nothing was done.")


def _when(each: Paid) -> str:
    return str(int(each.recorded_at.timestamp() * 1_000_000))
