"""One send budget for all replicas, as python-telegram-bot's rate limiter.

Two buckets in Redis, the bot's and the chat's, are booked in one step which answers how long this call has to wait: the
caller sleeps that long and sends, so order is by arrival. A chat that is full makes its own calls wait first, and only
then do they book the bot's rate: nobody else waits for that chat. Who slept looks once more before it sends: a pause
that Telegram asked for meanwhile holds for calls that were already waiting, too. Who would wait longer than
`max_wait_s` is refused with FloodWait instead, and the outbox queues the message again: a job that sleeps is a job that
nobody else can do.

An album takes as many messages of the bot's rate as it has files, but one of its chat's, so that the text which follows
an album is not refused because of it.

With Redis out of reach every replica keeps to a fixed share; what it sent just before counts against that share too.

Where this differs from the library's own AIORateLimiter, on purpose:

- The budget is the cluster's, a private chat has a limit of its own, and a wait has an end (`max_wait_s`).
- A 429 names no scope. Its chat pauses for as long as Telegram asks; everybody else for three seconds at most, and as
  long as the chat once a second chat is refused too. One busy group then does not silence all users.
- Calls with a deadline of seconds (`EXEMPT`: answers to presses, polls) wait for nothing, not even for a pause.
- Only calls that put something into a chat are limited, whichever chat id they carry otherwise.
- A paid broadcast is limited like any other message: this bot sends none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from telegram.error import RetryAfter
from telegram.ext import BaseRateLimiter

from kiebot.botapi.buckets import Limits, LocalShare, Send, Turn
from kiebot.botapi.errors import wait_s
from kiebot.botapi.request import FloodWait
from kiebot.clock import Clock, SystemClock

log = structlog.get_logger(__name__)

COSTLY = frozenset(
    {
        "sendMessage",
        "sendPhoto",
        "sendVideo",
        "sendAudio",
        "sendDocument",
        "sendAnimation",
        "sendVoice",
        "sendVideoNote",
        "sendPaidMedia",
        "sendMediaGroup",
        "sendLocation",
        "sendVenue",
        "sendContact",
        "sendPoll",
        "sendDice",
        "sendSticker",
        "sendGame",
        "sendInvoice",
        "sendChecklist",
        "copyMessage",
        "copyMessages",
        "forwardMessage",
        "forwardMessages",
        "editMessageText",
        "editMessageCaption",
        "editMessageMedia",
        "editMessageLiveLocation",
        "editMessageChecklist",
        "editMessageReplyMarkup",
    }
)
"""Calls that use up the limits. The hosted service is known to count edits, too."""

EXEMPT = frozenset(
    {
        "getUpdates",
        "getMe",
        "getFile",
        "answerCallbackQuery",
        "answerInlineQuery",
        "answerPreCheckoutQuery",
        "answerShippingQuery",
        "answerWebAppQuery",
        "setWebhook",
        "deleteWebhook",
        "getWebhookInfo",
    }
)
"""Calls that never wait: they have deadlines, or the limits do not apply to them. All others wait out pauses only."""

_TAKE = files(__package__).joinpath("ratelimit_take.lua").read_text()
_PAUSE = files(__package__).joinpath("ratelimit_pause.lua").read_text()
_REDIS_RETRY_S = 1.0  # after a failure, so that not every send waits for a time-out of its own
_FIRST_PAUSE_S = 3.0
_PAUSE_MARGIN_S = 0.1  # Telegram names whole seconds, and two clocks measure them
_LONGEST_PAUSE_S = 3600.0
_ALMOST_OVER_S = 0.01  # who slept until the end of a pause may wake a little before it, by Redis' clock

Result = bool | dict[str, Any] | list[dict[str, Any]]


@dataclass(slots=True)
class LimiterStats:
    """Since the process started. `waited_s`: time that calls were told to wait here."""

    sent: int = 0
    refused: int = 0  # would have waited too long here
    flood_waits: int = 0  # 429 from Telegram
    without_redis: int = 0
    waited_s: float = 0.0


class SharedRateLimiter(BaseRateLimiter[int]):
    """Give the same `redis` database and `prefix` to every replica of a bot.

    Args: redis, with short time-outs of its own; it is not closed here. max_wait_s, the longest sleep before a send.
        expected_replicas, how many share the limits while Redis cannot say. max_retries, how often a call that Telegram
        answered with 429 is made again after the wait it asked for; `rate_limit_args` says it for a single call.
    """

    def __init__(
        self,
        redis: Redis,
        prefix: str,
        *,
        limits: Limits | None = None,
        costly: frozenset[str] = COSTLY,
        exempt: frozenset[str] = EXEMPT,
        max_wait_s: float = 5.0,
        expected_replicas: int = 4,
        max_retries: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._key = f"{prefix}:send"
        self._costly = costly
        self._exempt = exempt
        self._max_wait_s = max_wait_s
        self._max_retries = max_retries
        self._take = redis.register_script(_TAKE)
        self._pause = redis.register_script(_PAUSE)
        self._clock: Clock = clock or SystemClock()
        self._local = LocalShare(self._limits, max(1, expected_replicas))
        self._redis_again_at = 0.0
        self.stats = LimiterStats()

    async def initialize(self) -> None:
        """Nothing to do: the connections are somebody else's."""

    async def shutdown(self) -> None:
        """Nothing to do: the connections are somebody else's."""

    async def process_request(
        self,
        callback: Callable[..., Coroutine[Any, Any, Result]],
        args: Any,
        kwargs: dict[str, Any],
        endpoint: str,
        data: dict[str, Any],
        rate_limit_args: int | None,
    ) -> Result:
        """The call's result, after the wait it needs. Raises: FloodWait, when that is too long; what the call does."""
        if endpoint in self._exempt:
            return await callback(*args, **kwargs)
        send = self._send(endpoint, data)
        retries = rate_limit_args or self._max_retries  # the library does not hand on a 0
        while True:
            await self._wait(send, endpoint)
            try:
                return await callback(*args, **kwargs)
            except RetryAfter as error:
                self.stats.flood_waits += 1
                await self._refused(send, wait_s(error), endpoint)
                if retries <= 0:
                    raise
            retries -= 1

    def _send(self, endpoint: str, data: dict[str, Any]) -> Send:
        chat = str(data.get("chat_id", "")).lower()  # @Name and @name are one channel
        is_costly = endpoint in self._costly and chat != ""  # without a chat: edits of inline messages
        is_group = not chat.isdigit()  # groups and channels have negative ids or names
        return Send(chat or "-", is_group, _messages(endpoint, data) if is_costly else 0)

    async def _wait(self, send: Send, endpoint: str) -> None:
        patience_s = self._max_wait_s
        while True:
            turn = await self._ask(send, patience_s)
            if turn.wait_s > patience_s:
                self.stats.refused += 1
                log.info("send.too_many", method=endpoint, wait_s=round(turn.wait_s, 1))
                raise FloodWait(math.ceil(turn.wait_s))
            if turn.wait_s > 0:
                self.stats.waited_s += turn.wait_s
                await self._clock.sleep(turn.wait_s)
                patience_s -= turn.wait_s
            if turn.is_whole and (turn.wait_s <= 0 or await self._paused_s(send) <= _ALMOST_OVER_S):
                break
            send = replace(send, has_turn=True)
        self.stats.sent += 1

    async def _ask(self, send: Send, patience_s: float) -> Turn:
        turn = await self._ask_redis(send, patience_s)
        if turn is None:
            self.stats.without_redis += 1
            return self._local.take(send, self._clock.monotonic(), patience_s)
        return turn

    async def _paused_s(self, send: Send) -> float:
        """How long a pause that began during the wait still lasts."""
        free = replace(send, count=0)
        turn = await self._ask_redis(free, 0.0)
        return (turn or self._local.take(free, self._clock.monotonic(), 0.0)).wait_s

    async def _ask_redis(self, send: Send, patience_s: float) -> Turn | None:
        now = self._clock.monotonic()
        if now < self._redis_again_at:
            return None
        overall, chat = self._limits.overall, self._limits.group if send.is_group else self._limits.chat
        keys = [f"{self._key}:all", f"{self._key}:chat:{send.chat}", *self._pause_keys(send.chat)]
        spans = [(overall.interval_s, overall.burst), (chat.interval_s, chat.burst)]
        buckets = [part for interval_s, burst in spans for part in (_us(interval_s), burst)]
        args = [_us(patience_s), send.count, *buckets, _us(self._max_wait_s), int(send.has_turn)]
        try:
            waiting_us, is_whole = await self._take(keys=keys, args=args)
        except (RedisError, OSError) as error:
            self._redis_lost(error)
            return None
        turn = Turn(int(waiting_us) / 1_000_000, bool(is_whole))
        if turn.wait_s <= patience_s:
            self._local.saw(send, turn, now)
        return turn

    async def _refused(self, send: Send, asked_s: float, endpoint: str) -> None:
        """Telegram asked to wait: all replicas do, the whole bot at least briefly."""
        log.warning("send.flood_wait", method=endpoint, chat_id=send.chat, retry_after_s=asked_s)
        asked_s = min(max(asked_s, 1.0) + _PAUSE_MARGIN_S, _LONGEST_PAUSE_S)
        now = self._clock.monotonic()
        self._local.pause(send.chat, now + asked_s, now)
        self._local.pause("", now + min(asked_s, _FIRST_PAUSE_S), now)
        keys = [*self._pause_keys(send.chat), f"{self._key}:news"]
        try:
            await self._pause(keys=keys, args=[send.chat, int(asked_s * 1000), int(_FIRST_PAUSE_S * 1000)])
        except (RedisError, OSError) as error:
            self._redis_lost(error)

    def _pause_keys(self, chat: str) -> list[str]:
        return [f"{self._key}:pause", f"{self._key}:pause:{chat}"]

    def _redis_lost(self, error: Exception) -> None:
        now = self._clock.monotonic()
        if now >= self._redis_again_at:  # once for all calls that met the same outage
            log.warning("send.without_redis", error=type(error).__name__)
        self._redis_again_at = now + _REDIS_RETRY_S


def _messages(endpoint: str, data: dict[str, Any]) -> int:
    """How many messages the call puts into its chat."""
    several = data.get("media") if endpoint == "sendMediaGroup" else data.get("message_ids")
    return max(1, len(several)) if isinstance(several, (list, tuple)) else 1


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)
