"""Users and what they are choosing, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who wrote to the bot. `is_new`: this very update is the first of them. `banned_at`: by an admin."""

    id: int
    first_name: str
    language: str
    is_new: bool = False
    banned_at: datetime | None = None

    @property
    def is_banned(self) -> bool:
        return self.banned_at is not None


@dataclass(frozen=True, slots=True)
class Wishes:
    """How somebody wants pictures and videos: hidden behind a spoiler; as files, which Telegram does not compress."""

    hides_media: bool = False
    wants_files: bool = False


@dataclass(frozen=True, slots=True)
class DraftRow:
    """What a user is choosing in a chat. `version` changes with each screen, so that stale buttons are known."""

    version: int
    state: Mapping[str, object]
    message_id: int | None
