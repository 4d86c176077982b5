"""Who is an admin, and routes that only match for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from telegram import Update
from telegram.constants import ChatType
from telegram.ext import CallbackQueryHandler, CommandHandler, filters

from kiebot.bot.routing import Route, bound
from kiebot.bot.unit import Handler, Unit, current


def is_admin(unit: Unit) -> bool:
    """By Telegram's id of who sent this very update, in their private chat, in their own words: nothing forwarded,
    nothing sent through another bot or in the name of a chat."""
    sender, chat = unit.update.effective_user, unit.update.effective_chat
    if sender is None or chat is None or sender.id not in unit.settings.admins.admin_ids:
        return False
    if chat.type != ChatType.PRIVATE or chat.id != sender.id:
        return False
    message = unit.update.message
    return message is None or not (message.forward_origin or message.sender_chat or message.via_bot)


def admin_commands(table: Mapping[str, Handler]) -> list[Route]:
    kinds = filters.UpdateType.MESSAGE & _FromAdmin()
    return [CommandHandler(name, bound(handler), filters=kinds) for name, handler in table.items()]


def admin_presses(table: Mapping[str, Handler]) -> list[Route]:
    return [_AdminPress(bound(handler), pattern=rf"^{prefix}[:~]") for prefix, handler in table.items()]


class _FromAdmin(filters.UpdateFilter):
    def filter(self, update: Update) -> bool:
        return is_admin(current.get())


class _AdminPress(CallbackQueryHandler[Any, None]):
    def check_update(self, update: object) -> bool | object | None:
        return super().check_update(update) if is_admin(current.get()) else None
