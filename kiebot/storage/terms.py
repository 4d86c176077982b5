"""The last terms of the lease, told by the replicas as they find the time. For operators: nothing is decided by it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

KEPT = 100

_BEGAN = text("""
    INSERT INTO terms (token, bot_id, replica, began_at, sign, previous)
    VALUES (:token, :bot, :replica, now() - make_interval(secs => :ago_s), :sign, :previous)
    ON CONFLICT (token) DO NOTHING
""")
_ENDED = text("""
    INSERT INTO terms (token, bot_id, replica, began_at, ended_at, reason)
    VALUES (
        :token, :bot, :replica, now() - make_interval(secs => :began_ago_s),
        now() - make_interval(secs => :ago_s), :reason
    )
    ON CONFLICT (token) DO UPDATE SET ended_at = excluded.ended_at, reason = excluded.reason
    WHERE terms.ended_at IS NULL
""")
_FORGET = text(f"""
    DELETE FROM terms WHERE bot_id = :bot AND began_at < (
        SELECT began_at FROM terms WHERE bot_id = :bot ORDER BY began_at DESC OFFSET {KEPT - 1} LIMIT 1
    )
""")
_NEWEST = text("""
    SELECT token, replica, began_at, sign, previous, ended_at, reason
    FROM terms WHERE bot_id = :bot ORDER BY began_at DESC LIMIT :most
""")


@dataclass(frozen=True, slots=True)
class TermTold:
    """sign: what gave the previous holder away as dead, if it was seized. reason: of the end, if one was told."""

    token: str
    replica: str
    began_at: datetime
    sign: str
    previous: str
    ended_at: datetime | None
    reason: str


class TermRepository:
    """Each call is one statement, and may be repeated. `ago_s`: how long ago it happened, on the teller's clock."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def began(self, bot_id: int, token: str, replica: str, *, ago_s: float, sign: str, previous: str) -> None:
        facts = {"token": token, "bot": bot_id, "replica": replica, "ago_s": ago_s, "sign": sign, "previous": previous}
        await self._connection.execute(_BEGAN, facts)

    async def ended(self, bot_id: int, token: str, replica: str, *, ago_s: float, held_s: float, reason: str) -> None:
        """Also makes the row of a term whose beginning was never told."""
        facts = {"token": token, "bot": bot_id, "replica": replica, "ago_s": ago_s, "began_ago_s": ago_s + held_s}
        await self._connection.execute(_ENDED, {**facts, "reason": reason})

    async def forget_old(self, bot_id: int) -> None:
        """Keep the newest hundred."""
        await self._connection.execute(_FORGET, {"bot": bot_id})

    async def newest(self, bot_id: int, most: int) -> list[TermTold]:
        """The latest first."""
        rows = await self._connection.execute(_NEWEST, {"bot": bot_id, "most": most})
        return [TermTold(*row) for row in rows]
