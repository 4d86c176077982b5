"""The one way to a bot: time-outs that fit Telegram's habits, the replica's name, a token that stays out of logs."""

from __future__ import annotations

import functools
import logging
import re
import socket
import ssl
from collections.abc import Callable
from typing import Any
from urllib.request import getproxies

import httpx
from telegram.ext import BaseRateLimiter, ExtBot

from kiebot.botapi.request import ApiRequest
from kiebot.keepalive import noticed_soon

TELEGRAM_API_URL = "https://api.telegram.org"
REPLICA_HEADER = "X-Replica-Id"

_CONNECT_S = 5.0
_READ_S = 25.0  # flood limits first show as answers that come eight seconds late, and more
_WRITE_S = 20.0
_MEDIA_WRITE_S = 60.0  # per chunk of an upload, not for all of it
_POOL_S = 10.0
_POOL_SIZE = 64

_TOKEN = re.compile(r"\d{3,}(?::|%3A)[A-Za-z0-9_-]{10,}", re.IGNORECASE)
_LOGGERS_THAT_NAME_URLS = ("httpx", "telegram.Bot", "telegram.ext.ExtBot")


def make_bot(
    token: str,
    *,
    api_url: str = TELEGRAM_API_URL,
    replica: str = "",
    limiter: BaseRateLimiter[Any] | None = None,
    pool_size: int = _POOL_SIZE,
) -> ExtBot[Any]:
    """A bot ready to call, without a request of its own. Close it with `close_bot`.

    Args: api_url, without a slash at the end; replica, sent along so that a simulator can tell replicas apart;
        limiter, through which every call but getUpdates goes.
    """
    request = make_request(replica=replica, pool_size=pool_size)
    return ExtBot(
        token,
        base_url=f"{api_url}/bot",
        base_file_url=f"{api_url}/file/bot",
        request=request,
        get_updates_request=request,
        rate_limiter=limiter,
    )


async def close_bot(bot: ExtBot[Any]) -> None:
    """Close the connections. Safe to call twice."""
    if bot.rate_limiter is not None:
        await bot.rate_limiter.shutdown()
    await bot.request.shutdown()


def make_request(*, replica: str = "", pool_size: int = _POOL_SIZE, is_waiting: bool = False) -> ApiRequest:
    """Connections of their own, `pool_size` at most. is_waiting: they wait for answers of half a minute and more, and a
    Telegram that has gone without a word is to be noticed sooner."""
    hide_tokens()
    name = replica.encode("ascii", "replace").decode()
    return ApiRequest(
        connection_pool_size=pool_size,
        connect_timeout=_CONNECT_S,
        read_timeout=_READ_S,
        write_timeout=_WRITE_S,
        media_write_timeout=_MEDIA_WRITE_S,
        pool_timeout=_POOL_S,
        httpx_kwargs={
            "verify": trusted_roots(),
            "headers": {REPLICA_HEADER: name} if name else None,
            "transport": _probing(pool_size) if is_waiting else None,
        },
    )


def _probing(pool_size: int) -> httpx.AsyncHTTPTransport | None:
    """None where there is a proxy: httpx uses none with a transport of ours.

    The library would make one from socket options alone, but with certificates and limits of its own: reading the
    former takes longer than all else between two holders.
    """
    if getproxies():
        return None
    options = [(socket.IPPROTO_TCP, option, value) for option, value in noticed_soon().items()]
    return httpx.AsyncHTTPTransport(
        verify=trusted_roots(),
        limits=httpx.Limits(max_connections=pool_size, max_keepalive_connections=pool_size),
        socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *options],
    )


@functools.cache
def trusted_roots() -> ssl.SSLContext:
    """Reading the certificates takes longer than all else about a client, so all clients share them."""
    return httpx.create_ssl_context()


def hide_tokens() -> None:
    """Mask bot tokens in what the HTTP libraries log: httpx names every URL at INFO, and ours hold the token."""
    for name in _LOGGERS_THAT_NAME_URLS:
        logging.getLogger(name).addFilter(_mask_record)


def without_token(text: str) -> str:
    return _TOKEN.sub("<token>", text)


def _mask(record: logging.LogRecord) -> bool:
    record.msg, record.args = without_token(record.getMessage()), None
    return True


_mask_record: Callable[[logging.LogRecord], bool] = _mask  # one object: a logger takes the same filter only once
