"""Finds rows left behind: their wake-up was lost, or their owner died. Every replica looks, none leads.

Each query takes a bounded number of rows and skips those another sweeper has locked. A sweep only queues wake-ups: rows
are worked on by jobs, under claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kiebot.storage.claims import free
from kiebot.storage.inbox import FORGOTTEN_AFTER
from kiebot.wakeups import Advance, Deliver, Drain, RefreshCard, Repay, unique

# The heads of all waiting lanes come first, the limit last: one long or held lane must not hide the others.
_LANES = text(f"""
    WITH RECURSIVE waiting AS (
        (SELECT lane FROM inbox WHERE done_at IS NULL ORDER BY lane LIMIT 1)
        UNION ALL
        SELECT (SELECT lane FROM inbox WHERE done_at IS NULL AND lane > waiting.lane ORDER BY lane LIMIT 1)
        FROM waiting WHERE waiting.lane IS NOT NULL
    ), heads AS (
        SELECT head.* FROM waiting CROSS JOIN LATERAL (
            SELECT id, lane, next_at FROM inbox WHERE lane = waiting.lane AND done_at IS NULL
            ORDER BY urgent DESC, id LIMIT 1
        ) AS head
    ), stranded AS (
        SELECT heads.id, lanes.key, lanes.revision, lanes.claimed_by, lanes.claim_no
        FROM heads JOIN lanes ON lanes.key = heads.lane
        WHERE heads.next_at < now() - make_interval(secs => :grace_s) AND {free("lanes")}
        ORDER BY heads.next_at LIMIT :most
    ), marked AS (
        UPDATE inbox SET swept_at = now() WHERE id IN (
            SELECT inbox.id FROM inbox JOIN stranded ON stranded.id = inbox.id FOR UPDATE OF inbox SKIP LOCKED
        )
    )
    SELECT key, revision, claimed_by, claim_no FROM stranded
""")
_GENERATIONS = text(f"""
    SELECT id, revision, claimed_by, claim_no FROM generations
    WHERE finished_at IS NULL AND {free("generations")}
        AND (due_at < now() - make_interval(secs => :grace_s) OR state = 'submitting')
    ORDER BY due_at LIMIT :most FOR UPDATE SKIP LOCKED
""")
_CHATS = text(f"""
    WITH heads AS (
        SELECT DISTINCT ON (chat_id) * FROM outbox WHERE sent_at IS NULL AND buried_at IS NULL ORDER BY chat_id, id
    )
    SELECT chat_id, id FROM heads
    WHERE next_at < now() - make_interval(secs => :grace_s) AND {free("heads")}
    ORDER BY next_at LIMIT :most
""")
_CARDS = text(f"""
    SELECT generation_id, wanted_version FROM cards
    WHERE wanted_version > sent_version AND next_at < now() - make_interval(secs => :grace_s) AND {free("cards")}
    ORDER BY next_at LIMIT :most FOR UPDATE SKIP LOCKED
""")
_REFUNDS = text("""
    SELECT id FROM refunds WHERE state = 'open' AND next_at < now() - make_interval(secs => :grace_s)
    ORDER BY next_at LIMIT :most FOR UPDATE SKIP LOCKED
""")
_EXPIRED = text("""
    SELECT g.id FROM generations g JOIN holds h ON h.generation_id = g.id
    WHERE g.finished_at IS NULL AND h.expires_at < now() LIMIT :most
""")
_PURGE_INBOX = text(f"""
    DELETE FROM inbox WHERE id IN (
        SELECT id FROM inbox WHERE done_at < now() - interval '{FORGOTTEN_AFTER}' LIMIT :most FOR UPDATE SKIP LOCKED
    )
""")
_PURGE_OUTBOX = text("""
    DELETE FROM outbox WHERE id IN (
        SELECT id FROM outbox WHERE sent_at < now() - interval '30 days' LIMIT :most FOR UPDATE SKIP LOCKED
    )
""")
# The oldest update is looked for among those that fall due first: to look at all would take long when many wait.
_GAUGES = text("""
    SELECT
        (SELECT coalesce(extract(epoch FROM now() - min(received_at)), 0)::float8 FROM (
            SELECT received_at FROM inbox WHERE done_at IS NULL ORDER BY next_at LIMIT 100
        ) AS due),
        EXISTS (SELECT 1 FROM inbox WHERE done_at IS NULL),
        (SELECT count(*) FROM outbox WHERE sent_at IS NULL AND buried_at IS NULL),
        (SELECT count(*) FROM generations WHERE finished_at IS NULL),
        EXISTS (SELECT 1 FROM cards WHERE wanted_version > sent_version),
        EXISTS (SELECT 1 FROM refunds WHERE state = 'open')
""")


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits just now: for gauges, and to tell whether there is anything to look for."""

    oldest_update_s: float = 0.0
    has_updates: bool = False
    outbox: int = 0
    generations: int = 0
    has_cards: bool = False
    has_refunds: bool = False

    @property
    def is_anything(self) -> bool:
        return self.has_updates or self.outbox > 0 or self.generations > 0 or self.has_cards or self.has_refunds


class SweepRepository:
    """`grace_s`: how long a row may wait before its wake-up counts as lost."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def stranded_lanes(self, *, grace_s: float, most: int = 200) -> list[Drain]:
        rows = await self._connection.execute(_LANES, _facts(grace_s, most))
        return [Drain(row.key, _revision(row)) for row in rows]

    async def due_generations(self, *, grace_s: float, most: int = 200) -> list[Advance]:
        rows = await self._connection.execute(_GENERATIONS, _facts(grace_s, most))
        return [Advance(row.id, _revision(row)) for row in rows]

    async def waiting_chats(self, *, grace_s: float, most: int = 200) -> list[Deliver]:
        rows = await self._connection.execute(_CHATS, _facts(grace_s, most))
        return [Deliver(row.chat_id, row.id) for row in rows]

    async def cards_behind(self, *, grace_s: float, most: int = 200) -> list[RefreshCard]:
        rows = await self._connection.execute(_CARDS, _facts(grace_s, most))
        return [RefreshCard(row.generation_id, row.wanted_version) for row in rows]

    async def open_refunds(self, *, grace_s: float, most: int = 50) -> list[Repay]:
        return [
            Repay(refund_id, unique()) for refund_id in await self._connection.scalars(_REFUNDS, _facts(grace_s, most))
        ]

    async def expired_holds(self, *, most: int = 50) -> list[UUID]:
        """Generations that never ended although their hold has run out."""
        return list(await self._connection.scalars(_EXPIRED, {"most": most}))

    async def purge_inbox(self, *, most: int = 2000) -> int:
        """Forget updates handled three days ago: Telegram's ids restart at random after a quiet week. How many went."""
        return (await self._connection.execute(_PURGE_INBOX, {"most": most})).rowcount

    async def purge_outbox(self, *, most: int = 2000) -> int:
        return (await self._connection.execute(_PURGE_OUTBOX, {"most": most})).rowcount

    async def backlog(self) -> Backlog:
        return Backlog(*(await self._connection.execute(_GAUGES)).one())


def _revision(row: Row[Any]) -> int:
    """The revision of the wake-up that was lost; another one where a dead owner's job may keep that id for seconds yet:
    one for each such claim, so that sweeps which find the row again queue nothing more."""
    return int(row.revision) if row.claimed_by is None else -1 - int(row.claim_no)


def _facts(grace_s: float, most: int) -> Mapping[str, object]:
    return {"grace_s": grace_s, "most": most}
