"""Scripted people: they write, press buttons, pay and block, and they see what the bot sent them.

Every act is a line of `actions` with the ids of the updates it caused, so that what was sent can be compared with what
was handled. What the bot does is noticed through events: `hears` never polls.
"""

import re
from dataclasses import dataclass

from kiebot.simulators.telegram.answers import Json
from kiebot.simulators.telegram.bot import Bot
from kiebot.simulators.telegram.callbacks import CallbackAnswer, Press
from kiebot.simulators.telegram.files import SentFile
from kiebot.simulators.telegram.media import file_fields
from kiebot.simulators.telegram.messages import Chat, ChatKind, ChatMessage
from kiebot.simulators.telegram.paying import Payment, invoice_of, pay, renewal, successful_payment
from kiebot.simulators.telegram.payments import SUBSCRIPTION_PERIOD_S
from kiebot.simulators.telegram.views import (
    ChatView,
    change_membership,
    find_button,
    find_reply_button,
    inline_buttons,
)

__all__ = ["Payment", "SimGroup", "SimUser", "UserAction"]

_COMMAND = re.compile(r"(?<!\S)/[A-Za-z0-9_]{1,32}(?:@[A-Za-z0-9_]+)?")


@dataclass(frozen=True, slots=True)
class UserAction:
    """One act: what it was, the updates it caused (none if nobody subscribed to them), and when in Unix seconds."""

    kind: str
    update_ids: tuple[int, ...]
    at: float


class SimGroup(ChatView):
    """A group, supergroup or channel; its people act through `SimUser` methods with `chat=`."""

    def __init__(self, bot: Bot, chat_id: int, title: str, kind: ChatKind, members: list["SimUser"]) -> None:
        super().__init__(bot.chats.add(chat_id, kind, {"title": title}))
        self.bot = bot
        for member in members:
            self.join(member)

    def join(self, member: "SimUser") -> None:
        self.chat.members[member.user_id] = member.user

    def removes_bot(self, by: "SimUser") -> int | None:
        """Kick the bot; returns the my_chat_member update."""
        return change_membership(self.bot, self.chat, by.user, "kicked")

    def adds_bot(self, by: "SimUser") -> int | None:
        return change_membership(self.bot, self.chat, by.user, "member")

    def becomes_supergroup(self, chat_id: int) -> "SimGroup":
        """The group moves to a new id; the old one cannot be written to any more."""
        moved = SimGroup(self.bot, chat_id, self.chat.names["title"], "supergroup", [])
        moved.chat.members.update(self.chat.members)
        self.chat.migrated_to = chat_id
        body: Json = {"message_id": next(self.chat.ids), "chat": self.chat.as_json(), "date": self.bot.world.unix()}
        self.bot.emit("message", body | {"migrate_to_chat_id": chat_id}, f"chat:{self.chat_id}")
        return moved


class SimUser(ChatView):
    """One person and their private chat with a bot."""

    def __init__(
        self, bot: Bot, user_id: int, name: str, language_code: str, *, started: bool, username: str | None = None
    ) -> None:
        names: Json = {"first_name": name} | ({"username": username} if username else {})
        super().__init__(bot.chats.add(user_id, "private", names, is_started=started))
        self.bot = bot
        self.user_id = user_id
        self.user: Json = {"id": user_id, "is_bot": False, **names, "language_code": language_code}
        self.chat.members[user_id] = self.user
        self.actions: list[UserAction] = []
        self.presses_made: list[Press] = []

    @property
    def update_ids(self) -> list[int]:
        """Ids of all updates this person caused."""
        return [update_id for action in self.actions for update_id in action.update_ids]

    @property
    def callback_answers(self) -> list[CallbackAnswer]:
        """Toasts and alerts shown to this person, by order of the presses."""
        return [answer for press in self.presses_made for answer in press.answers]

    def message(self, message_id: int) -> ChatMessage:
        """Raises: LookupError, when there is none of that id."""
        found = self.chat.get(message_id)
        if found is None:
            raise LookupError(f"no message {message_id} in chat {self.chat_id}")
        return found

    # writing

    async def sends(
        self, text: str, *, chat: SimGroup | None = None, reply_to: ChatMessage | None = None
    ) -> UserAction:
        """Write a text; commands in it are marked as such."""
        fields: Json = {"text": text}
        entities = [_command_entity(text, found) for found in _COMMAND.finditer(text)]
        if entities:
            fields["entities"] = entities
        return self._writes("message", fields, chat, reply_to=reply_to)

    async def edits(self, action_message: ChatMessage, text: str) -> UserAction:
        """Change a text this person wrote."""
        action_message.body = action_message.body | {"text": text, "edit_date": self.bot.world.unix()}
        lane = f"chat:{action_message.chat.chat_id}"
        return self._note("edited_message", self.bot.emit("edited_message", action_message.body, lane))

    async def sends_photo(self, data: bytes, caption: str = "", *, chat: SimGroup | None = None) -> UserAction:
        return self._sends_file("photo", data, "photo.jpg", "image/jpeg", caption, chat)

    async def sends_document(
        self, data: bytes, file_name: str, mime: str, caption: str = "", *, chat: SimGroup | None = None
    ) -> UserAction:
        return self._sends_file("document", data, file_name, mime, caption, chat)

    async def sends_video(
        self,
        data: bytes,
        file_name: str = "video.mp4",
        mime: str = "video/mp4",
        caption: str = "",
        *,
        seconds: int = 1,
    ) -> UserAction:
        """`seconds`: the length as the sender's app tells it."""
        return self._sends_file("video", data, file_name, mime, caption, None, seconds)

    async def sends_audio(
        self,
        data: bytes,
        file_name: str = "audio.mp3",
        mime: str = "audio/mpeg",
        caption: str = "",
        *,
        seconds: int = 1,
    ) -> UserAction:
        return self._sends_file("audio", data, file_name, mime, caption, None, seconds)

    async def sends_voice(
        self, data: bytes, file_name: str = "", mime: str = "audio/ogg", *, seconds: int = 1
    ) -> UserAction:
        return self._sends_file("voice", data, file_name, mime, "", None, seconds)

    async def sends_album(self, pictures: list[bytes], caption: str = "") -> list[UserAction]:
        """Several photos as one album: one update each, sharing a media_group_id."""
        group: Json = {"media_group_id": str(self.bot.world.rng.randrange(10**16, 10**17))}
        actions = []
        for number, data in enumerate(pictures):
            file = self.bot.files.add("photo", data, f"photo{number}.jpg", "image/jpeg")
            fields = group | ({"caption": caption} if caption and not number else {})
            actions.append(self._writes("photo", file_fields(file) | fields, None, file))
        return actions

    def _sends_file(
        self,
        kind: str,
        data: bytes,
        file_name: str,
        mime: str,
        caption: str,
        chat: SimGroup | None,
        seconds: int = 1,
    ) -> UserAction:
        file = self.bot.files.add(kind, data, file_name, mime, seconds)
        fields = file_fields(file) | ({"caption": caption} if caption else {})
        return self._writes(kind, fields, chat, file)

    def _writes(
        self,
        kind: str,
        fields: Json,
        group: SimGroup | None,
        file: SentFile | None = None,
        *,
        reply_to: ChatMessage | None = None,
    ) -> UserAction:
        message = self._new_message(group.chat if group else self.chat, fields, file)
        if reply_to is not None:
            message.body["reply_to_message"] = reply_to.body
        return self._note(kind, self._emit_message(message))

    def _new_message(self, chat: Chat, fields: Json, file: SentFile | None = None) -> ChatMessage:
        if chat is self.chat:
            chat.is_started = True
            if chat.status == "kicked":
                change_membership(self.bot, chat, self.user, "member")
        body: Json = {"message_id": next(chat.ids), "from": self.user, "chat": chat.as_json()}
        message = ChatMessage(chat, body | {"date": self.bot.world.unix()} | fields, file, from_bot=False)
        chat.add(message)
        return message

    def _emit_message(self, message: ChatMessage) -> int | None:
        self.acted()
        return self.bot.emit("message", message.body, f"chat:{message.chat.chat_id}")

    # pressing

    async def presses(self, label: str, *, chat: SimGroup | None = None) -> Press | None:
        """Press a button in sight, newest message first: the label, else a part of it, whatever its case.

        A button of a reply keyboard sends its text, a pay button pays; both return None.
        Raises: LookupError, naming the labels in sight.
        """
        view: ChatView = chat or self
        found = find_button(view.chat, label)
        if found is not None:
            return await self._press(*found)
        text = find_reply_button(view.chat, label)
        if text is None:
            raise LookupError(f"no button like {label!r}; in sight: {view.buttons}; {view.sight()}")
        await self.sends(text, chat=chat)
        return None

    async def presses_data(self, data: str, *, message: ChatMessage | None = None) -> Press:
        """Press a button by its callback data, there or not: an old screen, a forged button.

        The message is the given one, else the newest with such a button, else the bot's last.
        """
        if message is None:
            candidates = [
                m for m in reversed(self.messages) if any(data == b.get("callback_data") for b in inline_buttons(m))
            ]
            message = candidates[0] if candidates else self.last_message
        return self._query(message, data)

    async def _press(self, message: ChatMessage, button: Json) -> Press | None:
        if "callback_data" in button:
            return self._query(message, button["callback_data"])
        if button.get("pay"):
            await self.pays(message)
        return None

    def _query(self, message: ChatMessage, data: str) -> Press:
        world = self.bot.world
        query_id = str(world.rng.randrange(10**17, 10**18))
        press = Press(query_id, self.user_id, data, world.clock.monotonic())
        self.bot.presses.add(press)
        self.presses_made.append(press)
        self.acted()
        body = message.body
        if message.is_deleted:  # what a server shows of a message it cannot load
            body = {"message_id": message.message_id, "chat": message.chat.as_json(), "date": 0}
        payload: Json = {"id": query_id, "from": self.user, "message": body, "data": data}
        payload["chat_instance"] = str(message.chat.chat_id)
        press.update_id = self.bot.emit("callback_query", payload, f"callback:{self.user_id}")
        self._note("press", press.update_id)
        return press

    # coming and going

    def starts(self) -> None:
        """Open the chat without writing anything."""
        self.chat.is_started = True

    def blocks_bot(self) -> UserAction:
        return self._note("block", change_membership(self.bot, self.chat, self.user, "kicked"))

    def unblocks_bot(self) -> UserAction:
        return self._note("unblock", change_membership(self.bot, self.chat, self.user, "member"))

    def deletes_account(self) -> None:
        self.chat.is_deactivated = True

    # paying

    async def pays(self, invoice: ChatMessage | str) -> Payment:
        """Pay an invoice message or link: ask the bot, and only if it agrees in time, move the Stars.

        Waits for the bot's answer up to the deadline, in the simulator's time.
        Raises: LookupError, when that is no invoice.
        """
        facts = invoice_of(self.bot, invoice)
        self.acted()
        payment = await pay(self.bot, self.user, facts, self._ask_checkout)
        if payment.charge_id is not None:
            self._was_paid(payment, facts.get("subscription_period", 0), is_first=True)
        return payment

    async def repeats_payment(self, payment: Payment) -> UserAction:
        """Deliver the news of one payment again, under the same charge id. Raises: LookupError, if nothing was paid."""
        return self._was_paid(payment)

    async def renews(self, payment: Payment) -> Payment:
        """The next period of a subscription: no question asked, a charge of its own. Raises: LookupError."""
        renewed = renewal(self.bot, self.user, payment)
        self._was_paid(renewed, SUBSCRIPTION_PERIOD_S)
        return renewed

    def _ask_checkout(self, query: Json) -> None:
        lane = f"checkout:{self.user_id}"
        self._note("checkout", self.bot.emit("pre_checkout_query", query, lane))

    def _was_paid(self, payment: Payment, period_s: int = 0, *, is_first: bool = False) -> UserAction:
        facts = successful_payment(self.bot, self.user_id, payment, period_s, is_first=is_first)
        message = self._new_message(self.chat, {"successful_payment": facts})
        return self._note("payment", self._emit_message(message))

    def _note(self, kind: str, *update_ids: int | None) -> UserAction:
        kept = tuple(update_id for update_id in update_ids if update_id is not None)
        action = UserAction(kind, kept, self.bot.world.clock.now())
        self.actions.append(action)
        return action


def _command_entity(text: str, found: re.Match[str]) -> Json:
    offset = len(text[: found.start()].encode("utf-16-le")) // 2
    return {"type": "bot_command", "offset": offset, "length": found.end() - found.start()}
