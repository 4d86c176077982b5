"""The process ends at every await of the engine in turn, and another replica goes on."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from kiebot.engines import await_stop, open_engines
from tests.crashpoints.mutants import MUTANTS
from tests.crashpoints.points import listed
from tests.crashpoints.run import Played
from tests.crashpoints.stories import STORIES
from tests.crashpoints.troupe import Job, Troupe, open_troupe

MOST_TIMES = 4  # of coming by that a death is tried at: what comes after it is hardly ever new
TRIES = 6  # a look more or less, and a story does not come by a point that it came by on its tour


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="points that hold one of these")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="the I-th of N parts of the points")
    parser.add_argument("--story", default="", help="stories whose name holds this text, and the points they come by")
    parser.add_argument(
        "--seed",
        type=int,
        help="decides in which story, and at which time of coming by, a point is met; default: drawn",
    )
    parser.add_argument("--tour", action="store_true", help="kill nobody: which points the stories come by")
    parser.add_argument("--players", type=int, default=2 * (os.cpu_count() or 1), help="stories played at once")
    parser.add_argument("--mutants", action="store_true", help="break rules on purpose: each has to be found")


def run(options: argparse.Namespace) -> int:
    """0 when every point was reached, killed at and survived without a double effect; with mutants: all were found."""
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}, part {options.part}, {options.players} stories at once", flush=True)
    with tempfile.TemporaryDirectory(prefix="kb") as home:
        with open_engines(Path(home), durable=False, linger_s=0.0) as engines:
            work = _mutants if options.mutants else _points
            is_good = asyncio.run(work(engines.database_url, engines.redis_url, options, seed))
        await_stop(Path(home))
    return 0 if is_good else 1


@dataclass
class Season:
    """What is to be played, and what came of it. `met`: the deaths that the tours promise at a point."""

    troupe: Troupe
    points: list[str]
    random: random.Random
    met: dict[str, list[Job]] = field(default_factory=lambda: defaultdict(list))
    deaths: dict[str, list[Job]] = field(default_factory=dict)
    played: dict[str, Played] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    async def tours(self, names: list[str]) -> None:
        """Each story once with nobody killed."""
        await asyncio.gather(*(self._tour(name) for name in names))

    async def _tour(self, name: str) -> None:
        began = time.monotonic()
        played = await self.troupe.play(Job(name))
        for point, times in played.passed.items():
            self.met[point] += [Job(name, point, at) for at in range(1, min(times, MOST_TIMES) + 1)]
        self.wrong += [f"{name}: {what}" for what in played.wrong]
        print(f"  {name}: {played.state}; {len(played.passed)} points; {time.monotonic() - began:.1f} s", flush=True)

    async def kills(self, *, until_found: bool = False) -> None:
        for point in self.points:  # chosen in one order, whichever of them comes first to be played
            self.deaths[point] = sorted(self.met[point], key=lambda job: (job.story, job.at))
            self.random.shuffle(self.deaths[point])
        killing = [asyncio.create_task(self._kill(point)) for point in self.points if self.deaths[point]]
        for finished in asyncio.as_completed(killing):
            await finished
            if until_found and any(played.wrong for played in self.played.values()):
                break
        for each in killing:  # of a troupe that plays nothing more
            each.cancel()
        await asyncio.gather(*killing, return_exceptions=True)

    async def _kill(self, point: str) -> None:
        jobs = self.deaths[point]
        for number in range(TRIES):
            job = jobs[number % len(jobs)]
            played = await self.troupe.play(job)
            if played.wrong or played.was_killed:
                break
        self.played[point] = played
        if played.wrong or not played.was_killed:
            what = "; ".join(played.wrong) or "never killed there"
            print(f"  BROKEN {job} (status {played.status}): {what}", flush=True)
        elif len(self.played) % 50 == 0:
            print(f"  {len(self.played)} of {len(self.points)}", flush=True)


async def _points(database_url: str, redis_url: str, options: argparse.Namespace, seed: int) -> bool:
    began = time.monotonic()
    async with open_troupe(database_url, redis_url, "crash", size=options.players) as troupe:
        season = Season(troupe, _chosen(options), random.Random(seed))
        await season.tours([story.name for story in STORIES if options.story in story.name])
        print(f"{time.monotonic() - began:.0f} s for the tours")
        if options.story:
            season.points = [point for point in season.points if point in season.met]
        if not options.tour:
            await season.kills()
    _print_table(season)
    print(f"{time.monotonic() - began:.0f} s")
    return _is_good(season, tour=options.tour)


def _chosen(options: argparse.Namespace, mutant: str | None = None) -> list[str]:
    part, parts = (int(number) for number in options.part.split("/"))
    words = options.only
    points = [point for point in listed(mutant) if not words or any(word in point for word in words)]
    return points[part - 1 :: parts]


def _is_good(season: Season, *, tour: bool) -> bool:
    is_reached = all(season.met.get(point) for point in season.points)
    is_survived = tour or all(
        (played := season.played.get(point)) and played.was_killed and not played.wrong for point in season.points
    )
    return is_reached and is_survived and not season.wrong


def _print_table(season: Season) -> None:
    for what in season.wrong:
        print(f"  BROKEN with nobody killed: {what}")
    for point in season.points:
        if not season.met.get(point):
            print(f"  no story comes by {point}")
    print(
        f"\n{'module':<24}{'listed':>8}{'reached':>9}{'killed':>8}{'resumed':>9}{'double effects':>16}"
        f"{'sent again':>12}{'slowest resume':>16}"
    )
    for module in dict.fromkeys(point.partition(":")[0] for point in season.points):
        _print_line(module, [point for point in season.points if point.startswith(module)], season)
    _print_line("together", season.points, season)
    ends = Counter(played.state for played in season.played.values())
    print("ended as: " + ", ".join(f"{state} {count}" for state, count in ends.most_common()))


def _print_line(name: str, points: list[str], season: Season) -> None:
    here = [season.played[point] for point in points if point in season.played]
    reached = sum(bool(season.met.get(point)) for point in points)
    killed = sum(played.was_killed for played in here)
    resumed = sum(played.was_killed and not played.wrong for played in here)
    doubles, repeats = sum(played.doubles for played in here), sum(played.repeats for played in here)
    slowest_s = max((played.resume_s for played in here), default=0.0)
    print(
        f"{name:<24}{len(points):>8}{reached:>9}{killed:>8}{resumed:>9}{doubles:>16}{repeats:>12}{slowest_s:>14.1f} s"
    )


async def _mutants(database_url: str, redis_url: str, options: argparse.Namespace, seed: int) -> bool:
    """Each broken rule until a death shows it."""
    survived = 0
    for name, mutant in MUTANTS.items():
        points = [point for point in listed(name) if mutant.only in point]
        prefix = f"crash_{name.replace('-', '_')}"
        async with open_troupe(database_url, redis_url, prefix, size=options.players, mutant=name) as troupe:
            season = Season(troupe, points, random.Random(seed))
            await season.tours(["success"])
            await season.kills(until_found=True)
        found = sum(bool(played.wrong) for played in season.played.values())
        survived += not found
        print(f"{name} ({mutant.what}): {f'found after {len(season.played)} deaths' if found else 'SURVIVED'}")
    return not survived
