"""PostgreSQL: a data directory with passwords and no TCP, one server on it, and how to tell that it is ready."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kiebot.engines.binaries import Program
from kiebot.engines.errors import EngineError
from kiebot.engines.identity import Identity
from kiebot.engines.layout import open_log
from kiebot.engines.process import Engine, entering, environment, outlive

PORT = 5432  # names the socket only
_SOCKET = f".s.PGSQL.{PORT}"
MAX_CONNECTIONS = 200
_FIRST_BUILTIN_LOCALE = 17
_PREPARE_S = 60.0
_HELLO = b"\0\3\0\0user\0kiebot\0database\0kiebot\0\0"  # protocol 3.0
_ASKS_FOR_PASSWORD = b"R"  # one that is still recovering answers with an error instead
_ALONE = {"exit_on_error": "on", "log_statement": "none", "log_min_error_statement": "panic"}  # no password in the log
_RELAXED = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Postgres:
    """One home's PostgreSQL.

    `data` is its data directory, in a directory of the identity's owner; `alive` the lock file of its processes.
    Without `durable` a crash of the machine may destroy the data: for tests.
    """

    program: Program
    identity: Identity
    data: Path
    sockets: Path
    log: Path
    alive: Path
    durable: bool
    name = "postgres"

    def prepare(self, superuser_password: str, password: str) -> None:
        """Make the data directory with the role and the database `kiebot`, unless it is there.

        Raises: EngineError, when it is of another major version or cannot be made.
        """
        os.close(outlive(self.alive))  # one that is still stopping may write to it
        if self.data.exists():
            self._check_version()
            self._clear_pid_files()
            return
        unfinished = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        self._initdb(unfinished, superuser_password)
        self._create_database(unfinished, password)
        if self.durable:
            self._run(self._initdb_argv(unfinished, "--sync-only"))
        unfinished.rename(self.data)  # last, so that one that was cut short is never mistaken for a whole one

    def engine(self) -> Engine:
        return Engine(
            [self.program.path, "-D", self.data, *self._settings(self._serving())],
            self.identity,
            log=self.log,
            alive=self.alive,
            when_parent_dies=signal.SIGINT,
        )

    def ready(self, pid: int) -> bool:
        """True when the server with this pid serves. After a kill the file of the one before still says so."""
        with contextlib.suppress(OSError):
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"
        return False

    def ask_to_stop(self, engine: Engine) -> None:
        engine.signal(signal.SIGINT)  # a fast stop: ends sessions, writes a checkpoint

    def _check_version(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            major = int((self.data / "PG_VERSION").read_text())
            if major == self.program.major:
                return
            raise EngineError(
                f"{self.data} was made by PostgreSQL {major}, which does not match {self.program.described}: install "
                f"PostgreSQL {major}, or dump the data with it (pg_dumpall), move the directory away, restore the dump"
            )
        raise EngineError(f"{self.data} holds no PostgreSQL data: move it away")

    def _clear_pid_files(self) -> None:
        """Remove what a killed server left, where its number is that of a dead child, not collected, or a stranger's.

        Such numbers are usual in containers, and the server would take them for another one at work.
        """
        for file in (self.data / "postmaster.pid", self.sockets / f"{_SOCKET}.lock"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                pid = int(file.read_text().splitlines()[0])
                if Path("/proc/self").exists() and not _works_in(pid, self.data):
                    file.unlink()

    def _initdb(self, directory: Path, superuser_password: str) -> None:
        locale = ["--locale=C.UTF-8"]
        if self.program.major >= _FIRST_BUILTIN_LOCALE:
            locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        with tempfile.NamedTemporaryFile("w", dir=directory.parent, prefix=".pw.") as file:  # 0600
            file.write(superuser_password)
            file.flush()
            os.fchown(file.fileno(), self.identity.uid, self.identity.gid)
            auth = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={file.name}"]
            self._run(self._initdb_argv(directory, "--encoding=UTF8", "--no-sync", *auth, *locale))

    def _initdb_argv(self, directory: Path, *options: str) -> list[str | Path]:
        return [self.program.path.with_name("initdb"), "-D", directory, *options]

    def _create_database(self, directory: Path, password: str) -> None:
        """The role may create databases and roles, and is no superuser: that one could run programs.

        initdb's own empty database is renamed; making another takes longer than the rest of the start.
        """
        statements = (
            f"CREATE ROLE kiebot LOGIN CREATEDB CREATEROLE PASSWORD '{password}';\n"  # URL-safe: nothing to quote
            "ALTER DATABASE postgres RENAME TO kiebot;\n"
            "ALTER DATABASE kiebot OWNER TO kiebot;\n"
        )
        options = self._settings(_RELAXED | _ALONE)
        self._run([self.program.path, "--single", "-D", directory, *options, "template1"], statements)

    def _run(self, argv: list[str | Path], given: str = "") -> None:
        log = open_log(self.log)
        try:
            subprocess.run(  # noqa: S603 - programs found by binaries.py, no shell
                argv,
                input=given.encode(),
                stdout=log,
                stderr=log,
                env=environment(),
                cwd="/",
                timeout=_PREPARE_S,
                check=True,
                preexec_fn=entering(self.identity, signal.SIGKILL),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise EngineError(f"{argv[0]} failed; {self.log} says why") from error
        finally:
            os.close(log)

    def _serving(self) -> dict[str, str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "unix_socket_permissions": "0700",
            "port": str(PORT),
            "max_connections": str(MAX_CONNECTIONS),
            "password_encryption": "scram-sha-256",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        return settings if self.durable else settings | _RELAXED

    @staticmethod
    def _settings(settings: dict[str, str]) -> list[str]:
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _works_in(pid: int, directory: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == directory.resolve()
    except OSError:  # dead, or another user's, who cannot work in our directory
        return False


def answers(sockets: Path) -> bool:
    """True when a server there would let sessions begin; told without the password."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        connection.connect(str(sockets / _SOCKET))
        connection.sendall((len(_HELLO) + 4).to_bytes(4, "big") + _HELLO)
        return connection.recv(1) == _ASKS_FOR_PASSWORD
    return False
