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
DEAD_AFTER_S = 3.5  # no heartbeat for so long: its claims are free, and found by a sweep within 1.3 s more
GAP_S = 2.5  # between two heartbeats: from then on the silence of others proves nothing for a while
QUICK_CLAIM_MAX_S = 120.0
CLAIM_MAX_S = 420.0  # even a living owner loses a claim it forgot to release: longer than any job may run


def free(table: str) -> str:
    """SQL: nobody living holds the claim of this row. `table` is a constant of ours, never input."""
    forgotten = _forgotten(table)
    return f"({table}.claimed_by IS NULL OR {forgotten} OR {_gone(table)})"


def takeable(table: str) -> str:
    """SQL: `:owner` may claim this row. Stricter than `free` by one thing: silence only proves death to who was there.

    After an outage of Postgres everybody looks dead for a moment. So a claim may be taken over only by an incarnation
    whose own heartbeats came steadily all through the other's silence.
    """
    steady = f"""EXISTS (
        SELECT 1 FROM replicas AS me
        WHERE me.id = CAST(:owner AS uuid) AND me.steady_since < now() - interval '{DEAD_AFTER_S} seconds'
    )"""
    departed = f"NOT EXISTS (SELECT 1 FROM replicas WHERE replicas.id = {table}.claimed_by)"
    forgotten = _forgotten(table)
    return f"({table}.claimed_by IS NULL OR {departed} OR {forgotten} OR ({_gone(table)} AND {steady}))"


def _forgotten(table: str) -> str:
    """Texts and cards are sent within seconds; only files, and steps of a generation, may take minutes."""
    limit = f"interval '{CLAIM_MAX_S} seconds'"
    if table in ("outbox", "heads"):
        quick = f"interval '{QUICK_CLAIM_MAX_S} seconds'"
        limit = f"CASE WHEN {table}.kind IN ('result', 'late_result') THEN {limit} ELSE {quick} END"
    elif table in ("lanes", "cards"):
        limit = f"interval '{QUICK_CLAIM_MAX_S} seconds'"
    return f"{table}.claimed_at < now() - {limit}"


def _gone(table: str) -> str:
    return f"""NOT EXISTS (
        SELECT 1 FROM replicas
        WHERE replicas.id = {table}.claimed_by AND replicas.beat_at > now() - interval '{DEAD_AFTER_S} seconds'
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


_BEAT = text(f"""
    INSERT INTO replicas (id, name, facts) VALUES (:id, :name, CAST(:facts AS jsonb))
    ON CONFLICT (id) DO UPDATE SET beat_at = now(), facts = excluded.facts, steady_since = CASE
        WHEN replicas.beat_at < now() - interval '{GAP_S} seconds' THEN now() ELSE replicas.steady_since END
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
