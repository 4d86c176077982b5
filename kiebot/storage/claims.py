"""Heartbeats, and what they decide: whether the owner of a claim still lives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

BEAT_EVERY_S = 1.0
DEAD_AFTER_S = 4.0  # no heartbeat for so long: its claims are free
CLAIM_MAX_S = 180.0  # even a living owner loses a claim it forgot to release


def free(table: str) -> str:
    """SQL: nobody living holds the claim of this row. `table` is a constant of ours, never input."""
    return f"""(
        {table}.claimed_by IS NULL
        OR {table}.claimed_at < now() - interval '{CLAIM_MAX_S} seconds'
        OR NOT EXISTS (
            SELECT 1 FROM replicas
            WHERE replicas.id = {table}.claimed_by AND replicas.beat_at > now() - interval '{DEAD_AFTER_S} seconds'
        )
    )"""


@dataclass(frozen=True, slots=True)
class ReplicaSeen:
    """One incarnation, as its heartbeat tells it."""

    id: UUID
    name: str
    started_at: datetime
    beat_at: datetime
    age_s: float
    facts: Mapping[str, object]


_BEAT = text("""
    INSERT INTO replicas (id, name, facts) VALUES (:id, :name, CAST(:facts AS jsonb))
    ON CONFLICT (id) DO UPDATE SET beat_at = now(), facts = excluded.facts
""")
_LEAVE = text("DELETE FROM replicas WHERE id = :id")
_FORGET = text("DELETE FROM replicas WHERE beat_at < now() - interval '10 minutes'")
_SEEN = text("""
    SELECT id, name, started_at, beat_at, extract(epoch FROM now() - beat_at)::float8 AS age_s, facts
    FROM replicas ORDER BY started_at
""")


class ReplicaRepository:
    """Who lives. An incarnation that leaves in order deletes itself, so that its claims are free at once."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def beat(self, incarnation: UUID, name: str, facts: Mapping[str, object]) -> None:
        await self._connection.execute(_BEAT, {"id": incarnation, "name": name, "facts": json.dumps(dict(facts))})

    async def leave(self, incarnation: UUID) -> None:
        await self._connection.execute(_LEAVE, {"id": incarnation})

    async def forget_old(self) -> None:
        await self._connection.execute(_FORGET)

    async def seen(self) -> list[ReplicaSeen]:
        rows = await self._connection.execute(_SEEN)
        return [ReplicaSeen(*row) for row in rows]
