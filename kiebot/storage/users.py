"""Users and what they are choosing, in the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kiebot.admin.model import Person
from kiebot.people import DraftRow, User, Wishes

_SEEN = text("""
    INSERT INTO users (id, first_name, language) VALUES (:id, :first_name, :language)
    ON CONFLICT (id) DO UPDATE SET first_name = excluded.first_name, seen_at = now(), blocked_bot_at = NULL,
        language = CASE WHEN users.language_chosen THEN users.language ELSE excluded.language END
    RETURNING id, first_name, language, xmax = 0 AS is_new, banned_at
""")
_LANGUAGE = text("UPDATE users SET language = :language, language_chosen = true WHERE id = :id")
_WISHES = text("SELECT hides_media, wants_files FROM users WHERE id = :id")
_WISH = text("UPDATE users SET hides_media = :hides_media, wants_files = :wants_files WHERE id = :id")
_BLOCKED = text("UPDATE users SET blocked_bot_at = now() WHERE id = :id")
_FIND = text("""
    SELECT id, first_name, language, created_at, seen_at, blocked_bot_at, banned_at FROM users WHERE id = :id
""")
_FIRST = text("SELECT min(created_at) FROM users")
_BAN = text("UPDATE users SET banned_at = now() WHERE id = :id AND banned_at IS NULL RETURNING id")
_UNBAN = text("UPDATE users SET banned_at = NULL WHERE id = :id AND banned_at IS NOT NULL RETURNING id")
_LOAD = text("SELECT version, state, message_id FROM drafts WHERE user_id = :user_id AND chat_id = :chat_id")
_SAVE = text("""
    INSERT INTO drafts (user_id, chat_id, state, message_id, version)
    VALUES (:user_id, :chat_id, CAST(:state AS jsonb), :message_id, 1)
    ON CONFLICT (user_id, chat_id) DO UPDATE
    SET state = excluded.state, version = drafts.version + 1, message_id = excluded.message_id, updated_at = now()
    RETURNING version
""")
_SCREEN = text("""
    UPDATE drafts SET message_id = :message_id
    WHERE user_id = :user_id AND chat_id = :chat_id AND version = :version
""")
_CLEAR = text("DELETE FROM drafts WHERE user_id = :user_id AND chat_id = :chat_id")


class UserRepository:
    """People, and their language: Telegram's, until they choose one."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def seen(self, user_id: int, first_name: str, language: str) -> User:
        facts = {"id": user_id, "first_name": first_name[:64], "language": language}
        return User(*(await self._connection.execute(_SEEN, facts)).one())

    async def choose_language(self, user_id: int, language: str) -> None:
        await self._connection.execute(_LANGUAGE, {"id": user_id, "language": language})

    async def wishes(self, user_id: int) -> Wishes:
        row = (await self._connection.execute(_WISHES, {"id": user_id})).one_or_none()
        return Wishes() if row is None else Wishes(*row)

    async def wish(self, user_id: int, wishes: Wishes) -> None:
        await self._connection.execute(_WISH, {"id": user_id, **asdict(wishes)})

    async def blocked_bot(self, user_id: int) -> None:
        await self._connection.execute(_BLOCKED, {"id": user_id})

    async def first_came(self) -> datetime | None:
        """When the first person of all came: before that nothing was sold here. None: nobody came yet."""
        first: datetime | None = await self._connection.scalar(_FIRST)
        return first

    async def find(self, user_id: int) -> Person | None:
        row = (await self._connection.execute(_FIND, {"id": user_id})).one_or_none()
        return None if row is None else Person(*row)

    async def ban(self, user_id: int) -> bool:
        """Nothing of theirs starts anything from the next update on. False: unknown, or so already."""
        return await self._connection.scalar(_BAN, {"id": user_id}) is not None

    async def unban(self, user_id: int) -> bool:
        """False: unknown, or not banned."""
        return await self._connection.scalar(_UNBAN, {"id": user_id}) is not None


class DraftRepository:
    """Drafts: any replica can answer any button."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def load(self, user_id: int, chat_id: int) -> DraftRow | None:
        row = (await self._connection.execute(_LOAD, {"user_id": user_id, "chat_id": chat_id})).one_or_none()
        return None if row is None else DraftRow(*row)

    async def save(self, user_id: int, chat_id: int, state: Mapping[str, object], message_id: int | None) -> int:
        """Write the draft; returns its new version."""
        facts = {
            "user_id": user_id,
            "chat_id": chat_id,
            "state": json.dumps(dict(state)),
            "message_id": message_id,
        }
        return int(await self._connection.scalar(_SAVE, facts) or 0)

    async def screen_is(self, user_id: int, chat_id: int, version: int, message_id: int) -> None:
        """The message that shows this version of the draft."""
        facts = {"user_id": user_id, "chat_id": chat_id, "version": version, "message_id": message_id}
        await self._connection.execute(_SCREEN, facts)

    async def clear(self, user_id: int, chat_id: int) -> None:
        await self._connection.execute(_CLEAR, {"user_id": user_id, "chat_id": chat_id})
