"""How it works, in one screen."""

from __future__ import annotations

from kiebot.bot.routing import command, pressed
from kiebot.bot.screens import home_button
from kiebot.bot.unit import Unit
from kiebot.bot.words import ask_whom


async def help(unit: Unit) -> None:
    parts = [
        unit.t("Send a text, a picture, a video or a voice message, or pick a model with /models."),
        unit.t("I show a form that already works. Change what you like; the price is on the button that starts it."),
        unit.t(
            "You pay only for what is made: if it fails, all credits come back by themselves. "
            "While it waits, you can take it back."
        ),
        unit.t(
            "/models – what I can make\n/balance – your credits\n/topup – buy credits\n"
            "/history – your works\n/cancel – stop what waits"
        ),
        ask_whom(unit.translator, unit.settings.support_contact),
    ]
    unit.say("\n\n".join(parts), ((home_button(unit),),), edit=unit.screen_id)


ROUTES = (command("help", help), pressed("n1:help", help))
