"""Methods that change or delete messages already sent."""

from typing import Any

from kiebot.simulators.telegram.answers import Json, refuse
from kiebot.simulators.telegram.files import MEDIA_FIELDS, SentFile
from kiebot.simulators.telegram.keyboards import read_markup
from kiebot.simulators.telegram.markup import read_text
from kiebot.simulators.telegram.media import caption_fields, file_fields, read_file
from kiebot.simulators.telegram.messages import Chat, ChatMessage
from kiebot.simulators.telegram.request import Handler, Request

_DELETABLE_FOR_S = 48 * 3600
_MAX_DELETED = 100
_TEXT_FIELDS = ("text", "entities", "link_preview_options")
_CAPTION_FIELDS = ("caption", "caption_entities")
_NOT_MODIFIED = (
    "message is not modified: specified new message content and reply markup are exactly the same as "
    "a current content and reply markup of the message"
)


def _message_to_edit(request: Request) -> ChatMessage:
    chat = request.chat()
    message = chat.get(request.arguments.integer("message_id"))
    if message is None:
        refuse("message to edit not found")
    if not message.is_editable:
        refuse("message can't be edited")
    return message


def _edit(
    request: Request, message: ChatMessage, dropped: tuple[str, ...], fields: Json, media: SentFile | None
) -> Json:
    """Replace what is dropped by what is given. Raises: ApiError, when the message would be the same after it."""
    markup = read_markup(request.arguments, request.bot.world.rules).inline
    keeps = not request.arguments.text("reply_markup") and _keeps_keyboard(request)
    body = {name: value for name, value in message.body.items() if name not in dropped}
    body |= fields
    old_markup = body.pop("reply_markup", None)
    markup = old_markup if keeps else markup
    if markup:
        body["reply_markup"] = markup
    if ChatMessage(message.chat, body, media, from_bot=True).content() == message.content():
        refuse(_NOT_MODIFIED)
    body["edit_date"] = request.bot.world.unix()
    message.body, message.media = body, media
    message.chat.note("edit", message)
    request.call.message_ids = (message.message_id,)
    return body


def _keeps_keyboard(request: Request) -> bool:
    """Leaving the keyboard out removes it, as the hosted service was seen to do."""
    return not request.bot.world.rules.edit_without_markup_removes_keyboard


def edit_text(request: Request) -> Json:
    message = _message_to_edit(request)
    formatted = read_text(request.arguments)
    if message.text is None:
        refuse("there is no text in the message to edit")
    fields: Json = {"text": formatted.text}
    if formatted.entities:
        fields["entities"] = formatted.entities
    return _edit(request, message, _TEXT_FIELDS, fields, None)


def edit_caption(request: Request) -> Json:
    message = _message_to_edit(request)
    if message.media is None:
        refuse("there is no caption in the message to edit")
    fields = caption_fields(request.arguments.values, request.arguments.json("caption_entities"))
    return _edit(request, message, _CAPTION_FIELDS, fields, message.media)


def edit_media(request: Request) -> Json:
    message = _message_to_edit(request)
    given = request.arguments.json("media")
    if not isinstance(given, dict) or given.get("type") not in MEDIA_FIELDS:
        refuse("can't parse input media JSON object")
    fields = caption_fields(given, given.get("caption_entities"))
    file = read_file(request, str(given["type"]), str(given.get("media") or ""), None)
    dropped = (*MEDIA_FIELDS, *_TEXT_FIELDS, *_CAPTION_FIELDS)
    return _edit(request, message, dropped, file_fields(file) | fields, file)


def edit_markup(request: Request) -> Json:
    message = _message_to_edit(request)
    if not request.arguments.text("reply_markup"):
        request.arguments.values["reply_markup"] = '{"inline_keyboard":[]}'
    return _edit(request, message, (), {}, message.media)


def delete_message(request: Request) -> bool:
    chat = request.chat()
    message = chat.get(request.arguments.integer("message_id"))
    if message is None:
        refuse("message to delete not found")
    if not _may_delete(request, chat, message):
        refuse("message can't be deleted")
    chat.delete(message)
    return True


def delete_messages(request: Request) -> bool:
    chat = request.chat()
    given: Any = request.arguments.json("message_ids")
    if not isinstance(given, list) or not given:
        refuse("message identifiers are not specified")
    if len(given) > _MAX_DELETED:
        refuse("too many message identifiers specified")
    for message_id in given:
        message = chat.get(message_id) if isinstance(message_id, int) else None
        if message is not None and _may_delete(request, chat, message):
            chat.delete(message)
    return True


def _may_delete(request: Request, chat: Chat, message: ChatMessage) -> bool:
    is_recent = request.bot.world.unix() - int(message.body["date"]) < _DELETABLE_FOR_S
    return is_recent and (message.from_bot or chat.kind == "private" or chat.status == "administrator")


METHODS: dict[str, Handler] = {
    "editmessagetext": edit_text,
    "editmessagecaption": edit_caption,
    "editmessagemedia": edit_media,
    "editmessagereplymarkup": edit_markup,
    "deletemessage": delete_message,
    "deletemessages": delete_messages,
}
