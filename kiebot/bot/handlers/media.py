"""A file: it goes into the form on the desk, or waits for a model to be chosen. Its caption counts as the prompt.

What a file is comes from the message's own fields, to which measuring.py has added what Telegram does not tell; nothing
is downloaded here. The files of an album come one by one: the first draws a screen, the others bring that screen up to
date.
"""

from __future__ import annotations

import msgspec
from telegram import Message
from telegram.ext import filters

from kiebot.bot import form
from kiebot.bot.desk import model_on, settings_of, show_form
from kiebot.bot.form_media import BOT_API_DOWNLOAD_BYTES
from kiebot.bot.form_state import FormState, MediaInput
from kiebot.bot.routing import message
from kiebot.bot.screens import home_button, show_offer
from kiebot.bot.session import Kept, Session
from kiebot.bot.unit import Unit
from kiebot.generation.media import declared, is_accepted
from kiebot.generation.product import Model

_MEGABYTE = 1_000_000
_MOST_WAITING = 10
_KINDS = {"video": "video", "animation": "video", "video_note": "video", "audio": "audio", "voice": "audio"}
_USUAL_MIME = {"video_note": "video/mp4", "video": "video/mp4", "animation": "video/mp4", "voice": "audio/ogg"}


async def media(unit: Unit) -> None:
    found = media_of(unit.message)
    kept = await unit.load()
    model = model_on(kept.session)
    if found is None:
        unit.say(unit.t("I take texts, pictures, videos and audio."), ((home_button(unit),),))
    elif model is None:
        await _remember(unit, kept, found)
    else:
        await _place(unit, kept, model, found)


def media_of(sent: Message) -> MediaInput | None:
    """The file of a message, as far as Telegram describes it; None when it holds none."""
    if sent.photo:
        largest = sent.photo[-1]
        size = largest.file_size
        return MediaInput(largest.file_id, "image", size, "image/jpeg", None, largest.width, largest.height)
    for name in (*_KINDS, "document"):
        attached = getattr(sent, name)
        if attached is not None:
            return _described(name, attached.to_dict())
    return None


def _described(name: str, facts: dict[str, object]) -> MediaInput:
    kind, mime = declared(_text(facts.get("mime_type")) or _USUAL_MIME.get(name), _text(facts.get("file_name")))
    side = _whole(facts.get("length"))  # a video note is round: one side says both
    return MediaInput(
        file_id=str(facts["file_id"]),
        kind=_KINDS.get(name) or kind,
        size_bytes=_whole(facts.get("file_size")),
        mime=mime or None,
        seconds=_seconds(facts.get("duration")),
        width=_whole(facts.get("width")) or side,
        height=_whole(facts.get("height")) or side,
        file_name=_text(facts.get("file_name")),
    )


async def _place(unit: Unit, kept: Kept, model: Model, found: MediaInput) -> None:
    """Into the form; after a purchase into a new one with the same settings."""
    session = kept.session
    state = session.form or FormState(model.slug)
    if session.is_done:
        state = form.start(model, inputs=settings_of(model, state.inputs))
    step = form.apply_media(model, state, found, unit.message.caption)
    album = unit.message.media_group_id or ""
    changed = msgspec.structs.replace(session, form=step.state, album=album)
    await show_form(unit, changed, model, problems=step.problems, edit=_screen_of_album(unit, kept))


async def _remember(unit: Unit, kept: Kept, found: MediaInput) -> None:
    refused = _refusal(unit, found)
    if refused:
        unit.say(refused, ((home_button(unit),),))
        return
    album = unit.message.media_group_id or ""
    before = kept.session.files if album and album == kept.session.album else []
    waiting = Session(
        prompt=unit.message.caption or kept.session.prompt,
        files=[*before, msgspec.to_builtins(found)][:_MOST_WAITING],
        album=album,
        bought=kept.session.bought,
        number=kept.session.number,
    )
    edit = _screen_of_album(unit, kept)
    version = (await unit.save(waiting, edit)).version
    show_offer(unit, waiting, edit=edit, screen=version)


def _refusal(unit: Unit, found: MediaInput) -> str:
    if found.size_bytes is not None and found.size_bytes > BOT_API_DOWNLOAD_BYTES:
        limit = BOT_API_DOWNLOAD_BYTES // _MEGABYTE
        return unit.t("This file is too large: {limit} MB at most.", limit=limit)
    if found.kind == "document" or (found.mime is not None and not is_accepted(found.kind, found.mime)):
        return unit.t(
            "I cannot use this kind of file. Pictures: JPEG, PNG, WebP. Video: MP4, MOV. Audio: MP3, M4A, WAV, OGG."
        )
    return ""


def _screen_of_album(unit: Unit, kept: Kept) -> int | None:
    album = unit.message.media_group_id
    return kept.message_id if album and album == kept.session.album else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None


_MEDIA = (
    filters.PHOTO
    | filters.VIDEO
    | filters.ANIMATION
    | filters.VIDEO_NOTE
    | filters.AUDIO
    | filters.VOICE
    | filters.Document.ALL
)

ROUTES = (message(_MEDIA, media),)
