"""Sends through the Bot API as the Messenger port promises: plain text, no link previews, files from disk or by id."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from telegram import (
    Bot,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputFile,
    InputMediaAudio,
    InputMediaDocument,
    InputMediaPhoto,
    InputMediaVideo,
    LabeledPrice,
    LinkPreviewOptions,
    Message,
)
from telegram.error import BadRequest

from kiebot.botapi.errors import DELETE_NOT_FOUND, NOT_MODIFIED, description, sending
from kiebot.delivery.ports import Bill, Button, Keyboard, Media, MediaRefused, Sent
from kiebot.errors import Permanent, Transient
from kiebot.payments.model import STARS_CURRENCY

log = structlog.get_logger(__name__)

_MEDIA_READ_S = 180.0  # the server passes an upload on to Telegram before it answers
_PRESS_READ_S = 10.0
_TOAST_MAX = 200
_NO_PREVIEW = LinkPreviewOptions(is_disabled=True)
_OTHER_KIND = "can't use file of type "


class TelegramMessenger:
    """Messenger over a bot from `make_bot`, whose limiter spaces the calls. Every failure is one of the port's."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot

    async def send_text(self, chat_id: int, text: str, keyboard: Keyboard = ()) -> Sent:
        with sending("sendMessage"):
            message = await self._bot.send_message(
                chat_id, text, reply_markup=_markup(keyboard), link_preview_options=_NO_PREVIEW
            )
            return Sent(message.message_id)

    async def edit_text(self, chat_id: int, message_id: int, text: str, keyboard: Keyboard = ()) -> None:
        """Turn a message into this text and these buttons; without a keyboard its buttons go."""
        with sending("editMessageText"), _fine_when(NOT_MODIFIED):
            await self._bot.edit_message_text(
                text, chat_id, message_id, reply_markup=_markup(keyboard), link_preview_options=_NO_PREVIEW
            )

    async def delete(self, chat_id: int, message_id: int) -> None:
        with sending("deleteMessage"), _fine_when(DELETE_NOT_FOUND):
            await self._bot.delete_message(chat_id, message_id)

    async def send_media(self, chat_id: int, media: Media, caption: str, keyboard: Keyboard = ()) -> Sent:
        """One file. A file_id that Telegram keeps as another kind (a silent video becomes an animation) is sent as
        that kind."""
        try:
            return await self._send_one(chat_id, media, caption, keyboard)
        except MediaRefused as error:
            kind = _kept_kind(media, error)
            if kind is None:
                raise
            return await self._send_one(chat_id, replace(media, kind=kind), caption, keyboard)

    async def send_album(self, chat_id: int, media: Sequence[Media]) -> Sent:
        if len(media) == 1:
            return await self.send_media(chat_id, media[0], "")
        with sending("sendMediaGroup"), ExitStack() as files:
            items = [_album_item(item, files.enter_context(_content(item, attach=True))) for item in media]
            messages = await self._bot.send_media_group(chat_id, items, read_timeout=_MEDIA_READ_S)
            return Sent(messages[0].message_id, tuple(_file_id(message) for message in messages))

    async def send_bill(self, chat_id: int, bill: Bill) -> Sent:
        with sending("sendInvoice"):
            message = await self._bot.send_invoice(
                chat_id,
                bill.title,
                bill.description,
                bill.payload,
                STARS_CURRENCY,
                [LabeledPrice(bill.title, bill.stars)],
                start_parameter=bill.start_parameter,
            )
            return Sent(message.message_id)

    async def answer_press(self, callback_query_id: str, text: str | None = None) -> None:
        toast = text[:_TOAST_MAX] if text else None
        try:
            with sending("answerCallbackQuery"):
                await self._bot.answer_callback_query(callback_query_id, toast, read_timeout=_PRESS_READ_S)
        except Exception as error:  # too late, twice, or offline: the press is handled all the same
            log.debug("press.unanswered", why=str(error))

    async def _send_one(self, chat_id: int, media: Media, caption: str, keyboard: Keyboard) -> Sent:
        with sending(f"send {media.kind}"), _content(media, attach=False) as content:
            send, extras = self._method(media)
            message = await send(
                chat_id,
                content,
                caption=caption or None,
                reply_markup=_markup(keyboard),
                read_timeout=_MEDIA_READ_S,
                **extras,
            )
            return Sent(message.message_id, (_file_id(message),))

    def _method(self, media: Media) -> tuple[Callable[..., Any], dict[str, Any]]:
        size = {"width": media.width, "height": media.height, "has_spoiler": media.has_spoiler or None}
        match media.kind:
            case "photo":
                return self._bot.send_photo, {"has_spoiler": media.has_spoiler or None}
            case "video":
                return self._bot.send_video, {**size, "duration": _seconds(media), "supports_streaming": True}
            case "animation":
                return self._bot.send_animation, {**size, "duration": _seconds(media)}
            case "audio":
                return self._bot.send_audio, {"duration": _seconds(media)}
            case "document":  # else Telegram would look into it and make it the kind that was refused before
                return self._bot.send_document, {"disable_content_type_detection": True}
        raise Permanent(f"no way to send a {media.kind}", code="bug")


@contextmanager
def _fine_when(sentence: str) -> Iterator[None]:
    """Take a refusal that says "it is so already" as success."""
    try:
        yield
    except BadRequest as error:
        if sentence not in description(error):
            raise


@contextmanager
def _content(media: Media, *, attach: bool) -> Iterator[InputFile | str]:
    """A file_id, or the file held open while it is streamed. `attach`: named from within another parameter."""
    if not isinstance(media.source, Path):
        yield media.source
        return
    try:
        handle = media.source.open("rb")
    except OSError as error:
        raise Transient(f"the file to send cannot be read ({type(error).__name__})") from error
    with handle:
        file = InputFile(handle, filename=media.file_name, attach=attach, read_file_handle=False)
        file.mimetype = media.mime
        yield file


def _album_item(
    media: Media, content: InputFile | str
) -> InputMediaPhoto | InputMediaVideo | InputMediaAudio | InputMediaDocument:
    match media.kind:
        case "photo":
            return InputMediaPhoto(content, has_spoiler=media.has_spoiler or None)
        case "video":
            return InputMediaVideo(
                content,
                width=media.width,
                height=media.height,
                duration=_seconds(media),
                supports_streaming=True,
                has_spoiler=media.has_spoiler or None,
            )
        case "audio":
            return InputMediaAudio(content, duration=_seconds(media))
        case "document":
            return InputMediaDocument(content, disable_content_type_detection=True)
    raise Permanent(f"no way to send a {media.kind} in an album", code="bug")


def _file_id(message: Message) -> str:
    """The id of the file as Telegram keeps it, which may be another kind than it was sent as."""
    attachment: Any = message.effective_attachment
    largest = attachment[-1] if isinstance(attachment, (list, tuple)) else attachment  # photos come in several sizes
    return str(largest.file_id)


def _kept_kind(media: Media, error: MediaRefused) -> str | None:
    """The kind that Telegram says a file_id has, when it can be sent as that; None when there is no second try."""
    _, found, rest = str(error).lower().partition(_OTHER_KIND)
    kind = rest.split(" ", 1)[0]
    is_other = bool(found) and kind != media.kind and kind in ("photo", "video", "animation", "audio", "document")
    return kind if is_other and not isinstance(media.source, Path) else None


def _seconds(media: Media) -> int | None:
    return None if media.seconds is None else round(media.seconds)


def _markup(keyboard: Keyboard) -> InlineKeyboardMarkup | None:
    return InlineKeyboardMarkup([[_button(button) for button in row] for row in keyboard]) if keyboard else None


def _button(button: Button) -> InlineKeyboardButton:
    return InlineKeyboardButton(button.text, callback_data=button.data, url=button.url)
