"""A handler that does next to nothing, so that what is measured is the way to it: one row per update, no answer.

Each update is noted with when its handling began and ended, by the machine's own clock, which all processes share.
"""

from __future__ import annotations

import mmap
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import text

from kiebot.delivery.outbox import Draft

CREATE = "CREATE TABLE effects (update_id bigint NOT NULL, chat_id bigint NOT NULL)"
_EFFECT = text("INSERT INTO effects (update_id, chat_id) VALUES (:update_id, :chat_id)")
_NOTE = struct.Struct("=qqqq")
_MOST = 200_000


class _Chat(msgspec.Struct):
    id: int


class _Message(msgspec.Struct):
    chat: _Chat


class _Update(msgspec.Struct):
    update_id: int
    message: _Message


@dataclass(frozen=True, slots=True)
class Note:
    """One handling; instants in nanoseconds of CLOCK_MONOTONIC."""

    update_id: int
    chat_id: int
    began: int
    ended: int


class LightHandler:
    """Implements kiebot.intake.drain.UpdateHandler. Notes go to a file that a benchmark reads while we run."""

    def __init__(self, notes: Path) -> None:
        notes.write_bytes(bytes(_NOTE.size * _MOST))
        with notes.open("r+b") as file:
            self._notes = mmap.mmap(file.fileno(), 0)
        self._count = 0

    async def handle(self, tx: Any, payload: bytes) -> list[Draft]:
        began = time.monotonic_ns()
        update = msgspec.json.decode(payload, type=_Update)
        chat_id = update.message.chat.id
        await tx.connection.execute(_EFFECT, {"update_id": update.update_id, "chat_id": chat_id})
        place = self._count * _NOTE.size
        self._count += 1
        _NOTE.pack_into(self._notes, place, update.update_id, chat_id, began, time.monotonic_ns())
        return []

    def press_of(self, payload: bytes) -> str | None:
        return None

    async def apologise(self, tx: Any, payload: bytes, error_id: str) -> list[Draft]:
        return []

    async def too_fast(self, tx: Any, payload: bytes) -> list[Draft]:
        return []


def read_notes(path: Path) -> list[Note]:
    """Of one process, in the order of their ends."""
    return [Note(*each) for each in _NOTE.iter_unpack(path.read_bytes()) if each[2]] if path.exists() else []
