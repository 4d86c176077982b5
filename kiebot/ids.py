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


def welcome_key(user_id: int) -> str:
    return f"welcome:{user_id}"


def grant_key(key: str) -> str:
    return f"grant:{key}"
