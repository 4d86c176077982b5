"""What KieProvider makes of a network that misbehaves. Each server here speaks raw bytes."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import socket
import time
import traceback

import pytest

from kiebot.errors import (
    AccountStopped,
    KiebotError,
    ModelPaused,
    Moderated,
    OutcomeUnknown,
    Permanent,
    RateLimited,
    Transient,
)
from kiebot.generation.ports import Submission, TaskState, Upload
from kiebot.kie.client import KieProvider

from .kie_client_bench import ATTEMPT, CANARY, CREATED, HTML, SUBMISSION, chunks, envelope, provider, submit_to
from .kie_raw_server import Behaviour, RawServer, answers, closes, drips, is_silent, never_ends, resets


async def test_a_created_task_gives_its_id_and_the_request_is_as_documented() -> None:
    async with RawServer(answers(CREATED)) as server, provider(server.url) as kie:
        assert await kie.submit(SUBMISSION) == "ab" * 16
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /api/v1/jobs/createTask HTTP/1.1")
    assert f"Authorization: Bearer {CANARY}".encode() in head
    assert f"X-Attempt-Id: {ATTEMPT}".encode() in head
    assert json.loads(body) == {
        "model": "z-image",
        "input": {"prompt": "кот 🐈", "aspect_ratio": "1:1"},
        "callBackUrl": "https://h.example/cb/secret-path",
    }


async def test_without_a_callback_address_no_callback_key_is_sent() -> None:
    async with RawServer(answers(CREATED)) as server, provider(server.url) as kie:
        await kie.submit(Submission(ATTEMPT, "z-image", {}, None))
    assert b"callBackUrl" not in server.requests[0]


async def test_a_packed_answer_is_unpacked() -> None:
    packed = answers(gzip.compress(CREATED), headers="Content-Encoding: gzip\r\n")
    assert await submit_to(packed) == "ab" * 16


@pytest.mark.parametrize(
    "behaviour",
    [
        resets,
        closes,
        answers(HTML, status="502 Bad Gateway"),
        answers(HTML, status="504 Gateway Time-out"),
        answers(b"error code: 524", status="524 A Timeout Occurred"),
        answers(HTML),
        answers(CREATED[:40]),
        answers(CREATED[:40], length=len(CREATED)),
        answers(b""),
        answers(b"[" * 200_000),
        answers(b"\xff\xfe\x00"),
        answers(b'{"msg": "no code"}'),
        answers(CREATED, status="500 Internal Server Error"),
        answers(envelope(200)),
        answers(envelope(200, data={"taskId": ""})),
        answers(envelope(200, data={"taskId": "x" * 129})),
        answers(envelope(500, data={"taskId": "ab" * 16})),
        answers(envelope(504, "gateway")),
        answers(CREATED, headers="Content-Encoding: gzip\r\n"),
        never_ends,
    ],
)
async def test_an_answer_lost_after_sending_is_an_unknown_outcome(behaviour: Behaviour) -> None:
    with pytest.raises(OutcomeUnknown):
        await submit_to(behaviour)


@pytest.mark.parametrize("behaviour", [is_silent, drips])
async def test_a_server_that_never_finishes_meets_the_total_deadline(behaviour: Behaviour) -> None:
    started = time.monotonic()
    with pytest.raises(OutcomeUnknown, match="no answer in time"):
        await submit_to(behaviour, deadline_s=0.3)
    assert time.monotonic() - started < 2


async def test_a_refused_connection_means_nothing_happened() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused, and nobody else can take the port
        async with provider(f"http://127.0.0.1:{taken.getsockname()[1]}") as kie:
            with pytest.raises(Transient, match="not sent"):
                await kie.submit(SUBMISSION)


async def test_a_failed_tls_handshake_means_nothing_happened() -> None:
    async with RawServer(closes, reads_first=False) as server, provider(f"https://127.0.0.1:{server.port}") as kie:
        with pytest.raises(Transient, match="not sent"):
            await kie.submit(SUBMISSION)
    assert server.requests == []


async def test_a_deadline_met_while_connecting_means_nothing_happened() -> None:
    async with (
        RawServer(is_silent, reads_first=False) as server,
        provider(f"https://127.0.0.1:{server.port}", deadline_s=0.3) as kie,
    ):
        with pytest.raises(Transient, match="not sent"):
            await kie.submit(SUBMISSION)


async def test_an_input_that_json_cannot_say_is_never_sent() -> None:
    async with RawServer(answers(CREATED)) as server, provider(server.url) as kie:
        for bad in (float("nan"), object(), "\ud800"):
            with pytest.raises(Permanent):
                await kie.submit(Submission(ATTEMPT, "z-image", {"prompt": bad}, None))
    assert server.requests == []


@pytest.mark.parametrize("mirrored", [False, True], ids=["http-200", "http-mirrors-code"])
@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (400, "bad request", Permanent),
        (401, "Unauthorized – Authentication failed.", AccountStopped),
        (402, "The current credits are insufficient. Please top up.", AccountStopped),
        (433, "cap", AccountStopped),
        (404, "", Permanent),
        (422, "The model name you specified is not supported.", Permanent),
        (429, "Your call frequency is too high. Please try again later.", RateLimited),
        (451, "", Permanent),
        (455, "maintenance", ModelPaused),
        (500, "This field is required", Permanent),
        (500, "This interface is temporarily paused.", ModelPaused),
        (500, "Server exception, please try again later", Transient),
        (500, "Your prompt was flagged by Website as violating content policies.", Moderated),
        (501, "generation failed", Transient),
        (505, "", ModelPaused),
    ],
)
async def test_an_envelope_says_the_same_under_any_http_status(
    code: int, text: str, expected: type[KiebotError], mirrored: bool
) -> None:
    status = f"{code} Some Text" if mirrored else "200 OK"
    with pytest.raises(expected) as caught:
        await submit_to(answers(envelope(code, text), status=status))
    assert type(caught.value) is expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [("429 Too Many", RateLimited), ("401 No", AccountStopped), ("413 Big", Permanent), ("302 Found", Transient)],
)
async def test_a_bare_http_status_below_500_counts_as_a_code(status: str, expected: type[KiebotError]) -> None:
    with pytest.raises(expected):
        await submit_to(answers(HTML, status=status, headers="Location: http://127.0.0.1:1/\r\n"))


async def test_kies_own_wish_for_a_pause_is_passed_on_and_bounded() -> None:
    for header, expected in (("7", 7.0), ("86400", 600.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 2.0)):
        with pytest.raises(RateLimited) as caught:
            await submit_to(answers(envelope(429, "slow"), headers=f"Retry-After: {header}\r\n"))
        assert caught.value.retry_after_s == expected


@pytest.mark.parametrize(
    "behaviour",
    [
        resets,
        closes,
        answers(HTML, status="502 Bad Gateway"),
        answers(HTML, status="404 Not Found"),
        answers(b"not json"),
        answers(envelope(200, data=[1])),
        answers(
            envelope(200, data={"taskId": "other", "state": "success", "resultJson": '{"resultUrls":["https://a/b"]}'})
        ),
        answers(envelope(500, "Server exception")),
        answers(envelope(429, "Your call frequency is too high.")),
        answers(envelope(422, "high demand (E003)")),
        answers(envelope(200, data={"state": "success"}), status="503 Busy"),
        never_ends,
    ],
)
async def test_a_question_badly_answered_is_only_transient(behaviour: Behaviour) -> None:
    async with RawServer(behaviour) as server, provider(server.url) as kie:
        with pytest.raises(Transient):
            await kie.query("ab" * 16)


async def test_a_refused_key_stops_the_account_for_questions_too() -> None:
    async with RawServer(answers(envelope(401, "Unauthorized"))) as server, provider(server.url) as kie:
        for question in (kie.query("t"), kie.credits_left()):
            with pytest.raises(AccountStopped) as caught:
                await question
            assert caught.value.reason == "key_refused"


@pytest.mark.parametrize(("code", "text"), [(422, "recordInfo is null"), (404, ""), (200, "success")])
async def test_a_record_without_data_is_missing(code: int, text: str) -> None:
    async with RawServer(answers(envelope(code, text))) as server, provider(server.url) as kie:
        assert (await kie.query("ab" * 16)).state is TaskState.MISSING


async def test_a_task_id_cannot_change_the_question() -> None:
    async with RawServer(answers(envelope(422, "recordInfo is null"))) as server, provider(server.url) as kie:
        await kie.query("a&taskId=b#c/../é")
    assert server.requests[0].startswith(b"GET /api/v1/jobs/recordInfo?taskId=a%26taskId%3Db%23c%2F..%2F%C3%A9 HTTP")


@pytest.mark.parametrize(("data", "expected"), [(5916.25, 5_916_250), ("0.02", 20), (-1.5, -1500), (0, 0)])
async def test_the_balance_is_whole_millicredits(data: object, expected: int) -> None:
    async with RawServer(answers(envelope(200, "success", data))) as server, provider(server.url) as kie:
        assert await kie.credits_left() == expected


@pytest.mark.parametrize("data", [None, "many", True, {"credits": 1}, 1e300])
async def test_a_balance_that_is_no_number_is_transient(data: object) -> None:
    async with RawServer(answers(envelope(200, "success", data))) as server, provider(server.url) as kie:
        with pytest.raises(Transient):
            await kie.credits_left()


@pytest.mark.parametrize(
    "behaviour",
    [
        resets,
        is_silent,
        answers(HTML, status="502 Bad Gateway"),
        answers(envelope(401, f"Invalid API key {CANARY} for https://h.example/cb/secret-path")),
        answers(envelope(422, f"callback https://h.example/cb/secret-path?x={CANARY} is refused")),
    ],
)
async def test_no_error_no_log_line_and_no_repr_shows_the_key(
    behaviour: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with RawServer(behaviour) as server, provider(server.url, deadline_s=0.3) as kie:
        for call in (
            kie.submit(SUBMISSION),
            kie.credits_left(),
            kie.upload(Upload(chunks(b"a"), "a.png", "image/png")),
        ):
            with pytest.raises(KiebotError) as caught:
                await call
            shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(kie)
            for link in causes(caught.value):
                shown += repr(link)
                assert not type(link).__module__.startswith(("httpx", "httpcore"))
            assert CANARY not in shown
            assert "secret-path" not in shown
    assert CANARY not in caplog.text


def causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        if (link := waiting.pop()) is not None and link not in found:
            found.append(link)
            waiting += [link.__cause__, link.__context__]
    return found


async def test_cancelling_a_call_leaves_the_client_usable() -> None:
    async with RawServer(is_silent) as server, provider(server.url) as kie:
        call = asyncio.create_task(kie.query("t"))
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


@pytest.mark.parametrize("url", ["", "http://", "ftp://127.0.0.1", "http://[bad"])
async def test_an_unusable_base_address_sends_nothing(url: str) -> None:
    async with provider(url) as kie:
        with pytest.raises(Transient, match="not sent"):
            await kie.submit(SUBMISSION)


@pytest.mark.parametrize("key", ["ключ", "line\nbreak"])
def test_a_key_that_no_header_can_carry_is_refused_at_start(key: str) -> None:
    with pytest.raises(ValueError, match="KIE key") as caught:
        KieProvider(key)
    assert key not in str(caught.value)
