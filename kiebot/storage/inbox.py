"""The inbox: updates recorded once, behind the fence; lanes claimed, drained, released."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Boolean, LargeBinary, Text, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kiebot.errors import Fenced
from kiebot.intake.lanes import LaneClaim, Waiting
from kiebot.intake.ports import FenceRow, RawUpdate
from kiebot.storage.claims import takeable
from kiebot.storage.engine import outages_as_transient
from kiebot.wakeups import Drain

_TAKE_FENCE = text("""
    INSERT INTO fence (bot_id, epoch, token, replica) VALUES (:bot, 1, :token, :replica)
    ON CONFLICT (bot_id) DO UPDATE
    SET epoch = fence.epoch + 1, token = excluded.token, replica = excluded.replica, taken_at = now()
    RETURNING epoch, token, replica
""")

FORGOTTEN_AFTER = "3 days"  # Telegram keeps an update for a day; its ids may begin anywhere after a quiet week

# An update known already is Telegram's repetition; or its id was used before and is given out again, when nobody was
# there for days to forget the old row. A new row it is then, with a key of its own.
# One statement: the fence row is locked FOR SHARE, so a takeover either waits for this batch or makes it find nothing.
_RECORD = f"""
    WITH allowed AS ({{allowed}}),
    fresh AS (
        INSERT INTO inbox (bot_id, update_id, lane, payload, urgent)
        SELECT :bot, u.update_id, u.lane, u.payload, u.urgent
        FROM unnest(:ids, :lanes, :payloads, :urgents)
            WITH ORDINALITY AS u (update_id, lane, payload, urgent, position)
        WHERE EXISTS (SELECT 1 FROM allowed)
        ORDER BY u.position
        ON CONFLICT (bot_id, update_id) DO UPDATE
        SET id = DEFAULT, lane = excluded.lane, payload = excluded.payload, urgent = excluded.urgent, attempts = 0,
            received_at = now(), next_at = now(), swept_at = NULL, done_at = NULL, last_error = NULL
        WHERE inbox.done_at < now() - interval '{FORGOTTEN_AFTER}'
        RETURNING lane
    ),
    marked AS (
        INSERT INTO lanes (key) SELECT DISTINCT lane FROM fresh ORDER BY lane
        ON CONFLICT (key) DO UPDATE SET revision = lanes.revision + 1
        RETURNING key, revision
    )
    SELECT (SELECT count(*) FROM allowed) AS allowed, marked.key, marked.revision
    FROM (SELECT 1) AS one LEFT JOIN marked ON true
"""
_ARRAYS = (
    bindparam("ids", type_=ARRAY(BigInteger)),
    bindparam("lanes", type_=ARRAY(Text)),
    bindparam("payloads", type_=ARRAY(LargeBinary)),
    bindparam("urgents", type_=ARRAY(Boolean)),
)
_FENCED_RECORD = text(
    _RECORD.format(allowed="SELECT 1 FROM fence WHERE bot_id = :bot AND token = :token FOR SHARE")
).bindparams(*_ARRAYS)
_OPEN_RECORD = text(_RECORD.format(allowed="SELECT 1")).bindparams(*_ARRAYS)


class PostgresInbox:
    """Intake's Inbox port for one bot. Each call is one statement and, by autocommit, one transaction: a poller that
    is frozen never holds the fence row locked between a statement and its commit."""

    def __init__(self, engine: AsyncEngine, bot_id: int) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._bot_id = bot_id

    async def take_fence(self, token: str, replica: str) -> FenceRow:
        facts = {"bot": self._bot_id, "token": token, "replica": replica}
        with outages_as_transient("fence"):
            async with self._engine.begin() as connection:
                row = (await connection.execute(_TAKE_FENCE, facts)).one()
        return FenceRow(row.epoch, row.token, row.replica)

    async def record(self, updates: Sequence[RawUpdate], *, token: str | None) -> list[Drain]:
        """T1 of the data's way. Raises: Fenced (nothing written), Transient (ask Telegram again later)."""
        updates = list({update.update_id: update for update in reversed(updates)}.values())[::-1]
        facts: dict[str, object] = {
            "bot": self._bot_id,
            "ids": [update.update_id for update in updates],
            "lanes": [f"{self._bot_id}/{update.lane}" for update in updates],
            "payloads": [update.payload for update in updates],
            "urgents": [update.urgent for update in updates],
        }
        statement = _OPEN_RECORD if token is None else _FENCED_RECORD
        if token is not None:
            facts["token"] = token
        with outages_as_transient("inbox"):
            async with self._engine.begin() as connection:
                rows = (await connection.execute(statement, facts)).all()
        if not rows[0].allowed:
            raise Fenced("another term holds the fence")
        return [Drain(row.key, row.revision) for row in rows if row.key is not None]


_CLAIM = text(f"""
    WITH mine AS (
        UPDATE lanes SET claimed_by = :owner, claimed_at = now(), claim_no = claim_no + 1
        WHERE key = :lane AND ({takeable("lanes")} OR (CAST(:again AS boolean) AND lanes.claimed_by = :owner))
            AND EXISTS (SELECT 1 FROM inbox WHERE lane = :lane AND done_at IS NULL)
        RETURNING claim_no
    )
    SELECT mine.claim_no, w.id, w.update_id, w.payload, w.attempts, w.next_at > now() AS not_yet,
        extract(epoch FROM w.received_at)::float8 AS received_at
    FROM mine LEFT JOIN LATERAL (
        SELECT * FROM inbox WHERE lane = :lane AND done_at IS NULL ORDER BY urgent DESC, id LIMIT :most
    ) AS w ON true
    ORDER BY w.urgent DESC, w.id
""")
_RELEASE = text("""
    UPDATE lanes SET claimed_by = NULL, claimed_at = NULL
    WHERE key = :lane AND claimed_by = :owner AND claim_no = :claim_no
""")
# A statement of its own, after the release is committed: it sees what was recorded while the lane was held.
_LOOK_AGAIN = text("""
    UPDATE lanes SET revision = revision + 1
    WHERE key = :lane AND claimed_by IS NULL AND EXISTS (
        SELECT 1 FROM inbox WHERE lane = :lane AND done_at IS NULL
        AND (SELECT next_at FROM inbox WHERE lane = :lane AND done_at IS NULL ORDER BY urgent DESC, id LIMIT 1) <= now()
    )
    RETURNING revision
""")
_HELD = """EXISTS (
        SELECT 1 FROM lanes WHERE key = :lane AND claimed_by = :owner AND claim_no = :claim_no
    )"""
_FINISH = text(f"""
    UPDATE inbox SET done_at = now()
    WHERE id = :id AND done_at IS NULL AND {_HELD}
    RETURNING id
""")
_TURN_AWAY = text(f"""
    UPDATE inbox SET done_at = now(), last_error = 'turned away: too many at once'
    WHERE id = ANY(:ids) AND done_at IS NULL AND {_HELD}
""")
_FAILED = text(f"""
    UPDATE inbox SET attempts = attempts + 1, last_error = :error,
        next_at = now() + make_interval(secs => :pause_s)
    WHERE id = :id AND done_at IS NULL AND {_HELD} RETURNING attempts
""")
_BURY = text(f"""
    WITH gone AS (
        UPDATE inbox SET done_at = now(), last_error = :reason
        WHERE id = :id AND done_at IS NULL AND {_HELD} RETURNING id, payload
    )
    INSERT INTO dead_letters (kind, source_id, payload, reason)
    SELECT 'update', id, payload, :reason FROM gone
    ON CONFLICT (kind, source_id) DO UPDATE  -- it was revived, and failed again
    SET reason = excluded.reason, buried_at = now(), revived_at = NULL, closed_at = NULL
    RETURNING id
""")


class LaneRepository:
    """Draining, inside the caller's transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def claim(
        self, lane: str, owner: UUID, *, most: int, again: bool = False
    ) -> tuple[LaneClaim, list[Waiting]] | None:
        """The lane and its first waiting updates in order; None when nothing waits, or somebody living drains it.

        again: a claim of this very owner does not count. It says so when it knows of none: then the answer was lost.
        """
        facts = {"lane": lane, "owner": owner, "most": most, "again": again}
        rows = (await self._connection.execute(_CLAIM, facts)).all()
        if not rows:
            return None
        waiting = [
            Waiting(r.id, r.update_id, r.payload, r.attempts, r.not_yet, r.received_at)
            for r in rows
            if r.id is not None
        ]
        return LaneClaim(lane, owner, rows[0].claim_no), waiting

    async def release(self, claim: LaneClaim) -> None:
        await self._connection.execute(_RELEASE, _claim_facts(claim))

    async def look_again(self, lane: str) -> Drain | None:
        """After `release` was committed: the drain to queue when something waits, so that no wake-up is lost."""
        revision = await self._connection.scalar(_LOOK_AGAIN, {"lane": lane})
        return None if revision is None else Drain(lane, revision)

    async def finish(self, claim: LaneClaim, inbox_id: int) -> bool:
        """Mark the update handled in the transaction that holds its effects. False: another drain has done it."""
        facts = {"id": inbox_id, **_claim_facts(claim)}
        return await self._connection.scalar(_FINISH, facts) is not None

    async def turn_away(self, claim: LaneClaim, ids: Sequence[int]) -> int:
        """Mark these done without any effect; how many were. 0: another drain has done it."""
        return (await self._connection.execute(_TURN_AWAY, {"ids": list(ids), **_claim_facts(claim)})).rowcount

    async def failed(self, claim: LaneClaim, inbox_id: int, error: str, *, pause_s: float) -> int:
        """Count a failed try; returns the tries so far. 0: it is done already, or another drain's now."""
        facts = {"id": inbox_id, "error": error[:500], "pause_s": pause_s, **_claim_facts(claim)}
        return await self._connection.scalar(_FAILED, facts) or 0

    async def bury(self, claim: LaneClaim, inbox_id: int, reason: str) -> int | None:
        """Give the update up, kept with its reason; the lane goes on. The dead letter's id; None as `failed`'s 0."""
        facts = {"id": inbox_id, "reason": reason[:500], **_claim_facts(claim)}
        letter: int | None = await self._connection.scalar(_BURY, facts)
        return letter


def _claim_facts(claim: LaneClaim) -> dict[str, object]:
    return {"lane": claim.lane, "owner": claim.owner, "claim_no": claim.claim_no}
