"""Every live model of the shipped catalogue can be bought, costs what its rules say, and yields a real file."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kiebot.simulators.kie.catalogue import DEFAULT_PATH
from kiebot.simulators.media import MediaKind, MediaSpec, make_media
from kiebot.simulators.probe import sniff
from tests.simulators.kie_client import KieClient, simulated

ROWS = [row for row in json.loads(DEFAULT_PATH.read_text()) if row["status"] == "live"]
MAGIC = {"image": ("image/png", "image/jpeg"), "video": ("video/mp4",), "audio": ("audio/mpeg",)}
SAMPLES: dict[str, MediaKind] = {"image": "png", "video": "mp4", "audio": "wav"}
CLIP_SECONDS = 4.0


@pytest.fixture
async def kie() -> AsyncIterator[KieClient]:
    async with simulated(rate_limits=False) as client:
        yield client


async def minimal(kie: KieClient, schema: dict[str, Any]) -> dict[str, Any]:
    """The least input a schema allows: required fields only, the default where there is one."""
    return {name: await value_for(kie, schema["properties"][name]) for name in schema["required"]}


async def value_for(kie: KieClient, part: dict[str, Any]) -> Any:
    if "x-media" in part:
        kind = SAMPLES[part["x-media"]]
        url = await kie.upload(make_media(MediaSpec(kind, 1, seconds=CLIP_SECONDS)), f"sample.{kind}")
        return [url] * part.get("minItems", 1) if part["type"] == "array" else url
    if "default" in part:
        return part["default"]
    if "enum" in part:
        return part["enum"][0]
    match part["type"]:
        case "string":
            return "a calm sea at dawn"
        case "boolean":
            return False
        case "array":
            items = part["items"]
            each = await minimal(kie, items) if items["type"] == "object" else await value_for(kie, items)
            return [each] * part.get("minItems", 0)
        case _:
            return part.get("minimum", 1)


def expected_price(row: dict[str, Any], given: dict[str, Any]) -> float:
    """The catalogue's price, worked out a second way: by hand for this test's own minimal inputs."""
    full = {name: part.get("default") for name, part in row["input"]["properties"].items()} | given
    price = row["price"]
    fitting = (
        rule["credits"]
        for rule in price["rules"]
        if all(
            (
                bool(full.get(wanted))
                if name == "_has"
                else wanted == "<=2K"
                if name == "_output"
                else full[name] == wanted
            )
            for name, wanted in rule["when"].items()
        )
    )
    unit = next(fitting, price["credits"])
    source = price.get("seconds_from", "")
    match price["per"]:
        case "second" if source.startswith("input:"):
            unit *= CLIP_SECONDS
        case "second" if "/" in source:
            unit *= 5.0
        case "second":
            unit *= float(full[source])
        case "1000_chars":
            unit *= len(given.get("text") or "".join(line["text"] for line in given["dialogue"])) / 1000
    return float(unit * int(full.get(price.get("times", "")) or 1))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
async def test_a_live_model_is_accepted_billed_and_delivered(kie: KieClient, row: dict[str, Any]) -> None:
    given = await minimal(kie, row["input"])
    answer = await kie.post("/api/v1/jobs/createTask", {"model": row["id"], "input": given})
    assert answer["code"] == 200, answer
    task_id = answer["data"]["taskId"]
    done = await kie.finished(task_id)
    assert done["state"] == "success"
    assert done["creditsConsumed"] == pytest.approx(expected_price(row, given), abs=0.0011)
    assert kie.sim.price(row["id"], given) == done["creditsConsumed"]
    for url in kie.task(task_id).result_urls:
        file = await kie.anonymous.get(url)
        assert sniff(file.content) in MAGIC[row["output"]]
        assert file.headers["content-type"] == sniff(file.content)


@pytest.mark.parametrize(
    ("model", "given", "credits"),
    [
        ("z-image", {}, 0.8),
        ("nano-banana-pro", {"resolution": "4K"}, 24),
        ("bytedance/seedream-v4-text-to-image", {"max_images": 4}, 20),
        ("ideogram/character", {"num_images": "3", "rendering_speed": "TURBO"}, 36),
        ("kling-2.6/text-to-video", {"duration": "10", "sound": True}, 220),
        ("kling-3.0/video", {"mode": "4K", "duration": "3"}, 201),
        ("kling-3.0/video", {"mode": "std", "sound": True, "duration": "4"}, 80),
        ("bytedance/seedance-2", {"resolution": "480p", "duration": 4}, 76),
        ("grok-imagine/text-to-image", {"enable_pro": True}, 5),
        ("wan/2-2-a14b-speech-to-video-turbo", {"resolution": "720p", "num_frames": 40, "frames_per_second": 10}, 96),
        ("elevenlabs/text-to-speech-multilingual-v2", {"text": "x" * 250}, 3),
        ("seedream/5-pro-image-to-image", {"image_urls": ["a", "b", "c"], "quality": "high"}, 15),
    ],
)
async def test_known_inputs_cost_known_amounts(
    kie: KieClient, model: str, given: dict[str, Any], credits: float
) -> None:
    assert kie.sim.price(model, given) == credits


async def test_seconds_of_uploaded_files_are_measured_and_billed(kie: KieClient) -> None:
    clip = await kie.upload(make_media(MediaSpec("mp4", 1, seconds=6)), "a.mp4")
    assert kie.sim.price("topaz/video-upscale", {"video_url": clip, "upscale_factor": "4"}) == 84
    given = {"resolution": "480p", "duration": 4, "reference_video_urls": [clip]}
    assert kie.sim.price("bytedance/seedance-2", given) == 115
    speech = await kie.upload(make_media(MediaSpec("mp3", 1, seconds=40)), "a.mp3")
    assert kie.sim.price("infinitalk/from-audio", {"audio_url": speech, "resolution": "480p"}) == 45
    kie.sim.switches.rounds_units_up = True
    short = await kie.upload(make_media(MediaSpec("wav", 1, seconds=2.5)), "a.wav")
    assert kie.sim.price("kling/ai-avatar-standard", {"audio_url": short}) == 24


async def test_an_upscale_is_priced_by_the_size_it_makes(kie: KieClient) -> None:
    for side, credits in ((64, 10), (1500, 20), (2500, 40)):
        url = await kie.upload(make_media(MediaSpec("jpeg", 1, side=side)), f"{side}.jpg")
        assert kie.sim.price("topaz/image-upscale", {"image_url": url, "upscale_factor": "2"}) == credits


async def test_some_models_return_several_files(kie: KieClient) -> None:
    for model, count in (("grok-imagine/text-to-image", 6), ("z-image", 1)):
        task_id = await kie.create(model=model)
        await kie.finished(task_id)
        assert len(kie.task(task_id).result_urls) == count
    task_id = await kie.create(
        model="bytedance/seedream-v4-text-to-image", input={"aspect_ratio": None, "max_images": 3}
    )
    assert len(json.loads((await kie.finished(task_id))["resultJson"])["resultUrls"]) == 3


async def test_music_comes_as_two_takes_under_data(kie: KieClient) -> None:
    given = {"prompt": "a waltz", "custom_mode": False, "instrumental": True, "model": "V6"}
    answer = await kie.post("/api/v1/jobs/createTask", {"model": "ai-music-api/generate", "input": given})
    takes = json.loads((await kie.finished(answer["data"]["taskId"]))["resultJson"])["data"]
    assert len(takes) == 2
    assert {"audio_url", "stream_audio_url", "image_url", "title", "duration"} <= set(takes[0])
    assert sniff((await kie.anonymous.get(takes[0]["image_url"])).content) == "image/jpeg"


async def test_a_catalogue_may_be_given_as_rows() -> None:
    async with simulated(catalogue=[ROWS[0]]) as kie:
        await kie.create(model=ROWS[0]["id"])
        assert (await kie.try_create(model="nano-banana-2-lite"))["code"] == 422


async def test_a_text_model_answers_with_a_result_object() -> None:
    row = {"id": "listen", "output": "text", "input": {"properties": {}}, "price": {"credits": 1, "rules": []}}
    async with simulated(catalogue=[row]) as kie:
        done = await kie.finished(await kie.create(model="listen"))
        assert "text" in json.loads(done["resultJson"])["resultObject"]
