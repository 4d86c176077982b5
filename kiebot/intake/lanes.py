"""What a drain holds in its hands: the claim of a lane and the updates that wait in it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Waiting:
    """One update waiting in a claimed lane. `not_yet`: its last try failed and its pause is not over."""

    id: int
    update_id: int
    payload: bytes
    attempts: int
    not_yet: bool
    received_at: float = 0.0  # Unix seconds


@dataclass(frozen=True, slots=True)
class LaneClaim:
    """The right to drain one lane. It ends with `release`, or with the heartbeat of its owner."""

    lane: str
    owner: UUID
    claim_no: int
