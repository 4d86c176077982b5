"""Two hundred changes of the leader among twenty candidates, half of them asked to leave, half of them killed.

Real Candidates over real Valkey, each in a process of its own with its own connections, the fence in real Postgres.
Checked: one term at a time, epochs that only rise. Told: the time from the signal until the next term has its fence,
and what a change costs Redis without the looks that standbys take all the time. A herd would show there: everybody
bidding at once. Beside them stand as many bidders for the usual lock (`rig/locked.py`); they are killed less often, for
their lock must run out first.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess

from redis.asyncio import Redis

from benchmarks.rig.bidder import Line, Place, read, run
from benchmarks.rig.report import quantile, table
from benchmarks.rig.stage import House

BIDDERS = 20
COUNTS = {"kiebot": {signal.SIGTERM: 100, signal.SIGKILL: 100}, "locked": {signal.SIGTERM: 20, signal.SIGKILL: 5}}
_WAYS = {signal.SIGTERM: "released", signal.SIGKILL: "killed"}
_WITHIN_S = 30.0
_LOOK_S = 0.002
_REST_S = 3.0  # in which the cost of rest is measured
_PAUSE_S = (0.2, 0.5)


@dataclass
class Changes:
    """Of one way to leave. Commands are counted as the server does, those inside scripts too."""

    seconds: list[float] = field(default_factory=list)
    commands: float = 0.0  # per change, looks not counted
    rest_per_s: float = 0.0


class Field:
    """All bidders of one kind."""

    def __init__(self, kind: str, place: Place) -> None:
        self._kind = kind
        self._place = place
        self._forks = multiprocessing.get_context("forkserver")
        self._forks.set_forkserver_preload(["benchmarks.rig.bidder"])
        self._processes: dict[str, ForkServerProcess] = {}
        self._redis = Redis.from_url(place.redis_url)
        self._rng = random.Random(self._kind)

    async def __aenter__(self) -> Field:
        for number in range(BIDDERS):
            self._start(f"b{number}")
        async with asyncio.timeout(_WITHIN_S):
            while len(self._lines("ready")) < BIDDERS or not self._lines("began"):  # noqa: ASYNC110 - others do it
                await asyncio.sleep(_LOOK_S)
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            await asyncio.to_thread(process.join)
        await self._redis.aclose()

    async def changes(self, how: signal.Signals, count: int) -> Changes:
        """`count` hand-overs. Raises: RuntimeError, when two terms overlap or an epoch does not rise."""
        found = Changes(rest_per_s=await self._rest_per_s())
        before = await self._commands()
        for _ in range(count):
            found.seconds.append(await self._change(how))
            await asyncio.sleep(self._rng.uniform(*_PAUSE_S))
        spent = await self._commands() - before
        found.commands = (spent.total() - self._looks(spent, count)) / count
        return found

    async def _change(self, how: signal.Signals) -> float:
        terms = self._lines("began")
        last, process = terms[-1], self._processes[terms[-1].bidder]
        told_at = time.monotonic()
        process.terminate() if how == signal.SIGTERM else process.kill()
        async with asyncio.timeout(_WITHIN_S):
            while len(self._lines("began")) == len(terms):  # noqa: ASYNC110 - another process makes it true
                await asyncio.sleep(_LOOK_S)
        await asyncio.to_thread(process.join)
        self._check(last, told_at, how)
        self._start(last.bidder)
        return self._lines("began")[-1].at - told_at

    def _check(self, last: Line, told_at: float, how: signal.Signals) -> None:
        """The term that follows `last` is alone, and above it."""
        terms, ends = self._lines("began"), self._lines("ended")
        following = terms[terms.index(last) + 1]
        ended_at = told_at if how == signal.SIGKILL else ends[-1].at
        if how == signal.SIGTERM and (ends[-1].bidder, ends[-1].epoch) != (last.bidder, last.epoch):
            raise RuntimeError(f"{last} never ended, and was followed by {following}")
        if following.at < ended_at:
            raise RuntimeError(f"two terms at once: {last} was followed by {following}")
        if self._kind == "kiebot" and following.epoch <= last.epoch:
            raise RuntimeError(f"an epoch that does not rise: {last}, {following}")

    def _start(self, name: str) -> None:
        process = self._forks.Process(target=run, args=(self._kind, name, self._place), daemon=True)
        process.start()
        self._processes[name] = process

    def _lines(self, what: str) -> list[Line]:
        if not self._place.diary.exists():
            return []
        whole, _, _ = self._place.diary.read_text().rpartition("\n")
        return [line for line in read(whole) if line.what == what]

    async def _rest_per_s(self) -> float:
        began, before = time.monotonic(), await self._commands()
        await asyncio.sleep(_REST_S)
        return (await self._commands() - before).total() / (time.monotonic() - began)

    def _looks(self, spent: Counter[str], changes: int) -> int:
        """Commands by which standbys ask whether the lease is free: a script of two and a probe, or a try in vain."""
        if self._kind == "kiebot":
            return 4 * spent["cmdstat_pubsub|numsub"]
        return spent["cmdstat_set"] - changes

    async def _commands(self) -> Counter[str]:
        """All that the server ever obeyed, but for this very question."""
        facts = await self._redis.info("commandstats")
        return Counter({name: int(each["calls"]) for name, each in facts.items() if name != "cmdstat_info"})


async def compare(house: House, rounds: int) -> None:
    """The series once, whatever is asked: its length is its meaning."""
    database_url = await house.database("handovers")
    found: dict[str, dict[signal.Signals, Changes]] = {}
    for kind, counts in COUNTS.items():
        place = Place(house.engines.redis_url, database_url, f"handovers_{kind}", house.directory / f"{kind}.diary")
        async with Field(kind, place) as bidders:
            found[kind] = {how: await bidders.changes(how, count) for how, count in counts.items()}
    _print(found)


def _print(found: dict[str, dict[signal.Signals, Changes]]) -> None:
    rows: list[Sequence[str]] = []
    for kind, ways in found.items():
        for how, changes in ways.items():
            plain = found["locked"][how]
            p50, most = quantile(changes.seconds, 0.5), max(changes.seconds)
            rows.append(
                (
                    f"{kind} {_WAYS[how]}",
                    str(len(changes.seconds)),
                    f"{p50 * 1000:.0f}",
                    f"{p50 / quantile(plain.seconds, 0.5):.3f}",
                    f"{most * 1000:.0f}",
                    f"{changes.commands:.0f}",
                    f"{changes.rest_per_s:.0f}",
                )
            )
    head = ("", "changes", "ms p50", "x locked", "ms most", "Redis commands per change", "at rest, per s")
    table(f"Hand-overs among {BIDDERS} candidates", head, rows)
    print("\n  never two terms at once, epochs rose with every term")
