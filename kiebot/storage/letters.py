"""Dead letters and works as operators look at them, in the caller's transaction."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kiebot.admin.model import AttemptLine, Letter, MessageLine, WorkLine
from kiebot.wakeups import Advance, Deliver, Drain, Wakeup, unique

_LETTER = """
    SELECT d.id, d.kind, d.source_id, d.reason, d.buried_at, length(d.payload), o.chat_id,
        i.id IS NOT NULL OR o.id IS NOT NULL
    FROM dead_letters d
    LEFT JOIN inbox i ON d.kind = 'update' AND i.id = d.source_id
    LEFT JOIN outbox o ON d.kind = 'outbox' AND o.id = d.source_id AND o.buried_at IS NOT NULL AND o.sent_at IS NULL
    WHERE d.revived_at IS NULL AND d.closed_at IS NULL
"""
_OPEN = text(f"{_LETTER} ORDER BY d.id DESC LIMIT :most OFFSET :skip")
_ONE = text(f"{_LETTER} AND d.id = :id")
_PAYLOAD = text("SELECT payload FROM dead_letters WHERE id = :id")
_REVIVE_UPDATE = text("""
    WITH again AS (
        UPDATE inbox SET done_at = NULL, attempts = 0, last_error = NULL, next_at = now()
        FROM dead_letters d WHERE d.id = :id AND d.kind = 'update' AND d.revived_at IS NULL AND d.closed_at IS NULL
            AND inbox.id = d.source_id AND inbox.done_at IS NOT NULL
        RETURNING inbox.lane
    ), revived AS (
        UPDATE dead_letters SET revived_at = now() WHERE id = :id AND EXISTS (SELECT 1 FROM again)
    )
    INSERT INTO lanes (key) SELECT lane FROM again
    ON CONFLICT (key) DO UPDATE SET revision = lanes.revision + 1 RETURNING key, revision
""")
_REVIVE_MESSAGE = text("""
    WITH again AS (
        UPDATE outbox SET buried_at = NULL, attempts = 0, reason = NULL, next_at = now(), claimed_by = NULL,
            claimed_at = NULL
        FROM dead_letters d WHERE d.id = :id AND d.kind = 'outbox' AND d.revived_at IS NULL AND d.closed_at IS NULL
            AND outbox.id = d.source_id AND outbox.buried_at IS NOT NULL AND outbox.sent_at IS NULL
        RETURNING outbox.chat_id
    ), revived AS (
        UPDATE dead_letters SET revived_at = now() WHERE id = :id AND EXISTS (SELECT 1 FROM again)
    )
    SELECT chat_id FROM again
""")
_BURY_WORK = text("""
    INSERT INTO dead_letters (kind, source_id, payload, reason) VALUES ('work', :number, '', :reason)
    ON CONFLICT (kind, source_id) DO NOTHING
""")
_CLOSE = text("""
    UPDATE dead_letters SET closed_at = now() WHERE id = :id AND revived_at IS NULL AND closed_at IS NULL RETURNING id
""")
_WORKS = text("""
    SELECT id, number, user_id, model_id, state, failure, price_millicredits, accepted_at, finished_at
    FROM generations
    WHERE (CAST(:user_id AS bigint) IS NULL OR user_id = :user_id)
        AND (CAST(:state AS text) IS NULL OR state = :state) AND (NOT :open OR finished_at IS NULL)
    ORDER BY number DESC LIMIT :most OFFSET :skip
""")
_ID_OF = text("SELECT id FROM generations WHERE number = :number")
_ATTEMPTS = text("""
    SELECT no, state, task_id, error, consumed_millicredits, suspected_loss, opened_at FROM attempts
    WHERE generation_id = :id ORDER BY no
""")
_MESSAGES = text("""
    SELECT id, kind, attempts, sent_at, buried_at, reason FROM outbox WHERE generation_id = :id ORDER BY id
""")
_LETTER_OF = text("""
    SELECT d.id FROM outbox o JOIN dead_letters d ON d.kind = 'outbox' AND d.source_id = o.id
    WHERE o.generation_id = :id AND o.kind IN ('result', 'late_result', 'failed')
        AND o.buried_at IS NOT NULL AND d.revived_at IS NULL AND d.closed_at IS NULL
    ORDER BY o.id DESC LIMIT 1
""")
_WAITING_OF = text("""
    UPDATE outbox SET next_at = now() WHERE generation_id = :id AND sent_at IS NULL AND buried_at IS NULL
    RETURNING chat_id
""")
_HURRY = text("""
    UPDATE generations SET due_at = now(), setbacks = 0, troubled_at = NULL, stumbles = 0, revision = revision + 1
    WHERE id = :id AND finished_at IS NULL RETURNING revision
""")


class LetterRepository:
    """What was given up. A letter is open until it is revived or closed."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def open(self, *, most: int, skip: int = 0) -> list[Letter]:
        """Newest first."""
        rows = await self._connection.execute(_OPEN, {"most": most, "skip": skip})
        return [Letter(*row) for row in rows]

    async def get(self, letter_id: int) -> Letter | None:
        """An open one."""
        row = (await self._connection.execute(_ONE, {"id": letter_id})).one_or_none()
        return None if row is None else Letter(*row)

    async def payload(self, letter_id: int) -> bytes | None:
        """What was given up, as it came: a user's own words may stand in it."""
        found: bytes | None = await self._connection.scalar(_PAYLOAD, {"id": letter_id})
        return found

    async def revive(self, letter_id: int) -> Wakeup | None:
        """Its row is to be worked off once more, with all its tries. None: dealt with before, or its row is gone."""
        lane = (await self._connection.execute(_REVIVE_UPDATE, {"id": letter_id})).one_or_none()
        if lane is not None:
            return Drain(lane.key, lane.revision)
        chat_id = await self._connection.scalar(_REVIVE_MESSAGE, {"id": letter_id})
        return None if chat_id is None else Deliver(chat_id, unique())

    async def bury_work(self, number: int, reason: str) -> None:
        """A generation was given up for a bug of ours. There is nothing in it to try again: its money is back."""
        await self._connection.execute(_BURY_WORK, {"number": number, "reason": reason[:500]})

    async def close(self, letter_id: int) -> bool:
        """Leave it as it is, for good. False: dealt with before."""
        return await self._connection.scalar(_CLOSE, {"id": letter_id}) is not None


class WorkRepository:
    """Generations of all users, without their words and files."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def page(
        self, *, most: int, skip: int = 0, user_id: int | None = None, state: str | None = None, only_open: bool = False
    ) -> list[WorkLine]:
        """Newest first."""
        facts = {"most": most, "skip": skip, "user_id": user_id, "state": state, "open": only_open}
        rows = await self._connection.execute(_WORKS, facts)
        return [WorkLine(*row) for row in rows]

    async def id_of(self, number: int) -> UUID | None:
        found: UUID | None = await self._connection.scalar(_ID_OF, {"number": number})
        return found

    async def attempts(self, generation_id: UUID) -> list[AttemptLine]:
        rows = await self._connection.execute(_ATTEMPTS, {"id": generation_id})
        return [AttemptLine(*row) for row in rows]

    async def messages(self, generation_id: UUID) -> list[MessageLine]:
        rows = await self._connection.execute(_MESSAGES, {"id": generation_id})
        return [MessageLine(*row) for row in rows]

    async def buried_outcome(self, generation_id: UUID) -> int | None:
        """The open dead letter that holds its outcome."""
        found: int | None = await self._connection.scalar(_LETTER_OF, {"id": generation_id})
        return found

    async def hurry_messages(self, generation_id: UUID) -> Wakeup | None:
        """What is still to be sent about it may go out now. None: nothing waits."""
        chat_id = (await self._connection.execute(_WAITING_OF, {"id": generation_id})).scalars().first()
        return None if chat_id is None else Deliver(chat_id, unique())

    async def hurry(self, generation_id: UUID) -> Wakeup | None:
        """Look at it now, with all its patience. None: it has ended."""
        revision = await self._connection.scalar(_HURRY, {"id": generation_id})
        return None if revision is None else Advance(generation_id, revision)
