"""Stands between the socket and uvicorn's protocol, against clients that hold on without sending a request.

uvicorn limits neither how many clients may connect, nor how long or how large the head of a request may be: a few
thousand connections that dribble bytes would take every descriptor of the replica, its stores' included.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, Protocol, cast

MAX_CONNECTIONS = 500
MAX_HEAD_BYTES = 64 * 1024
HEAD_WITHIN_S = 10.0
REQUEST_WITHIN_S = 60.0


class Cycle(Protocol):
    """One request and its response, as uvicorn's protocols keep it."""

    response_complete: bool


class Inner(Protocol):
    """What both of uvicorn's HTTP protocols offer."""

    cycle: Cycle | None

    def connection_made(self, transport: Any) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Guard(asyncio.Protocol):
    """One connection. `connected` counts those of the server; above MAX_CONNECTIONS a new one is closed at once.

    A head must be complete HEAD_WITHIN_S after its first byte (the first head: after the connection was made), within
    MAX_HEAD_BYTES; a request must be answered REQUEST_WITHIN_S after its head. Between requests uvicorn's keep-alive
    time applies.
    """

    def __init__(self, inner: Inner, connected: set[Guard]) -> None:
        self._inner = inner
        self._connected = connected
        self._transport: asyncio.WriteTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watched: Cycle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if len(self._connected) >= MAX_CONNECTIONS:
            transport.close()
            return
        self._connected.add(self)
        self._transport = cast(asyncio.WriteTransport, transport)
        _send_at_once(transport)
        self._inner.connection_made(transport)
        self._expect(HEAD_WITHIN_S)

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        before = self._inner.cycle
        self._inner.data_received(data)
        if self._inner.cycle is not before:
            self._head_bytes = 0
            self._expect(REQUEST_WITHIN_S)
        elif _is_between_requests(before):
            self._in_head(len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:
            return
        self._forget_timer()
        self._connected.discard(self)
        self._inner.connection_lost(exc)

    def eof_received(self) -> None:
        if self._transport is not None:
            self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def _in_head(self, size: int) -> None:
        if self._head_bytes == 0 and self._inner.cycle is not None:
            self._expect(HEAD_WITHIN_S)
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            self._cut()

    def _expect(self, within_s: float) -> None:
        self._forget_timer()
        self._watched = self._inner.cycle
        self._timer = asyncio.get_running_loop().call_later(within_s, self._late)

    def _late(self) -> None:
        """The time for what was expected is over. It came, when a request was answered and no new head has begun."""
        has_answered = self._watched is not None and self._watched.response_complete
        if has_answered and self._head_bytes == 0:
            return
        self._cut()

    def _cut(self) -> None:
        self._forget_timer()
        if self._transport is not None:
            self._transport.abort()

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _send_at_once(transport: asyncio.BaseTransport) -> None:
    """A response leaves in two writes; without this the second waits 40 ms for the client to confirm the first.

    asyncio does it only for sockets that name their protocol, which those of `socket.create_server` do not.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):  # the client may have gone already
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _is_between_requests(cycle: Cycle | None) -> bool:
    return cycle is None or cycle.response_complete
