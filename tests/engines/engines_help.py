"""Processes that use the engines of a home, a look at those that keep them, and a wait for what other processes do."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from kiebot.engines import Engines, await_stop, status

USER = """
import sys
from pathlib import Path
from kiebot.engines import open_engines
engines = open_engines(Path(sys.argv[1]), durable=False, linger_s=float(sys.argv[2]))
print(engines.database_url, engines.redis_url, flush=True)
sys.stdin.read()
engines.close()
"""


def wait_until(true: Callable[[], object], within_s: float = 10.0) -> None:
    """Other processes have no manual clock: look until it is so."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


@dataclass
class UserProcess:
    """Another process that holds the engines of a home."""

    process: subprocess.Popen[str]

    def opened(self) -> list[str]:
        """The two addresses, once it has them."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def has_opened(self, within_s: float) -> bool:
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], within_s)[0])

    def leave(self) -> None:
        self.process.communicate("")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@dataclass
class Running:
    """A home and its open engines."""

    home: Path
    engines: Engines


def pids_of(home: Path) -> set[int]:
    """The keeper, the engines and their children; this process and users are not among them."""
    marks = {str(home / "engines" / name) for name in ("keeper.lock", "postgres.alive", "redis.alive")}
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if str(link.readlink()) in marks:
                found.add(int(link.parts[2]))
    return found - {os.getpid()}


def end_engines(home: Path) -> None:
    if keeper := status(home).keeper_pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGTERM)
    assert await_stop(home)


def engine_pids(home: Path) -> dict[str, int]:
    """The pids of the keeper and of its two children by name."""
    keeper = status(home).keeper_pid
    assert keeper is not None
    children = {child.pid: " ".join(child.cmdline()) for child in psutil.Process(keeper).children()}
    postgres = next(pid for pid, line in children.items() if "/postgres" in line.split()[0])
    return {"keeper": keeper, "postgres": postgres, "redis": next(pid for pid in children if pid != postgres)}
