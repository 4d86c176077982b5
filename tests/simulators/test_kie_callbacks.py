"""Callbacks: what is sent, how it is signed, and everything that goes wrong with them."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from kiebot.simulators.clock import ScaledClock
from kiebot.simulators.kie import KieSimulator, sign
from kiebot.simulators.server import Receive, Scope, Send, SimulatorServer
from tests.simulators.kie_client import KieClient, simulated

URL = "http://bot.test/kie/callback/attempt-1?sig=x%2Fy&n=2"


class Receiver(httpx.AsyncBaseTransport):
    """The bot's end of the line: keeps what came, answers what it is told to."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answers: list[int] = []
        self.stalls: asyncio.Event | None = None
        self.looks: Callable[[], None] = lambda: None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        self.looks()
        if self.stalls is not None:
            await self.stalls.wait()
        return httpx.Response(self.answers.pop(0) if self.answers else 200, request=request)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.requests]

    @property
    def ids(self) -> list[str]:
        return [body["data"]["taskId"] for body in self.bodies]


@pytest.fixture
async def bot() -> Receiver:
    return Receiver()


@pytest.fixture
async def kie(bot: Receiver) -> AsyncIterator[KieClient]:
    async with simulated(transport=bot) as client:
        client.sim.switches.duration_s = 10.0
        yield client


def test_the_signature_matches_its_published_recipe() -> None:
    expected = "oICjFNGSnCXzXrbjVhiaNLcP50BGWPlgiqt6aOaZiOI="
    assert sign("whk_test_key", "0123456789abcdef0123456789abcdef", 1_790_000_000) == expected


async def test_a_success_is_told_with_the_record_of_the_task(kie: KieClient, bot: Receiver) -> None:
    task_id = await kie.create(callBackUrl=URL)
    await kie.clock.advance(9.9)
    assert not bot.requests
    await kie.clock.advance(0.2)
    (request,), (body,) = bot.requests, bot.bodies
    assert str(request.url) == URL
    assert request.headers["content-type"] == "application/json"
    assert "x-webhook-signature" not in request.headers
    assert (body["code"], body["msg"]) == (200, "Playground task completed successfully.")
    record = await kie.data(task_id)
    assert {name: record[name] for name in body["data"]} == body["data"]
    assert body["data"]["creditsConsumed"] == 0.8
    assert [delivery.status for delivery in kie.task(task_id).callbacks] == [200]


async def test_a_failure_is_told_with_code_501(kie: KieClient, bot: Receiver) -> None:
    kie.sim.fails_next("server")
    await kie.create(callBackUrl=URL)
    await kie.clock.advance(10)
    (body,) = bot.bodies
    assert (body["code"], body["msg"]) == (501, "Playground task failed.")
    assert (body["data"]["state"], body["data"]["resultJson"], body["data"]["creditsConsumed"]) == ("fail", None, 0)


async def test_older_callbacks_name_credits_otherwise(kie: KieClient, bot: Receiver) -> None:
    kie.sim.switches.callback_credits = "consumeCredits"
    await kie.create(callBackUrl=URL)
    await kie.clock.advance(10)
    data = bot.bodies[0]["data"]
    assert (data["consumeCredits"], data["remainedCredits"]) == (0.8, 99_999.2)
    assert "creditsConsumed" not in data


async def test_veo_and_suno_shapes_come_by_switch(kie: KieClient, bot: Receiver) -> None:
    kie.sim.switches.callback_shape = "veo"
    await kie.create(callBackUrl=URL)
    await kie.clock.advance(10)
    assert len(bot.bodies[0]["data"]["info"]["resultUrls"]) == 1
    kie.sim.switches.callback_shape = "suno"
    await kie.create(callBackUrl=URL)
    await kie.clock.advance(10)
    assert [body["data"]["callbackType"] for body in bot.bodies[1:]] == ["text", "first", "complete"]


async def test_no_callback_goes_out_when_none_was_asked_for(kie: KieClient, bot: Receiver) -> None:
    await kie.finished(await kie.create())
    assert not bot.requests


async def test_a_refused_callback_is_tried_three_times_more(kie: KieClient, bot: Receiver) -> None:
    bot.answers = [500, 404, 302, 500, 200]
    task_id = await kie.create(callBackUrl=URL)
    await kie.clock.advance(10)
    times = [kie.clock.now()]
    for pause in (5, 30, 120):
        assert len(bot.requests) == len(times)
        await kie.clock.advance(pause)
        times.append(kie.clock.now())
    await kie.clock.advance(10_000)
    deliveries = kie.task(task_id).callbacks
    assert [delivery.at for delivery in deliveries] == times
    assert [delivery.kind for delivery in deliveries] == ["callback", "retry", "retry", "retry"]


async def test_a_receiver_that_stalls_for_15_seconds_has_not_answered(kie: KieClient, bot: Receiver) -> None:
    bot.stalls = asyncio.Event()
    task_id = await kie.create(callBackUrl=URL)
    await kie.clock.advance(10 + 15)
    assert [delivery.error for delivery in kie.task(task_id).callbacks] == ["timed out"]
    bot.stalls.set()
    await kie.clock.advance(5)
    assert kie.task(task_id).callbacks[-1].status == 200


async def test_signed_callbacks_are_stamped_anew_at_each_try(kie: KieClient, bot: Receiver) -> None:
    kie.sim.switches.webhook_key = "whk"
    bot.answers = [500]
    task_id = await kie.create(callBackUrl=URL)
    await kie.clock.advance(15)
    stamps = [int(request.headers["x-webhook-timestamp"]) for request in bot.requests]
    assert stamps[1] - stamps[0] == 5
    for request, stamp in zip(bot.requests, stamps, strict=True):
        assert request.headers["x-webhook-signature"] == sign("whk", task_id, stamp)


@pytest.mark.parametrize("mode", ["wrong_signature", "hex_signature", "stale", "unsigned"])
async def test_bad_signatures_come_in_four_kinds(kie: KieClient, bot: Receiver, mode: str) -> None:
    kie.sim.switches.webhook_key = "whk"
    task_id = await kie.create(f"[[sim:callback={mode}]]", callBackUrl=URL)
    await kie.clock.advance(10)
    headers, now = bot.requests[0].headers, int(kie.clock.now())
    stamp, signature = headers.get("x-webhook-timestamp"), headers.get("x-webhook-signature")
    good = sign("whk", task_id, now)
    match mode:
        case "unsigned":
            assert (stamp, signature) == (None, None)
        case "stale":
            assert stamp is not None
            assert int(stamp) == now - 3600
            assert signature == sign("whk", task_id, now - 3600)
        case "hex_signature":
            assert signature == base64.b64decode(good).hex()
        case _:
            assert signature != good


async def test_a_duplicate_arrives_twice_and_a_missing_one_never(kie: KieClient, bot: Receiver) -> None:
    twice = await kie.create("[[sim:callback=duplicate]]", callBackUrl=URL)
    await kie.create("[[sim:callback=missing]]", callBackUrl=URL)
    await kie.clock.advance(1_000)
    assert bot.ids == [twice, twice]


async def test_a_late_callback_comes_after_the_client_has_seen_the_end(kie: KieClient, bot: Receiver) -> None:
    task_id = await kie.create("[[sim:callback=late]]", callBackUrl=URL)
    await kie.clock.advance(500)
    assert not bot.requests
    assert (await kie.data(task_id))["state"] == "success"
    await kie.clock.advance(29)
    assert not bot.requests
    await kie.clock.advance(1)
    assert bot.ids == [task_id]


async def test_an_early_callback_comes_before_the_query_knows(kie: KieClient, bot: Receiver) -> None:
    task_id = await kie.create("[[sim:callback=early]]", callBackUrl=URL)
    await kie.clock.advance(10)
    assert bot.bodies[0]["data"]["state"] == "success"
    assert (await kie.data(task_id))["state"] == "waiting"
    await kie.clock.advance(10)
    assert (await kie.data(task_id))["state"] == "success"


async def test_callbacks_of_two_tasks_may_change_places(kie: KieClient, bot: Receiver) -> None:
    first = await kie.create("[[sim:callback=out_of_order]]", callBackUrl=URL)
    await kie.clock.advance(2)
    second = await kie.create(callBackUrl=URL)
    await kie.clock.advance(100)
    assert bot.ids == [second, first]


async def test_a_callback_for_an_unknown_task_follows_the_true_one(kie: KieClient, bot: Receiver) -> None:
    task_id = await kie.create("[[sim:callback=unknown_task]]", callBackUrl=URL)
    await kie.clock.advance(10)
    known, unknown = bot.ids
    assert known == task_id
    assert (await kie.record(unknown))["code"] == 422


async def test_a_forged_success_arrives_while_the_task_runs(kie: KieClient, bot: Receiver) -> None:
    kie.sim.switches.webhook_key = "whk"
    task_id = await kie.create("[[sim:callback=forged]]", callBackUrl=URL)
    states: list[str] = []
    bot.looks = lambda: states.append(kie.task(task_id).state)
    await kie.clock.advance(10)
    assert states == ["waiting", "success"]
    assert bot.ids == [task_id, task_id]
    assert "evil" in bot.bodies[0]["data"]["resultJson"]
    assert "x-webhook-signature" not in bot.requests[0].headers


async def test_a_replayed_signature_carries_another_body(kie: KieClient, bot: Receiver) -> None:
    kie.sim.switches.webhook_key = "whk"
    await kie.create("[[sim:callback=replayed]]", callBackUrl=URL)
    await kie.clock.advance(10)
    true, forged = bot.requests
    assert true.headers["x-webhook-signature"] == forged.headers["x-webhook-signature"]
    assert b"evil" in forged.content
    assert b"evil" not in true.content


async def test_a_stranger_s_callback_can_be_sent_at_any_time(kie: KieClient, bot: Receiver) -> None:
    bot.answers = [401]
    assert await kie.sim.forge_callback(URL, "f" * 32) == 401
    assert bot.ids == ["f" * 32]


async def test_over_real_sockets_an_unreachable_receiver_is_given_up_and_a_living_one_served() -> None:
    got: list[str] = []

    async def program(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        got.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async with KieSimulator(clock=ScaledClock(100), duration_scale=0.1) as sim, SimulatorServer(program) as server:
        sim.switches.duration_s = 1.0
        sim.switches.callback_timeout_s = 500.0  # seconds of a fast clock
        client = KieClient(sim, clock=None)  # type: ignore[arg-type]  # this simulator's clock runs by itself
        living = await client.create(callBackUrl=f"{server.url}/kie/callback/a1")
        gone = await client.create(callBackUrl="http://127.0.0.1:9/kie/callback/a2")
        for _ in range(300):
            if got and len(sim.tasks[gone].callbacks) == 4:
                break
            await asyncio.sleep(0.01)
        assert got == ["/kie/callback/a1"]
        assert [each.status for each in sim.tasks[living].callbacks] == [200]
        assert {each.error for each in sim.tasks[gone].callbacks} == {"ConnectError"}
        await client.aclose()
