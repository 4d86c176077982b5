"""Which addresses a result may have. Pure: nothing is resolved or connected here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import httpx

from kiebot.errors import Permanent
from kiebot.kie.outputs import MAX_URL_CHARS

DEFAULT_RESULT_HOSTS = (
    "tempfile.aiquickdraw.com",
    "file.aiquickdraw.com",
    "musicfile.kie.ai",
    "tempfile.redpandaai.co",
)
_ENTRY = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9][a-z0-9._-]*)(:(?P<port>[0-9]{1,5}))?")
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Target:
    """A result's address after the check, in the parts a connection is made of; no other reading of it is used."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def endpoint(self) -> tuple[str, int]:
        return self.host, self.port


class ResultHosts:
    """The allow-list. `name` means https on its usual port and a public address; `name:port` is an operator's word:
    that very endpoint, over http too, wherever it is (simulators, a proxy of one's own).

    Raises: ValueError, for an entry that is neither.
    """

    def __init__(self, extra: Iterable[str] = ()) -> None:
        entries = [_entry(text) for text in (*DEFAULT_RESULT_HOSTS, *extra) if text.strip()]
        self._names = frozenset(name for name, port in entries if port is None)
        self.endpoints = frozenset((name, port) for name, port in entries if port is not None)

    def check(self, url: str) -> Target:
        """The target of an address that may be fetched. Raises: Permanent, code foreign_host, for any other."""
        target = _parsed(url)
        if target.endpoint in self.endpoints:
            return target
        if target.scheme == "https" and target.port == _PORTS["https"] and target.host in self._names:
            return target
        raise _foreign()


def _entry(text: str) -> tuple[str, int | None]:
    plain = text.strip().lower().removeprefix("https://").removeprefix("http://").removesuffix("/")
    found = _ENTRY.fullmatch(plain)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or port == 0 or (port or 0) > 65_535:
        raise ValueError(f"not a result host: {text!r}")
    return found["name"].strip("[]"), port


def _parsed(url: str) -> Target:
    if len(url) > MAX_URL_CHARS or not url.isprintable() or not url.isascii() or " " in url or "\\" in url:
        raise _foreign()
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise _foreign() from None
    host = parsed.raw_host.decode("ascii").lower()
    if parsed.scheme not in _PORTS or not host or parsed.userinfo:
        raise _foreign()
    return Target(parsed.scheme, host, parsed.port or _PORTS[parsed.scheme], parsed.raw_path.decode("ascii"))


def _foreign() -> Permanent:
    return Permanent("the result's address is not on a known host", code="foreign_host")
