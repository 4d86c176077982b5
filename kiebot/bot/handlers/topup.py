"""/topup: packages of credits, and the bill for one. The Stars are taken by Telegram, not here."""

from __future__ import annotations

from kiebot.bot.press import IN_PLACE
from kiebot.bot.routing import command, pressed
from kiebot.bot.screens import TOP_UP, home_button
from kiebot.bot.unit import Unit
from kiebot.bot.words import credits
from kiebot.delivery.outbox import Draft, bill_payload
from kiebot.delivery.ports import Bill, Button
from kiebot.payments import invoice
from kiebot.payments.invoice import Invoice
from kiebot.payments.packages import Package, package_of, packages

TOP_UP_LINK = "topup"  # /start topup: where a forwarded bill leads


async def top_up(unit: Unit) -> None:
    await show_packages(unit)


async def chosen(unit: Unit) -> None:
    """t1 · t1:<credits>"""
    if not unit.argument(0):
        await show_packages(unit)
        return
    package = package_of(unit.number(0), unit.settings.payment_terms.stars_per_credit)
    if package is None:
        await show_packages(unit, note=unit.t("This package is not on sale any more."))
    elif unit.is_private:
        unit.drafts.append(Draft(unit.chat_id, "bill", bill_payload(_bill(unit, package))))
    else:
        await show_packages(unit)


async def show_packages(unit: Unit, *, note: str = "") -> None:
    """What can be bought, in a private chat: a bill is for one person."""
    if not unit.is_private:
        unit.say(unit.t("Credits are bought in our private chat: send me /topup there."))
        return
    balance = await unit.tx.ledger.balance(unit.user.id)
    parts = [
        note,
        unit.t("How many credits? You pay with Telegram Stars, and they are here at once."),
        unit.t("You have {amount}.", amount=credits(unit.translator, balance.available)),
    ]
    rows = [(_button(unit, each),) for each in packages(unit.settings.payment_terms.stars_per_credit)]
    unit.say("\n\n".join(filter(None, parts)), (*rows, (home_button(unit),)), edit=unit.screen_id)


def _button(unit: Unit, package: Package) -> Button:
    amount = credits(unit.translator, package.millicredits)
    label = unit.t("{amount} · ⭐ {stars}", amount=amount, stars=package.stars)
    return unit.button(label, f"{TOP_UP}:{package.credits}", IN_PLACE)


def _bill(unit: Unit, package: Package) -> Bill:
    until = int(unit.now_s + invoice.VALID_S)
    offered = Invoice(package.credits, package.stars, unit.user.id, until, unit.language)
    return Bill(
        title=credits(unit.translator, package.millicredits),
        description=unit.t("For pictures, video and sound. This bill is yours alone and good for 24 hours."),
        payload=invoice.sign(offered, unit.settings.payment_terms.key),
        stars=package.stars,
        start_parameter=TOP_UP_LINK,
    )


ROUTES = (command("topup", top_up), pressed(TOP_UP, chosen))
