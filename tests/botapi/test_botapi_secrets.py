"""The token is in every address we call, and in nothing that anybody reads."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kiebot.botapi.connection import close_bot, hide_tokens, make_bot
from kiebot.botapi.files import TelegramFiles
from kiebot.botapi.messenger import TelegramMessenger
from kiebot.botapi.setup import TelegramSetup
from kiebot.botapi.source import TelegramSource
from kiebot.delivery.ports import Media
from kiebot.errors import KiebotError
from kiebot.generation.ports import UserFile
from kiebot.intake.ports import Conflict
from tests.botapi.conftest import Telegram, is_stop


class Everything:
    """Every adapter of a replica, and a way to call them all."""

    def __init__(self, token: str, url: str, picture: Path) -> None:
        self.bot = make_bot(token, api_url=url)
        self.source = TelegramSource(token, is_stop, api_url=url)
        self.files = TelegramFiles(self.bot)
        self.messenger = TelegramMessenger(self.bot)
        self.setup = TelegramSetup(self.bot)
        self._picture = picture

    def calls(self, chat_id: int, file_id: str) -> list[Callable[[], Awaitable[object]]]:
        return [
            lambda: self.source.fetch(0, timeout_s=0),
            lambda: self.messenger.send_text(chat_id, "hi"),
            lambda: self.messenger.send_media(chat_id, Media("photo", self._picture), ""),
            lambda: self.messenger.edit_text(chat_id, 1, "hi"),
            lambda: self.setup.token_state(),
            lambda: self.setup.ensure_polling(),
            lambda: self.setup.sync_commands({"": [("start", "Begin")]}),
            lambda: self._reads(file_id),
        ]

    async def _reads(self, file_id: str) -> None:
        async with self.files.open(UserFile(file_id, "text/plain", "t")) as chunks:
            async for _ in chunks:
                pass

    async def aclose(self) -> None:
        await self.files.aclose()
        await self.source.aclose()
        await close_bot(self.bot)


async def texts_of_errors(calls: list[Callable[[], Awaitable[object]]]) -> str:
    """Tracebacks with the whole chain of causes, as a log would print them."""
    told = []
    for call in calls:
        try:
            await call()
        except (KiebotError, Conflict) as error:
            told += traceback.format_exception(error)
    return "".join(told)


async def test_no_error_and_no_log_names_the_token(
    telegram: Telegram, picture: Path, caplog: pytest.LogCaptureFixture, unused_tcp_port: int
) -> None:
    caplog.set_level(logging.DEBUG)
    token = telegram.sim.token
    anna = telegram.sim.user()
    await anna.sends_document(b"hello", "t.txt", "text/plain")
    everything = Everything(token, telegram.url, picture)
    calls = everything.calls(anna.chat_id, "wrong")
    told = await texts_of_errors(calls)
    for status in (400, 401, 403, 404, 409, 413, 429, 500, 502):
        telegram.sim.faults.answers(None, status, "Something new", times=None)
        told += await texts_of_errors(calls)
        telegram.sim.faults.clear()
    telegram.sim.faults.answers(None, 200, body=b"<html>", times=None)
    told += await texts_of_errors(calls)
    telegram.sim.faults.clear()
    telegram.sim.faults.cuts_after(None, times=None)
    told += await texts_of_errors(calls)
    await everything.aclose()
    told += await texts_of_errors(calls)  # on closed connections
    nobody = Everything(token, f"http://127.0.0.1:{unused_tcp_port}", picture)
    told += await texts_of_errors(nobody.calls(1, "x"))
    await nobody.aclose()
    assert told.count("Traceback") > 80
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name != "uvicorn.access")
    assert (
        "HTTP Request" in logged
    )  # the libraries did log, at their most talkative; the simulator's server is not ours
    secret = token.partition(":")[2]
    assert secret not in told
    assert secret not in logged


def test_masking_leaves_all_else_of_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    hide_tokens()
    hide_tokens()
    caplog.set_level(logging.INFO)
    url = "https://api.telegram.org/bot123456:AAH-abc_defghijklmnopqrstuvwxyz/getMe"
    logging.getLogger("httpx").info('HTTP Request: %s %s "%s %d"', "POST", url, "HTTP/1.1", 200)
    assert caplog.messages == ['HTTP Request: POST https://api.telegram.org/bot<token>/getMe "HTTP/1.1 200"']
