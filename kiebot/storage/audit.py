"""What admins were asked, did, and have to know. In the caller's transaction: an act and its audit row are one."""

from __future__ import annotations

import json
from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kiebot.admin.model import Act, Action, AuditLine
from kiebot.ledger.entries import Millicredits

_ADD = text("""
    INSERT INTO audit (actor, action, subject, facts) VALUES (:actor, :action, :subject, CAST(:facts AS jsonb))
""")
_TELLS = text("SELECT EXISTS (SELECT FROM audit WHERE action = :action AND subject = :subject)")
_LATEST = text("""
    SELECT id, actor, action, subject, facts, at FROM audit ORDER BY id DESC LIMIT :most OFFSET :skip
""")
# The lock makes the grants of one admin follow one another: each sees what the one before it has used up.
_ONE_BY_ONE = text("SELECT pg_advisory_xact_lock(hashtextextended('kiebot grants of ' || :actor, 0))")
_GRANTED = text(f"""
    SELECT coalesce(sum((facts ->> 'millicredits')::bigint), 0) FROM audit
    WHERE actor = :actor AND action = '{Action.GRANT}' AND at > now() - interval '24 hours'
        AND (facts ->> 'millicredits')::bigint > 0
""")
_ASK = text("""
    INSERT INTO confirmations (nonce, admin_id, action, subject, facts, expires_at)
    VALUES (:nonce, :admin_id, :action, :subject, CAST(:facts AS jsonb), now() + make_interval(secs => :ttl_s))
""")
_FORGET = text("DELETE FROM confirmations WHERE admin_id = :admin_id AND expires_at < now() - interval '7 days'")
# clock_timestamp(): a transaction that waited for the row's lock must not use a time from before that wait.
_TAKE = text("""
    UPDATE confirmations SET used_at = now()
    WHERE nonce = :nonce AND admin_id = :admin_id AND used_at IS NULL AND expires_at > clock_timestamp()
    RETURNING action, subject, facts
""")
_WAS_USED = text("SELECT used_at IS NOT NULL FROM confirmations WHERE nonce = :nonce AND admin_id = :admin_id")


class AuditRepository:
    """Appended, never changed: a trigger sees to it."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, actor: str, act: Act) -> None:
        await self.note(actor, act.action.value, act.subject, act.facts)

    async def note(self, actor: str, action: str, subject: str, facts: Mapping[str, object]) -> None:
        """What somebody has to know of although no admin did it."""
        row = {"actor": actor, "action": action, "subject": subject, "facts": json.dumps(dict(facts))}
        await self._connection.execute(_ADD, row)

    async def latest(self, *, most: int, skip: int = 0) -> list[AuditLine]:
        rows = await self._connection.execute(_LATEST, {"most": most, "skip": skip})
        return [AuditLine(*row) for row in rows]

    async def tells(self, action: str, subject: str) -> bool:
        return bool(await self._connection.scalar(_TELLS, {"action": action, "subject": subject}))

    async def granted_today(self, actor: str) -> Millicredits:
        """What this actor has given away within 24 hours. Others of the same actor wait until this transaction ends."""
        await self._connection.execute(_ONE_BY_ONE, {"actor": actor})
        return int(await self._connection.scalar(_GRANTED, {"actor": actor}) or 0)


class ConfirmationRepository:
    """Questions to admins, each answered once."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def ask(self, nonce: str, admin_id: int, act: Act, *, ttl_s: float) -> None:
        facts = {
            "nonce": nonce,
            "admin_id": admin_id,
            "action": act.action.value,
            "subject": act.subject,
            "facts": json.dumps(dict(act.facts)),
            "ttl_s": ttl_s,
        }
        await self._connection.execute(_FORGET, {"admin_id": admin_id})
        await self._connection.execute(_ASK, facts)

    async def take(self, nonce: str, admin_id: int) -> Act | None:
        """The act, for the one press that may do it. None: it was done, has expired, or was another's to decide."""
        row = (await self._connection.execute(_TAKE, {"nonce": nonce, "admin_id": admin_id})).one_or_none()
        return None if row is None else Act(Action(row.action), row.subject, row.facts)

    async def was_used(self, nonce: str, admin_id: int) -> bool:
        return bool(await self._connection.scalar(_WAS_USED, {"nonce": nonce, "admin_id": admin_id}))
