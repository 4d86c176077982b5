"""What delivery needs of the world, and the shape of what it sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kiebot.errors import Permanent, Transient
from kiebot.generation.model import Generation


@dataclass(frozen=True, slots=True)
class Button:
    """An inline button: `data` (64 bytes at most) comes back as a press, `url` opens a page. Exactly one is set."""

    text: str
    data: str | None = None
    url: str | None = None


Keyboard = tuple[tuple[Button, ...], ...]


@dataclass(frozen=True, slots=True)
class Say:
    """A text message in plain text. `edit_message_id`: turn that message into this one; when it is gone, send anew."""

    text: str
    keyboard: Keyboard = ()
    edit_message_id: int | None = None


@dataclass(frozen=True, slots=True)
class Bill:
    """A request for Telegram Stars, with its own button to pay. Telegram's limits: title 32, description 255
    characters, payload 128 bytes. `start_parameter`: where a forwarded copy leads, which then cannot be paid."""

    title: str
    description: str
    payload: str
    stars: int
    start_parameter: str


@dataclass(frozen=True, slots=True)
class Sent:
    """What Telegram made of it. `file_ids` are in the order of the files sent."""

    message_id: int
    file_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Media:
    """One file to send: a local path to upload, or a file_id to send again. `kind`: photo, video, audio, document.

    has_spoiler: a photo or video is covered until it is touched; nothing else can be.
    """

    kind: str
    source: Path | str
    file_name: str = "result"
    mime: str = "application/octet-stream"
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    has_spoiler: bool = False


class ChatGone(Permanent):
    """The chat cannot be written to: the user blocked the bot, is deactivated, or the chat is gone."""

    def __init__(self, message: str, *, code: str = "chat_gone") -> None:
        super().__init__(message, code=code)


class ChatMigrated(Transient):
    """The group became a supergroup: the same message goes to `new_chat_id`."""

    def __init__(self, new_chat_id: int) -> None:
        super().__init__("the chat has moved")
        self.new_chat_id = new_chat_id


class MessageGone(Permanent):
    """The message to edit is not there any more, or cannot be edited."""


class MediaRefused(Permanent):
    """Telegram does not take this file as this kind. Try the next kind: photo, then document, then a link."""


class Messenger(Protocol):
    """Sends through the Bot API, within the cluster's rate limits.

    Raises: RateLimited and Transient (nothing was sent: again later), OutcomeUnknown (the answer was lost: it may have
    been sent), ChatMigrated, ChatGone, MessageGone, MediaRefused, Permanent (never as it is).
    """

    async def send_text(self, chat_id: int, text: str, keyboard: Keyboard = ()) -> Sent: ...

    async def edit_text(self, chat_id: int, message_id: int, text: str, keyboard: Keyboard = ()) -> None:
        """An edit that changes nothing is a success."""
        ...

    async def delete(self, chat_id: int, message_id: int) -> None:
        """A message that is already gone is a success."""
        ...

    async def send_media(self, chat_id: int, media: Media, caption: str, keyboard: Keyboard = ()) -> Sent: ...

    async def send_album(self, chat_id: int, media: Sequence[Media]) -> Sent:
        """Several files as one album (2-10), or one alone; no caption, no buttons. The id is the first message's."""
        ...

    async def send_bill(self, chat_id: int, bill: Bill) -> Sent: ...

    async def answer_press(self, callback_query_id: str, text: str | None = None) -> None:
        """Best effort: the first thing that happens after a press. Never raises."""
        ...


class Renderer(Protocol):
    """Turns facts into sentences in the user's language. Implemented by the bot, pure."""

    def outcome(self, kind: str, generation: Generation, facts: dict[str, object]) -> Say:
        """`kind`: result (a caption), failed, late_result, result_link (`why`: refused by
        Telegram, or out_of_reach). Always says what happened to the money."""
        ...

    def card(self, generation: Generation, facts: dict[str, object]) -> Say:
        """The status card of a generation that has not ended."""
        ...

    def apology(self, language: str, error_id: str) -> Say:
        """Something of ours broke while handling an update; `error_id` is what the user may quote."""
        ...
