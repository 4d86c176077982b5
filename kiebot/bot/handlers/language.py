"""Russian or English: Telegram's language until the user chooses."""

from __future__ import annotations

from kiebot.bot.press import IN_PLACE
from kiebot.bot.routing import command, pressed
from kiebot.bot.screens import home_button, show_home
from kiebot.bot.unit import Unit
from kiebot.texts import LANGUAGES

_OWN_NAMES = {"en": "English", "ru": "Русский"}


async def languages(unit: Unit) -> None:
    row = tuple(unit.button(_OWN_NAMES[each], f"l1:{each}", IN_PLACE) for each in LANGUAGES)
    unit.say(unit.t("Which language shall I speak?"), (row, (home_button(unit),)), edit=unit.screen_id)


async def chosen(unit: Unit) -> None:
    """l1:<language>"""
    wanted = unit.argument(0)
    if wanted in LANGUAGES:
        await unit.tx.users.choose_language(unit.user.id, wanted)
        unit.language = wanted
    await show_home(unit, edit=unit.screen_id)


ROUTES = (command("language", languages), pressed("n1:language", languages), pressed("l1", chosen))
