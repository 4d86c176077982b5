"""What was agreed on, in plain words."""

from __future__ import annotations

from kiebot.bot.routing import command, pressed
from kiebot.bot.screens import home_button
from kiebot.bot.unit import Unit
from kiebot.bot.words import ask_whom


async def terms(unit: Unit) -> None:
    parts = [
        unit.t("The price is shown before you start, and you never pay more than it says."),
        unit.t("What fails, for whatever reason, costs nothing: the credits come back by themselves."),
        unit.t("Credits are bought with Telegram Stars. For questions of payment and refunds there is /paysupport."),
        unit.t(
            "Your text and files go to KIE.ai, which runs the models. Its makers refuse some content; "
            "such works are not charged."
        ),
        unit.t(
            "Send only what you may use, and make nothing that is illegal or harms others. You answer for your works."
        ),
        ask_whom(unit.translator, unit.settings.support_contact),
    ]
    unit.say("\n\n".join(parts), ((home_button(unit),),), edit=unit.screen_id)


ROUTES = (command("terms", terms), pressed("n1:terms", terms))
