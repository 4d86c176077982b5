"""What a transaction in memory keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from kiebot.delivery.outbox import Draft
from kiebot.generation.model import Artifact, Generation
from kiebot.ledger.entries import Balance, Posting
from kiebot.payments.model import Payment
from kiebot.people import DraftRow, User, Wishes

NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)


class NotKept(NotImplementedError):
    """This part of the store belongs to the engine or the courier; the bot has no business with it."""


@dataclass
class Tables:
    generations: dict[UUID, Generation] = field(default_factory=dict)
    confirm_keys: dict[str, UUID] = field(default_factory=dict)
    artifacts: list[Artifact] = field(default_factory=list)
    wallets: dict[str, Balance] = field(default_factory=dict)
    postings: dict[str, Posting] = field(default_factory=dict)
    settled: dict[UUID, str] = field(default_factory=dict)
    outbox: list[Draft] = field(default_factory=list)
    cards: dict[UUID, tuple[int, int | None]] = field(default_factory=dict)
    users: dict[int, User] = field(default_factory=dict)
    wishes: dict[int, Wishes] = field(default_factory=dict)
    chosen: set[int] = field(default_factory=set)
    blocked: set[int] = field(default_factory=set)
    drafts: dict[tuple[int, int], DraftRow] = field(default_factory=dict)
    payments: dict[tuple[str, str], Payment] = field(default_factory=dict)
    notes: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    off: set[str] = field(default_factory=set)
