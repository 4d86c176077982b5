"""Ids and the keys built from facts. A key names a fact, so the fact is written once."""

from __future__ import annotations

import secrets
import uuid


def new_id() -> uuid.UUID:
    """A random id for a row; also unguessable (122 random bits), so it may stand in a callback path."""
    return uuid.uuid4()


def new_token() -> str:
    """A random token naming one term of the lease. Never reused, never derived."""
    return secrets.token_hex(16)


def wallet_of(user_id: int) -> str:
    return f"wallet:{user_id}"


def hold_key(generation_id: uuid.UUID) -> str:
    return f"hold:{generation_id}"


def settlement_key(generation_id: uuid.UUID) -> str:
    return f"settle:{generation_id}"


GIVEN_BY_THE_BOT = ("welcome:", "daily:", "admin:")  # keys of grants that begin so: no operator's key may


def welcome_key(user_id: int) -> str:
    return f"welcome:{user_id}"


def daily_key(user_id: int, date: str) -> str:
    return f"daily:{user_id}:{date}"


def grant_key(key: str) -> str:
    return f"grant:{key}"


def provider_of(name: str) -> str:
    """The account of a payment provider: less than nothing by what it has taken in for us."""
    return f"provider:{name}"


def top_up_key(provider: str, charge_id: str) -> str:
    return f"topup:{provider}:{charge_id}"


def set_aside_key(refund_id: int) -> str:
    return f"refund-hold:{refund_id}"


def refund_key(refund_id: int) -> str:
    return f"refund:{refund_id}"
