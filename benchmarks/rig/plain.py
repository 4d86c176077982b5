"""The baseline: python-telegram-bot as its examples use it. One process, an Updater, dicts for state.

It does what kiebot does for an update: answer the press, run the same handler with the same texts and forms, send what
it decided. It keeps nothing: an update in its hands when it ends is lost. A second process with the same token starts
like the first, and from then on each ends the other's polls (409).

Updates are handled one after the other: the library's default, the only way that keeps a chat's order, and beside a
simulator that answers within a millisecond or two also the faster one (`concurrent_updates` costs more than it hides).
"""

from __future__ import annotations

import asyncio
import os
import time
from decimal import Decimal
from typing import Any, cast

from telegram import Update
from telegram.ext import Application, ApplicationBuilder, ContextTypes, TypeHandler
from telegram.request import HTTPXRequest

from benchmarks.rig.memory import Memory
from kiebot.bot.handlers import handlers
from kiebot.bot.press import press_of
from kiebot.bot.settings import BotSettings
from kiebot.bot.unit import Unit, current
from kiebot.botapi.connection import REPLICA_HEADER
from kiebot.botapi.messenger import TelegramMessenger
from kiebot.delivery.outbox import Draft, say_of
from kiebot.payments.credit import Terms
from kiebot.store import Tx
from kiebot.texts import language_of

Context = ContextTypes.DEFAULT_TYPE
ALLOWED_UPDATES = ("message", "callback_query")


class PlainBot:
    def __init__(self, memory: Memory, settings: BotSettings) -> None:
        self._memory = memory
        self._settings = settings

    async def opens(self, update: Update, context: Context) -> None:
        """Before the handlers: answer the press, know the user, put the update into their hands."""
        query, sender, chat = update.callback_query, update.effective_user, update.effective_chat
        if sender is None or chat is None:
            return
        if query is not None:
            await query.answer()
        user = await self._memory.seen(sender.id, sender.first_name, language_of(sender.language_code))
        if user.is_new:
            await self._memory.open_wallet(user.id)
        press = press_of(query.data) if query else None
        tx = cast(Tx, self._memory)
        current.set(Unit(tx, self._settings, user, chat.id, True, update, user.language, time.time(), press))

    async def tells(self, update: Update, context: Context) -> None:
        """After the handlers: send what they decided."""
        messenger = TelegramMessenger(context.bot)
        for draft in current.get().drafts:
            await self._send(messenger, draft)

    async def _send(self, messenger: TelegramMessenger, draft: Draft) -> None:
        say, screen = say_of(draft.payload), draft.payload.get("screen")
        if say.edit_message_id is None:
            message_id = (await messenger.send_text(draft.chat_id, say.text, say.keyboard)).message_id
        else:
            message_id = say.edit_message_id
            await messenger.edit_text(draft.chat_id, message_id, say.text, say.keyboard)
        if isinstance(screen, dict):
            await self._memory.screen_is(screen["user_id"], draft.chat_id, screen["version"], message_id)


def make_application() -> Application[Any, Any, Any, Any, Any, Any]:
    """The bot with all its handlers, by TELEGRAM_BOT_TOKEN, TELEGRAM_API_URL and REPLICA_ID."""
    bot = PlainBot(
        Memory(), BotSettings(Decimal(2), "kiebot_bot", Terms(Decimal(1), b"bench"), support_contact="@shop_help")
    )
    builder: Any = ApplicationBuilder().token(os.environ["TELEGRAM_BOT_TOKEN"])
    builder.base_url(f"{os.environ['TELEGRAM_API_URL']}/bot")
    builder.get_updates_request(HTTPXRequest(httpx_kwargs={"headers": {REPLICA_HEADER: os.environ["REPLICA_ID"]}}))
    application: Application[Any, Any, Any, Any, Any, Any] = builder.build()
    application.add_handler(TypeHandler(Update, bot.opens), group=-1)
    application.add_handlers(handlers(), group=0)
    application.add_handler(TypeHandler(Update, bot.tells), group=1)
    return application


def main() -> None:
    asyncio.set_event_loop(asyncio.new_event_loop())
    make_application().run_polling(allowed_updates=ALLOWED_UPDATES)


if __name__ == "__main__":
    main()
