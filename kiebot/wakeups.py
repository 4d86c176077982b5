"""What a committed transaction leaves to be done next: ids only, never payloads.

A wake-up may be lost (the queue is a cache) or come twice; the row it names is the truth, and a sweeper finds rows
that waited too long. `revision` makes each wake-up of one row distinct, so that none is swallowed as a duplicate.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Drain:
    """A lane has updates to handle; after `delay_s`, when the first of them is to be tried again."""

    lane: str
    revision: int
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Advance:
    """A generation has something to do now: submit, ask, settle."""

    generation_id: UUID
    revision: int
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Deliver:
    """A chat has messages to be sent; `revision` is the newest outbox row's id (or a count of tries)."""

    chat_id: int
    revision: int
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RefreshCard:
    """A generation's status card is behind its wanted version."""

    generation_id: UUID
    revision: int
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Repay:
    """A refund is open: the provider is to be asked."""

    refund_id: int
    revision: int
    delay_s: float = 0.0


Wakeup = Drain | Advance | Deliver | RefreshCard | Repay


def unique() -> int:
    """A revision that no earlier wake-up had: for trying again, where nothing about the row has changed."""
    return -time.time_ns()


class Queue(Protocol):
    """Takes wake-ups after a commit. It never raises: what cannot be queued now is left to the sweepers."""

    async def enqueue(self, wakeups: Sequence[Wakeup]) -> None: ...
