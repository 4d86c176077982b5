"""A theatre in a process of its own: `python -m tests.crashpoints.player DATABASE_URL REDIS_URL PREFIX`.

Reads lines {"story": its name, "point": where to die, or null, "at": which time}. Answers what became of each.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from dataclasses import asdict
from typing import TextIO

from tests.crashpoints import points

points.install()  # here, too: the rule that a mutant breaks is broken for whoever goes on

import structlog  # noqa: E402 - after the hook, which has to be there first

from tests.crashpoints import doomed  # noqa: E402 - after the hook, too
from tests.crashpoints.run import open_theatre  # noqa: E402 - after the hook, too
from tests.crashpoints.stories import STORIES  # noqa: E402 - after the hook, too

_STORIES = {story.name: story for story in STORIES}


async def _plays(database_url: str, redis_url: str, prefix: str, zygote: socket.socket, answers: TextIO) -> None:
    async with open_theatre(database_url, redis_url, prefix, zygote) as theatre:
        while line := await asyncio.to_thread(sys.stdin.readline):
            job = json.loads(line)
            played = await theatre.plays(_STORIES[job["story"]], job["point"], job["at"])
            answers.write(json.dumps(asdict(played)) + "\n")
            answers.flush()


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever anybody prints is no answer
    zygote = doomed.begin()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a server whose client died writes into the void
    database_url, redis_url, prefix = sys.argv[1:]
    asyncio.run(_plays(database_url, redis_url, prefix, zygote, answers))


if __name__ == "__main__":
    main()
