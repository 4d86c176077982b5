"""The outbox and the status cards, in the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kiebot.delivery.outbox import Card, Draft, Row
from kiebot.storage.claims import takeable
from kiebot.wakeups import Deliver

# The writer claims its own rows when nothing of that chat waits before them, and sends them right after its commit.
_ADD = text("""
    WITH busy AS (
        SELECT EXISTS (
            SELECT 1 FROM outbox WHERE chat_id = :chat_id AND sent_at IS NULL AND buried_at IS NULL
        ) AS waits
    )
    INSERT INTO outbox (chat_id, kind, payload, generation_id, key, claimed_by, claimed_at, attempts)
    SELECT :chat_id, d.kind, CAST(d.payload AS jsonb), d.generation_id, d.key,
        CASE WHEN busy.waits THEN NULL ELSE CAST(:owner AS uuid) END,
        CASE WHEN busy.waits OR CAST(:owner AS uuid) IS NULL THEN NULL ELSE now() END,
        CASE WHEN busy.waits OR CAST(:owner AS uuid) IS NULL THEN 0 ELSE 1 END
    FROM busy, unnest(
        CAST(:kinds AS text[]), CAST(:payloads AS text[]), CAST(:generation_ids AS uuid[]), CAST(:keys AS text[])
    ) WITH ORDINALITY AS d (kind, payload, generation_id, key, position)
    ORDER BY d.position
    ON CONFLICT (key) DO NOTHING
    RETURNING id, chat_id, kind, payload, generation_id, attempts, claimed_by IS NOT NULL AS is_mine
""")
_CLAIM_HEAD = text(f"""
    UPDATE outbox SET claimed_by = :owner, claimed_at = now(), attempts = attempts + 1
    WHERE id = (
        SELECT id FROM outbox WHERE chat_id = :chat_id AND sent_at IS NULL AND buried_at IS NULL ORDER BY id LIMIT 1
    ) AND next_at <= now() AND sent_at IS NULL AND buried_at IS NULL AND {takeable("outbox")}
    RETURNING id, chat_id, kind, payload, generation_id, attempts
""")
_SENT = text("""
    UPDATE outbox SET sent_at = now(), message_id = :message_id, claimed_by = NULL
    WHERE id = :id AND claimed_by = :owner AND sent_at IS NULL
""")
_LATER = text("""
    UPDATE outbox SET claimed_by = NULL, claimed_at = NULL, next_at = now() + make_interval(secs => :pause_s),
        attempts = attempts - :free_try, reason = :reason
    WHERE id = :id AND claimed_by = :owner AND sent_at IS NULL
""")
# Message ids are a chat's own: in the new one the old ones name other messages, or none. Works first and in one order,
# as every other writer takes them.
_MOVE_CHAT = (
    text("""
        UPDATE generations SET chat_id = :to_chat WHERE id IN (
            SELECT id FROM generations WHERE chat_id = :from_chat AND finished_at IS NULL ORDER BY id FOR UPDATE
        )
    """),
    text("""
        UPDATE outbox SET chat_id = :to_chat, payload = payload - 'edit'
        WHERE chat_id = :from_chat AND sent_at IS NULL AND buried_at IS NULL
    """),
    text("""
        UPDATE cards SET chat_id = :to_chat, message_id = NULL
        WHERE chat_id = :from_chat AND (NOT is_gone OR wanted_version > sent_version)
    """),
)
_BURY = text("""
    WITH gone AS (
        UPDATE outbox SET buried_at = now(), reason = :reason, claimed_by = NULL
        WHERE id = :id AND claimed_by = :owner AND sent_at IS NULL RETURNING id, payload
    )
    INSERT INTO dead_letters (kind, source_id, payload, reason)
    SELECT 'outbox', id, convert_to(payload::text, 'UTF8'), :reason FROM gone
    ON CONFLICT (kind, source_id) DO UPDATE  -- it was revived, and failed again
    SET reason = excluded.reason, buried_at = now(), revived_at = NULL, closed_at = NULL
""")


_LEFT_BEHIND = text("""
    SELECT id FROM (
        SELECT id, claimed_by, next_at FROM outbox
        WHERE chat_id = :chat_id AND sent_at IS NULL AND buried_at IS NULL ORDER BY id LIMIT 1
    ) AS head WHERE claimed_by IS NULL AND next_at <= now()
""")


class OutboxRepository:
    """Messages decided and not yet sent. Within a chat only the oldest may be claimed: order is kept."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add_all(self, drafts: Sequence[Draft], owner: UUID | None) -> tuple[list[Row], list[Deliver]]:
        """Write messages. Returns those claimed for `owner` to send after the commit, and wake-ups for the rest."""
        mine: list[Row] = []
        others: list[Deliver] = []
        for chat_id in dict.fromkeys(draft.chat_id for draft in drafts):
            of_chat = [draft for draft in drafts if draft.chat_id == chat_id]
            facts = {
                "chat_id": chat_id,
                "owner": owner,
                "kinds": [draft.kind for draft in of_chat],
                "payloads": [json.dumps(dict(draft.payload)) for draft in of_chat],
                "generation_ids": [draft.generation_id for draft in of_chat],
                "keys": [draft.key for draft in of_chat],
            }
            for row in await self._connection.execute(_ADD, facts):
                if row.is_mine:
                    mine.append(Row(*row[:6]))
                else:
                    others.append(Deliver(chat_id, row.id))
        return mine, others[-1:] if len({d.chat_id for d in others}) == 1 else others

    async def claim_head(self, chat_id: int, owner: UUID) -> Row | None:
        """The chat's oldest unsent message, or None: nothing waits, its pause is not over, or another sends it."""
        row = (await self._connection.execute(_CLAIM_HEAD, {"chat_id": chat_id, "owner": owner})).one_or_none()
        return None if row is None else Row(*row)

    async def sent(self, row_id: int, owner: UUID, message_id: int) -> None:
        await self._connection.execute(_SENT, {"id": row_id, "owner": owner, "message_id": message_id})

    async def later(self, row_id: int, owner: UUID, *, pause_s: float, reason: str, free_try: bool = False) -> None:
        """Not now. free_try: being asked to wait does not use up a try."""
        facts = {"id": row_id, "owner": owner, "pause_s": pause_s, "reason": reason[:300], "free_try": int(free_try)}
        await self._connection.execute(_LATER, facts)

    async def bury(self, row_id: int, owner: UUID, reason: str) -> None:
        await self._connection.execute(_BURY, {"id": row_id, "owner": owner, "reason": reason[:300]})

    async def move_chat(self, from_chat: int, to_chat: int) -> None:
        """A group became a supergroup: what waits for it goes to the new id, open works and their cards too."""
        for statement in _MOVE_CHAT:
            await self._connection.execute(statement, {"from_chat": from_chat, "to_chat": to_chat})

    async def left_behind(self, chat_id: int) -> int | None:
        """The id of the chat's head when it could be sent now and nobody does: its wake-up came while we sent."""
        head: int | None = await self._connection.scalar(_LEFT_BEHIND, {"chat_id": chat_id})
        return head


_WANT = text("""
    INSERT INTO cards (generation_id, chat_id, message_id, wanted_version, sent_version)
    VALUES (:generation_id, :chat_id, :message_id, 1, 0)
    ON CONFLICT (generation_id) DO UPDATE SET wanted_version = cards.wanted_version + 1
    RETURNING wanted_version
""")
# It was last shown when its quiet time began. A third of the age on top: who waits for long is told more seldom.
_WANT_AGAIN = text("""
    UPDATE cards SET wanted_version = wanted_version + 1 FROM generations g
    WHERE g.id = generation_id AND generation_id = :generation_id AND NOT is_gone AND wanted_version = sent_version
        AND next_at <= now() - greatest(make_interval(secs => :stale_s), (now() - g.accepted_at) / 3)
    RETURNING wanted_version
""")
_WANT_GONE = text("""
    UPDATE cards SET is_gone = true, wanted_version = wanted_version + 1 WHERE generation_id = :generation_id
    RETURNING wanted_version
""")
# That a work is being handed over makes no card wanted: mostly it lasts a second. Who looks while it does shows it.
_CLAIM_CARD = text(f"""
    UPDATE cards SET claimed_by = :owner, claimed_at = now()
    WHERE generation_id = :generation_id AND next_at <= now() AND {takeable("cards")} AND (
        wanted_version > sent_version
        OR NOT is_gone AND told_state IS DISTINCT FROM 'submitting'
            AND EXISTS (SELECT FROM generations WHERE id = :generation_id AND state = 'submitting')
    )
    RETURNING generation_id, chat_id, message_id, wanted_version, sent_version, is_gone, told_state
""")
_CARD_SENT = text("""
    UPDATE cards SET sent_version = greatest(sent_version, :version), told_state = :told,
        message_id = CASE WHEN chat_id = :chat_id THEN coalesce(:message_id, message_id) ELSE message_id END,
        claimed_by = NULL, claimed_at = NULL, next_at = now() + make_interval(secs => :quiet_s)
    WHERE generation_id = :generation_id AND claimed_by = :owner
    RETURNING wanted_version > sent_version
""")
_CARD_LATER = text("""
    UPDATE cards SET claimed_by = NULL, claimed_at = NULL, next_at = now() + make_interval(secs => :pause_s)
    WHERE generation_id = :generation_id AND claimed_by = :owner
""")


_QUIET_FOR = text("""
    SELECT greatest(0.0, extract(epoch FROM next_at - now()))::float8 FROM cards
    WHERE generation_id = :generation_id AND wanted_version > sent_version AND claimed_by IS NULL
""")


class CardRepository:
    """Status cards: wanted and sent versions. Edits coalesce; one sender at a time."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def want(self, generation_id: UUID, chat_id: int, message_id: int | None = None) -> int:
        """The card is out of date (or new; then `message_id` is the message it takes over). The wanted version."""
        facts = {"generation_id": generation_id, "chat_id": chat_id, "message_id": message_id}
        return int(await self._connection.scalar(_WANT, facts) or 0)

    async def want_again(self, generation_id: UUID, stale_s: float) -> int | None:
        """What the card tells has been standing for `stale_s` seconds, and for a third of the work's age: the wanted
        version. None, when it is fresh, or behind already."""
        facts = {"generation_id": generation_id, "stale_s": stale_s}
        version: int | None = await self._connection.scalar(_WANT_AGAIN, facts)
        return version

    async def want_gone(self, generation_id: UUID) -> int:
        """The outcome stands in the chat: the card is to be removed. 0 when there is no card."""
        return int(await self._connection.scalar(_WANT_GONE, {"generation_id": generation_id}) or 0)

    async def claim(self, generation_id: UUID, owner: UUID) -> Card | None:
        """A card that is behind, or does not tell yet that its work is being handed over."""
        facts = {"generation_id": generation_id, "owner": owner}
        row = (await self._connection.execute(_CLAIM_CARD, facts)).one_or_none()
        return None if row is None else Card(*row)

    async def sent(self, card: Card, owner: UUID, *, message_id: int | None, told: str | None, quiet_s: float) -> bool:
        """This version stands, and tells of the work that it is `told`. True when a newer one is wanted by now; no edit
        goes out for `quiet_s` seconds."""
        facts = {
            "generation_id": card.generation_id,
            "chat_id": card.chat_id,
            "owner": owner,
            "version": card.wanted_version,
            "message_id": message_id,
            "told": told,
            "quiet_s": quiet_s,
        }
        return bool(await self._connection.scalar(_CARD_SENT, facts))

    async def later(self, card: Card, owner: UUID, pause_s: float) -> None:
        facts = {"generation_id": card.generation_id, "owner": owner, "pause_s": pause_s}
        await self._connection.execute(_CARD_LATER, facts)

    async def quiet_for(self, generation_id: UUID) -> float | None:
        """Seconds until a card that is behind may be edited; None when it is not behind, or somebody edits it now."""
        seconds: float | None = await self._connection.scalar(_QUIET_FOR, {"generation_id": generation_id})
        return seconds
