"""One call of a method: who asks, with which arguments, and the chat it is about."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kiebot.simulators.telegram.answers import ApiError, Json, forbidden, refuse
from kiebot.simulators.telegram.arguments import Arguments
from kiebot.simulators.telegram.files import SentFile, UrlContent
from kiebot.simulators.telegram.journal import Call
from kiebot.simulators.telegram.messages import Chat, ChatMessage

if TYPE_CHECKING:
    from kiebot.simulators.telegram.bot import Bot


@dataclass(slots=True)
class Request:
    """What a method works on. `urls` holds what was found at the http(s) addresses among the arguments."""

    bot: "Bot"
    call: Call
    arguments: Arguments
    urls: dict[str, UrlContent | None] = field(default_factory=dict)

    def chat_for_reading(self) -> Chat:
        """Raises: ApiError, when there is no such chat."""
        return find_chat(self.bot, self.arguments.text("chat_id"))

    def chat(self) -> Chat:
        """The chat to write to. Raises: ApiError, when the bot may not."""
        chat = self.chat_for_reading()
        check_may_write(chat)
        return chat

    def replied_message(self, chat: Chat) -> ChatMessage | None:
        """The message this one answers. Raises: ApiError, when it is gone and that matters."""
        given = self.arguments.json("reply_parameters")
        parameters: Json = given if isinstance(given, dict) else {}
        message_id = parameters.get("message_id") or self.arguments.integer("reply_to_message_id")
        if not message_id:
            return None
        found = chat.get(int(message_id))
        is_optional = parameters.get("allow_sending_without_reply")
        if found is None and not is_optional and not self.arguments.boolean("allow_sending_without_reply"):
            refuse("message to be replied not found")
        return found

    def post(
        self, chat: Chat, fields: Json, media: SentFile | None = None, *, markup: Json | None = None
    ) -> ChatMessage:
        """Put a message of the bot into the chat. Raises: ApiError, for a missing reply target or topic."""
        replied = self.replied_message(chat)
        thread = self.arguments.integer("message_thread_id")
        if thread and thread not in chat.topics:
            refuse("message thread not found")
        body: Json = {"message_id": next(chat.ids), "from": self.bot.user, "chat": chat.as_json()}
        body["date"] = self.bot.world.unix()
        if thread:
            body |= {"message_thread_id": thread, "is_topic_message": True}
        if replied is not None:
            body["reply_to_message"] = {k: v for k, v in replied.body.items() if k != "reply_to_message"}
        if self.arguments.boolean("protect_content"):
            body["has_protected_content"] = True
        body |= fields
        if markup:
            body["reply_markup"] = markup
        message = ChatMessage(chat, body, media, from_bot=True)
        chat.add(message)
        self.call.message_ids += (message.message_id,)
        return message


Handler = Callable[[Request], Any]


def find_chat(bot: "Bot", raw: str) -> Chat:
    """Raises: ApiError, for an empty or unknown chat_id."""
    if not raw:
        refuse("chat_id is empty")
    if raw.startswith("@"):
        name = raw[1:].lower()
        chat = bot.chats.find(lambda one: one.kind != "private" and one.names.get("username", "").lower() == name)
    else:
        chat = bot.chats.get(int(raw)) if raw.removeprefix("-").isdigit() else None
    if chat is None:
        refuse("chat not found")
    return chat


def check_may_write(chat: Chat) -> None:
    """Raises: ApiError: migrated, blocked, deactivated, never started, kicked, not a member."""
    if chat.migrated_to is not None:
        text = "Bad Request: group chat was upgraded to a supergroup chat"
        raise ApiError(400, text, {"migrate_to_chat_id": chat.migrated_to})
    if chat.kind == "private":
        _check_person(chat)
    elif chat.status == "kicked":
        raise forbidden(f"bot was kicked from the {chat.kind} chat")
    elif chat.status == "left":
        raise forbidden(f"bot is not a member of the {chat.kind} chat")


def _check_person(chat: Chat) -> None:
    if chat.is_deactivated:
        raise forbidden("user is deactivated")
    if chat.status == "kicked":
        raise forbidden("bot was blocked by the user")
    if not chat.is_started:
        raise forbidden("bot can't initiate conversation with a user")
