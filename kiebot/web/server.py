"""Runs an ASGI program inside the running event loop: signals stay with the process, and the stop is bounded.

uvicorn's own `serve()` is not used: it captures SIGTERM, which would cut the replica's drain short, and it waits for
slow clients at the end as long as they like.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog
import uvicorn
from uvicorn.server import ServerState

from kiebot.web.guard import Guard

log = structlog.get_logger()

Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

BACKLOG = 512
KEEP_ALIVE_S = 75  # longer than the proxies in front of us keep theirs: else they write into a connection just closed
FINISH_S = 1.5
CANCEL_S = 0.3


async def serve(app: AsgiApp, *, host: str, port: int, listener: socket.socket | None = None) -> None:
    """Serve until cancelled. Then no new connection is taken, running requests get FINISH_S to end, and all is closed.

    Args: listener, a bound socket to use instead of host and port. It stays the caller's: it is not closed here, so
        that serving may begin again on it.
    Raises: OSError, when the port is taken.
    """
    sock = listener.dup() if listener is not None else bind(host, port)
    server = _Server(app, sock)
    try:
        await server.start()
        log.info("web.listening", host=host, port=sock.getsockname()[1])
        await asyncio.Event().wait()
    finally:
        await server.stop()
        sock.close()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; of "::" on both families where the system can. Raises: OSError, when the port is taken."""
    if ":" in host:
        both = socket.has_dualstack_ipv6()
        return socket.create_server((host, port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=both)
    return socket.create_server((host, port), backlog=BACKLOG)


class _Server:
    """uvicorn's protocols on our own listening socket."""

    def __init__(self, app: AsgiApp, sock: socket.socket) -> None:
        self._app = app
        self._sock = sock
        self._config = uvicorn.Config(
            self._run,
            interface="asgi3",
            log_config=None,  # the logging of the process is not its business
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self._config.load()
        self._state = ServerState()
        self._guards: set[Guard] = set()
        self._listening: asyncio.Server | None = None
        self._is_stopping = False

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self._protocol, sock=self._sock, backlog=BACKLOG)

    async def stop(self) -> None:
        """Returns within FINISH_S + CANCEL_S, whatever clients and handlers do."""
        self._is_stopping = True
        if self._listening is not None:
            self._listening.close()
        for connection in list(self._state.connections):
            connection.shutdown()  # idle ones close at once, the others after their response
        running = set(self._state.tasks)
        if running:
            await asyncio.wait(running, timeout=FINISH_S)
        await asyncio.sleep(0)  # a response just finished closes its connection first
        await self._end_the_rest()

    async def _end_the_rest(self) -> None:
        for connection in list(self._state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # uvicorn must see them as lost before their requests end without an answer
        stuck = set(self._state.tasks)
        for task in stuck:
            task.cancel()
        if stuck:
            log.warning("web.cut_off", requests=len(stuck))
            await asyncio.wait(stuck, timeout=CANCEL_S)

    def _protocol(self) -> Guard:
        make = self._config.http_protocol_class
        inner = make(config=self._config, server_state=self._state, app_state={})  # type: ignore[call-arg]  # as uvicorn
        return Guard(inner, self._guards)  # type: ignore[arg-type]  # typed as a bare protocol

    async def _run(
        self, scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[Message]], send: Callable[..., Any]
    ) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self._is_stopping:  # else we cut it off ourselves, which is no error to report
                raise
