"""What Telegram shows as the bot's commands, per language. Data only: a replica compares and sets it at start."""

from __future__ import annotations

from kiebot.texts import LANGUAGES, mark, translator

_COMMANDS = {
    "start": mark("Main menu"),
    "models": mark("What I can make"),
    "balance": mark("Your credits"),
    "topup": mark("Buy credits"),
    "history": mark("Your works"),
    "cancel": mark("Clear the form, take back what waits"),
    "settings": mark("How results arrive"),
    "language": mark("Language"),
    "help": mark("How it works"),
    "terms": mark("Terms"),
    "paysupport": mark("Payments and refunds"),
}


def commands(language: str) -> tuple[tuple[str, str], ...]:
    """(command, description) in the order of the menu."""
    t = translator(language).t
    return tuple((name, t(description)) for name, description in _COMMANDS.items())


def menus() -> dict[str, tuple[tuple[str, str], ...]]:
    """Telegram's language code -> its menu; the empty code is for everyone without one of their own."""
    first, *others = LANGUAGES
    return {"": commands(first)} | {language: commands(language) for language in others}
