"""The server on a real port: its stop, its signals, and clients that hold on without sending."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from kiebot.web import body, guard, server
from kiebot.web.server import bind, serve
from tests.web.web_kit import SECRET, SECRET_HEADER, Behind, serving

FORGED = b"POST /telegram/webhook HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n"
SHOWN = f"POST /telegram/webhook HTTP/1.1\r\nhost: x\r\n{SECRET_HEADER}: {SECRET}\r\n".encode()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the other side closes the connection."""
    try:
        return await asyncio.wait_for(reader.read(-1), 2.0)
    except ConnectionResetError:
        return b""


async def test_a_real_client_is_answered_over_a_real_port() -> None:
    behind = Behind()
    async with serving(behind.app()) as web, httpx.AsyncClient(base_url=web.url) as http:
        assert (await http.get("/healthz")).text == "ok"
        answer = await http.post("/telegram/webhook", content=b"{}" * 40000, headers={SECRET_HEADER: SECRET})
        assert answer.status_code == 200
        assert [len(raw) for raw in behind.received] == [80000]
        assert "server" not in answer.headers


async def test_answers_do_not_wait_for_the_client_to_confirm_their_first_half() -> None:
    async with serving(Behind().app()) as web, httpx.AsyncClient(base_url=web.url) as http:
        await http.get("/healthz")
        times = []
        for _ in range(20):
            began = time.monotonic()
            await http.get("/healthz")
            times.append(time.monotonic() - began)
    assert min(times) < 0.03  # each would wait for the kernel's 40 ms else


async def test_httptools_is_used_where_it_is_installed() -> None:
    pytest.importorskip("httptools")
    made = server._Server(Behind().app(), bind("127.0.0.1", 0))
    assert "HttpTools" in made._config.http_protocol_class.__name__
    made._sock.close()


async def test_both_of_uvicorns_parsers_serve_under_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    made = uvicorn.Config
    monkeypatch.setattr(uvicorn, "Config", lambda app, **options: made(app, http="h11", **options))
    async with serving(Behind().app()) as web, httpx.AsyncClient(base_url=web.url) as http:
        for _ in range(3):
            assert (await http.get("/readyz")).json()["ready"]
        assert (await http.post("/telegram/webhook", content=b"x" * 200_000)).status_code == 401


async def test_the_signals_of_the_process_are_left_alone() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    async with serving(Behind().app()) as web, httpx.AsyncClient(base_url=web.url) as http:
        await http.get("/healthz")
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


async def test_a_running_request_is_finished_when_the_server_stops() -> None:
    behind = Behind(gate=asyncio.Event())
    async with serving(behind.app()) as web, httpx.AsyncClient(base_url=web.url) as http:
        asking = asyncio.create_task(http.get("/readyz"))
        await behind.entered.wait()
        stopping = asyncio.create_task(web.stop())
        await asyncio.sleep(0.02)
        with pytest.raises(httpx.ConnectError):
            await httpx.AsyncClient().get(f"{web.url}/healthz")
        assert behind.gate is not None
        behind.gate.set()
        assert (await asking).status_code == 200
        await stopping


async def test_idle_connections_do_not_hold_the_stop_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Behind().app()) as web, httpx.AsyncClient(base_url=web.url) as http:
        await http.get("/healthz")  # kept alive from here on
        reader, writer = await web.connect()
        await asyncio.sleep(0.02)
        monkeypatch.setattr(server, "FINISH_S", 60.0)
        async with asyncio.timeout(30):
            await web.stop()
        assert await _rest(reader) == b""
        writer.close()


async def test_a_request_that_never_ends_is_cut_off_at_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FINISH_S", 0.1)
    behind = Behind(gate=asyncio.Event())
    async with serving(behind.app()) as web, httpx.AsyncClient(base_url=web.url, timeout=5) as http:
        asking = asyncio.create_task(http.get("/readyz"))
        await behind.entered.wait()
        async with asyncio.timeout(30):
            await web.stop()
        with pytest.raises(httpx.RemoteProtocolError):
            await asking


async def test_a_handler_that_refuses_to_end_does_not_hold_the_stop_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FINISH_S", 0.05)
    monkeypatch.setattr(server, "CANCEL_S", 0.05)
    entered, released = asyncio.Event(), asyncio.Event()

    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        entered.set()
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    app: ASGIApp = stubborn
    async with serving(app) as web:
        _, writer = await web.connect()
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await entered.wait()
        async with asyncio.timeout(30):
            await web.stop()
        released.set()
        writer.close()
        await asyncio.sleep(0.01)


async def test_stopping_before_it_has_begun_leaves_nothing_open() -> None:
    with bind("127.0.0.1", 0) as listener:
        task = asyncio.create_task(serve(Behind().app(), host="", port=0, listener=listener))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        task = asyncio.create_task(serve(Behind().app(), host="", port=0, listener=listener))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_listener_given_by_the_caller_serves_again_after_a_stop() -> None:
    with bind("127.0.0.1", 0) as listener:
        for _ in range(2):
            async with serving(Behind().app(), listener) as web, httpx.AsyncClient(base_url=web.url) as http:
                assert (await http.get("/healthz")).status_code == 200


async def test_a_taken_port_is_an_error_of_the_caller_not_an_exit() -> None:
    with bind("127.0.0.1", 0) as taken, pytest.raises(OSError, match="in use"):
        await serve(Behind().app(), host="127.0.0.1", port=taken.getsockname()[1])


def test_the_wildcard_of_ipv6_takes_clients_of_both_families() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with bind("::", 0) as listener, socket.create_connection(("127.0.0.1", listener.getsockname()[1])):
        pass


async def test_a_client_that_never_sends_a_head_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "HEAD_WITHIN_S", 0.15)
    async with serving(Behind().app()) as web:
        reader, writer = await web.connect()
        for byte in b"GET /":  # a byte now and then does not help
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)
        assert await _rest(reader) == b""
        writer.close()


async def test_a_second_head_that_dribbles_is_cut_off_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Behind().app()) as web:
        reader, writer = await web.connect()
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"ok")
        monkeypatch.setattr(guard, "HEAD_WITHIN_S", 0.1)
        writer.write(b"GET /healthz HTTP/1.1\r\n")
        assert await _rest(reader) == b""
        writer.close()


async def test_a_connection_may_rest_between_requests_longer_than_a_head_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "HEAD_WITHIN_S", 0.1)
    monkeypatch.setattr(guard, "REQUEST_WITHIN_S", 0.1)
    async with serving(Behind().app()) as web:
        reader, writer = await web.connect()
        for _ in range(2):
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            await asyncio.wait_for(reader.readuntil(b"ok"), 1.0)
            await asyncio.sleep(0.25)
        writer.close()


async def test_a_head_without_end_is_cut_off_by_its_size() -> None:
    async with serving(Behind().app()) as web:
        reader, writer = await web.connect()
        writer.write(b"GET /healthz HTTP/1.1\r\n")
        written = 0
        while written < 4 * guard.MAX_HEAD_BYTES and not reader.at_eof():
            writer.write(b"x-filler: " + b"a" * 8000 + b"\r\n")
            written += 8000
            await asyncio.sleep(0)
            if writer.is_closing():
                break
        assert b"200 OK" not in await _rest(reader)
        writer.close()


async def test_a_body_that_never_comes_is_answered_and_the_connection_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_WITHIN_S", 0.05)
    behind = Behind()
    async with serving(behind.app()) as web:
        reader, writer = await web.connect()
        writer.write(SHOWN + b"content-length: 10\r\n\r\n{")
        assert (await _rest(reader)).startswith(b"HTTP/1.1 408")
        assert behind.received == []
        writer.close()


async def test_a_forger_is_refused_before_his_body_and_loses_the_connection() -> None:
    async with serving(Behind().app()) as web:
        reader, writer = await web.connect()
        writer.write(FORGED)
        answer = await _rest(reader)
        assert answer.startswith(b"HTTP/1.1 401")
        assert b"connection: close" in answer
        writer.close()


async def test_a_sender_that_hangs_up_in_the_middle_records_nothing_and_raises_nothing() -> None:
    behind = Behind()
    async with serving(behind.app()) as web:
        _, writer = await web.connect()
        writer.write(SHOWN + b"content-length: 10\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.transport.abort()
        await asyncio.sleep(0.02)
        assert behind.received == []
        async with httpx.AsyncClient(base_url=web.url) as http:
            assert (await http.get("/healthz")).status_code == 200


async def test_above_the_connection_cap_new_clients_are_turned_away_and_old_ones_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "MAX_CONNECTIONS", 2)
    async with serving(Behind().app()) as web, httpx.AsyncClient(base_url=web.url) as http:
        await http.get("/healthz")
        _, second = await web.connect()
        await asyncio.sleep(0.02)
        reader, third = await web.connect()
        assert await _rest(reader) == b""
        assert (await http.get("/healthz")).status_code == 200
        second.close()
        await asyncio.sleep(0.02)
        async with httpx.AsyncClient(base_url=web.url) as late:
            assert (await late.get("/healthz")).status_code == 200
        third.close()


async def test_garbage_gets_a_400_and_costs_nothing() -> None:
    async with serving(Behind().app()) as web:
        reader, writer = await web.connect()
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n")
        assert (await _rest(reader)).startswith(b"HTTP/1.1 400")
        writer.close()


async def test_two_requests_sent_at_once_are_answered_in_turn() -> None:
    async with serving(Behind().app()) as web:
        reader, writer = await web.connect()
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"ok")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"application/json" in head
        told = await reader.readuntil(b"}}")
        assert json.loads(told)["ready"] is True
        writer.close()
