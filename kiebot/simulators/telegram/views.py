"""What somebody in a chat sees of the bot, and waiting for it without polling."""

import asyncio
from collections.abc import Callable

from kiebot.simulators.telegram.answers import Json
from kiebot.simulators.telegram.bot import Bot
from kiebot.simulators.telegram.messages import Chat, ChatEvent, ChatMessage, MessageState

Wanted = str | Callable[[MessageState], bool]


class ChatView:
    """What somebody in a chat sees of the bot."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self._acted_at_event = 0

    @property
    def chat_id(self) -> int:
        return self.chat.chat_id

    @property
    def messages(self) -> list[ChatMessage]:
        """The bot's messages as they are now, oldest first, without deleted ones."""
        return self.chat.from_bot()

    @property
    def last_message(self) -> ChatMessage:
        """Raises: LookupError, when the bot has said nothing."""
        messages = self.messages
        if not messages:
            raise LookupError("the bot has sent nothing to this chat")
        return messages[-1]

    @property
    def buttons(self) -> list[str]:
        """Labels of all inline buttons in sight, newest message first."""
        return [label for message in reversed(self.messages) for label in message.buttons]

    async def hears(self, wanted: Wanted, *, timeout: float = 10.0, ever: bool = False) -> ChatMessage:
        """The first new message, or edit, that says or satisfies `wanted`; each one is heard only once.

        Looked at are the things that happened since this person's last act (`ever`: all of them), then those to come. A
        message is judged by what it was right after that change; returned is the live message.

        Raises: TimeoutError after `timeout` seconds of the machine's time, with what was there instead.
        """
        seen = 0 if ever else self._acted_at_event
        try:
            async with asyncio.timeout(timeout):
                while True:
                    changed = self.chat.changed()
                    for event in self._events_after(seen):
                        seen = event.number
                        if _matches(event, wanted):
                            event.is_heard = True
                            return event.message
                    await changed
        except TimeoutError:
            raise TimeoutError(f"nothing like {wanted!r} within {timeout} s; {self.sight()}") from None

    def _events_after(self, number: int) -> list[ChatEvent]:
        found = []
        for event in reversed(self.chat.events):
            if event.number <= number:
                break
            found.append(event)
        return found[::-1]

    def sight(self) -> str:
        """The last few messages in short, for error messages."""
        shown = [message.text or message.caption or message.media_kind or "" for message in self.messages[-5:]]
        return f"the last messages were {shown}"

    def acted(self) -> None:
        """This person did something: what comes after is news."""
        if self.chat.events:
            self._acted_at_event = self.chat.events[-1].number


def _matches(event: ChatEvent, wanted: Wanted) -> bool:
    if event.is_heard or event.change == "delete":
        return False
    return event.state.says(wanted) if isinstance(wanted, str) else bool(wanted(event.state))


def change_membership(bot: Bot, chat: Chat, by: Json, status: str) -> int | None:
    old, chat.status = chat.status, status
    change: Json = {"chat": chat.as_json(), "from": by, "date": bot.world.unix()}
    change["old_chat_member"] = {"user": bot.user, "status": old}
    change["new_chat_member"] = {"user": bot.user, "status": status}
    if status == "kicked":
        change["new_chat_member"]["until_date"] = 0
    return bot.emit("my_chat_member", change, f"member:{by['id']}")


def inline_buttons(message: ChatMessage) -> list[Json]:
    return [button for row in message.keyboard for button in row]


def find_button(chat: Chat, label: str) -> tuple[ChatMessage, Json] | None:
    wanted = label.casefold()
    shown = [(message, button) for message in reversed(chat.from_bot()) for button in inline_buttons(message)]
    for is_match in (lambda text: text == label, lambda text: wanted in text.casefold()):
        for message, button in shown:
            if is_match(button["text"]):
                return message, button
    return None


def find_reply_button(chat: Chat, label: str) -> str | None:
    rows = chat.reply_keyboard["keyboard"] if chat.reply_keyboard else []
    texts = [button if isinstance(button, str) else str(button.get("text", "")) for row in rows for button in row]
    return next((text for text in texts if label.casefold() in text.casefold()), None)
