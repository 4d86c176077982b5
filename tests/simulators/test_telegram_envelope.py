"""The HTTP surface: parameters, envelope, status codes."""

import json

import httpx

from kiebot.simulators.clock import ManualClock
from kiebot.simulators.telegram import TelegramSimulator, make_token
from tests.simulators.telegram_kit import Api, telegram


async def test_parameters_come_from_query_form_multipart_and_json() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        sent = {"chat_id": str(anna.user_id), "text": "hi"}
        for request in (
            api.http.get("SENDMESSAGE", params=sent),
            api.http.post("sendmessage", data=sent),
            api.http.post("sendMessage", files={name: (None, value) for name, value in sent.items()}),
            api.http.post("sendMessage", json={"chat_id": anna.user_id, "text": "hi"}),
            api.http.post("", data={**sent, "method": "sendMessage"}),
        ):
            assert (await request).status_code == 200
        assert [message.text for message in anna.messages] == ["hi"] * 5


async def test_the_first_value_of_a_name_wins_and_the_query_beats_the_body() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        url = f"sendMessage?text=query&chat_id={anna.user_id}&text=again"
        await api.http.post(url, data={"text": "body", "unknown": "ignored"})
        assert anna.last_message.text == "query"


async def test_malformed_json_counts_up_to_the_fault() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        body = f'{{"chat_id": {anna.user_id}, "text": "kept", "reply_markup": {{"inline'
        headers = {"Content-Type": "application/json"}
        response = await api.http.post("sendMessage", content=body, headers=headers)
        assert response.json()["result"]["text"] == "kept"


async def test_reply_markup_may_be_an_object_or_a_string() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        markup = {"inline_keyboard": [[{"text": "Go", "callback_data": "go"}]]}
        for given in (markup, json.dumps(markup)):
            body = {"chat_id": anna.user_id, "text": "x", "reply_markup": given}
            result = (await api.http.post("sendMessage", json=body)).json()["result"]
            assert result["reply_markup"] == markup


async def test_other_verbs_get_501_without_a_body() -> None:
    async with telegram() as (_, _, api):
        response = await api.http.put("getMe")
        assert (response.status_code, response.content) == (501, b"")


async def test_status_codes_equal_error_codes() -> None:
    async with telegram() as (sim, clock, api):
        assert await api.refused("noSuchMethod") == (404, "Not Found: method not found")
        transport = httpx.ASGITransport(sim.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://telegram") as http:
            for path, code, text in (
                ("/bot0123:x/getMe", 401, "Unauthorized: invalid token specified"),
                ("/botabc/getMe", 401, "Unauthorized: invalid token specified"),
                (f"/bot{make_token(5)}/getMe", 401, "Unauthorized"),
                ("/bot123:short/getMe", 401, "Unauthorized"),
                ("/nothing", 404, "Not Found"),
                (f"/bot{sim.token}", 404, "Not Found"),
            ):
                response = await http.get(path)
                assert response.status_code == code
                assert response.json() == {"ok": False, "error_code": code, "description": text}
        sim.revoke()
        assert await api.refused("getUpdates") == (401, "Unauthorized")
        sim.restore()
        assert (await api.ok("getMe"))["is_bot"] is True
        assert all(sim.token not in str(call.as_json()) for call in sim.journal.calls())
        del clock


async def test_429_carries_body_parameter_and_header() -> None:
    async with telegram() as (sim, _, api):
        sim.faults.answers("sendMessage", 429, retry_after=7)
        response = await api.call("sendMessage", chat_id=1, text="x")
        assert response.headers["Retry-After"] == "7"
        assert response.json()["parameters"] == {"retry_after": 7}
        assert response.json()["description"] == "Too Many Requests: retry after 7"


async def test_parameters_over_a_mebibyte_are_refused_without_a_body() -> None:
    async with telegram() as (_, _, api):
        response = await api.call("sendMessage", chat_id=1, text="x" * (1 << 20))
        assert (response.status_code, response.content) == (413, b"")
        assert response.headers["Connection"] == "close"


async def test_several_bots_keep_apart() -> None:
    one, two = make_token(11), make_token(22)
    async with TelegramSimulator({one: "one_bot", two: "two_bot"}) as sim:
        clock = ManualClock()
        first, second = Api(sim, clock), Api(sim, clock)
        second.http.base_url = httpx.URL(f"http://telegram/bot{two}/")
        assert (await first.ok("getMe"))["username"] == "one_bot"
        assert (await second.ok("getMe"))["username"] == "two_bot"
        anna = sim.user(bot=sim.by_token[two])
        await anna.sends("hi")
        assert await first.ok("getUpdates") == []
        assert len(await second.ok("getUpdates")) == 1
        assert await first.refused("sendMessage", chat_id=anna.user_id, text="x") == (
            400,
            "Bad Request: chat not found",
        )
