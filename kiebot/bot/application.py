"""The bot: one update in, effects and messages out. python-telegram-bot's Application without its loops.

There is no Updater, no job queue, no persistence and no state in memory: what a user is choosing is a row, so any
replica can answer any button. The Application only decodes and routes. It swallows what handlers raise and hands it to
error handlers; ours puts it back, because the drain decides between retry and dead letter.
"""

from __future__ import annotations

from typing import Any

import msgspec
import structlog
from telegram import Bot, Message, MessageEntity, Update
from telegram.constants import ChatType
from telegram.ext import Application, ApplicationBuilder, ApplicationHandlerStop

from kiebot.bot.handlers import handlers
from kiebot.bot.offline import OfflineRequest
from kiebot.bot.press import Press, press_of
from kiebot.bot.receipts import Receipts
from kiebot.bot.rendering import BotRenderer
from kiebot.bot.settings import BotSettings
from kiebot.bot.unit import Unit, current
from kiebot.bot.words import ask_whom, credits
from kiebot.clock import Clock, SystemClock
from kiebot.delivery.outbox import Draft, say_payload
from kiebot.delivery.ports import Say
from kiebot.ids import welcome_key
from kiebot.intake.drain import Malformed
from kiebot.ledger.entries import Contra
from kiebot.payments.refunds import book_refund_made_elsewhere
from kiebot.people import User
from kiebot.store import Tx
from kiebot.texts import language_of

log = structlog.get_logger()

NOTICE_EVERY_S = 60.0


class BotHandler:
    """Implements kiebot.intake.drain.UpdateHandler. `bot_id` is the number before the colon of the bot's token."""

    def __init__(self, settings: BotSettings, bot_id: int, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._bot_id = bot_id
        self._renderer = BotRenderer(settings)
        self._application = _application(settings, bot_id)

    async def handle(self, tx: Tx, payload: bytes) -> list[Draft]:
        """The effects of one update, written into `tx`; the messages it decides.

        Raises: Malformed, for what is no update; whatever a handler raised.
        """
        await self._application.initialize()  # asks nobody, see offline.py; only the first call does anything
        update = self._decoded(payload)
        if update.message is not None and update.message.refunded_payment is not None:
            await book_refund_made_elsewhere(tx, update.message.refunded_payment.telegram_payment_charge_id, Receipts())
            return []  # its message is in the outbox already, in the payer's own chat
        unit = await self._unit(tx, update)
        if unit is None:
            return []
        if unit.user.is_banned and not _is_payment(update):
            _turn_away(unit)
            return unit.drafts
        await _welcome(unit)
        await self._process(unit)
        return unit.drafts

    def press_of(self, payload: bytes) -> str | None:
        """The callback query to answer before anything else, when the update is a press."""
        try:
            query = msgspec.json.decode(payload, type=_Peek).callback_query
        except msgspec.MsgspecError:
            return None
        return query.id if query else None

    async def apologise(self, tx: Tx, payload: bytes, error_id: str) -> list[Draft]:
        """What the user is told when the update was given up; nothing, when there is nobody to tell.

        The user's row is left alone: whoever is seen first by a successful update is the one to be welcomed.
        """
        try:
            update = self._decoded(payload)
        except Malformed:
            return []
        chat, sender = update.effective_chat, update.effective_user
        if chat is None or sender is None or update.my_chat_member is not None or not self._is_for_us(update):
            return []
        language = language_of(sender.language_code)
        if _is_payment(update):
            say = self._renderer.payment_apology(language, error_id)
        else:
            say = self._renderer.apology(language, error_id)
        return [Draft(chat.id, "say", say_payload(say))]

    async def too_fast(self, tx: Tx, payload: bytes) -> list[Draft]:
        """A word that the last messages were not read: one a minute, for one to each would be a flood too."""
        try:
            update = self._decoded(payload)
        except Malformed:
            return []
        chat, sender = update.effective_chat, update.effective_user
        if chat is None or sender is None or chat.type != ChatType.PRIVATE:
            return []
        say = self._renderer.too_fast(language_of(sender.language_code))
        minute = int(self._clock.now().timestamp() // NOTICE_EVERY_S)
        return [Draft(chat.id, "say", say_payload(say), key=f"too_fast:{chat.id}:{minute}")]

    def _decoded(self, payload: bytes) -> Update:
        try:
            raw = msgspec.json.decode(payload, type=dict[str, Any])
            update = Update.de_json(raw, self._application.bot)
        except Exception as error:  # whatever its shape makes the library stumble over: it is no update
            raise Malformed(f"{type(error).__name__}: {error}") from error
        if all(getattr(update, kind) is None for kind in Update.ALL_TYPES):
            raise Malformed(f"of an unknown kind: {', '.join(sorted(raw.keys() - {'update_id'})) or 'none'}")
        return update

    async def _unit(self, tx: Tx, update: Update) -> Unit | None:
        """The update in our hands; None when it is not for us: edits, channels, other bots, a group's own talk."""
        chat, sender = update.effective_chat, update.effective_user
        if chat is None or sender is None or sender.is_bot or not self._is_for_us(update):
            return None
        press = _own_press(update)
        if update.callback_query is not None and press is None:
            log.info("press.ignored", user_id=sender.id)
            return None
        user = await self._seen(tx, update)
        private = chat.type == ChatType.PRIVATE
        now_s = self._clock.now().timestamp()
        return Unit(tx, self._settings, user, chat.id, private, update, user.language, now_s, press)

    def _is_for_us(self, update: Update) -> bool:
        if update.callback_query is not None or update.my_chat_member is not None:
            return True
        message = update.message
        if message is None or message.chat.type == ChatType.CHANNEL:
            return False
        if _is_payment(update):
            return True
        return message.chat.type == ChatType.PRIVATE or self._is_addressed(message)

    def _is_addressed(self, message: Message) -> bool:
        """In a group: a command that names the bot, or an answer to one of its messages."""
        name = _command_name(message)
        if name is not None:
            addressee = name.partition("@")[2].casefold()
            return addressee != "" and addressee == self._settings.bot_username.casefold()
        answered = message.reply_to_message
        return answered is not None and answered.from_user is not None and answered.from_user.id == self._bot_id

    async def _seen(self, tx: Tx, update: Update) -> User:
        sender = update.effective_user
        if sender is None:
            raise LookupError("an update without a sender: the caller looks first")
        language = language_of(sender.language_code)
        if update.my_chat_member is not None:  # being seen would undo the block that this update may report
            return User(sender.id, sender.first_name, language)
        return await tx.users.seen(sender.id, sender.first_name, language)

    async def _process(self, unit: Unit) -> None:
        token = current.set(unit)
        try:
            await self._application.process_update(unit.update)
        finally:
            current.reset(token)
        if unit.error is not None:
            raise unit.error


class _PeekQuery(msgspec.Struct):
    id: str


class _Peek(msgspec.Struct):
    callback_query: _PeekQuery | None = None


def _application(settings: BotSettings, bot_id: int) -> Application[Any, Any, Any, Any, Any, Any]:
    bot = Bot(
        f"{bot_id}:offline",
        request=OfflineRequest(settings, bot_id),
        get_updates_request=OfflineRequest(settings, bot_id),
    )
    application = ApplicationBuilder().bot(bot).updater(None).job_queue(None).build()
    application.add_handlers(handlers())
    application.add_error_handler(_surface)
    return application


async def _surface(update: object, context: Any) -> None:
    current.get().error = context.error
    raise ApplicationHandlerStop


async def _welcome(unit: Unit) -> None:
    """A wallet and the welcome credits for somebody new, once in a life; the free credits of the day, once a day."""
    if unit.user.is_new:
        await _first_welcome(unit)
    daily = unit.settings.daily_credits_millicredits
    is_visit = unit.is_private and unit.update.my_chat_member is None
    if daily > 0 and is_visit and await unit.tx.ledger.give_daily(unit.user.id, daily):
        unit.say(unit.t("🎁 Today's free credits: {amount}.", amount=credits(unit.translator, daily)))


async def _first_welcome(unit: Unit) -> None:
    await unit.tx.ledger.open_wallet(unit.user.id)
    gift = unit.settings.welcome_credits_millicredits
    if gift > 0:
        await unit.tx.ledger.grant(
            welcome_key(unit.user.id), unit.user.id, gift, reason="welcome", actor="bot", source=Contra.PROMOTIONS
        )


def _is_payment(update: Update) -> bool:
    """Money has been taken: nothing about its sender or chat may keep it from being booked."""
    return update.message is not None and update.message.successful_payment is not None


def _turn_away(unit: Unit) -> None:
    """One answer for each block: the message's key makes the outbox take it once."""
    banned_at = unit.user.banned_at
    if not unit.is_private or banned_at is None:
        return
    text = "\n".join(
        [
            unit.t("You cannot use this bot. Your credits stay as they are."),
            ask_whom(unit.translator, unit.settings.support_contact),
        ]
    )
    key = f"banned:{unit.user.id}:{banned_at.timestamp()}"
    unit.drafts.append(Draft(unit.chat_id, "say", say_payload(Say(text)), key=key))


def _own_press(update: Update) -> Press | None:
    """The press, when the button is one of ours and belongs to who pressed it."""
    query = update.callback_query
    press = press_of(query.data) if query else None
    return press if query and press and press.owner == query.from_user.id else None


def _command_name(message: Message) -> str | None:
    first = message.entities[0] if message.entities else None
    if first is None or first.type != MessageEntity.BOT_COMMAND or first.offset != 0:
        return None
    return (message.text or "")[: first.length]
