"""People at their phones: they send, press what they see, and read what stands in the chat."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from kiebot.bot.application import BotHandler
from kiebot.bot.settings import BotSettings
from kiebot.delivery.outbox import Draft, say_of
from kiebot.delivery.ports import Button, Keyboard
from kiebot.generation.model import Generation
from kiebot.payments.credit import Terms
from tests.bot.doubles import FakeTx

BOT_ID = 7000
USERNAME = "kie_test_bot"
SETTINGS = BotSettings(
    markup=Decimal(2),
    bot_username=USERNAME,
    payment_terms=Terms(Decimal(1), b"key of the tests"),
    welcome_credits_millicredits=50_000,
    support_contact="@helper",
)
_ids = itertools.count(1)


@dataclass
class Shown:
    """A message as it stands in the chat."""

    id: int
    text: str
    keyboard: Keyboard = ()

    @property
    def buttons(self) -> list[Button]:
        return [each for row in self.keyboard for each in row]


@dataclass
class Phone:
    """One user in one chat. Messages of the bot land here as the courier would put them."""

    handler: BotHandler
    tx: FakeTx
    user_id: int = 42
    chat_id: int = 42
    code: str = "en"
    chat: dict[int, Shown] = field(default_factory=dict)
    last: Shown | None = None
    drafts: list[Draft] = field(default_factory=list)

    @property
    def screen(self) -> Shown:
        assert self.last is not None, "the bot has said nothing yet"
        return self.last

    def button(self, *words: str) -> Button:
        """The button of the newest message whose label or data holds one of the words."""
        found = [b for b in self.screen.buttons if any(w in b.text or w in (b.data or "") for w in words)]
        assert found, f"no button with {words} among {[b.text for b in self.screen.buttons]}"
        return found[0]

    def has_button(self, word: str) -> bool:
        return any(word in each.text or word in (each.data or "") for each in self.screen.buttons)

    async def says(self, text: str, **more: Any) -> list[Draft]:
        commands = [{"type": "bot_command", "offset": 0, "length": len(text.split()[0])}] if text[:1] == "/" else []
        return await self.sends(text=text, entities=commands, **more)

    async def sends(self, **content: Any) -> list[Draft]:
        return await self.update(message=self.message(content))

    async def presses(self, button: Button, *, on: Shown | None = None, by: int | None = None) -> list[Draft]:
        message_id = (on or self.screen).id
        return await self.update(callback_query=self._query(button.data or "", message_id, by or self.user_id))

    async def presses_word(self, *words: str) -> list[Draft]:
        return await self.presses(self.button(*words))

    async def update(self, **content: Any) -> list[Draft]:
        drafts = await self.handler.handle(self.tx, payload(**content))
        for draft in drafts:
            await self._receive(draft)
        self.drafts = drafts
        return drafts

    def generations(self) -> list[Generation]:
        return [g for g in self.tx.tables.generations.values() if g.user_id == self.user_id]

    async def is_given(self, credits: int) -> None:
        await self.tx.ledger.grant(f"gift{next(_ids)}", self.user_id, credits * 1000, reason="test", actor="test")

    async def _receive(self, draft: Draft) -> None:
        if draft.kind not in ("say", "draft_screen") or draft.chat_id != self.chat_id:
            return
        said = say_of(draft.payload)
        assert 1 <= len(said.text) <= 4096
        assert sum(map(len, said.keyboard)) <= 100, "Telegram shows no more buttons"
        assert all(1 <= len(row) <= 8 for row in said.keyboard)
        assert all(len((each.data or "").encode()) <= 64 for row in said.keyboard for each in row)
        message_id = said.edit_message_id or next(_ids) + 10_000
        self.last = self.chat[message_id] = Shown(message_id, said.text, said.keyboard)
        screen = draft.payload.get("screen")
        if isinstance(screen, dict):
            await self.tx.drafts.screen_is(screen["user_id"], draft.chat_id, screen["version"], message_id)

    def message(self, content: dict[str, Any]) -> dict[str, Any]:
        return {
            "message_id": next(_ids),
            "date": 1_772_000_000,
            "chat": self._chat(),
            "from": self._sender(),
            **content,
        }

    def _query(self, data: str, message_id: int, by: int) -> dict[str, Any]:
        own = {"message_id": message_id, "date": 1_772_000_000, "chat": self._chat(), "text": "…"}
        return {"id": f"q{next(_ids)}", "from": self._sender(by), "chat_instance": "1", "data": data, "message": own}

    def _sender(self, user_id: int | None = None) -> dict[str, Any]:
        who = user_id or self.user_id
        return {"id": who, "is_bot": False, "first_name": "Anna", "language_code": self.code}

    def _chat(self) -> dict[str, Any]:
        kind = "private" if self.chat_id > 0 else "supergroup"
        return {"id": self.chat_id, "type": kind, "title": "A group", "first_name": "Anna"}


def payload(**content: Any) -> bytes:
    return json.dumps({"update_id": next(_ids), **content}).encode()


def photo(size: int = 200_000, **more: Any) -> dict[str, Any]:
    sizes = [(90, 60, 1000), (1280, 853, size)]
    named = [
        {"file_id": f"photo{next(_ids)}", "file_unique_id": "u", "width": w, "height": h, "file_size": s}
        for w, h, s in sizes
    ]
    return {"photo": named, **more}


def video(seconds: int = 5, size: int = 3_000_000, **more: Any) -> dict[str, Any]:
    facts = {"file_id": f"video{next(_ids)}", "file_unique_id": "u", "width": 1280, "height": 720}
    return {"video": {**facts, "duration": seconds, "mime_type": "video/mp4", "file_size": size}, **more}


def audio(seconds: int = 5, size: int = 300_000, **more: Any) -> dict[str, Any]:
    facts = {"file_id": f"audio{next(_ids)}", "file_unique_id": "u", "duration": seconds}
    return {"audio": {**facts, "mime_type": "audio/mpeg", "file_size": size}, **more}


def document(mime: str, size: int = 100_000, **more: Any) -> dict[str, Any]:
    facts = {"file_id": f"doc{next(_ids)}", "file_unique_id": "u", "mime_type": mime, "file_size": size}
    return {"document": {**facts, "file_name": "a file"}, **more}
