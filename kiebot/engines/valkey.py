"""Valkey or Redis: a configuration file with the password, one server on a socket, a few words of its protocol."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path

from kiebot.engines.binaries import Program, Recorded
from kiebot.engines.errors import EngineError
from kiebot.engines.identity import Identity
from kiebot.engines.process import Engine, outlive

SOCKET = "redis.sock"


@dataclass(frozen=True)
class Valkey:
    """One home's Valkey. `data` lies in a directory of the identity's owner; `alive` is the lock of its process.

    With `debug_commands`, DEBUG is served to local connections: for tests.
    """

    program: Program
    identity: Identity
    data: Path
    sockets: Path
    log: Path
    alive: Path
    password: str = field(repr=False)
    durable: bool
    debug_commands: bool
    name = "redis"

    def prepare(self, recorded: Recorded | None) -> None:
        """Make the data directory and write the configuration anew.

        Raises: EngineError, when the data is another product's or of a newer major version.
        """
        os.close(outlive(self.alive))
        self._check_version(recorded)
        self.data.mkdir(mode=0o700, exist_ok=True)
        unfinished = self._configuration.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            os.fchown(fd, self.identity.uid, self.identity.gid)
            file.writelines(f'{name} "{value}"\n' for name, value in self._settings())
        unfinished.rename(self._configuration)
        os.lchown(self.data, self.identity.uid, self.identity.gid)

    def engine(self) -> Engine:
        return Engine(
            [self.program.path, self._configuration],
            self.identity,
            log=self.log,
            alive=self.alive,
            when_parent_dies=signal.SIGTERM,
        )

    def ready(self, pid: int) -> bool:
        """True when the server with this pid has loaded its data and serves."""
        told = ask(self.sockets, self.password, "INFO", "server")
        return f"process_id:{pid}\r\n".encode() in told and answers(self.sockets, self.password)

    def ask_to_stop(self, engine: Engine) -> None:
        """It writes what it has and ends; the signal is for one that does not listen, and means the same."""
        ask(self.sockets, self.password, "SHUTDOWN")
        engine.signal(signal.SIGTERM)

    @property
    def _configuration(self) -> Path:
        return self.data / "server.conf"

    def _check_version(self, recorded: Recorded | None) -> None:
        if recorded is None or not self.data.exists():
            return
        if recorded.product == self.program.product and recorded.major <= self.program.major:
            return  # each reads what its predecessors wrote
        raise EngineError(
            f"{self.data} was made by {recorded.product} {recorded.major}, which does not match "
            f"{self.program.described}: install {recorded.product} {recorded.major}, or remove the directory "
            "(kiebot rebuilds what it held)"
        )

    def _settings(self) -> list[tuple[str, str]]:
        settings = [
            ("port", "0"),
            ("unixsocket", str(self.sockets / SOCKET)),
            ("unixsocketperm", "700"),
            ("requirepass", self.password),
            ("dir", str(self.data)),
            ("appendonly", "yes"),
            ("appendfsync", "everysec" if self.durable else "no"),
            ("save", ""),
            ("maxmemory-policy", "noeviction"),
            ("daemonize", "no"),
        ]
        return [*settings, ("enable-debug-command", "local")] if self.debug_commands else settings


def answers(sockets: Path, password: str) -> bool:
    """True when a server there lets us in and serves, its data loaded."""
    return ask(sockets, password, "PING").endswith(b"+PONG\r\n")


def ask(sockets: Path, password: str, *command: str) -> bytes:
    """The raw answers to AUTH and one command, in one exchange; empty when there are none."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2.0)
        connection.connect(str(sockets / SOCKET))
        connection.sendall(_encoded("AUTH", password) + _encoded(*command) + _encoded("QUIT"))
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts).removesuffix(b"+OK\r\n")  # QUIT's
    return b""


def _encoded(*words: str) -> bytes:
    lines = [f"*{len(words)}"] + [line for word in words for line in (f"${len(word.encode())}", word)]
    return ("\r\n".join(lines) + "\r\n").encode()
