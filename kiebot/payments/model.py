"""A payment and its refund, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kiebot.ledger.entries import Millicredits

STARS = "stars"
STARS_CURRENCY = "XTR"


@dataclass(frozen=True, slots=True)
class Payment:
    """Money that was taken, and what it bought. `charge_id` is the provider's own name for it, unique there.

    amount: in the currency's smallest unit; for Telegram Stars, whole Stars. problem: why its invoice did not count,
    empty when it did. credits: 0 for what cannot be credited.
    """

    provider: str
    charge_id: str
    user_id: int
    amount: int
    currency: str
    credits: Millicredits
    language: str
    payload: str = ""
    problem: str = ""


class RefundState(StrEnum):
    OPEN = "open"  # decided, credits set aside; the provider may or may not have paid back
    DONE = "done"
    REFUSED = "refused"  # the provider will not: the credits are back


@dataclass(frozen=True, slots=True)
class Refund:
    """A payment on its way back, as a whole. `taken`: of its credits, out of the wallet; the rest is owed."""

    id: int
    provider: str
    charge_id: str
    user_id: int
    amount: Millicredits
    taken: Millicredits
    state: RefundState
    actor: str
    reason: str
    tries: int = 0
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Paid:
    """A line of a user's payments."""

    payment: Payment
    recorded_at: datetime
    refund: RefundState | None = None


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One entry of a provider's own books: a payment, or with `is_refund` one that went back, under the same id."""

    charge_id: str
    user_id: int
    amount: int
    payload: str
    at: datetime
    is_refund: bool = False
