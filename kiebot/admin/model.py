"""The words of administration, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from kiebot.ledger.entries import Millicredits

EVERYTHING = "*"  # the switch of the whole account, among the models' own


class Action(StrEnum):
    """What an admin may do. The values stand in the audit: never change one."""

    GRANT = "ledger.grant"
    BLOCK = "user.block"
    UNBLOCK = "user.unblock"
    MODEL_OFF = "model.off"
    MODEL_ON = "model.on"
    PAUSE = "generating.pause"
    RESUME = "generating.resume"
    LETTER_RETRY = "letter.retry"
    LETTER_BURY = "letter.bury"
    REDELIVER = "generation.redeliver"
    HURRY = "generation.hurry"
    GIVE_UP = "generation.give_up"
    REFUND = "payment.refund"


@dataclass(frozen=True, slots=True)
class Act:
    """One thing to do. `subject`: a user's id, a model's id, a letter's or a generation's number, a payment's charge;
    empty for what concerns all."""

    action: Action
    subject: str = ""
    facts: Mapping[str, int | str] = field(default_factory=dict)

    def amount(self, name: str) -> int:
        """A fact that is a number. Raises: ValueError, for an act that was put together wrongly: a bug."""
        value = self.facts.get(name)
        if not isinstance(value, int):
            raise ValueError(f"{self.action} without {name}")
        return value

    def word(self, name: str) -> str:
        return str(self.facts.get(name, ""))


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One act that was done."""

    id: int
    actor: str
    action: str
    subject: str
    facts: Mapping[str, object]
    at: datetime


@dataclass(frozen=True, slots=True)
class Switch:
    """A model that is off, or EVERYTHING. `until`: it comes back by itself; None: an admin's own switch."""

    model_id: str
    reason: str
    actor: str
    off_since: datetime
    until: datetime | None

    @property
    def is_admins(self) -> bool:
        return self.until is None


@dataclass(frozen=True, slots=True)
class Person:
    """A user as admins see them."""

    id: int
    first_name: str
    language: str
    created_at: datetime
    seen_at: datetime
    blocked_bot_at: datetime | None
    banned_at: datetime | None


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter that nobody has dealt with. `kind`: update, outbox, or work: a generation that a bug of ours ended,
    `source_id` is its number. `chat_id`: of a message, where known."""

    id: int
    kind: str
    source_id: int
    reason: str
    buried_at: datetime
    size_bytes: int
    chat_id: int | None
    is_retryable: bool


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """One createTask, as operators see it."""

    no: int
    state: str
    task_id: str | None
    error: str | None
    consumed_millicredits: Millicredits | None
    suspected_loss: bool
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class MessageLine:
    """What became of a message about a generation."""

    id: int
    kind: str
    attempts: int
    sent_at: datetime | None
    buried_at: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class WorkLine:
    """A generation in a list."""

    id: UUID
    number: int
    user_id: int
    model_id: str
    state: str
    failure: str | None
    price_millicredits: Millicredits
    accepted_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class MoneyDay:
    """Wallets' money on one day (UTC), in millicredits; what was paid and paid back, in Stars."""

    day: date
    held: Millicredits
    taken: Millicredits
    voided: Millicredits
    granted: Millicredits
    stars_paid: int
    stars_refunded: int


@dataclass(frozen=True, slots=True)
class PeopleDay:
    """People and updates on one day (UTC). Updates are kept for three days only."""

    day: date
    new_users: int
    buyers: int
    updates: int


@dataclass(frozen=True, slots=True)
class Margin:
    """One model's works that ended on one day (UTC), in millicredits. `unreported`: of how many sold works the provider
    told no figure, so that the quote's cost stands for it; `lost`: what it billed, or may have, and nobody paid for."""

    day: date
    model_id: str
    sold: int
    failed: int
    captured: Millicredits
    quoted: Millicredits
    consumed: Millicredits
    unreported: int
    lost: Millicredits

    @property
    def cost(self) -> Millicredits:
        return self.consumed + self.lost

    @property
    def margin(self) -> Millicredits:
        return self.captured - self.cost


@dataclass(frozen=True, slots=True)
class Loss:
    """One attempt that the provider billed, or may have, and nobody paid for. `is_certain`: it said so itself."""

    opened_at: datetime
    number: int
    generation_id: UUID
    attempt_id: UUID
    task_id: str | None
    model_id: str
    state: str
    why: str
    amount: Millicredits
    is_certain: bool


@dataclass(frozen=True, slots=True)
class Totals:
    """Where everything stands just now. `states`: of all works; what its owner took back is `cancelled`, not failed."""

    users: int
    active_day: int
    active_week: int
    blocked_bot: int
    banned: int
    available: Millicredits
    held: Millicredits
    updates_waiting: int
    messages_waiting: int
    letters: int
    states: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Statistics:
    totals: Totals
    people: tuple[PeopleDay, ...]
    money: tuple[MoneyDay, ...]
    models: tuple[Margin, ...]
