"""Serving a simulator on a port inside a running event loop."""

import asyncio
import signal

import httpx
import pytest

from kiebot.simulators.server import CUT_EXTENSION, Receive, Scope, Send, SimulatorServer


async def answer(send: Send, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def program(scope: Scope, receive: Receive, send: Send) -> None:
    match scope["path"]:
        case "/park":
            await asyncio.Event().wait()
        case "/cut":
            scope["extensions"][CUT_EXTENSION](scope["client"])
            await asyncio.sleep(0)
        case _:
            host, port = scope["client"]
            await answer(send, f"{host}:{port}".encode())


async def test_the_program_sees_one_client_address_per_connection() -> None:
    async with SimulatorServer(program) as server, httpx.AsyncClient() as one, httpx.AsyncClient() as other:
        first, again = (await one.get(server.url)).text, (await one.get(server.url)).text
        assert first == again
        assert (await other.get(server.url)).text != first


async def test_closing_is_quick_although_a_request_is_parked() -> None:
    async with httpx.AsyncClient() as client:
        async with SimulatorServer(program) as server:
            parked = asyncio.create_task(client.get(server.url + "/park", timeout=30))
            await client.get(server.url)
            loop = asyncio.get_running_loop()
            before = loop.time()
        assert loop.time() - before < 1
        with pytest.raises(httpx.TransportError):
            await parked


async def test_a_cut_connection_ends_without_an_answer() -> None:
    async with SimulatorServer(program) as server, httpx.AsyncClient() as client:
        with pytest.raises(httpx.TransportError):
            await client.get(server.url + "/cut")
        assert (await client.get(server.url)).status_code == 200


async def test_the_process_keeps_its_own_signal_handlers() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with SimulatorServer(program):
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
