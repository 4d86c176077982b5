"""What users sent, read back through getFile."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from telegram.ext import ExtBot

from kiebot.botapi.files import TelegramFiles
from kiebot.errors import AccountStopped, Permanent, Transient
from kiebot.generation.ports import UserFile
from tests.botapi.conftest import Telegram


async def sent_file(telegram: Telegram, content: bytes) -> UserFile:
    anna = telegram.sim.user()
    await anna.sends_document(content, "notes.txt", "text/plain")
    message = next(reversed(anna.chat.messages.values()))
    return UserFile(message.body["document"]["file_id"], "text/plain", "notes.txt", len(content))


async def read(files: TelegramFiles, file: UserFile) -> bytes:
    async with files.open(file) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_the_very_bytes_come_back_in_pieces(telegram: Telegram, files: TelegramFiles) -> None:
    content = bytes(range(256)) * 1000
    file = await sent_file(telegram, content)
    async with files.open(file) as chunks:
        pieces = [chunk async for chunk in chunks]
    assert b"".join(pieces) == content
    assert len(pieces) > 1


async def test_leaving_early_closes_the_download(telegram: Telegram, files: TelegramFiles) -> None:
    file = await sent_file(telegram, b"x" * 300_000)
    async with files.open(file) as chunks:
        assert await anext(chunks)
    assert len(await read(files, file)) == 300_000


async def test_a_file_known_to_be_too_big_is_not_even_asked_for(telegram: Telegram, files: TelegramFiles) -> None:
    with pytest.raises(Permanent) as caught:
        await read(files, UserFile("any", "video/mp4", "v.mp4", 20 * 1024 * 1024 + 1))
    assert caught.value.code == "file_too_big"
    assert telegram.sim.journal.calls("getFile") == []


async def test_a_file_that_telegram_finds_too_big_says_so(telegram: Telegram, files: TelegramFiles) -> None:
    telegram.sim.rules.local_server = False
    telegram.sim.rules.max_download_bytes = 100
    file = await sent_file(telegram, b"x" * 200)
    with pytest.raises(Permanent) as caught:
        await read(files, file)
    assert caught.value.code == "file_too_big"


async def test_a_file_that_turns_out_larger_than_allowed_is_cut_off(telegram: Telegram, bot: ExtBot[Any]) -> None:
    small = TelegramFiles(bot, max_bytes=1000)
    file = await sent_file(telegram, b"x" * 5000)
    with pytest.raises(Permanent) as caught:
        await read(small, UserFile(file.file_id, file.mime, file.file_name))
    assert caught.value.code == "file_too_big"
    await small.aclose()


async def test_a_file_that_is_gone_says_so(telegram: Telegram, files: TelegramFiles) -> None:
    telegram.sim.faults.answers("getFile", 400, "Bad Request: wrong file_id or the file is temporarily unavailable")
    with pytest.raises(Permanent) as caught:
        await read(files, UserFile("any", "image/png", "p.png"))
    assert caught.value.code == "file_gone"


async def test_an_address_that_leads_nowhere_is_a_file_that_is_gone(telegram: Telegram, files: TelegramFiles) -> None:
    body = b'{"ok":true,"result":{"file_id":"a","file_unique_id":"b","file_path":"documents/none"}}'
    telegram.sim.faults.answers("getFile", 200, body=body)
    with pytest.raises(Permanent) as caught:
        await read(files, UserFile("any", "image/png", "p.png"))
    assert caught.value.code == "file_gone"
    telegram.sim.faults.answers("getFile", 200, body=body.replace(b'"documents/none"', b"null"))
    with pytest.raises(Permanent):
        await read(files, UserFile("any", "image/png", "p.png"))


@pytest.mark.parametrize("status", [429, 500, 502])
async def test_trouble_on_the_way_is_passing(telegram: Telegram, files: TelegramFiles, status: int) -> None:
    telegram.sim.faults.answers("getFile", status, "Internal Server Error")
    with pytest.raises(Transient):
        await read(files, UserFile("any", "image/png", "p.png"))


async def test_a_refused_token_is_not_the_users_fault(telegram: Telegram, files: TelegramFiles) -> None:
    file = await sent_file(telegram, b"x")
    telegram.sim.revoke()
    with pytest.raises(AccountStopped):
        await read(files, file)


async def test_an_error_of_the_reader_is_not_taken_for_one_of_the_download(
    telegram: Telegram, files: TelegramFiles
) -> None:
    file = await sent_file(telegram, b"x")
    with pytest.raises(httpx.ReadError):
        async with files.open(file):
            raise httpx.ReadError("the upload to somewhere else broke")
