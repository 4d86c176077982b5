"""Somebody blocks the bot, or lets it in again."""

from __future__ import annotations

from telegram import ChatMember

from kiebot.bot.routing import membership
from kiebot.bot.unit import Unit

_GONE = (ChatMember.BANNED, ChatMember.LEFT)


async def membership_changed(unit: Unit) -> None:
    """A block in a private chat is remembered; anything else needs no answer."""
    change = unit.update.my_chat_member
    if change is not None and unit.is_private and change.new_chat_member.status in _GONE:
        await unit.tx.users.blocked_bot(unit.user.id)


ROUTES = (membership(membership_changed),)
