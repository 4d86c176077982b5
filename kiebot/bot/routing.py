"""Binds our handlers to python-telegram-bot's: by command, by a press's prefix, by the kind of message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from telegram import Update
from telegram.ext import (
    BaseHandler,
    CallbackQueryHandler,
    ChatMemberHandler,
    CommandHandler,
    MessageHandler,
    filters,
)

from kiebot.bot.unit import Handler, current

Route = BaseHandler[Update, Any, None]


def command(name: str, handler: Handler) -> Route:
    return CommandHandler(name, bound(handler), filters=filters.UpdateType.MESSAGE)


def pressed(prefix: str, handler: Handler) -> Route:
    """Presses whose body begins with the prefix; the empty prefix takes every press."""
    return CallbackQueryHandler(bound(handler), pattern=rf"^{prefix}[:~]" if prefix else None)


def message(kind: filters.BaseFilter, handler: Handler) -> Route:
    return MessageHandler(filters.UpdateType.MESSAGE & kind, bound(handler))


def membership(handler: Handler) -> Route:
    """Changes of the bot's own membership in a chat."""
    return ChatMemberHandler(bound(handler), ChatMemberHandler.MY_CHAT_MEMBER)


def bound(handler: Handler) -> Callable[[Update, Any], Any]:
    async def call(update: Update, context: Any) -> None:
        await handler(current.get())

    return call
