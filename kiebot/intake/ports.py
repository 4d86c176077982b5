"""What intake needs: a source of updates, an inbox behind a fence, and a way to queue drains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kiebot.wakeups import Drain


@dataclass(frozen=True, slots=True)
class RawUpdate:
    """One update as Telegram sent it. `payload` is its JSON, kept byte for byte."""

    update_id: int
    lane: str  # what must stay in order: "c<chat id>", else "u<user id>", else "b" for the bot itself
    payload: bytes
    urgent: bool = False  # a stop or cancel press: may overtake within its lane


@dataclass(frozen=True, slots=True)
class FenceRow:
    """The present term as Postgres knows it."""

    epoch: int
    token: str
    replica: str


class Conflict(Exception):
    """Telegram ended this poll because of another one (HTTP 409)."""


class UpdateSource(Protocol):
    """Telegram's getUpdates. Raises kiebot.errors: Transient (network, 5xx, garbage), RateLimited (429),
    Permanent (the token is refused); and Conflict (409)."""

    async def fetch(self, offset: int, *, timeout_s: int, limit: int = 100) -> list[RawUpdate]: ...


class Inbox(Protocol):
    """Updates recorded once per (bot, update_id). Raises Transient while Postgres is out of reach."""

    async def take_fence(self, token: str, replica: str) -> FenceRow:
        """Raise the epoch by one and name this term, in one statement."""
        ...

    async def record(self, updates: Sequence[RawUpdate], *, token: str | None) -> list[Drain]:
        """T1: insert what is new, mark its lanes; returns the lanes to drain (marked by new rows only).

        token: the poller's term, checked against the fence in the same transaction; None for webhook mode.
        Raises: Fenced, when another term has taken over: nothing was written.
        """
        ...


class Wakeups(Protocol):
    """Queues drains after T1. A failure is not an error: the sweeper finds what was not queued."""

    async def drains(self, drains: Sequence[Drain]) -> None: ...


class PreCheckout(Protocol):
    """Answers a pre-checkout query beside the poll loop, without Postgres, within Telegram's ten seconds."""

    async def answer(self, update: RawUpdate) -> None: ...
