"""Uploads and download links: streamed, named apart, and clear about what to do when they fail."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from kiebot.errors import (
    AccountStopped,
    KiebotError,
    Permanent,
    Transient,
)
from kiebot.generation.ports import Upload

from .kie_client_bench import HTML, chunks, envelope, provider
from .kie_raw_server import RawServer, answers


def uploaded(url: str = "https://tempfile.redpandaai.co/kieai/1/kiebot/x.png") -> bytes:
    return json.dumps({"success": True, "code": 200, "msg": "ok", "data": {"downloadUrl": url}}).encode()


@pytest.mark.parametrize("size_bytes", [6, None])
async def test_an_upload_streams_the_file_under_a_name_of_its_own(size_bytes: int | None) -> None:
    async with RawServer(answers(uploaded())) as server, provider(server.url) as kie:
        for _ in range(2):
            file = Upload(chunks(b"abc", b"def"), "../my secret name.PNG", "image/png", size_bytes)
            assert (await kie.upload(file)).startswith("https://tempfile.redpandaai.co/")
    first, second = server.requests
    assert b"my secret name" not in first
    assert b'name="uploadPath"\r\n\r\nkiebot\r\n' in first
    assert (b"content-length" in first.lower()) is (size_bytes is not None)
    assert first.partition(b'filename="')[2][:36] != second.partition(b'filename="')[2][:36]


async def test_a_source_that_is_not_as_long_as_announced_is_transient_and_nothing_hangs() -> None:
    async with RawServer(answers(uploaded())) as server, provider(server.url) as kie:
        for announced in (5, 7):
            with pytest.raises(Transient, match="as long as announced"):
                await kie.upload(Upload(chunks(b"abc", b"def"), "a.png", "image/png", announced))


async def test_an_error_of_the_source_reaches_the_caller_unchanged() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"abc"
        raise Permanent("the file expired", code="expired")

    async with RawServer(answers(uploaded())) as server, provider(server.url) as kie:
        with pytest.raises(Permanent, match="expired"):
            await kie.upload(Upload(broken(), "a.png", "image/png"))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (envelope(400, "Missing required parameter: uploadPath"), Permanent),
        (envelope(401, "Authentication failed: Invalid API Key"), AccountStopped),
        (envelope(500, "oops"), Transient),
        (envelope(504, "oops"), Transient),
        (json.dumps({"success": False, "code": 200, "data": None}).encode(), Transient),
        (envelope(200, "ok", {"downloadUrl": "file:///etc/passwd"}), Transient),
        (HTML, Transient),
    ],
)
async def test_a_refused_upload_says_whether_to_try_again(body: bytes, expected: type[KiebotError]) -> None:
    async with RawServer(answers(body)) as server, provider(server.url) as kie:
        with pytest.raises(expected):
            await kie.upload(Upload(chunks(b"abc"), "a.png", "image/png", 3))
