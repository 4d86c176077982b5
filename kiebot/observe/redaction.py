"""Takes secrets out of text: by what they look like, and by exact value when it is known. Pure, but for the list."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from urllib.parse import quote, unquote, urlsplit

HIDDEN = "[redacted]"
MIN_EXACT_CHARS = 8
"""Shorter values are not replaced wherever they stand: a password "kiebot" would blot out half of every line."""

# Each pattern begins with something literal or rare and never nests repeats, so that a long line costs linear time.
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # a bot token, alone or in a URL (.../bot123456:AA.../getMe); the number is the bot's public id
    (re.compile(r"(?<!\d)(\d{5,20})(:|%3[Aa])[A-Za-z0-9_-]{24,}"), rf"\1\2{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer)(\s+|%20|\+)(?!\[)[^\s\"'\\,;)\]}]{6,}"), rf"\1\2{HIDDEN}"),
    # Authorization: Basic dXNlcjpwYXNz · "authorization": "key" · (b'authorization', b'Basic ...')
    (
        re.compile(
            r"(?i)(authorization\\*[\"']?\s*[:=,]\s*(?:b?\\*[\"'])?(?:(?:basic|digest|token|key)\s+)?)"
            r"(?!(?:bearer|basic|digest|token|key)\s|\[)[^\s\"'\\,;)\]}]+"
        ),
        rf"\1{HIDDEN}",
    ),
    (
        re.compile(r"(?i)(x-telegram-bot-api-secret-token\\*[\"']?\s*[:=,]\s*(?:b?\\*[\"'])?)[A-Za-z0-9_-]+"),
        rf"\1{HIDDEN}",
    ),
    # postgresql://user:password@host
    (re.compile(r"(://[^\s/:@\"']{0,256}:)[^\s/\"']{1,1024}@"), rf"\1{HIDDEN}@"),
    # ?password=... &X-Amz-Signature=...
    (
        re.compile(
            r"(?i)([?&](?:[a-z0-9_-]{0,40}[_-])?(?:password|secret|token|signature|sig|api_?key)=)[^&\s\"'\\<>]+"
        ),
        rf"\1{HIDDEN}",
    ),
)


class Redactor:
    """Knows exact values beside the patterns. Values are only ever added: an old secret stays secret."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._exact: re.Pattern[str] | None = None

    def add(self, values: Iterable[str]) -> None:
        """Hide these values from now on. Of a URL its password is hidden, so that the host stays readable."""
        for value in values:
            for part in _secret_parts(value.strip()):
                if len(part) >= MIN_EXACT_CHARS:
                    self._values.update(_spellings(part))
        if self._values:
            longest_first = sorted(self._values, key=len, reverse=True)  # else a part would leave the rest readable
            self._exact = re.compile("|".join(map(re.escape, longest_first)))

    def __call__(self, text: str) -> str:
        """The text without secrets. Hiding twice changes nothing more."""
        if self._exact is not None:
            text = self._exact.sub(HIDDEN, text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text


def _secret_parts(value: str) -> Iterable[str]:
    if "://" not in value:
        return (value,)
    try:
        password = urlsplit(value).password
    except ValueError:  # not a URL after all
        return (value,)
    return (password, unquote(password)) if password else ()


_SPELLINGS: tuple[Callable[[str], str], ...] = (
    str,
    lambda value: json.dumps(value)[1:-1],
    lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
    lambda value: repr(value)[1:-1],
    lambda value: quote(value, safe=""),
    lambda value: quote(value),
)


def _spellings(value: str) -> set[str]:
    """The value as JSON, repr() and URLs would show it."""
    return {spell(value) for spell in _SPELLINGS}
