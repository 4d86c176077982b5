"""A simulator on a port, inside the running event loop: no signal handlers, no logging set-up, quick to end."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Self

import uvicorn

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

CUT_EXTENSION = "kiebot.cut"
"""Key in scope["extensions"]: a function (client) -> bool that breaks that client's connection without an answer."""

_IDLE_CONNECTION_S = 500


class SimulatorServer:
    """Serves one ASGI program over HTTP while the `async with` block runs.

    The program sees the peer as scope["client"] == (host, port), one pair per connection, and may break a connection
    through `CUT_EXTENSION`. uvicorn's `serve()` is not used: it would capture SIGTERM from the process that embeds us,
    and it waits for parked requests at the end.

    Raises: OSError on entry, when the port is taken.
    """

    def __init__(self, app: AsgiApp, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self._app = app
        self._server: uvicorn.Server | None = None
        self._is_stopping = False
        self._extensions = {CUT_EXTENSION: self.cut}

    @property
    def url(self) -> str:
        """Base URL, without a slash at the end."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0") else self.host  # noqa: S104 - compared, not bound
        return f"http://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        listener = socket.create_server((self.host, self.port), backlog=2048)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio does not: create_server says proto 0
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._run,
            interface="asgi3",
            proxy_headers=False,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=_IDLE_CONNECTION_S,
        )
        config.load()
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        self._is_stopping = False
        await self._server.startup(sockets=[listener])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop listening, break every connection, end the requests still running. Safe to call twice."""
        server, self._server = self._server, None
        if server is None:
            return
        self._is_stopping = True
        for listener in server.servers:
            listener.close()
        self._abort(server)
        await asyncio.sleep(0)  # lets uvicorn see the connections as lost before their requests end without an answer
        running = list(server.server_state.tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def cut(self, client: tuple[str, int]) -> bool:
        """Break that client's connection; False when there is none."""
        if self._server is None:
            return False
        return self._abort(self._server, client) > 0

    def cut_all(self) -> int:
        """Break every connection and go on listening. Returns how many there were."""
        return 0 if self._server is None else self._abort(self._server)

    async def serve_forever(self) -> None:
        """Serve until the calling task is cancelled; for a command line that handles its signals itself."""
        async with self:
            await asyncio.Event().wait()

    def _abort(self, server: uvicorn.Server, client: tuple[str, int] | None = None) -> int:
        aborted = 0
        for connection in list(server.server_state.connections):
            peer = getattr(connection, "client", None)
            if client is None or (peer is not None and tuple(peer) == tuple(client)):
                connection.transport.abort()
                aborted += 1
        return aborted

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = self._extensions
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self._is_stopping:
                raise
