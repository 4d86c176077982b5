"""Everything else: no message and no press goes without an answer."""

from __future__ import annotations

from telegram.ext import filters

from kiebot.bot.desk import show_begun
from kiebot.bot.routing import message, pressed
from kiebot.bot.screens import home_button
from kiebot.bot.unit import Unit
from kiebot.bot.words import line


async def unknown_command(unit: Unit) -> None:
    name = line((unit.message.text or "").split()[0], 40)
    unit.say(unit.t("I do not know {command}. /help shows what I can do.", command=name), ((home_button(unit),),))


async def unknown_kind(unit: Unit) -> None:
    unit.say(unit.t("I take texts, pictures, videos and audio."), ((home_button(unit),),))


async def old_press(unit: Unit) -> None:
    """A button of a version of this bot that knew other ones."""
    await show_begun(unit, note=unit.t("That screen is old; this is where you are:"))


_SILENT = filters.StatusUpdate.ALL | filters.SUCCESSFUL_PAYMENT

ROUTES = (
    message(filters.COMMAND, unknown_command),
    message(filters.ALL & ~_SILENT, unknown_kind),
    pressed("", old_press),
)
