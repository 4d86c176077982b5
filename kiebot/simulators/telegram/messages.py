"""Chats and the messages in them, as one bot knows them."""

import asyncio
import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from kiebot.simulators.telegram.answers import Json
from kiebot.simulators.telegram.files import MEDIA_FIELDS, SentFile

ChatKind = Literal["private", "group", "supergroup", "channel"]
Change = Literal["new", "edit", "delete"]
_KEPT_EVENTS = 2000


class Readable:
    """What can be read from a message. `body` is the Message object of the API."""

    body: Json
    media: SentFile | None

    @property
    def message_id(self) -> int:
        return int(self.body["message_id"])

    @property
    def text(self) -> str | None:
        return self.body.get("text")

    @property
    def caption(self) -> str | None:
        return self.body.get("caption")

    @property
    def keyboard(self) -> list[list[Json]]:
        """Rows of inline buttons as the API describes them."""
        rows: list[list[Json]] = self.body.get("reply_markup", {}).get("inline_keyboard", [])
        return rows

    @property
    def buttons(self) -> list[str]:
        """Labels of the inline buttons, row by row."""
        return [button["text"] for row in self.keyboard for button in row]

    @property
    def media_kind(self) -> str | None:
        """photo, video, audio, document, animation, voice; None for text."""
        return self.media.kind if self.media else None

    @property
    def media_bytes(self) -> bytes | None:
        return self.media.content.data if self.media else None

    @property
    def invoice(self) -> Json | None:
        return self.body.get("invoice")

    def says(self, *parts: str) -> bool:
        """Whether text or caption contains every part, whatever its case."""
        words = (self.text or self.caption or "").casefold()
        return all(part.casefold() in words for part in parts)


@dataclass(frozen=True, slots=True)
class MessageState(Readable):
    """A message as it was at one moment."""

    body: Json
    media: SentFile | None


@dataclass(slots=True, eq=False)
class ChatMessage(Readable):
    """A message as it is now. Edits replace `body`, they never change the old one."""

    chat: "Chat"
    body: Json
    media: SentFile | None
    from_bot: bool
    invoice_payload: str | None = None
    is_deleted: bool = False

    @property
    def is_editable(self) -> bool:
        return self.from_bot and not self.is_deleted

    def state(self) -> MessageState:
        return MessageState(self.body, self.media)

    def content(self) -> tuple[Any, ...]:
        """What an edit must change: text, entities, media and keyboard."""
        body = self.body
        entities = body.get("entities") or body.get("caption_entities") or []
        unique = self.media.content.unique_id if self.media else None
        return body.get("text"), body.get("caption"), entities, unique, body.get("reply_markup")


@dataclass(slots=True, eq=False)
class ChatEvent:
    """Something the bot did in a chat; `state` is the message right after it (before it, for a deletion)."""

    number: int
    change: Change
    message: ChatMessage
    state: MessageState
    is_heard: bool = False


@dataclass(slots=True, eq=False)
class Chat:
    """One chat. `status` is the bot's membership: member, kicked (blocked, in a private chat), left, administrator."""

    chat_id: int
    kind: ChatKind
    names: Json
    ids: Iterator[int]
    status: str = "member"
    is_started: bool = True
    is_deactivated: bool = False
    migrated_to: int | None = None
    keep: int | None = None
    members: dict[int, Json] = field(default_factory=dict)
    reply_keyboard: Json | None = None
    topics: set[int] = field(default_factory=set)
    actions: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_EVENTS))
    drafts: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_EVENTS))
    reactions: dict[int, list[Json]] = field(default_factory=dict)
    messages: OrderedDict[int, ChatMessage] = field(default_factory=OrderedDict)
    events: deque[ChatEvent] = field(default_factory=lambda: deque(maxlen=_KEPT_EVENTS))
    _listeners: list[asyncio.Future[None]] = field(default_factory=list)
    _event_numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def is_group(self) -> bool:
        return self.kind in ("group", "supergroup")

    def as_json(self) -> Json:
        """The Chat object of the API."""
        return {"id": self.chat_id, "type": self.kind, **self.names}

    def add(self, message: ChatMessage) -> None:
        self.messages[message.message_id] = message
        if self.keep is not None and len(self.messages) > self.keep:
            self.messages.popitem(last=False)
        if message.from_bot:
            self.note("new", message)

    def get(self, message_id: int) -> ChatMessage | None:
        """The message, unless it is unknown or deleted."""
        message = self.messages.get(message_id)
        return None if message is None or message.is_deleted else message

    def delete(self, message: ChatMessage) -> None:
        message.is_deleted = True
        if message.from_bot:
            self.note("delete", message)

    def from_bot(self) -> list[ChatMessage]:
        """The bot's messages that are still there, oldest first."""
        return [message for message in self.messages.values() if message.is_editable]

    def note(self, change: Change, message: ChatMessage) -> None:
        """Record what the bot did and wake whoever waits for it."""
        self.events.append(ChatEvent(next(self._event_numbers), change, message, message.state()))
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            if not listener.done():
                listener.set_result(None)

    def changed(self) -> asyncio.Future[None]:
        """Done when the bot next does something in this chat."""
        listener: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listeners.append(listener)
        return listener


def media_field(body: Json) -> str | None:
    """The field of a Message that holds its medium."""
    return next((name for name in MEDIA_FIELDS if name in body), None)


class ChatBook:
    """All chats of one bot. Private chats and basic groups share one sequence of message ids."""

    def __init__(self, keep_messages: int | None) -> None:
        self._chats: dict[int, Chat] = {}
        self._shared_ids = itertools.count(1)
        self._keep = keep_messages

    def __iter__(self) -> Iterator[Chat]:
        return iter(list(self._chats.values()))

    def get(self, chat_id: int) -> Chat | None:
        return self._chats.get(chat_id)

    def find(self, matches: Callable[[Chat], bool]) -> Chat | None:
        return next((chat for chat in self._chats.values() if matches(chat)), None)

    def add(self, chat_id: int, kind: ChatKind, names: Json, *, is_started: bool = True) -> Chat:
        """The chat of that id, made when there is none."""
        chat = self._chats.get(chat_id)
        if chat is None:
            ids = self._shared_ids if kind in ("private", "group") else itertools.count(1)
            chat = Chat(chat_id, kind, names, ids, is_started=is_started, keep=self._keep)
            self._chats[chat_id] = chat
        return chat
