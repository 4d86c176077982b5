"""One HTTP exchange: what was asked, the kinds of reply there are, and how each goes out."""

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

import httpx
import msgspec

from kiebot.simulators.clock import SimClock
from kiebot.simulators.kie.switches import Switches
from kiebot.simulators.server import CUT_EXTENSION, Message, Receive, Scope, Send

Headers = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Answer:
    """An envelope. `extra` adds top-level members, as the upload host does."""

    code: int = 200
    msg: str = "success"
    data: Any = None
    extra: dict[str, Any] = field(default_factory=dict)
    headers: Headers = ()


@dataclass(slots=True)
class Page:
    """Any other body: gateway pages, broken JSON, redirects."""

    status: int
    body: bytes
    content_type: str = "text/html; charset=UTF-8"
    headers: Headers = ()


@dataclass(slots=True)
class Cut:
    """The connection breaks before a byte of an answer."""


@dataclass(slots=True)
class Late:
    """Another reply, `delay_s` seconds later."""

    delay_s: float
    then: "Reply"


@dataclass(slots=True)
class Stream:
    """A body in pieces. With `breaks` the connection ends before the promised length is reached."""

    status: int
    headers: Headers
    chunks: AsyncIterator[bytes]
    breaks: bool = False


Reply = Answer | Page | Cut | Late | Stream


class Exchange:
    """A request as a handler sees it, and what the journal should know of it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.notes: dict[str, Any] = {}

    @cached_property
    def headers(self) -> dict[str, str]:
        return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self.scope["headers"]}

    @cached_property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.scope["query_string"].decode("latin-1")))

    @property
    def base_url(self) -> str:
        """Scheme and host as the client wrote them, so that links made here work from where it stands."""
        return f"{self.scope.get('scheme', 'http')}://{self.headers.get('host', 'localhost')}"

    def note(self, **facts: Any) -> None:
        """Put facts into this request's journal entry."""
        self.notes.update(facts)

    async def body(self, limit: int = 64_000_000) -> bytes | None:
        """The whole body, or None when it is longer than `limit` bytes."""
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                break
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
            if size > limit:
                return None
        return b"".join(parts)

    async def json(self) -> Any:
        """The decoded body, or None when it is no JSON."""
        raw = await self.body()
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            return msgspec.json.decode(raw or b"")
        return None

    async def gone(self) -> None:
        """Return once the client has left."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def cut(self) -> None:
        """Break the connection.

        Raises: httpx.RemoteProtocolError, when the transport has no connection to break (an in-process client): it
            is what that client would have raised itself.
        """
        breaker = self.scope.get("extensions", {}).get(CUT_EXTENSION)
        if breaker is None or not breaker(tuple(self.scope["client"])):
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
        await self.gone()


class Responder:
    """Sends replies in the envelope mode the switches ask for."""

    def __init__(self, switches: Switches, clock: SimClock) -> None:
        self._switches, self._clock = switches, clock

    async def send(self, exchange: Exchange, reply: Reply) -> None:
        match reply:
            case Answer():
                await self._send_page(exchange, self._enveloped(exchange, reply))
            case Page():
                await self._send_page(exchange, reply)
            case Cut():
                await exchange.cut()
            case Late(delay_s, then):
                await self._clock.sleep(delay_s)
                await self.send(exchange, then)
            case Stream():
                await self._send_stream(exchange, reply)

    def _enveloped(self, exchange: Exchange, answer: Answer) -> Page:
        envelope = {**answer.extra, "code": answer.code, self._switches.text_key: answer.msg, "data": answer.data}
        body = msgspec.json.encode(envelope)
        headers: Headers = (("cf-cache-status", "DYNAMIC"), *answer.headers)
        if self._switches.gzip and "gzip" in exchange.headers.get("accept-encoding", ""):
            body, headers = gzip.compress(body, 1), (*headers, ("content-encoding", "gzip"))
        status = answer.code if self._switches.http_status == "mirror" else 200
        return Page(status, body, "application/json;charset=UTF-8", headers)

    async def _send_page(self, exchange: Exchange, page: Page) -> None:
        headers = (("content-type", page.content_type), ("content-length", str(len(page.body))), *page.headers)
        await exchange.send(_start(page.status, headers))
        await exchange.send({"type": "http.response.body", "body": b"" if exchange.method == "HEAD" else page.body})

    async def _send_stream(self, exchange: Exchange, stream: Stream) -> None:
        await exchange.send(_start(stream.status, stream.headers))
        leaving = asyncio.ensure_future(exchange.gone())
        try:
            async for chunk in stream.chunks:
                if leaving.done():
                    return
                await exchange.send({"type": "http.response.body", "body": chunk, "more_body": True})
        finally:
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        if stream.breaks:
            await exchange.cut()
        else:
            await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})


def _start(status: int, headers: Headers) -> Message:
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {"type": "http.response.start", "status": status, "headers": encoded}
