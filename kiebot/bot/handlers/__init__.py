"""What the bot answers: a file per topic, tried in the order of `handlers()`; the last ones answer everything else.

A handler is `async def topic(unit)`: it reads and writes the open transaction and decides messages with `unit.say`.
Presses are routed by the prefix of their body ("f1", "k1", ...); the digit is the version of its meaning.
"""

from __future__ import annotations

from kiebot.bot.admin import table as admin
from kiebot.bot.handlers import (
    balance,
    blocks,
    cancel,
    create,
    help,
    history,
    language,
    media,
    models,
    others,
    payments,
    settings,
    start,
    terms,
    text,
    topup,
)
from kiebot.bot.routing import Route

_TOPICS = (
    blocks,
    payments,
    start,
    help,
    balance,
    topup,
    models,
    history,
    cancel,
    terms,
    settings,
    language,
    admin,
    create,
    media,
    text,
    others,
)


def handlers() -> list[Route]:
    """Every route, in order: the first that fits an update answers it."""
    return [route for topic in _TOPICS for route in topic.ROUTES]
