"""What Telegram does not say of a film or a sound that is sent as a file: how long it is.

Apps for computers send most of them so, and a price may depend on the length. The file is read and measured before its
update is handled, outside of any transaction; the handler then finds what Telegram tells of a video. When it cannot be
had in time, the handler asks for it in another form: that is better than a chat that stands still.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from kiebot.errors import KiebotError
from kiebot.generation.lengths import metered
from kiebot.generation.media import declared, is_accepted
from kiebot.generation.ports import UserFile, UserFiles

log = structlog.get_logger()

WITHIN_S = 10.0  # a lane's claim outlasts ten of these, as many as a drain takes on
MOST_AT_ONCE = 4  # whoever sends files by the hundred keeps others waiting for theirs, and for nothing else
MOST_KNOWN = 1000


@dataclass(frozen=True, slots=True)
class _Sent:
    file: UserFile
    kind: str
    unique_id: str  # the same for whoever sends the file


class FileMeasurer:
    """Implements kiebot.intake.drain.Measurer."""

    def __init__(self, files: UserFiles) -> None:
        self._files = files
        self._room = asyncio.Semaphore(MOST_AT_ONCE)
        self._known: dict[str, float | None] = {}

    async def complete(self, payload: bytes) -> bytes:
        sent = _sent(payload)
        if sent is None:
            return payload
        try:
            async with asyncio.timeout(WITHIN_S), self._room:
                seconds = await self._seconds(sent)
        except (KiebotError, TimeoutError, OSError) as error:
            log.info("file.unmeasured", why=f"{type(error).__name__}: {error}")
            return payload
        return payload if seconds is None else _with_duration(payload, max(1, round(seconds)))

    async def _seconds(self, sent: _Sent) -> float | None:
        if sent.unique_id not in self._known:
            seconds = await self._measured(sent)
            while len(self._known) >= MOST_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[sent.unique_id] = seconds
        return self._known[sent.unique_id]

    async def _measured(self, sent: _Sent) -> float | None:
        async with self._files.open(sent.file) as content, metered(content, sent.kind) as meter:
            async for _ in meter.content():
                pass
            seconds = (await meter.facts())["seconds"]
        return seconds if isinstance(seconds, float) else None


class _Document(msgspec.Struct):
    file_id: str
    file_unique_id: str
    mime_type: str | None = None
    file_name: str | None = None
    file_size: int | None = None


class _Chat(msgspec.Struct):
    type: str = ""


class _Message(msgspec.Struct):
    chat: _Chat
    document: _Document | None = None
    animation: Any = None
    reply_to_message: Any = None


class _Peek(msgspec.Struct):
    message: _Message | None = None


def _sent(payload: bytes) -> _Sent | None:
    """The film or sound sent as a file, if that is what the update is, and the bot is spoken to."""
    if b'"document"' not in payload:
        return None
    try:
        message = msgspec.json.decode(payload, type=_Peek).message
    except msgspec.MsgspecError:
        return None
    if message is None or message.document is None or message.animation is not None:
        return None
    if message.chat.type != "private" and message.reply_to_message is None:
        return None
    found = message.document
    kind, mime = declared(found.mime_type, found.file_name)
    if kind not in ("video", "audio") or not is_accepted(kind, mime):
        return None
    file = UserFile(found.file_id, mime, found.file_name or "file", found.file_size)
    return _Sent(file, kind, found.file_unique_id)


def _with_duration(payload: bytes, seconds: int) -> bytes:
    """As Telegram would tell it of a video: in whole seconds. A clip of fifteen lasts 15.04 by its sound."""
    update = msgspec.json.decode(payload)
    update["message"]["document"]["duration"] = seconds
    return msgspec.json.encode(update)
