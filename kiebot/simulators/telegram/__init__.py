"""Telegram's Bot API as its clients see it, strict in what matters to several replicas of one bot.

A request passes through `surface` (HTTP in, HTTP out, clients that leave), `bot` (session, faults, flood limits) and
one method. Every method raises `ApiError` for a refusal, so status, code and text come from one place.

    queue, polling, webhook       updates: ids, expiry, offsets; who gets the 409 and when; push instead of poll
    messages, files, keyboards    chats and what is in them, as the bot and its people see it
    flood, faults                 slow answers and 429; scripted misfortune
    callbacks, payments, paying   things with a deadline, from the bot's side and from the payer's
    views                         what somebody in a chat sees, and waiting for it
    journal, control              what the clients did; the same over HTTP for other processes

Time comes from one clock, chance from one seed. People are in `kiebot.simulators.users`.
"""

from kiebot.simulators.telegram.answers import ApiError
from kiebot.simulators.telegram.bot import Bot
from kiebot.simulators.telegram.callbacks import CallbackAnswer, Press
from kiebot.simulators.telegram.faults import Fault, Faults, Hold
from kiebot.simulators.telegram.files import UrlContent
from kiebot.simulators.telegram.journal import Call, Journal, PollOverlap
from kiebot.simulators.telegram.messages import Chat, ChatMessage
from kiebot.simulators.telegram.rules import FloodRules, Rules
from kiebot.simulators.telegram.simulator import TelegramSimulator, make_token

__all__ = [
    "ApiError",
    "Bot",
    "Call",
    "CallbackAnswer",
    "Chat",
    "ChatMessage",
    "Fault",
    "Faults",
    "FloodRules",
    "Hold",
    "Journal",
    "PollOverlap",
    "Press",
    "Rules",
    "TelegramSimulator",
    "UrlContent",
    "make_token",
]
