"""Update JSON -> RawUpdate: its lane, and whether it may overtake. Knows as little of the content as it can."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeGuard

import msgspec

from kiebot.intake.ports import RawUpdate

ALLOWED_UPDATES = ("message", "callback_query", "pre_checkout_query", "my_chat_member")
"""What the bot handles. Telegram keeps one list for polling and webhook, so both must ask for the same."""


_objects = msgspec.json.Decoder(dict[str, Any])


class UpdateReader:
    """Reads updates wherever they come from: a poll or a webhook. `is_urgent(data)`: this press may overtake."""

    def __init__(self, is_urgent: Callable[[str], bool]) -> None:
        self._is_urgent = is_urgent

    def read(self, payload: bytes) -> RawUpdate:
        """The update with its JSON as it is. Strange content is no error: the lane is then the bot's own.

        Raises: ValueError, when it is not a JSON object with a whole-number `update_id`.
        """
        update = _object(payload)
        update_id = update.get("update_id")
        if not _is_whole(update_id):
            raise ValueError("an update without an update_id")
        return RawUpdate(update_id, lane_of(update), payload, self._urgent(update))

    def _urgent(self, update: dict[str, Any]) -> bool:
        press = update.get("callback_query")
        data = press.get("data") if isinstance(press, dict) else None
        return isinstance(data, str) and self._is_urgent(data)


def lane_of(update: dict[str, Any]) -> str:
    """What must stay in order: "c<chat id>", else "u<user id>", else "b" for the bot itself. Kinds unknown included."""
    content = next((value for value in update.values() if isinstance(value, dict)), {})
    message = content.get("message")
    holders = (content, message if isinstance(message, dict) else {})  # a press names the chat in its message
    for holder in holders:
        chat_id = _id(holder.get("chat"))
        if chat_id is not None:
            return f"c{chat_id}"
    for name in ("from", "user"):
        user_id = _id(content.get(name))
        if user_id is not None:
            return f"u{user_id}"
    return "b"


def _id(party: object) -> int | None:
    found = party.get("id") if isinstance(party, dict) else None
    return found if _is_whole(found) else None


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _object(payload: bytes) -> dict[str, Any]:
    try:
        return _objects.decode(payload)
    except ValueError:
        return lenient_object(payload)


def lenient_object(payload: bytes) -> dict[str, Any]:
    """JSON with broken characters in its texts, which must not hold up all that comes after it. Raises: ValueError."""
    found = json.loads(payload.decode("utf-8", "replace"))
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found
