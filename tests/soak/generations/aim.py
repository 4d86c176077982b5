"""A kill aimed at the instant in which KIE answers: the work is done over there, whoever asked dies before it hears.

The replica that asked is known by its end of the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psutil

from kiebot.simulators.server import AsgiApp, Message, Receive, Scope, Send

TARGETS = ("/api/v1/jobs/createTask", "/api/v1/jobs/recordInfo", "/files/results/", "/api/file-stream-upload")

Kill = Callable[[str], None]


@dataclass
class Aim:
    """Stands before KIE. Armed, it kills the next replica that asks for such a path; `struck` names it."""

    pids: Callable[[], Mapping[int, str]]
    """Names of the living replicas by process id."""
    kill: Kill
    _path: str | None = None
    struck: str | None = field(default=None)

    def arm(self, path: str) -> None:
        self._path, self.struck = path, None

    def disarm(self) -> None:
        self._path = None

    def before(self, app: AsgiApp) -> AsgiApp:
        """The program with this before it."""

        async def aimed(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or self._path is None or not scope["path"].startswith(self._path):
                await app(scope, receive, send)
                return

            async def last(message: Message) -> None:
                self._strike(scope["client"][1])
                await send(message)

            await app(scope, receive, last)

        return aimed

    def _strike(self, port: int) -> None:
        if self._path is None:
            return
        name = next((name for pid, name in self.pids().items() if _has_port(pid, port)), None)
        if name is not None:
            self._path, self.struck = None, name
            self.kill(name)


def _has_port(pid: int, port: int) -> bool:
    try:
        return any(each.laddr[1:2] == (port,) for each in psutil.Process(pid).net_connections("tcp4"))
    except psutil.Error:
        return False
