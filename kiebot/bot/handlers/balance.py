"""What a user has, and what is reserved for works under way."""

from __future__ import annotations

from kiebot.bot.press import IN_PLACE
from kiebot.bot.routing import command, pressed
from kiebot.bot.screens import HISTORY, TOP_UP, home_button
from kiebot.bot.unit import Unit
from kiebot.bot.words import ask_whom, credits


async def balance(unit: Unit) -> None:
    funds = await unit.tx.ledger.balance(unit.user.id)
    to = unit.translator
    parts = [unit.t("You have {amount}.", amount=credits(to, funds.available))]
    if funds.open_count:
        parts.append(
            to.n(
                "Reserved for {count} work under way: {amount}.",
                "Reserved for {count} works under way: {amount}.",
                funds.open_count,
                amount=credits(to, funds.held),
            )
        )
    parts.append(ask_whom(to, unit.settings.support_contact))
    keyboard = (
        (unit.button(unit.t("⭐ Top up"), TOP_UP, IN_PLACE),),
        (unit.button(unit.t("🗂 My works"), HISTORY, IN_PLACE), home_button(unit)),
    )
    unit.say("\n\n".join(parts), keyboard, edit=unit.screen_id)


ROUTES = (command("balance", balance), pressed("n1:balance", balance))
