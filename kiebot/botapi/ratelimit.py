"""One send budget for all replicas, as python-telegram-bot's rate limiter.

Two buckets in Redis, the bot's and the chat's, are booked in one step which answers how long this call has to wait: the
caller sleeps that long and sends, so order is by arrival and nobody asks twice. Who would wait longer than
`max_wait_s` is refused with FloodWait instead, and the outbox queues the message again: a job that sleeps is a job that
nobody else can do.

An album takes as many messages of the bot's rate as it has files, but one of its chat's, so that the text which follows
an album is not refused because of it.

With Redis out of reach every replica keeps to a fixed share; what it sent just before counts against that share too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from telegram.error import RetryAfter
from telegram.ext import BaseRateLimiter

from kiebot.botapi.buckets import Limits, LocalShare, Send
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
        "sendMediaGroup",
        "sendInvoice",
        "copyMessage",
        "forwardMessage",
        "editMessageText",
        "editMessageCaption",
        "editMessageMedia",
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
        "answerPreCheckoutQuery",
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
_LONGEST_PAUSE_S = 3600.0

Result = bool | dict[str, Any] | list[dict[str, Any]]


@dataclass(slots=True)
class LimiterStats:
    """Since the process started. `waited_s`: time that calls were told to wait here."""

    sent: int = 0
    refused: int = 0  # would have waited too long here
    flood_waits: int = 0  # 429 from Telegram
    without_redis: int = 0
    waited_s: float = 0.0


class SharedRateLimiter(BaseRateLimiter[None]):
    """Give the same `redis` database and `prefix` to every replica of a bot.

    Args: redis, with short time-outs of its own; it is not closed here. max_wait_s, the longest sleep before a send.
        expected_replicas, how many share the limits while Redis cannot say.
    """

    def __init__(
        self,
        redis: Redis,
        prefix: str,
        *,
        limits: Limits | None = None,
        costly: frozenset[str] = COSTLY,
        max_wait_s: float = 5.0,
        expected_replicas: int = 4,
        clock: Clock | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._key = f"{prefix}:send"
        self._costly = costly
        self._max_wait_s = max_wait_s
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
        rate_limit_args: None,
    ) -> Result:
        """The call's result, after the wait it needs. Raises: FloodWait, when that is too long; what the call does."""
        if endpoint in EXEMPT:
            return await callback(*args, **kwargs)
        send = self._send(endpoint, data)
        await self._wait(send, endpoint)
        try:
            return await callback(*args, **kwargs)
        except RetryAfter as error:
            self.stats.flood_waits += 1
            await self._refused(send, wait_s(error), endpoint)
            raise

    def _send(self, endpoint: str, data: dict[str, Any]) -> Send:
        chat = str(data.get("chat_id", ""))
        media = data.get("media")
        messages = len(media) if endpoint == "sendMediaGroup" and isinstance(media, (list, tuple)) else 1
        is_group = not chat.isdigit()  # groups and channels have negative ids or names
        return Send(chat or "-", is_group, messages if endpoint in self._costly else 0)

    async def _wait(self, send: Send, endpoint: str) -> None:
        waiting_s = await self._ask_redis(send)
        if waiting_s is None:
            self.stats.without_redis += 1
            waiting_s = self._local.take(send, self._clock.monotonic(), self._max_wait_s)
        if waiting_s > self._max_wait_s:
            self.stats.refused += 1
            log.info("send.too_many", method=endpoint, wait_s=round(waiting_s, 1))
            raise FloodWait(math.ceil(waiting_s))
        self.stats.sent += 1
        self.stats.waited_s += waiting_s
        if waiting_s > 0:
            await self._clock.sleep(waiting_s)

    async def _ask_redis(self, send: Send) -> float | None:
        now = self._clock.monotonic()
        if now < self._redis_again_at:
            return None
        overall, chat = self._limits.overall, self._limits.group if send.is_group else self._limits.chat
        keys = [f"{self._key}:all", f"{self._key}:chat:{send.chat}", *self._pause_keys(send.chat)]
        spans = [(overall.interval_s, overall.burst), (chat.interval_s, chat.burst)]
        args = [_us(self._max_wait_s), send.count, *(part for s, burst in spans for part in (_us(s), burst))]
        try:
            waiting_s = int(await self._take(keys=keys, args=args)) / 1_000_000
        except (RedisError, OSError) as error:
            self._redis_lost(error)
            return None
        if waiting_s <= self._max_wait_s:
            self._local.saw(send, now + waiting_s, now)
        return waiting_s

    async def _refused(self, send: Send, asked_s: float, endpoint: str) -> None:
        """Telegram asked to wait: all replicas do, the whole bot at least briefly."""
        log.warning("send.flood_wait", method=endpoint, chat_id=send.chat, retry_after_s=asked_s)
        asked_s = min(max(asked_s, 1.0), _LONGEST_PAUSE_S)
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


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)
