"""A theatre in a process of its own: `python -m tests.crashpoints.player DATABASE_URL REDIS_URL PREFIX`.

Reads lines {"story": its name, "point": where to die, or null, "at": which time}. Answers what became of each.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from dataclasses import asdict
from typing import TextIO

from tests.crashpoints import points

points.install()  # for the rule that a mutant breaks: the one that goes on lives here

import structlog  # noqa: E402 - after the hook, which has to be there first

from tests.crashpoints.run import open_theatre  # noqa: E402
from tests.crashpoints.stories import STORIES  # noqa: E402

_STORIES = {story.name: story for story in STORIES}


async def _plays(database_url: str, redis_url: str, prefix: str, answers: TextIO) -> None:
    async with open_theatre(database_url, redis_url, prefix) as theatre:
        while line := await asyncio.to_thread(sys.stdin.readline):
            job = json.loads(line)
            played = await theatre.plays(_STORIES[job["story"]], job["point"], job["at"])
            answers.write(json.dumps(asdict(played)) + "\n")
            answers.flush()


def main() -> None:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a server whose client died writes into the void
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    database_url, redis_url, prefix = sys.argv[1:]
    asyncio.run(_plays(database_url, redis_url, prefix, answers))


if __name__ == "__main__":
    main()
