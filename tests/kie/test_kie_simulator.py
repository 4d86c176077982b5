"""KieProvider and KieResults against the simulated service: whole ways, lost answers, limits, variants."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis

from kiebot.errors import AccountStopped, KiebotError, ModelPaused, OutcomeUnknown, Permanent, RateLimited, Transient
from kiebot.generation.ports import Submission, TaskReport, TaskState, TooLarge, Upload
from kiebot.kie.budget import Budget, create_limit
from kiebot.kie.callbacks import CallbackVerifier
from kiebot.kie.client import Deadlines, KieProvider
from kiebot.kie.results import FetchDeadlines, KieResults
from kiebot.simulators.clock import ManualClock
from kiebot.simulators.kie import KieSimulator, sign
from kiebot.simulators.media import MediaSpec, make_media
from kiebot.simulators.server import SimulatorServer

KEY = "sim-kie-key"
TLS = ssl.create_default_context()
PICTURE = {"prompt": "a tram", "aspect_ratio": "1:1"}


@dataclass
class Bench:
    """The simulated service on a port, its clock, and both adapters pointed at it."""

    sim: KieSimulator
    clock: ManualClock
    kie: KieProvider
    results: KieResults
    url: str

    async def submits(self, model_id: str = "z-image", given: dict[str, object] | None = None) -> str:
        return await self.kie.submit(Submission(uuid4(), model_id, PICTURE if given is None else given, None))

    async def ends(self, task_id: str) -> TaskReport:
        await self.clock.advance(10_000)
        return await self.kie.query(task_id)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    clock = ManualClock()
    deadlines = Deadlines(10.0, 10.0, 10.0)
    nowhere = httpx.MockTransport(lambda request: httpx.Response(200))  # no callbacks here, and no TLS set-up for them
    async with KieSimulator(api_key=KEY, clock=clock, transport=nowhere) as sim, SimulatorServer(sim.asgi) as server:
        host = server.url.removeprefix("http://")
        async with (
            KieProvider(KEY, api_url=server.url, upload_url=server.url, deadlines=deadlines, ssl_context=TLS) as kie,
            KieResults(
                [host], deadlines=FetchDeadlines(1.0, 1.0, 0.5), sign=kie.signed_link, ssl_context=TLS
            ) as results,
        ):
            yield Bench(sim, clock, kie, results, server.url)


async def content(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


def least_input(schema: dict[str, Any]) -> Any:
    """The smallest value that such a schema allows; files are addresses that nobody checks."""
    if "default" in schema:
        return schema["default"]
    match schema.get("enum"), schema.get("type"):
        case [first, *_], _:
            return first
        case _, "object":
            return {name: least_input(schema["properties"][name]) for name in schema.get("required", [])}
        case _, "array":
            return [least_input(schema["items"])] * schema.get("minItems", 1)
        case _, "string" if schema.get("format") == "uri":
            return "https://files.example/input"
    return "a tram in the rain, again and again".ljust(schema.get("minLength", 0), "!")


def live_models() -> list[dict[str, Any]]:
    rows = json.loads(files("kiebot.generation").joinpath("models.json").read_text())
    return [row for row in rows if row["status"] == "live"]


async def test_every_live_model_goes_from_submit_to_a_result_of_its_kind(bench: Bench) -> None:
    bench.sim.switches.set(strict_inputs=False, rate_limits=False)
    models = live_models()
    task_ids = await asyncio.gather(*(bench.submits(model["id"], least_input(model["input"])) for model in models))
    await bench.clock.advance(10_000)
    reports = await asyncio.gather(*(bench.kie.query(task_id) for task_id in task_ids))
    probed: set[str] = set()
    for model, report in zip(models, reports, strict=True):
        assert report.state is TaskState.SUCCEEDED, model["id"]
        assert report.urls, model["id"]
        if model["type"] not in probed:  # one of each type, for making a file costs the simulator time
            assert (await bench.results.probe(report.urls[0])).kind == model["output"], model["id"]
            probed.add(model["type"])


@pytest.mark.parametrize(
    ("model_id", "kind"),
    [
        ("z-image", "image"),
        ("kling-3.0/video", "video"),
        ("elevenlabs/text-to-dialogue-v3", "audio"),
        ("ai-music-api/generate", "audio"),
    ],
)
async def test_a_result_is_fetched_to_disk_and_measured(bench: Bench, model_id: str, kind: str) -> None:
    model = next(row for row in live_models() if row["id"] == model_id)
    report = await bench.ends(await bench.submits(model_id, least_input(model["input"])))
    for url in report.urls:
        probed = await bench.results.probe(url)
        async with bench.results.fetch(url, max_bytes=50_000_000) as fetched:
            assert fetched.kind == probed.kind == kind
            assert fetched.size_bytes == probed.size_bytes > 0
            assert fetched.width if kind == "image" else fetched.seconds


async def test_an_uploaded_picture_is_served_back_and_serves_as_input(bench: Bench) -> None:
    data = make_media(MediaSpec("png", 1))
    url = await bench.kie.upload(Upload(content(data), "cat.png", "image/png", len(data)))
    async with bench.results.fetch(url, max_bytes=10_000_000) as fetched:
        assert hashlib.sha256(fetched.path.read_bytes()).digest() == hashlib.sha256(data).digest()
    again = await bench.kie.upload(Upload(content(data), "cat.png", "image/png"))
    assert again != url


async def test_a_task_made_a_moment_ago_may_be_missing_and_then_runs(bench: Bench) -> None:
    bench.sim.switches.set(gap_s=(5.0, 5.0), profile="E")
    task_id = await bench.submits()
    assert (await bench.kie.query(task_id)).state is TaskState.MISSING
    await bench.clock.advance(6)
    assert (await bench.kie.query(task_id)).state is TaskState.RUNNING
    assert (await bench.kie.query("f" * 32)).state is TaskState.MISSING


@pytest.mark.parametrize(("variant", "billed"), [("a", 1), ("b", 1), ("c", 0), ("d", 1), ("d0", 0), ("e", 1)])
async def test_every_way_to_lose_an_answer_is_an_unknown_outcome(bench: Bench, variant: str, billed: int) -> None:
    bench.sim.loses_next_answer(variant)
    async with KieProvider(KEY, api_url=bench.url, deadlines=Deadlines(create_s=0.5), ssl_context=TLS) as kie:
        with pytest.raises(OutcomeUnknown):
            await kie.submit(Submission(uuid4(), "z-image", PICTURE, None))
    assert len(bench.sim.billed_tasks()) == billed


@pytest.mark.parametrize(("mirror", "text_key"), [("ok", "msg"), ("mirror", "message")])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("code_401", AccountStopped),
        ("code_402", AccountStopped),
        ("code_422", Permanent),
        ("code_429", RateLimited),
        ("code_433", AccountStopped),
        ("code_455", ModelPaused),
    ],
)
async def test_refusals_mean_the_same_under_every_envelope(
    bench: Bench, kind: str, expected: type[KiebotError], mirror: str, text_key: str
) -> None:
    bench.sim.switches.set(http_status=mirror, text_key=text_key)
    bench.sim.faults.next_create(kind)
    with pytest.raises(expected):
        await bench.submits()
    assert bench.sim.billed_tasks() == []


async def test_an_empty_account_is_stopped_for_want_of_credits(bench: Bench) -> None:
    bench.sim.set_credits(0.1)
    with pytest.raises(AccountStopped) as caught:
        await bench.submits()
    assert caught.value.reason == "no_credits"
    assert await bench.kie.credits_left() == 100


async def test_a_capped_key_is_stopped_for_its_cap(bench: Bench) -> None:
    bench.sim.switches.set(key_cap_credits=0.5)
    await bench.submits()
    with pytest.raises(AccountStopped) as caught:
        await bench.submits()
    assert caught.value.reason == "key_cap"


async def test_a_paused_model_and_one_in_maintenance_stop_that_model_only(bench: Bench) -> None:
    bench.sim.switches.set_model("z-image", paused=True)
    with pytest.raises(ModelPaused):
        await bench.submits()
    bench.sim.switches.set_model("z-image", paused=False, maintenance=True)
    with pytest.raises(ModelPaused):
        await bench.submits()
    bench.sim.switches.set_model("z-image", maintenance=False)
    assert await bench.submits()


async def test_a_wrong_input_and_an_unknown_model_will_never_work(bench: Bench) -> None:
    for model_id, given, code in (("z-image", {"prompt": "x"}, "input"), ("no/such-model", PICTURE, "unknown_model")):
        with pytest.raises(Permanent) as caught:
            await bench.submits(model_id, dict(given))
        assert caught.value.code == code


async def test_a_wrong_key_stops_the_account_on_every_call(bench: Bench) -> None:
    bench.sim.api_key = "another"
    calls = (bench.submits(), bench.kie.query("a" * 32), bench.kie.credits_left())
    for call in (*calls, bench.kie.upload(Upload(content(b"x"), "a.png", "image/png"))):
        with pytest.raises(AccountStopped):
            await call


@pytest.mark.parametrize("window", ["sliding", "fixed"])
async def test_within_the_budget_no_create_is_refused_and_beyond_it_one_is(
    bench: Bench, redis: Redis, window: str
) -> None:
    bench.sim.switches.set(create_window=window, retry_after_s=7.0)
    budget = Budget(redis, "t:kie:create", create_limit(20))
    while await budget.take(str(len(bench.sim.tasks))) == 0:
        await bench.submits()
    assert len(bench.sim.tasks) == 20
    with pytest.raises(RateLimited) as caught:
        await bench.submits()
    assert caught.value.retry_after_s == 7.0
    assert len(bench.sim.tasks) == 20


@pytest.mark.parametrize("fields", ["april", "newest", "docs"])
@pytest.mark.parametrize("extra", [False, True])
async def test_every_generation_of_records_reads_alike(bench: Bench, fields: str, extra: bool) -> None:
    bench.sim.switches.set(record_fields=fields, extra_fields=extra, gzip=extra, gap_s=(0.0, 0.0))
    task_id = await bench.submits()
    assert (await bench.kie.query(task_id)).state is TaskState.RUNNING
    assert len((await bench.ends(task_id)).urls) == 1


@pytest.mark.parametrize(
    ("failure", "word"),
    [
        ("content policy", "moderation"),
        ("the output video may be related to copyright restrictions", "moderation"),
        (
            "Failed to fetch the image. Kindly verify any access limits set by you or your service provider.",
            "input_fetch",
        ),
        ("the server is busy", "server"),
        ("Internal Error - Timeout", "timeout"),
        ("Reached the limit for concurrent generations.", "capacity"),
    ],
)
async def test_a_failed_task_is_classed_and_costs_nothing(bench: Bench, failure: str, word: str) -> None:
    for code_as in ("string", "int", "word"):
        bench.sim.switches.set(fail_code_as=code_as)
        bench.sim.fails_next(failure)
        report = await bench.ends(await bench.submits())
        assert (report.state, report.failure) == (TaskState.FAILED, word)
        assert report.consumed_millicredits == 0


@pytest.mark.parametrize(
    ("profile", "state"), [("D", TaskState.SUCCEEDED), ("E", TaskState.RUNNING), ("J", TaskState.FAILED)]
)
async def test_odd_progressions_end_where_they_should(bench: Bench, profile: str, state: TaskState) -> None:
    bench.sim.switches.set(profile=profile)
    assert (await bench.ends(await bench.submits())).state is state


@pytest.mark.parametrize("form", ["", "{}", '{"resultUrls":[]}'])
async def test_an_empty_success_is_told_as_such(bench: Bench, form: str) -> None:
    bench.sim.switches.set(profile="H", empty_form=form)
    assert (await bench.ends(await bench.submits())).failure == "empty_result"


async def test_several_results_come_in_order(bench: Bench) -> None:
    bench.sim.switches.set(profile="I", urls=4)
    assert len(set((await bench.ends(await bench.submits())).urls)) == 4


@pytest.mark.parametrize("noise", ["reset", "html_502", "html_503", "html_504", "not_json", "code_500", "http_429"])
async def test_a_noisy_query_is_transient_and_the_next_one_works(bench: Bench, noise: str) -> None:
    task_id = await bench.submits()
    await bench.clock.advance(10_000)
    bench.sim.faults.next_query(noise)
    with pytest.raises(Transient):
        await bench.kie.query(task_id)
    assert (await bench.kie.query(task_id)).state is TaskState.SUCCEEDED


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("dead", Transient),
        ("late", Transient),
        ("truncated", Transient),
        ("slow", Transient),
        ("zero", Transient),
        ("reset", Transient),
        ("html", Transient),
        ("endless", TooLarge),
        ("oversized", TooLarge),
    ],
)
async def test_a_badly_served_result_says_whether_to_come_back(
    bench: Bench, mode: str, expected: type[Exception]
) -> None:
    url = (await bench.ends(await bench.submits())).urls[0]
    bench.sim.switches.set(late_file_s=100_000.0)
    bench.sim.faults.next_file(mode)
    with pytest.raises(expected):
        async with bench.results.fetch(url, max_bytes=500_000):
            pass


async def test_a_wrong_content_type_does_not_matter(bench: Bench) -> None:
    url = (await bench.ends(await bench.submits())).urls[0]
    bench.sim.faults.next_file("wrong_type")
    assert (await bench.results.probe(url)).kind == "image"


async def test_a_result_that_its_host_forbids_is_read_under_the_address_that_kie_signs(bench: Bench) -> None:
    given: dict[str, object] = {**PICTURE, "prompt": "a cat [[sim:result=private]]"}
    url = (await bench.ends(await bench.submits(given=given))).urls[0]
    assert (await bench.results.probe(url)).kind == "image"
    await bench.results.read_through(url, max_bytes=10_000_000)
    async with bench.results.fetch(url, max_bytes=10_000_000) as fetched:
        assert fetched.size_bytes > 0
    assert bench.sim.journal.key_leaks() == []


async def test_a_result_that_stays_forbidden_may_be_there_later(bench: Bench) -> None:
    url = (await bench.ends(await bench.submits())).urls[0]
    bench.sim.faults.next_file("private")
    bench.sim.api_key = "another"  # nothing is signed for ours
    with pytest.raises(Transient, match="403"):
        await bench.results.probe(url)


async def test_an_address_that_is_no_result_is_not_signed(bench: Bench) -> None:
    with pytest.raises(Permanent):
        await bench.kie.signed_link("https://elsewhere.example/a.png")


async def test_the_key_goes_to_the_api_and_never_to_the_file_host(bench: Bench) -> None:
    url = (await bench.ends(await bench.submits())).urls[0]
    async with bench.results.fetch(url, max_bytes=10_000_000):
        pass
    assert bench.sim.journal.key_leaks() == []


async def test_the_attempt_id_reaches_the_journal_even_without_a_callback(bench: Bench) -> None:
    attempt_id = uuid4()
    await bench.kie.submit(Submission(attempt_id, "z-image", PICTURE, None))
    assert list(bench.sim.tasks_by_attempt()) == [str(attempt_id)]


def test_the_simulators_signature_is_ours() -> None:
    headers = {"X-Webhook-Timestamp": "1790000000", "X-Webhook-Signature": sign("whk", "a" * 32, 1790000000)}
    body = b'{"data": {"taskId": "' + b"a" * 32 + b'"}}'
    assert CallbackVerifier("whk").check(headers, body, now_s=1790000000).is_signed
