"""Webhooks: what may be set, and how updates are pushed."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from kiebot.simulators.telegram import Rules
from tests.simulators.telegram_kit import telegram

URL = "https://bot.example.com/hook"


class Receiver:
    """A bot's web server: keeps what it was sent and answers as told."""

    def __init__(self, answer: Callable[[dict[str, Any]], httpx.Response]) -> None:
        self.requests: list[httpx.Request] = []
        self.updates: list[dict[str, Any]] = []
        self._answer = answer

    def __call__(self, request: httpx.Request) -> httpx.Response:
        update = json.loads(request.content)
        self.requests.append(request)
        self.updates.append(update)
        return self._answer(update)

    def texts(self) -> list[str]:
        return [update["message"]["text"] for update in self.updates]


@pytest.mark.parametrize(
    ("arguments", "description"),
    [
        ({"url": "http://bot.example.com"}, "bad webhook: An HTTPS URL must be provided for webhook"),
        ({"url": "https://x.io:8080"}, "bad webhook: Webhook can be set up only on ports 80, 88, 443 or 8443"),
        ({"url": "https://127.0.0.1/x"}, "bad webhook: IP address 127.0.0.1 is reserved"),
        ({"url": "https://[::1]/x"}, "bad webhook: IPv6-only addresses are not allowed"),
        ({"url": "https://lost.example"}, "bad webhook: Failed to resolve host: Name or service not known"),
        ({"url": "ftp://x.io"}, "invalid webhook URL specified"),
        ({"url": URL, "secret_token": "a b"}, "secret token contains unallowed characters"),
        ({"url": URL, "secret_token": "a" * 257}, "secret token is too long"),
    ],
)
async def test_a_refused_webhook_leaves_none_behind(arguments: dict[str, str], description: str) -> None:
    async with telegram(Rules(unresolvable_hosts=frozenset({"lost.example"}))) as (sim, clock, api):
        await api.ok("setWebhook", url=URL)
        await sim.user().sends("pending")
        await clock.advance(1)
        refused = await api.refused("setWebhook", **arguments, drop_pending_updates="true")
        assert refused == (400, f"Bad Request: {description}")
        info = await api.ok("getWebhookInfo")
        assert (info["url"], info["pending_update_count"]) == ("", 0)


async def test_setting_and_deleting_say_what_happened() -> None:
    async with telegram() as (_, clock, api):
        said = []
        for method, arguments in (
            ("setWebhook", {"url": URL, "max_connections": 500}),
            ("setWebhook", {"url": URL, "max_connections": 100}),
            ("deleteWebhook", {}),
            ("deleteWebhook", {}),
        ):
            said.append((await api.call(method, **arguments)).json()["description"])
            await clock.advance(1)
        assert said[:2] == ["Webhook was set", "Webhook is already set"]
        assert said[2:] == ["Webhook was deleted", "Webhook is already deleted"]
        await api.ok("setWebhook", url=URL)
        response = await api.call("setWebhook", url=URL + "2")
        assert (response.status_code, response.headers["Retry-After"]) == (429, "1")
        info = await api.ok("getWebhookInfo")
        assert (info["max_connections"], info["ip_address"]) == (40, "<unknown>")


async def test_a_slow_set_refuses_polls_and_is_killed_by_another() -> None:
    async with telegram() as (sim, clock, api):
        sim.bot.webhook.setup_s = 2
        first = await api.starts("setWebhook", url=URL)
        assert (await api.refused("getUpdates"))[0] == 409
        await clock.advance(1)
        second = await api.starts("setWebhook", url=URL + "2")
        answer = await first
        assert (answer.status_code, answer.json()["description"]) == (409, "Conflict: terminated by other setWebhook")
        await clock.advance(2)
        assert (await second).json()["description"] == "Webhook was set"


async def test_updates_are_pushed_in_order_per_lane_with_the_secret() -> None:
    failures = [500, 503]

    def answer(update: dict[str, Any]) -> httpx.Response:
        is_stuck = update["message"]["text"] == "a1" and failures
        return httpx.Response(failures.pop() if is_stuck else 200)

    receiver = Receiver(answer)
    async with telegram(webhook_transport=httpx.MockTransport(receiver)) as (sim, clock, api):
        anna, boris = sim.user(), sim.user()
        await anna.sends("a1")
        await api.ok("setWebhook", url=URL, secret_token="s-1")
        await anna.sends("a2")
        await boris.sends("b1")
        await clock.advance(0)
        assert receiver.texts() == ["a1", "b1"] or receiver.texts() == ["a1", "b1", "a1"]
        await clock.advance(2)
        assert receiver.texts() == ["a1", "b1", "a1", "a1", "a2"]
        assert {request.headers["X-Telegram-Bot-Api-Secret-Token"] for request in receiver.requests} == {"s-1"}
        info = await api.ok("getWebhookInfo")
        assert info["pending_update_count"] == 0
        assert info["last_error_message"] == "Wrong response from the webhook: 500"
        assert [delivery.status for delivery in sim.bot.webhook.deliveries] == [503, 200, 500, 200, 200]


async def test_an_update_is_dropped_when_its_next_try_would_come_after_its_expiry() -> None:
    receiver = Receiver(lambda update: httpx.Response(500))
    async with telegram(webhook_transport=httpx.MockTransport(receiver)) as (sim, clock, api):
        await api.ok("setWebhook", url=URL)
        sim.inject("callback_query", {"id": "1", "from": {"id": 5}})
        await clock.advance(200)
        assert len(sim.bot.queue) == 0
        assert 6 <= len(receiver.requests) <= 8
        assert [purge.reason for purge in sim.journal.purges()] == ["expired"]


async def test_the_body_of_an_accepting_answer_may_call_a_method() -> None:
    reply = {"method": "sendMessage", "chat_id": 0, "text": "by reply"}
    receiver = Receiver(lambda update: httpx.Response(200, json=reply | {"chat_id": update["message"]["chat"]["id"]}))
    async with telegram(webhook_transport=httpx.MockTransport(receiver)) as (sim, clock, api):
        anna = sim.user()
        await api.ok("setWebhook", url=URL)
        await anna.sends("hi")
        await clock.advance(0)
        assert (await anna.hears("by reply")).text == "by reply"


async def test_a_receiver_without_an_answer_for_a_minute_has_failed() -> None:
    gate = asyncio.Event()

    async def stuck(request: httpx.Request) -> httpx.Response:
        await gate.wait()
        return httpx.Response(200)

    async with telegram(webhook_transport=httpx.MockTransport(stuck)) as (sim, clock, api):
        await api.ok("setWebhook", url=URL)
        await sim.user().sends("hi")
        await clock.advance(60)
        assert (await api.ok("getWebhookInfo"))["last_error_message"] == "Read timeout expired"
        gate.set()
        await clock.advance(1)
        assert len(sim.bot.queue) == 0


async def test_nothing_but_410_for_a_day_removes_the_webhook() -> None:
    receiver = Receiver(lambda update: httpx.Response(410, headers={"Retry-After": "3600"}))
    async with telegram(webhook_transport=httpx.MockTransport(receiver)) as (sim, clock, api):
        await api.ok("setWebhook", url=URL)
        await sim.user().sends("hi")
        await clock.advance(23 * 3600 + 10)
        assert (await api.ok("getWebhookInfo"))["url"] == ""


async def test_a_delivery_under_way_when_the_webhook_is_removed_is_noted_without_an_answer() -> None:
    """The receiver may have taken it, so whoever asks what came by webhook must hear of it."""
    reached = asyncio.Event()

    async def stuck(request: httpx.Request) -> httpx.Response:
        reached.set()
        await asyncio.Event().wait()
        return httpx.Response(200)

    async with telegram(webhook_transport=httpx.MockTransport(stuck)) as (sim, clock, api):
        await api.ok("setWebhook", url=URL)
        action = await sim.user().sends("hi")
        await reached.wait()
        await api.ok("deleteWebhook")
        await clock.advance(0)
        noted = [(each.update_id, each.status) for each in sim.bot.webhook.deliveries]
    assert noted == [(update_id, None) for update_id in action.update_ids]
