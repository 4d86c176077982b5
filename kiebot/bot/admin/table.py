"""Every command and every press of admins. The tests that nobody else has them are made from these two tables."""

from __future__ import annotations

from kiebot.bot.admin import confirm, figures, letters, menu, models, payments, people, works
from kiebot.bot.admin.access import admin_commands, admin_presses

COMMANDS = {
    "admin": menu.admin,
    "user": people.user,
    "grant": people.grant,
    "refund": payments.refund,
    "block": people.block,
    "unblock": people.unblock,
    "off": models.off,
    "on": models.on,
    "pause": models.pause,
    "resume": models.resume,
    "stats": figures.stats,
    "letters": letters.letters,
    "work": works.work,
}
PRESSES = {
    "y1": confirm.pressed,
    "z1": menu.pressed,
    "z2": people.pressed,
    "z3": models.pressed,
    "z4": letters.pressed,
    "z5": works.pressed,
    "z6": figures.pressed,
    "z7": payments.pressed,
}

ROUTES = (*admin_commands(COMMANDS), *admin_presses(PRESSES))
