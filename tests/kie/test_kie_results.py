"""Where results may be read from, how much of them, and for how long."""

from __future__ import annotations

import asyncio
import ssl
import struct
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from kiebot.errors import KiebotError, Permanent, Transient
from kiebot.generation.ports import TooLarge
from kiebot.kie.results import MOST_READ, FetchDeadlines, KieResults
from kiebot.kie.spool import ONE_BYTES

from .kie_raw_server import Behaviour, RawServer, answers, closes, drips, is_silent, never_ends, resets


def png(width: int = 3, height: int = 2) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = zlib.compress(b"".join(b"\x00" + b"\x40\x80\xc0" * width for _ in range(height)))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


PNG = png()
TLS = ssl.create_default_context()  # building one costs more than most tests here


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


FAST = FetchDeadlines(probe_s=0.4, fetch_s=0.4, idle_s=0.2)


Serve = Callable[[Behaviour], AbstractAsyncContextManager[tuple[KieResults, RawServer]]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    @asynccontextmanager
    async def serving(behaviour: Behaviour) -> AsyncIterator[tuple[KieResults, RawServer]]:
        async with RawServer(behaviour) as server:
            hosts = [f"127.0.0.1:{server.port}"]
            async with KieResults(hosts, directory=tmp_path, deadlines=FAST, ssl_context=TLS) as results:
                yield results, server

    return serving


async def endless_png(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + PNG)
    while True:
        writer.write(bytes(65536))
        await writer.drain()


async def test_a_result_is_measured_on_disk_and_gone_afterwards(serve: Serve, tmp_path: Path) -> None:
    async with serve(answers(PNG, headers="Content-Type: text/html\r\n")) as (results, server):
        async with results.fetch(f"{server.url}/a.exe", max_bytes=10_000) as fetched:
            assert fetched.path.read_bytes() == PNG
            assert (fetched.mime, fetched.kind, fetched.width, fetched.height) == ("image/png", "image", 3, 2)
            assert fetched.size_bytes == len(PNG)
        assert left_in(tmp_path) == []
        head = server.requests[0].lower()
        assert b"mozilla" in head
        assert b"authorization" not in head
        assert b"cookie" not in head


async def test_a_large_result_reaches_the_disk_whole(serve: Serve) -> None:
    body = PNG + bytes(3_000_000)
    async with (
        serve(answers(body)) as (results, server),
        results.fetch(f"{server.url}/a", max_bytes=10_000_000) as fetched,
    ):
        assert fetched.path.read_bytes() == body


async def test_an_error_of_the_user_of_a_result_still_removes_it(serve: Serve, tmp_path: Path) -> None:
    async with serve(answers(PNG)) as (results, server):
        with pytest.raises(RuntimeError, match="courier"):
            async with results.fetch(f"{server.url}/a", max_bytes=10_000):
                raise RuntimeError("the courier broke")
        assert left_in(tmp_path) == []


async def test_the_deadline_is_for_the_download_and_not_for_its_user(serve: Serve) -> None:
    async with serve(answers(PNG)) as (results, server), results.fetch(f"{server.url}/a", max_bytes=10_000):
        await asyncio.sleep(FAST.fetch_s + 0.1)


async def test_a_probe_reads_the_head_and_tells_the_whole_size(serve: Serve) -> None:
    partial = answers(PNG, status="206 Partial Content", headers="Content-Range: bytes 0-65535/9000000\r\n")
    async with serve(partial) as (results, server):
        found = await results.probe(f"{server.url}/a")
        assert (found.mime, found.kind, found.size_bytes, found.path) == ("image/png", "image", 9_000_000, Path())
        assert b"range: bytes=0-65535" in server.requests[0].lower()


async def test_a_probe_of_an_endless_file_ends(serve: Serve) -> None:
    async with serve(endless_png) as (results, server):
        assert (await results.probe(f"{server.url}/a")).size_bytes == 0


def breaks_off(*, reset: bool = False, stall: bool = False, chunked: bool = False) -> Behaviour:
    """A good head, much of a body, and then the line is cut, or falls silent."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        size = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 900000"
        body = PNG + bytes(300_000)
        writer.write(b"HTTP/1.1 200 OK\r\n" + size + b"\r\n\r\n")
        writer.write(b"%x\r\n%b\r\n" % (len(body), body) if chunked else body)
        await writer.drain()
        await asyncio.sleep(0.05)
        if stall:
            await asyncio.Event().wait()
        await (resets if reset else closes)(writer)

    return behave


@pytest.mark.parametrize("how", [{}, {"reset": True}, {"stall": True}, {"chunked": True}])
async def test_a_body_that_breaks_off_is_seen_although_its_head_is_well(
    how: dict[str, bool], serve: Serve, tmp_path: Path
) -> None:
    async with serve(breaks_off(**how)) as (results, server):
        with pytest.raises(Transient):
            await results.read_through(f"{server.url}/a", max_bytes=1_000_000)
    assert left_in(tmp_path) == []


async def test_what_was_read_through_is_sent_without_a_second_download_and_only_once(
    serve: Serve, tmp_path: Path
) -> None:
    body = PNG + bytes(3_000_000)
    async with serve(answers(body)) as (results, server):
        await results.read_through(f"{server.url}/a", max_bytes=10_000_000)
        for downloads in (1, 2):
            async with results.fetch(f"{server.url}/a", max_bytes=10_000_000) as fetched:
                assert fetched.path.read_bytes() == body
                assert (fetched.mime, fetched.width, fetched.size_bytes) == ("image/png", 3, len(body))
            assert len(server.requests) == downloads
    assert left_in(tmp_path) == []


async def test_what_is_kept_is_not_read_once_more(serve: Serve) -> None:
    async with serve(answers(PNG)) as (results, server):
        for _ in range(2):
            await results.read_through(f"{server.url}/a", max_bytes=10_000_000)
        assert len(server.requests) == 1


async def test_a_host_that_trickles_keeps_no_more_than_half_of_the_connections(serve: Serve) -> None:
    async with serve(is_silent) as (results, server):
        reads = [
            asyncio.create_task(results.read_through(f"{server.url}/{number}", max_bytes=1_000_000))
            for number in range(MOST_READ)
        ]
        await asyncio.sleep(0)
        with pytest.raises(Transient, match="too many"):
            await results.read_through(f"{server.url}/one-more", max_bytes=1_000_000)
        assert all(isinstance(end, Transient) for end in await asyncio.gather(*reads, return_exceptions=True))
        with pytest.raises(Transient, match=r"too slow|Timeout"):  # there is room again
            await results.read_through(f"{server.url}/one-more", max_bytes=1_000_000)


async def test_a_film_that_was_read_through_is_kept_nowhere(serve: Serve, tmp_path: Path) -> None:
    async with serve(answers(PNG + bytes(ONE_BYTES))) as (results, server):
        await results.read_through(f"{server.url}/a", max_bytes=50_000_000)
        assert len(server.requests) == 1
        assert left_in(tmp_path) == []


async def test_what_was_read_through_and_never_sent_is_gone_with_the_replica(serve: Serve, tmp_path: Path) -> None:
    async with serve(answers(PNG)) as (results, server):
        await results.read_through(f"{server.url}/a", max_bytes=10_000_000)
        assert left_in(tmp_path) != []
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("body", [b"", b"<html>not found</html>", b"<html>" + bytes(100_000)])
async def test_what_is_no_media_is_not_taken_for_a_result_because_it_came_whole(body: bytes, serve: Serve) -> None:
    async with serve(answers(body)) as (results, server):
        with pytest.raises(Permanent if body else Transient):
            await results.read_through(f"{server.url}/a", max_bytes=1_000_000)


def large(end: Behaviour) -> Behaviour:
    """A file beyond the cap: what is asked for from its end is answered by `end`."""

    behaviours = iter([answers(PNG, length=9_000_000), end])

    async def behave(writer: asyncio.StreamWriter) -> None:
        await next(behaviours)(writer)

    return behave


RANGE = "Content-Range: bytes 8999997-8999999/9000000\r\n"


async def test_of_a_file_too_large_to_be_sent_the_head_and_the_end_are_read(serve: Serve) -> None:
    part = answers(b"end", status="206 Partial Content", headers=RANGE)
    async with serve(large(part)) as (results, server):
        await results.read_through(f"{server.url}/a", max_bytes=1_000_000)
        assert b"range: bytes=-65536" in server.requests[1].lower()
    async with serve(large(answers(PNG, length=9_000_000))) as (results, server):  # a host that serves no parts
        await results.read_through(f"{server.url}/a", max_bytes=1_000_000)


@pytest.mark.parametrize(
    "end",
    [
        answers(b"", status="416 Range Not Satisfiable"),
        answers(b"en", length=3, status="206 Partial Content", headers=RANGE),
        resets,
        is_silent,
    ],
)
async def test_a_large_file_whose_end_cannot_be_read_is_out_of_reach(end: Behaviour, serve: Serve) -> None:
    async with serve(large(end)) as (results, server):
        with pytest.raises(Transient):
            await results.read_through(f"{server.url}/a", max_bytes=1_000_000)


async def test_an_endless_file_is_read_up_to_the_cap(serve: Serve) -> None:
    async with serve(endless_png) as (results, server):
        await results.read_through(f"{server.url}/a", max_bytes=1_000_000)


async def test_a_result_larger_than_the_cap_is_told_before_or_while_reading(serve: Serve, tmp_path: Path) -> None:
    for behaviour, size_bytes in ((answers(PNG), len(PNG)), (never_ends, None)):
        async with serve(behaviour) as (results, server):
            with pytest.raises(TooLarge) as caught:
                async with results.fetch(f"{server.url}/a", max_bytes=20):
                    pass
            assert caught.value.size_bytes == size_bytes
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (answers(b"", status="404 Not Found"), Transient),
        (answers(b"", status="403 Forbidden"), Transient),
        (answers(b"", status="503 Busy"), Transient),
        (answers(b"", status="410 Gone"), Permanent),
        (answers(b"", status="400 Bad"), Permanent),
        (answers(b"", status="416 Range"), Transient),
        (answers(b""), Transient),
        (answers(PNG, length=len(PNG) + 100), Transient),
        (answers(b"<html>not found</html>"), Permanent),
        (answers(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), Permanent),
        (resets, Transient),
        (closes, Transient),
        (is_silent, Transient),
        (drips, Transient),
    ],
)
async def test_a_result_that_cannot_be_had_says_whether_to_come_back(
    behaviour: Behaviour, expected: type[KiebotError], serve: Serve, tmp_path: Path
) -> None:
    async with serve(behaviour) as (results, server):
        started = time.monotonic()
        with pytest.raises(expected):
            async with results.fetch(f"{server.url}/a", max_bytes=10_000):
                pass
        assert time.monotonic() - started < 2
    assert left_in(tmp_path) == []


async def test_a_slow_body_meets_the_total_deadline(serve: Serve) -> None:
    async def slow_body(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + PNG)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with serve(slow_body) as (results, server):
        with pytest.raises(Transient, match="too slow"):
            async with results.fetch(f"{server.url}/a", max_bytes=1_000_000):
                pass


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:1/x",
        "https://evil.example/",
        "https://169.254.169.254/latest",
        "//evil.example/",
        "http://[bad",
        "file:///x",
    ],
)
async def test_a_redirect_to_elsewhere_is_not_followed(location: str, serve: Serve) -> None:
    async with serve(answers(b"", status="302 Found", headers=f"Location: {location}\r\n")) as (results, server):
        with pytest.raises(Permanent) as caught:
            await results.probe(f"{server.url}/a")
        assert caught.value.code == "foreign_host"
        assert len(server.requests) == 1


async def test_redirects_within_known_hosts_are_followed_three_times_at_most(serve: Serve) -> None:
    async with serve(answers(b"", status="302 Found", headers="Location: /again\r\n")) as (results, server):
        with pytest.raises(Permanent, match="too often"):
            await results.probe(f"{server.url}/a")
        assert len(server.requests) == 4


async def test_errors_name_no_address(serve: Serve) -> None:
    async with serve(resets) as (results, server):
        with pytest.raises(Transient) as caught:
            await results.probe(f"{server.url}/secret-path")
        assert "secret-path" not in str(caught.value)
        assert str(server.port) not in str(caught.value)
