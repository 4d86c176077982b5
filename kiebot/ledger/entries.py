"""The words of the ledger: accounts, entries, postings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

Millicredits = int


class Contra(StrEnum):
    """Accounts of the house. They may be negative: they say where wallets' money came from or went."""

    REVENUE = "revenue"
    PROMOTIONS = "promotions"
    ADJUSTMENTS = "adjustments"
    REFUNDS = "refunds"  # set aside while a provider is asked to pay back
    RECEIVABLE = "receivable"  # less than nothing by what was spent of payments that went back: users owe it


REVENUE_SHARDS = 16


def revenue_of(generation_id: UUID) -> str:
    """The revenue account that takes this generation's price: one of several, so that captures do not queue for one
    row, and a replica that stops in the middle of one does not stop them all."""
    return f"{Contra.REVENUE}:{generation_id.int % REVENUE_SHARDS:02d}"


class Kind(StrEnum):
    GRANT = "grant"
    HOLD = "hold"
    CAPTURE = "capture"
    VOID = "void"
    TOP_UP = "top_up"
    SET_ASIDE = "set_aside"
    REFUND = "refund"
    REFUND_VOID = "refund_void"


class Outcome(StrEnum):
    """How a hold ended. A generation has exactly one."""

    CAPTURED = "captured"
    VOIDED = "voided"


@dataclass(frozen=True, slots=True)
class Entry:
    """One account's part of a posting."""

    account: str
    delta_available: Millicredits
    delta_held: Millicredits = 0


@dataclass(frozen=True, slots=True)
class Posting:
    """One fact of money. `key` names it; `entries` sum to zero.

    Raises: ValueError, when the entries do not balance, an account occurs twice, or nothing moves at all.
    """

    key: str
    kind: Kind
    entries: tuple[Entry, ...]
    generation_id: UUID | None = None
    reason: str = ""
    actor: str = "system"

    def __post_init__(self) -> None:
        if sum(entry.delta_available + entry.delta_held for entry in self.entries) != 0:
            raise ValueError(f"posting {self.key} does not balance")
        accounts = [entry.account for entry in self.entries]
        if len(set(accounts)) != len(accounts) or not accounts:
            raise ValueError(f"posting {self.key} must name each account once")


@dataclass(frozen=True, slots=True)
class Balance:
    """A wallet as it stands. `running` and `open_count` are the caps' counters."""

    available: Millicredits
    held: Millicredits
    running: int = 0
    open_count: int = 0
