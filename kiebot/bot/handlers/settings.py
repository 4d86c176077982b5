"""How results are to arrive: behind a spoiler, as files. A button names what it makes true: twice is once."""

from __future__ import annotations

from dataclasses import replace

from kiebot.bot.press import IN_PLACE
from kiebot.bot.routing import command, pressed
from kiebot.bot.screens import LANGUAGE, SETTINGS, home_button
from kiebot.bot.unit import Unit
from kiebot.delivery.ports import Button
from kiebot.people import Wishes


async def settings(unit: Unit) -> None:
    _show(unit, await unit.tx.users.wishes(unit.user.id))


async def chosen(unit: Unit) -> None:
    """s1:<h|f>:<0|1>"""
    wishes, is_on = await unit.tx.users.wishes(unit.user.id), unit.number(1) == 1
    match unit.argument(0):
        case "h":
            wishes = replace(wishes, hides_media=is_on)
        case "f":
            wishes = replace(wishes, wants_files=is_on)
    await unit.tx.users.wish(unit.user.id, wishes)
    _show(unit, wishes)


def _show(unit: Unit, wishes: Wishes) -> None:
    said = unit.t(
        "How shall I send what I make?\nAs a file it keeps its full quality; a file cannot be hidden behind a spoiler."
    )
    rows = (
        (_switch(unit, unit.t("Hide pictures and videos behind a spoiler"), "h", wishes.hides_media),),
        (_switch(unit, unit.t("Send as file, uncompressed"), "f", wishes.wants_files),),
        (unit.button(unit.t("🌐 Language"), LANGUAGE, IN_PLACE), home_button(unit)),
    )
    unit.say(said, rows, edit=unit.screen_id)


def _switch(unit: Unit, label: str, name: str, is_on: bool) -> Button:
    return unit.button(f"{'✅' if is_on else '⬜'} {label}", f"s1:{name}:{0 if is_on else 1}", IN_PLACE)


ROUTES = (command("settings", settings), pressed(SETTINGS, settings), pressed("s1", chosen))
