"""The outbox: messages decided, not yet sent. As values; the rows are in storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from uuid import UUID

from kiebot.delivery.ports import Bill, Button, Keyboard, Say


@dataclass(frozen=True, slots=True)
class Draft:
    """A message to be written into the outbox by the present transaction.

    kind: say (payload is a rendered text), draft_screen (the same, and its message becomes the draft's screen),
        result, failed, late_result (facts, rendered when sent), bill (a request for Stars).
    key: names the message itself, so that it is decided once; None when nothing could repeat it.
    """

    chat_id: int
    kind: str
    payload: Mapping[str, object]
    generation_id: UUID | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A message claimed for sending."""

    id: int
    chat_id: int
    kind: str
    payload: Mapping[str, object]
    generation_id: UUID | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Card:
    """A status card claimed for a refresh to `wanted_version`."""

    generation_id: UUID
    chat_id: int
    message_id: int | None
    wanted_version: int
    sent_version: int
    is_gone: bool
    told_state: str | None  # what it last told, or tried to


def say_payload(say: Say, *, is_news: bool = False) -> dict[str, object]:
    """A rendered text as JSON, readable by the version before and after. is_news: nobody waits before the screen for
    it, and it is as good hours later."""
    keyboard = [[_button(button) for button in row] for row in say.keyboard]
    news = {"news": True} if is_news else {}
    return {"text": say.text, "keyboard": keyboard, "edit": say.edit_message_id, **news}


def say_of(payload: Mapping[str, object]) -> Say:
    rows = payload.get("keyboard") or []
    keyboard: Keyboard = tuple(
        tuple(Button(b["text"], b.get("data"), b.get("url")) for b in row)
        for row in rows  # type: ignore[attr-defined]  # JSON of our own making, written by say_payload
    )
    edit = payload.get("edit")
    return Say(str(payload["text"]), keyboard, edit if isinstance(edit, int) else None)


def bill_payload(bill: Bill) -> dict[str, object]:
    return asdict(bill)


def bill_of(payload: Mapping[str, object]) -> Bill:
    """Raises: KeyError, for what another version wrote otherwise."""
    title, description, signed, start = (
        str(payload[name]) for name in ("title", "description", "payload", "start_parameter")
    )
    return Bill(title, description, signed, int(str(payload["stars"])), start)


def _button(button: Button) -> dict[str, str]:
    parts = {"text": button.text, "data": button.data, "url": button.url}
    return {name: value for name, value in parts.items() if value is not None}
