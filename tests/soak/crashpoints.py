"""The process ends at every await of the engine in turn, and another replica goes on."""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import structlog

from kiebot.engines import await_stop, open_engines
from kiebot.storage.engine import make_engine
from kiebot.storage.migrate import migrate
from tests.crashpoints.points import listed
from tests.crashpoints.run import Played, Theatre, open_theatre
from tests.crashpoints.stories import STORIES, Story

TRIES = 3  # a look more or less, and a story does not come by a point that it came by on its tour


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", default="", help="points that hold this text, such as submit.py")
    parser.add_argument("--story", default="", help="stories whose name holds this text")
    parser.add_argument("--tour", action="store_true", help="kill nobody: which points the stories come by")
    parser.add_argument("--every", type=int, default=1, help="of the points that are reached, each N-th")
    parser.add_argument("--seconds", type=float, default=0, help="kill nobody after so many; 0: until all are done")


def run(options: argparse.Namespace) -> int:
    """0 when every point that was reached was survived."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a server whose client died writes into the void
    with tempfile.TemporaryDirectory(prefix="kb") as home:
        with open_engines(Path(home), durable=False, linger_s=0.0) as engines:
            failed = asyncio.run(_run(engines.database_url, engines.redis_url, options))
        await_stop(Path(home))
    return 1 if failed else 0


async def _run(database_url: str, redis_url: str, options: argparse.Namespace) -> bool:
    engine = make_engine(database_url, pool_size=1)
    await migrate(engine)
    await engine.dispose()
    began = time.monotonic()
    async with open_theatre(database_url, redis_url, "crash") as theatre:
        stories = [story for story in STORIES if options.story in story.name]
        reached, wrong = await tours(theatre, stories)
        if options.tour:
            _print_unreached(reached)
            return bool(wrong)
        points = [point for point in listed() if options.only in point]
        played: dict[str, Played] = {}
        for point in [point for point in points if point in reached][:: options.every]:
            if options.seconds and time.monotonic() - began > options.seconds:
                break
            played[point] = await _killed(theatre, reached[point], point)
    _print_table(points, reached, played)
    print(f"{time.monotonic() - began:.0f} s")
    return bool(wrong) or any(each.wrong or not each.was_killed for each in played.values())


async def tours(theatre: Theatre, stories: Iterable[Story]) -> tuple[dict[str, Story], list[str]]:
    """Each story once with nobody killed: which story comes by a point first; what went wrong without a death."""
    reached: dict[str, Story] = {}
    wrong = []
    for story in stories:
        began = time.monotonic()
        played = await theatre.plays(story, None)
        new = [point for point in played.passed if point not in reached]
        reached.update(dict.fromkeys(new, story))
        print(
            f"  {story.name}: {played.state}; {len(played.passed)} points, {len(new)} of them new; "
            f"{time.monotonic() - began:.1f} s",
            flush=True,
        )
        for what in played.wrong:
            wrong.append(f"{story.name}: {what}")
            print(f"    BROKEN {what}")
    return reached, wrong


async def _killed(theatre: Theatre, story: Story, point: str) -> Played:
    for _ in range(TRIES):
        played = await theatre.plays(story, point)
        if played.wrong or played.was_killed:
            break
    if played.wrong or not played.was_killed:
        print(f"  BROKEN {point} in '{story.name}' (status {played.status}): {'; '.join(played.wrong)}", flush=True)
    return played


def _print_table(points: list[str], reached: dict[str, Story], played: dict[str, Played]) -> None:
    _print_unreached({point: reached.get(point) for point in reached}, points)
    print(f"\n{'file':<26}{'listed':>8}{'reached':>9}{'killed':>8}{'resumed':>9}")
    for file in dict.fromkeys(point.partition(":")[0] for point in points):
        _print_line(file, [point for point in points if point.startswith(file)], reached, played)
    _print_line("together", points, reached, played)
    ends = Counter(each.state for each in played.values())
    print("ended as: " + ", ".join(f"{state} {count}" for state, count in ends.most_common()))


def _print_line(name: str, points: list[str], reached: dict[str, Story], played: dict[str, Played]) -> None:
    here = [played[point] for point in points if point in played]
    killed = sum(each.was_killed for each in here)
    resumed = sum(each.was_killed and not each.wrong for each in here)
    print(f"{name:<26}{len(points):>8}{sum(p in reached for p in points):>9}{killed:>8}{resumed:>9}")


def _print_unreached(reached: Iterable[str], points: list[str] | None = None) -> None:
    missing = sorted(set(points or listed()) - set(reached))
    places = sorted({point.partition(" ")[0] for point in missing})
    print(f"\nno story comes by {len(missing)} points, at {len(places)} places:")
    for place in places:
        print(f"  {place}")
