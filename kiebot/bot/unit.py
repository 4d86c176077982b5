"""One update in the hands of the bot: who, where, the open transaction, and the messages decided so far.

Handlers get it and nothing else. They read and write `tx` and `say`; nothing in them waits for the network.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from telegram import Message, Update

from kiebot.bot.press import Press, button
from kiebot.bot.session import Kept, Session, load, save
from kiebot.bot.settings import BotSettings
from kiebot.delivery.outbox import Draft, say_payload
from kiebot.delivery.ports import Button, Keyboard, Say
from kiebot.people import User
from kiebot.store import Tx
from kiebot.texts import Translator, translator

MAX_TEXT = 4096
_MAX_DIGITS = 12
Handler = Callable[["Unit"], Awaitable[None]]


@dataclass(slots=True)
class Unit:
    """`press` is set for a button of ours that its owner pressed. `error` is what a handler raised."""

    tx: Tx
    settings: BotSettings
    user: User
    chat_id: int
    is_private: bool
    update: Update
    language: str
    now_s: float  # Unix time
    press: Press | None = None
    drafts: list[Draft] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def translator(self) -> Translator:
        return translator(self.language)

    def t(self, msgid: str, /, **facts: object) -> str:
        return self.translator.t(msgid, **facts)

    @property
    def message(self) -> Message:
        """The message sent. Raises: LookupError, for a press."""
        if self.update.message is None:
            raise LookupError("this update is no message")
        return self.update.message

    @property
    def screen_id(self) -> int | None:
        """The message to turn into the next screen: the pressed one, unless it is to stay as it is."""
        query = self.update.callback_query
        if query is None or query.message is None or self.press is None or not self.press.stamp:
            return None
        return query.message.message_id

    def argument(self, position: int) -> str:
        """What the pressed button says behind its prefix; empty when it says less."""
        arguments = self.press.arguments if self.press else []
        return arguments[position] if position < len(arguments) else ""

    def number(self, position: int) -> int:
        """The same as a number; 0 for anything that is none of ours."""
        value = self.argument(position)
        return int(value) if value.isdigit() and len(value) <= _MAX_DIGITS else 0

    def button(self, label: str, body: str, stamp: str = "") -> Button:
        return button(label, body, self.user.id, stamp)

    def say(self, text: str, keyboard: Keyboard = (), *, edit: int | None = None, screen: int | None = None) -> None:
        """Decide a message. `screen`: it shows this version of the draft, which will learn its message id."""
        payload: dict[str, Any] = say_payload(Say(_fitting(text), keyboard, edit))
        if screen is not None:
            payload["screen"] = {"user_id": self.user.id, "version": screen}
        self.drafts.append(Draft(self.chat_id, "say" if screen is None else "draft_screen", payload))

    async def load(self) -> Kept:
        return await load(self.tx, self.user.id, self.chat_id)

    async def save(self, session: Session, message_id: int | None = None) -> Kept:
        return await save(self.tx, self.user.id, self.chat_id, session, message_id)


current: ContextVar[Unit] = ContextVar("kiebot_unit")


def _fitting(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
