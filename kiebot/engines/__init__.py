"""Embedded engines: a real PostgreSQL and a real Valkey (or Redis) for whoever sets no DATABASE_URL and REDIS_URL.

How it works. `open_engines(home)` takes a shared lock on the home and makes sure that a **keeper** lives: a process of
its own, in its own session, whose two children are the engines (hold.py is the users' side, keeper.py the other).

    users      hold users.lock shared         any number; SIGKILL drops a hold like close() does
    keeper     holds keeper.lock              one per home; inherits it taken, so two can never begin
    engines    hold postgres.alive, ...       inherited: free only when the last of their processes is gone

- Last one out: the keeper takes users.lock exclusively once it has been free for the linger, and keeps it until both
  engines have stopped. A newcomer either got its share before, and the keeper stays, or waits and starts the next one.
- A keeper that is killed takes its engines along (PDEATHSIG; a guard process where there is none). Each user looks for
  the keeper twice a second and replaces it: the addresses and passwords of a home never change, its data stays.
- An engine that dies is started again by the keeper. Nothing starts beside remains of an earlier engine.
- binaries.py chooses the programs, identity.py as whom they run (PostgreSQL refuses root; no permission of any
  directory that was there before is ever changed), layout.py where everything lies.
- No TCP: sockets in a 0700 directory, SCRAM, random passwords in a 0600 file, never in an argument or a repr.
"""

from __future__ import annotations

import sys
from pathlib import Path

from kiebot.engines.binaries import BinaryDirs
from kiebot.engines.errors import EngineError
from kiebot.engines.hold import Engines, Status, Wish, await_stop, open_with, status

__all__ = ["BinaryDirs", "EngineError", "Engines", "Status", "await_stop", "open_engines", "status"]


def open_engines(
    home: Path,
    *,
    durable: bool = True,
    linger_s: float = 2.0,
    binaries: BinaryDirs | None = None,
    debug_commands: bool = False,
) -> Engines:
    """Hold this home's engines, started if they do not run. Blocking; both serve on return, `kiebot` exists.

    Args: home, KIEBOT_HOME, created when missing; durable, False only for tests: a crash of the machine may then
        destroy the data; linger_s, how long the engines stay without users (the first caller's counts); binaries,
        where to look for programs instead of searching; debug_commands, serve Redis' DEBUG, for tests.
    Raises: EngineError, whose text names the fix: no programs, data of another major version, a user id under which
        nothing can run, engines that already run in a weaker mode than asked for.
    """
    if sys.platform == "win32":
        raise EngineError("embedded engines need Linux or macOS: use WSL or docker compose, or set both store URLs")
    return open_with(Wish(home, durable, linger_s, binaries, debug_commands))
