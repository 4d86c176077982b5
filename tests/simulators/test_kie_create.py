"""createTask: what is accepted, what it costs, how often it may be called."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kiebot.simulators.media import MediaSpec, make_media
from tests.simulators.kie_client import KieClient, simulated


@pytest.fixture
async def kie() -> AsyncIterator[KieClient]:
    async with simulated() as client:
        yield client


async def test_a_task_id_is_32_hex_and_repeated_as_the_record_id(kie: KieClient) -> None:
    data = (await kie.try_create())["data"]
    assert data["taskId"] == data["recordId"]
    assert len(data["taskId"]) == 32
    assert set(data["taskId"]) <= set("0123456789abcdef")


@pytest.mark.parametrize("model", ["no/such-model", "midjourney/api", 7, ""])
async def test_an_unknown_model_gets_422_and_its_text(kie: KieClient, model: Any) -> None:
    answer = await kie.try_create(model=model)
    assert answer["code"] == 422
    assert answer["msg"].startswith("The model name you specified is not supported.")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"prompt": None}, "This field is required"),
        ({"prompt": ""}, "This field is required"),
        ({"aspect_ratio": None}, "This field is required"),
        ({"prompt": "x" * 1001}, "The text length cannot exceed the maximum limit"),
        ({"aspect_ratio": "2:1"}, "aspect_ratio is not within the range of allowed options"),
        ({"nsfw_checker": "yes"}, "nsfw_checker is not within the range of allowed options"),
    ],
)
async def test_a_bad_input_is_a_500_in_disguise(kie: KieClient, given: dict[str, Any], text: str) -> None:
    answer = await kie.try_create(input=given)
    assert (answer["code"], answer["msg"]) == (500, text)
    assert kie.sim.balance == 100_000
    assert not kie.sim.tasks


@pytest.mark.parametrize(
    ("model", "given", "text"),
    [
        ("kling-2.6/text-to-video", {"duration": 5}, "duration is not within the range of allowed options"),
        ("bytedance/seedance-2", {"duration": 16}, "Value must be within the specified range"),
        ("bytedance/seedance-2", {"duration": True}, "duration is not within the range of allowed options"),
        ("bytedance/seedance-2", {"resolution": "720P"}, "resolution is not within the range of allowed options"),
        ("bytedance/seedance-2", {"prompt": "ab"}, "Value must be within the specified range"),
        ("elevenlabs/text-to-dialogue-v3", {"dialogue": []}, "This field is required"),
        ("elevenlabs/text-to-dialogue-v3", {"dialogue": [{"text": "Hi"}]}, "voice is required"),
        ("ai-music-api/generate", {"custom_mode": True, "style": "jazz"}, "title is required"),
        ("gpt-image-2-text-to-image", {"resolution": "4K"}, "resolution is not within the range of allowed options"),
        ("runway", {"duration": 10, "quality": "1080p"}, "duration is not within the range of allowed options"),
    ],
)
async def test_types_ranges_and_impossible_pairs_are_checked(
    kie: KieClient, model: str, given: dict[str, Any], text: str
) -> None:
    usual = {"sound": False, "duration": "5", "custom_mode": False, "instrumental": False, "model": "V6"}
    allowed = kie.sim.models.get(model)
    assert allowed is not None
    given = {name: value for name, value in usual.items() if name in allowed.schema["required"]} | given
    if "aspect_ratio" in allowed.schema["required"]:
        given |= {"aspect_ratio": "1:1"}
    body = {"model": model, "input": {"prompt": "a cat", **given}}
    answer = await kie.post("/api/v1/jobs/createTask", body)
    assert (answer["code"], answer["msg"]) == (500, text)


async def test_unknown_keys_pass_and_defaults_appear_in_the_doubly_encoded_param(kie: KieClient) -> None:
    data = await kie.data(await kie.create("a cat", input={"aspect_ration": "16:9"}))
    param = json.loads(data["param"])
    assert list(param) == ["input", "model"]
    stored = json.loads(param["input"])
    assert stored["aspect_ration"] == "16:9"
    assert stored["nsfw_checker"] is False


async def test_param_names_the_callback_only_when_one_was_given(kie: KieClient) -> None:
    url = "https://bot.example/kie/callback/a1?sig=2"
    data = await kie.data(await kie.create(callBackUrl=url))
    assert json.loads(data["param"])["callBackUrl"] == url


async def test_one_model_accepts_an_empty_input_and_bills_it(kie: KieClient) -> None:
    body = {"model": "grok-imagine/image-to-video", "input": {}}
    assert (await kie.post("/api/v1/jobs/createTask", body))["code"] == 200
    assert kie.sim.ledger().credits_consumed > 0


async def test_retired_and_paused_models_say_so(kie: KieClient) -> None:
    kie.sim.switches.set_model("z-image", paused=True)
    for model in ("z-image", "sora-2-text-to-video"):
        answer = await kie.try_create(model=model)
        assert (answer["code"], answer["msg"]) == (500, "This interface is temporarily paused."), model


async def test_maintenance_and_passing_server_trouble_create_nothing(kie: KieClient) -> None:
    kie.sim.switches.set_model("z-image", maintenance=True)
    assert (await kie.try_create())["code"] == 455
    kie.sim.switches.set_model("z-image", maintenance=False)
    kie.sim.faults.next_create("transient", model="z-image")
    answer = await kie.try_create()
    assert (answer["code"], answer["msg"]) == (500, "Server exception, please try again later")
    assert not kie.sim.tasks
    await kie.create()


async def test_latency_is_measured_by_the_clock() -> None:
    async with simulated() as kie:
        kie.sim.switches.latency_scale = 1.0
        started = kie.clock.monotonic()
        creating = asyncio.ensure_future(kie.create())
        while not creating.done():
            await kie.clock.advance(0.05)
        assert 0.3 <= kie.clock.monotonic() - started <= 1.0


async def test_credits_go_at_create_and_come_back_when_the_task_fails(kie: KieClient) -> None:
    kie.sim.fails_next("server")
    task_id = await kie.create()
    assert (await kie.get("/api/v1/chat/credit"))["data"] == 99_999.2
    assert (await kie.data(task_id))["creditsConsumed"] == 0.8
    failed = await kie.finished(task_id)
    assert (failed["state"], failed["creditsConsumed"]) == ("fail", 0)
    assert (await kie.get("/api/v1/chat/credit"))["data"] == 100_000
    ledger = kie.sim.ledger()
    assert (ledger.tasks_created, ledger.tasks_billed, ledger.tasks_refunded) == (1, 0, 1)
    assert (ledger.credits_billed, ledger.credits_refunded, ledger.credits_consumed) == (0.8, 0.8, 0)


async def test_refunds_can_be_withheld(kie: KieClient) -> None:
    kie.sim.switches.refunds = False
    kie.sim.fails_next("server")
    await kie.finished(await kie.create())
    assert [task.credits_billed for task in kie.sim.billed_tasks()] == [0.8]


async def test_an_empty_account_gets_402_and_no_task(kie: KieClient) -> None:
    kie.sim.set_credits(1.0)
    await kie.create()
    answer = await kie.try_create()
    assert (answer["code"], answer["msg"]) == (402, "The current credits are insufficient. Please top up.")
    assert len(kie.sim.tasks) == 1
    assert kie.sim.balance == 0.2


async def test_reads_of_the_balance_may_lag(kie: KieClient) -> None:
    kie.sim.switches.credit_lag_s = 5.0
    await kie.clock.advance(10)
    await kie.create()
    assert (await kie.get("/api/v1/chat/credit"))["data"] == 100_000
    await kie.clock.advance(5)
    assert (await kie.get("/api/v1/chat/credit"))["data"] == 99_999.2


async def test_the_twenty_first_create_within_ten_seconds_is_refused_and_free(kie: KieClient) -> None:
    for _ in range(20):
        await kie.create()
        await kie.clock.advance(0.25)
    response = await kie.http.post("/api/v1/jobs/createTask", json={"model": "z-image"})
    assert response.json()["code"] == 429
    assert response.json()["msg"] == "Your call frequency is too high. Please try again later."
    assert "retry-after" not in response.headers
    assert len(kie.sim.tasks) == 20
    await kie.clock.advance(5.01)  # now only the first has left a sliding window
    await kie.create()
    assert (await kie.try_create())["code"] == 429


async def test_a_fixed_window_forgets_everything_at_once(kie: KieClient) -> None:
    kie.sim.switches.create_window = "fixed"
    await kie.clock.advance(9)
    for _ in range(20):
        await kie.create()
    assert (await kie.try_create())["code"] == 429
    await kie.clock.advance(1)
    for _ in range(20):
        await kie.create()


async def test_retry_after_comes_by_switch(kie: KieClient) -> None:
    kie.sim.switches.creates_per_10s = 0
    kie.sim.switches.retry_after_s = 7
    response = await kie.http.post("/api/v1/jobs/createTask", json={"model": "z-image"})
    assert response.headers["retry-after"] == "7"


async def test_a_task_may_be_asked_after_ten_times_a_second(kie: KieClient) -> None:
    first, second = await kie.create(), await kie.create()
    for _ in range(10):
        assert (await kie.record(first))["code"] == 200
    assert (await kie.record(first))["code"] == 429
    assert (await kie.record(second))["code"] == 200
    await kie.clock.advance(1)
    assert (await kie.record(first))["code"] == 200


async def test_an_account_wide_poll_limit_can_be_set(kie: KieClient) -> None:
    kie.sim.switches.polls_per_s = 3
    tasks = [await kie.create() for _ in range(4)]
    assert [(await kie.record(task_id))["code"] for task_id in tasks] == [200, 200, 200, 429]


@pytest.mark.parametrize(("mode", "code"), [("451", 451), ("500", 500)])
async def test_an_input_nobody_uploaded_is_refused_at_create(kie: KieClient, mode: Any, code: int) -> None:
    kie.sim.switches.dead_input = mode
    for url in ("https://elsewhere.example/a.png", "http://kie.test/files/kieai/108642/images/none.png"):
        answer = await kie.try_create(model="google/nano-banana-edit", input={"image_urls": [url]})
        assert answer["code"] == code
    assert not kie.sim.tasks


async def test_an_expired_input_may_also_fail_later(kie: KieClient) -> None:
    kie.sim.switches.dead_input = "later"
    url = await kie.upload(make_media(MediaSpec("png", 1)))
    await kie.clock.advance(24 * 3600)
    task_id = await kie.create(model="google/nano-banana-edit", input={"image_urls": [url]})
    failed = await kie.finished(task_id)
    assert failed["failMsg"].startswith("Failed to fetch the image.")


async def test_lenient_inputs_accept_any_address_but_no_base64(kie: KieClient) -> None:
    kie.sim.switches.strict_inputs = False
    await kie.create(model="google/nano-banana-edit", input={"image_urls": ["https://elsewhere.example/a.png"]})
    answer = await kie.try_create(model="google/nano-banana-edit", input={"image_urls": ["data:image/png;base64,AA"]})
    assert (answer["code"], answer["msg"]) == (422, "url is wrong")


async def test_a_clip_where_a_picture_belongs_fails_the_task(kie: KieClient) -> None:
    url = await kie.upload(make_media(MediaSpec("mp4", 1)), "clip.mp4")
    failed = await kie.finished(await kie.create(model="google/nano-banana-edit", input={"image_urls": [url]}))
    assert failed["state"] == "fail"


async def test_reference_audio_must_last_between_2_and_30_seconds(kie: KieClient) -> None:
    url = await kie.upload(make_media(MediaSpec("wav", 1, seconds=1)), "short.wav")
    answer = await kie.try_create(model="bytedance/seedance-2", input={"reference_audio_urls": [url]})
    assert (answer["code"], answer["msg"]) == (422, "Each reference audio must be between 2 and 30 seconds")


async def test_frames_beside_references_are_accepted_and_fail_later(kie: KieClient) -> None:
    url = await kie.upload(make_media(MediaSpec("png", 1)))
    given = {"first_frame_url": url, "reference_image_urls": [url]}
    failed = await kie.finished(await kie.create(model="bytedance/seedance-2", input=given))
    assert "cannot be mixed" in failed["failMsg"]
