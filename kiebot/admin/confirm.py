"""A question to an admin, and the one press that answers it.

The act lies in a row, not in the button: the button only holds a random nonce, which is good for one admin, one act
with all its facts, one time, and a few minutes.
"""

from __future__ import annotations

import secrets

from kiebot.admin.model import Act
from kiebot.errors import Refused
from kiebot.store import Tx

CONFIRM_WITHIN_S = 300.0
_NONCE_BYTES = 8


async def ask(tx: Tx, admin_id: int, act: Act) -> str:
    """Remember the act; returns the nonce for its button."""
    nonce = secrets.token_hex(_NONCE_BYTES)
    await tx.confirmations.ask(nonce, admin_id, act, ttl_s=CONFIRM_WITHIN_S)
    return nonce


async def confirmed(tx: Tx, admin_id: int, nonce: str) -> Act:
    """The act to do now; no other press gets it. Raises: Refused("already_done" | "expired")."""
    act = await tx.confirmations.take(nonce, admin_id)
    if act is not None:
        return act
    raise Refused("already_done" if await tx.confirmations.was_used(nonce, admin_id) else "expired")
