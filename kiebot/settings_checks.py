"""What a single setting may be. Every check takes the text, gives it in its one spelling, and never repeats it.

Raises: ValueError, with a text that says what is expected; the value itself may be a secret.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

from kiebot.lease.file import path_of

_BOT_TOKEN = re.compile(r"[1-9][0-9]{0,19}:[A-Za-z0-9_-]{24,}")
_WEBHOOK_SECRET = re.compile(r"[A-Za-z0-9_-]{16,256}")
_USER_ID = re.compile(r"[1-9][0-9]{0,15}")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*)(:[1-9][0-9]{0,4})?")
_POSTGRES = re.compile(r"postgres(ql)?(\+asyncpg)?://")
_REDIS = re.compile(r"(rediss?|unix)://")
_NEAR = (".internal", ".local", ".localhost")


def secretly(check: Callable[[str], str]) -> Callable[[SecretStr], SecretStr]:
    """The check, for a value that stays masked."""
    return lambda secret: SecretStr(check(secret.get_secret_value().strip()))


def key(text: str) -> str:
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be one word of plain ASCII characters")
    return text


def bot_token(text: str) -> str:
    if not _BOT_TOKEN.fullmatch(text):
        raise ValueError("does not look like a bot token (123456789:letters)")
    return text


def webhook_secret(text: str) -> str:
    if not _WEBHOOK_SECRET.fullmatch(text):
        raise ValueError("must be 16 to 256 of the characters A-Z a-z 0-9 _ -")
    return text


def postgres_url(text: str) -> str:
    if not _POSTGRES.match(text):
        raise ValueError("must begin with postgresql://")
    _split(text)
    return _POSTGRES.sub("postgresql://", text, count=1)


def redis_url(text: str) -> str:
    if not _REDIS.match(text):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    _split(text)
    return text


def lease_url(text: str) -> str:
    if _POSTGRES.match(text):
        return postgres_url(text)
    if text.startswith("file:"):
        path_of(text)
        return text
    if not _REDIS.match(text):
        raise ValueError("must begin with redis://, rediss://, unix://, postgresql:// or file:///")
    return redis_url(text)


def http_address(text: str) -> str:
    """An address of the web, without a slash at its end; over plain http only where the network is our own."""
    parts = _split(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http(s) address")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("must hold neither a user, a query nor a fragment")
    if parts.scheme == "http" and not _is_near(parts.hostname):
        raise ValueError("must be https: over plain http others could read what is secret")
    return text.rstrip("/")


def user_ids(value: object) -> object:
    """Telegram ids separated by commas."""
    if not isinstance(value, str):
        return value
    parts = _listed(value)
    if not all(_USER_ID.fullmatch(part) for part in parts):
        raise ValueError("must be whole numbers separated by commas")
    return frozenset(map(int, parts))


def hosts(value: object) -> object:
    """Names, or name:port, separated by commas; a scheme before a name means nothing."""
    if not isinstance(value, str):
        return value
    parts = [re.sub(r"^https?://|/$", "", part) for part in _listed(value)]
    for part in parts:
        found = _HOST.fullmatch(part)
        if found is None or int((found[2] or ":1")[1:]) > 65535:
            raise ValueError("must be host names, or host:port, separated by commas")
    return tuple(parts)


def upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port  # read only now: a "/" or "#" in a password ends up here
    except ValueError:
        raise ValueError("is not a URL; special characters of a password must be percent-encoded") from None
    return parts


def _is_near(host: str) -> bool:
    """This machine, a private address, or a name that only a network of one's own knows."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(_NEAR)
    return address.is_private  # loopback is, too
