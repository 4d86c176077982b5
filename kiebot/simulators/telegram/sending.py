"""Methods that put a text, a copy or a sign of life into a chat."""

from typing import Any

from kiebot.simulators.telegram.answers import Json, refuse
from kiebot.simulators.telegram.keyboards import ReplyMarkup, read_markup
from kiebot.simulators.telegram.markup import MAX_TEXT, read_caption, read_formatted, read_text
from kiebot.simulators.telegram.messages import Chat, ChatMessage, media_field
from kiebot.simulators.telegram.request import Handler, Request, find_chat

_ACTIONS = frozenset(
    {
        "typing",
        "upload_photo",
        "record_video",
        "upload_video",
        "record_voice",
        "upload_voice",
        "upload_document",
        "choose_sticker",
        "find_location",
        "record_video_note",
        "upload_video_note",
    }
)
_COPIED = ("text", "entities", "caption", "caption_entities", "invoice")


def send_message(request: Request) -> Json:
    chat = request.chat()
    formatted = read_text(request.arguments)
    markup = take_markup(request, chat)
    fields: Json = {"text": formatted.text}
    if formatted.entities:
        fields["entities"] = formatted.entities
    message = request.post(chat, fields, markup=markup)
    request.call.sent = (chat.chat_id, formatted.text)
    return message.body


def take_markup(request: Request, chat: Chat) -> Json | None:
    """The inline keyboard to show in the message; a reply keyboard goes to the chat instead. Raises: ApiError."""
    markup = read_markup(request.arguments, request.bot.world.rules)
    _apply_reply_keyboard(chat, markup)
    return markup.inline


def _apply_reply_keyboard(chat: Chat, markup: ReplyMarkup) -> None:
    if markup.removes_reply:
        chat.reply_keyboard = None
    elif markup.reply is not None:
        chat.reply_keyboard = markup.reply


def copy_message(request: Request) -> Json:
    chat, original = request.chat(), _source(request, "message to copy not found")
    fields = _content_of(original)
    if "caption" in request.arguments.values and original.media is not None:
        arguments = request.arguments
        entities = arguments.json("caption_entities")
        formatted = read_caption(arguments.text("caption"), arguments.text("parse_mode"), entities)
        fields |= {"caption": formatted.text, "caption_entities": formatted.entities}
    message = request.post(chat, fields, original.media, markup=take_markup(request, chat))
    request.call.sent = (chat.chat_id, *content_key(message))
    return {"message_id": message.message_id}


def forward_message(request: Request) -> Json:
    chat, original = request.chat(), _source(request, "message to forward not found")
    origin: Json = {"type": "user", "date": original.body["date"], "sender_user": original.body["from"]}
    fields = _content_of(original) | {"forward_origin": origin}
    message = request.post(chat, fields, original.media)
    request.call.sent = (chat.chat_id, *content_key(message))
    return message.body


def content_key(message: ChatMessage) -> tuple[Any, ...]:
    """What makes two sends the same to their reader."""
    return message.text or message.caption or "", message.media.content.digest if message.media else ""


def _source(request: Request, missing: str) -> ChatMessage:
    chat = find_chat(request.bot, request.arguments.text("from_chat_id"))
    message = chat.get(request.arguments.integer("message_id"))
    if message is None:
        refuse(missing)
    return message


def _content_of(message: ChatMessage) -> Json:
    fields = {name: message.body[name] for name in _COPIED if name in message.body}
    medium = media_field(message.body)
    return fields | ({medium: message.body[medium]} if medium else {})


def send_chat_action(request: Request) -> bool:
    chat, action = request.chat(), request.arguments.text("action").lower()
    if action not in _ACTIONS:
        refuse("wrong parameter action in request")
    chat.actions.append(action)
    return True


def send_message_draft(request: Request) -> bool:
    chat = request.chat()
    if chat.kind != "private":
        refuse("chat not found")
    if request.arguments.integer("draft_id") == 0:
        refuse("invalid draft_id specified")
    arguments = request.arguments
    formatted = read_formatted(arguments.text("text"), arguments.text("parse_mode"), arguments.json("entities"))
    if len(formatted.text) > MAX_TEXT:
        refuse("message is too long")
    chat.drafts.append(formatted.text)
    return True


def set_message_reaction(request: Request) -> bool:
    chat = request.chat()
    message = chat.get(request.arguments.integer("message_id"))
    if message is None:
        refuse("message to react not found")
    given = request.arguments.json("reaction")
    reactions = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    if len(reactions) > 1 or any(one.get("type") == "paid" for one in reactions):
        refuse("REACTIONS_TOO_MANY")
    chat.reactions[message.message_id] = reactions
    return True


METHODS: dict[str, Handler] = {
    "sendmessage": send_message,
    "copymessage": copy_message,
    "forwardmessage": forward_message,
    "sendchataction": send_chat_action,
    "sendmessagedraft": send_message_draft,
    "setmessagereaction": set_message_reaction,
}
