"""A film or a sound sent as a file: it is measured before its update is handled, or handled as it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kiebot.bot import measuring
from kiebot.bot.measuring import FileMeasurer
from kiebot.botapi.files import TelegramFiles
from kiebot.generation.ports import UserFile
from kiebot.simulators.media import MediaSpec, make_media
from tests.botapi.conftest import Telegram
from tests.botapi.conftest import bot as bot
from tests.botapi.conftest import files as files
from tests.botapi.conftest import telegram as telegram
from tests.unit.test_matroska import TRACKS, film, info

CLIP = make_media(MediaSpec("mp4", 1, 3.0))
SONG = make_media(MediaSpec("mp3", 1, 4.0))
NOTHING = "application/octet-stream"


async def sent(telegram: Telegram, content: bytes, name: str, mime: str, **more: Any) -> bytes:
    """The update of a file that anna sent."""
    anna = telegram.sim.user()
    await anna.sends_document(content, name, mime)
    body = next(reversed(anna.chat.messages.values())).body
    return json.dumps({"update_id": 7, "message": {**body, **more}}).encode()


def seconds(payload: bytes) -> Any:
    return json.loads(payload)["message"]["document"].get("duration")


def downloads(telegram: Telegram) -> int:
    return len(telegram.sim.journal.calls("getFile"))


@pytest.mark.parametrize(
    ("content", "name", "mime", "length"),
    [
        (CLIP, "clip.mp4", "video/mp4", 3.0),
        (CLIP, "clip.MP4", NOTHING, 3.0),
        (CLIP, "clip.mov", "video/quicktime", 3.0),
        (film(info(), TRACKS), "clip.mkv", "video/x-matroska", 5.0),
        (film(info(), TRACKS), "clip.webm", NOTHING, 5.0),
        (SONG, "song.mp3", "audio/mpeg", 4.0),
        (SONG, "song.mp3", "", 4.0),
        (SONG, "song", "audio/x-mp3", 4.0),
        (make_media(MediaSpec("wav", 1, 2.0)), "said.wav", "audio/x-wav", 2.0),
    ],
)
async def test_a_film_or_sound_sent_as_a_file_has_its_length_told(
    telegram: Telegram, files: TelegramFiles, content: bytes, name: str, mime: str, length: float
) -> None:
    update = await sent(telegram, content, name, mime)
    told = await FileMeasurer(files).complete(update)
    assert seconds(told) == pytest.approx(length, abs=0.1)
    without = json.loads(told)
    del without["message"]["document"]["duration"]
    assert without == json.loads(update), "nothing else of the update has changed"


@pytest.mark.parametrize(
    ("content", "name", "mime"),
    [
        (b"%PDF-1.7", "clip.mp4", "application/pdf"),
        (b"anything", "notes", NOTHING),
        (make_media(MediaSpec("png", 1)), "a.png", "image/png"),
        (b"GIF89a", "a.avi", "video/x-msvideo"),
    ],
)
async def test_what_is_no_film_or_sound_that_models_take_is_not_downloaded(
    telegram: Telegram, files: TelegramFiles, content: bytes, name: str, mime: str
) -> None:
    update = await sent(telegram, content, name, mime)
    assert await FileMeasurer(files).complete(update) == update
    assert downloads(telegram) == 0


async def test_in_a_group_only_an_answer_is_meant_for_the_bot(telegram: Telegram, files: TelegramFiles) -> None:
    group = {"id": -100, "type": "supergroup", "title": "Friends"}
    measurer = FileMeasurer(files)
    talk = await sent(telegram, CLIP, "a.mp4", "video/mp4", chat=group)
    assert await measurer.complete(talk) == talk
    assert downloads(telegram) == 0
    answer = await sent(telegram, CLIP, "a.mp4", "video/mp4", chat=group, reply_to_message={"message_id": 1})
    assert seconds(await measurer.complete(answer)) == 3.0


async def test_an_animation_has_its_length_told_already(telegram: Telegram, files: TelegramFiles) -> None:
    update = await sent(telegram, CLIP, "a.mp4", "video/mp4", animation={"duration": 3})
    assert await FileMeasurer(files).complete(update) == update
    assert downloads(telegram) == 0


async def test_a_file_sent_again_and_again_is_downloaded_once(telegram: Telegram, files: TelegramFiles) -> None:
    measurer = FileMeasurer(files)
    for _ in range(3):
        assert seconds(await measurer.complete(await sent(telegram, CLIP, "a.mp4", "video/mp4"))) == 3.0
    assert downloads(telegram) == 1


@pytest.mark.parametrize(
    "payload", [b"", b'{"document"', b'{"document":1}', b'{"message":{"document":5}}', b'{"message":{"chat":{}}}']
)
async def test_what_is_no_update_stays_as_it_is(files: TelegramFiles, payload: bytes) -> None:
    assert await FileMeasurer(files).complete(payload) == payload


@pytest.mark.parametrize("content", [b"no film at all", film(info(None), TRACKS)])
async def test_a_file_without_a_length_goes_on_without(
    telegram: Telegram, files: TelegramFiles, content: bytes
) -> None:
    update = await sent(telegram, content, "clip.webm", "video/webm")
    assert await FileMeasurer(files).complete(update) == update


async def test_a_file_that_cannot_be_had_goes_on_without_and_is_tried_again(
    telegram: Telegram, files: TelegramFiles
) -> None:
    measurer, update = FileMeasurer(files), await sent(telegram, CLIP, "a.mp4", "video/mp4")
    telegram.sim.faults.answers("getFile", 502, times=1)
    assert await measurer.complete(update) == update
    assert seconds(await measurer.complete(update)) == 3.0


async def test_a_download_that_stands_still_does_not_hold_the_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    class Still:
        @asynccontextmanager
        async def open(self, file: UserFile) -> AsyncIterator[AsyncIterator[bytes]]:
            async def chunks() -> AsyncIterator[bytes]:
                yield CLIP[:100]
                await asyncio.Event().wait()

            yield chunks()

    monkeypatch.setattr(measuring, "WITHIN_S", 0.05)
    document = {"file_id": "a", "file_unique_id": "b", "mime_type": "video/mp4"}
    update = json.dumps({"message": {"chat": {"type": "private"}, "document": document}}).encode()
    assert await FileMeasurer(Still()).complete(update) == update
