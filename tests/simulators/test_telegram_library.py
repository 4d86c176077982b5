"""python-telegram-bot against the simulator over real sockets, the control side, and load."""

import asyncio
import json
import time

import httpx
import pytest
from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup
from telegram.error import BadRequest, Conflict, Forbidden, InvalidToken, RetryAfter
from telegram.request import HTTPXRequest

from kiebot.simulators.clock import ScaledClock
from kiebot.simulators.server import SimulatorServer
from kiebot.simulators.telegram import TelegramSimulator
from tests.simulators.telegram_kit import eventually, png

PICTURE = png(320, 200)


def library_bot(server: SimulatorServer, token: str, replica: str = "a") -> Bot:
    def request() -> HTTPXRequest:
        return HTTPXRequest(httpx_kwargs={"headers": {"X-Replica-Id": replica}, "trust_env": False})

    url = server.url
    return Bot(token, f"{url}/bot", f"{url}/file/bot", request=request(), get_updates_request=request())


async def test_the_library_receives_sends_edits_and_downloads() -> None:
    async with TelegramSimulator() as sim, SimulatorServer(sim.asgi) as server, library_bot(server, sim.token) as bot:
        anna = sim.user()
        await anna.sends("/start")
        await anna.sends_photo(PICTURE, "look")
        first, second = await bot.get_updates(timeout=5)
        assert first.message is not None
        assert second.message is not None
        assert (first.message.text, first.message.from_user and first.message.from_user.id) == ("/start", anna.user_id)
        file = await bot.get_file(second.message.photo[-1].file_id)
        assert bytes(await file.download_as_bytearray()) == PICTURE
        markup = InlineKeyboardMarkup([[InlineKeyboardButton("Again", callback_data="again")]])
        sent = await bot.send_photo(anna.user_id, PICTURE, caption="<b>cat</b>", parse_mode="HTML", reply_markup=markup)
        await bot.edit_message_caption(anna.user_id, sent.message_id, caption="dog", reply_markup=markup)
        card = await anna.hears("dog")
        assert (card.media_bytes, card.buttons) == (PICTURE, ["Again"])
        press = await anna.presses("again")
        assert press is not None
        [pressed] = await bot.get_updates(offset=second.update_id + 1, timeout=5)
        assert pressed.callback_query is not None
        await pressed.callback_query.answer("ok")
        assert (await press.answered()).text == "ok"


async def test_the_library_raises_its_typed_errors() -> None:
    async with TelegramSimulator() as sim, SimulatorServer(sim.asgi) as server:
        anna = sim.user()
        async with library_bot(server, sim.token, "a") as a, library_bot(server, sim.token, "b") as b:
            older = asyncio.create_task(a.get_updates(offset=1, timeout=20))
            await eventually(lambda: sim.bot.polls.parked is not None)
            newer = asyncio.create_task(b.get_updates(offset=2, timeout=20))
            with pytest.raises(Conflict):
                await older
            await anna.sends("hi")
            assert len(await newer) == 1
            assert len(sim.journal.conflicts_to_live_clients()) == 1
            sim.faults.answers("sendMessage", 429, retry_after=3)
            with pytest.raises(RetryAfter, match="3"):
                await a.send_message(anna.user_id, "x")
            with pytest.raises(BadRequest, match="Message text is empty"):
                await a.send_message(anna.user_id, "")
            anna.blocks_bot()
            with pytest.raises(Forbidden, match="bot was blocked by the user"):
                await a.send_message(anna.user_id, "x")
            sim.revoke()
            with pytest.raises(InvalidToken):
                await a.get_me()


async def test_a_closed_socket_leaves_an_orphan_and_a_cut_leaves_an_error() -> None:
    async with TelegramSimulator() as sim, SimulatorServer(sim.asgi) as server:
        url = f"{server.url}/bot{sim.token}"
        with pytest.raises(httpx.ReadTimeout):
            async with httpx.AsyncClient(trust_env=False) as http:
                await http.get(f"{url}/getUpdates?timeout=30", timeout=0.2)
        parked = sim.bot.polls.parked
        assert parked is not None
        await eventually(lambda: parked.disconnected_at is not None)
        assert sim.bot.polls.parked is parked
        sim.faults.cuts_after("sendMessage")
        anna = sim.user()
        async with httpx.AsyncClient(trust_env=False) as http:
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get(f"{url}/sendMessage", params={"chat_id": anna.user_id, "text": "x"})
            assert anna.last_message.text == "x"
            assert (await http.get(f"{url}/getMe")).headers["Connection"] == "keep-alive"


def client(server: SimulatorServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, trust_env=False)


async def test_another_process_drives_it_over_http() -> None:
    async with (
        TelegramSimulator(control=True, clock=ScaledClock(50)) as sim,
        SimulatorServer(sim.asgi) as server,
        client(server) as http,
    ):
        user = (await http.post("/_sim/users", json={"user_id": 5, "name": "Eva"})).json()["user"]
        assert user["first_name"] == "Eva"
        act = (await http.post("/_sim/users/5/sends", json={"text": "hi"})).json()
        updates = (await http.get(f"/bot{sim.token}/getUpdates")).json()["result"]
        assert [update["update_id"] for update in updates] == act["update_ids"]
        await http.post("/_sim/faults", json={"fault": "answers", "method": "getMe", "status": 500})
        assert (await http.get(f"/bot{sim.token}/getMe")).status_code == 500
        await http.get(f"/bot{sim.token}/sendMessage", params={"chat_id": 5, "text": "hello"})
        [seen] = (await http.get("/_sim/users/5/messages")).json()
        assert seen["message"]["text"] == "hello"
        calls = (await http.get("/_sim/journal", params={"method": "getMe"})).json()
        assert calls[0]["status"] == 500
        state = (await http.get("/_sim/state")).json()
        assert state["bots"][0]["pending"] == 1
        assert (await http.get("/_sim/checks")).json()["duplicate_sends"] == []
        assert (await http.post("/_sim/nonsense")).status_code == 400
    async with TelegramSimulator() as closed, SimulatorServer(closed.asgi) as server, client(server) as http:
        assert (await http.get("/_sim/state")).status_code == 404


async def test_a_bounded_journal_forgets_calls_but_goes_on_counting() -> None:
    async with TelegramSimulator(journal_keep=10) as sim, SimulatorServer(sim.asgi) as server, client(server) as http:
        for _ in range(25):
            await http.get(f"/bot{sim.token}/getMe")
        assert len(sim.journal) == 10
        assert sim.journal.counts["getme", 200] == 25


class RawClient:
    """One keep-alive connection without a library, so that the time measured is the simulator's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def get(self, path: str) -> bytes:
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return await self._reader.readexactly(length)


async def test_a_hundred_thousand_updates_drain_in_seconds() -> None:
    async with TelegramSimulator(journal_keep=100) as sim, SimulatorServer(sim.asgi) as server:
        date = int(sim.clock.now())
        stored = sim.inject_many(100_000, lambda i: ("message", {"date": date, "chat": {"id": i % 100}}))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        http = RawClient(reader, writer)
        started, offset, got = time.monotonic(), 0, 0
        while got < len(stored):
            batch = json.loads(await http.get(f"/bot{sim.token}/getUpdates?offset={offset}&timeout=5"))["result"]
            offset = batch[-1]["update_id"] + 1
            got += len(batch)
        writer.close()
        await writer.wait_closed()
        assert offset == stored[-1] + 1
        assert time.monotonic() - started < 10  # far above what it takes: a cost that grows with the queue shows
