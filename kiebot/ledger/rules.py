"""How each fact of money is booked. Pure: the storage adapter applies what these return."""

from __future__ import annotations

from uuid import UUID

from kiebot.ids import (
    grant_key,
    hold_key,
    provider_of,
    refund_key,
    set_aside_key,
    settlement_key,
    top_up_key,
    wallet_of,
)
from kiebot.ledger.entries import Contra, Entry, Kind, Millicredits, Posting, revenue_of


def hold(generation_id: UUID, user_id: int, amount: Millicredits) -> Posting:
    """Reserve `amount` for one generation. A price of zero is still a hold, so every generation settles alike."""
    _not_negative(amount)
    entry = Entry(wallet_of(user_id), -amount, amount)
    return Posting(hold_key(generation_id), Kind.HOLD, (entry,), generation_id)


def capture(generation_id: UUID, user_id: int, *, held: Millicredits, amount: Millicredits) -> Posting:
    """Take `amount` of what is held and give the rest back. Raises: ValueError, if amount > held."""
    _not_negative(amount)
    if amount > held:
        raise ValueError(f"cannot capture {amount} of a hold of {held}")
    wallet = Entry(wallet_of(user_id), held - amount, -held)
    revenue = Entry(revenue_of(generation_id), amount)
    return Posting(settlement_key(generation_id), Kind.CAPTURE, (revenue, wallet), generation_id)


def void(generation_id: UUID, user_id: int, *, held: Millicredits, reason: str) -> Posting:
    """Give back all that is held."""
    _not_negative(held)
    wallet = Entry(wallet_of(user_id), held, -held)
    return Posting(settlement_key(generation_id), Kind.VOID, (wallet,), generation_id, reason)


def grant(
    key: str, user_id: int, amount: Millicredits, *, reason: str, actor: str, source: Contra = Contra.ADJUSTMENTS
) -> Posting:
    """Put credits into a wallet (or take them out, amount < 0: refused in SQL when the wallet has less)."""
    if amount == 0:
        raise ValueError("a grant of nothing")
    entries = (Entry(source, -amount), Entry(wallet_of(user_id), amount))
    return Posting(grant_key(key), Kind.GRANT, entries, None, reason, actor)


def top_up(provider: str, charge_id: str, user_id: int, amount: Millicredits) -> Posting:
    """What a payment buys, once per charge. Raises: ValueError, for nothing or less."""
    if amount <= 0:
        raise ValueError("a top-up of nothing")
    entries = (Entry(provider_of(provider), -amount), Entry(wallet_of(user_id), amount))
    return Posting(top_up_key(provider, charge_id), Kind.TOP_UP, entries, None, "payment", provider)


def set_aside(refund_id: int, user_id: int, taken: Millicredits, *, reason: str, actor: str) -> Posting:
    """Take from the wallet what a refund will cost it, before the provider is asked."""
    _not_negative(taken)
    entries = (Entry(Contra.REFUNDS, taken), Entry(wallet_of(user_id), -taken))
    return Posting(set_aside_key(refund_id), Kind.SET_ASIDE, entries, None, reason, actor)


def refund(
    refund_id: int, provider: str, *, amount: Millicredits, taken: Millicredits, reason: str, actor: str
) -> Posting:
    """The provider paid back. What the wallet had no more of is owed. Raises: ValueError, if taken > amount."""
    _not_negative(taken)
    if taken > amount:
        raise ValueError(f"cannot take {taken} back for a payment of {amount}")
    entries = (
        Entry(provider_of(provider), amount),
        Entry(Contra.RECEIVABLE, taken - amount),
        Entry(Contra.REFUNDS, -taken),
    )
    moved = tuple(entry for entry in entries if entry.delta_available)
    return Posting(refund_key(refund_id), Kind.REFUND, moved, None, reason, actor)


def refund_void(refund_id: int, user_id: int, taken: Millicredits, *, reason: str, actor: str) -> Posting:
    """The provider will not pay back: what was set aside returns."""
    _not_negative(taken)
    entries = (Entry(Contra.REFUNDS, -taken), Entry(wallet_of(user_id), taken))
    return Posting(refund_key(refund_id), Kind.REFUND_VOID, entries, None, reason, actor)


def _not_negative(amount: Millicredits) -> None:
    if amount < 0:
        raise ValueError("an amount of money is never negative here")
