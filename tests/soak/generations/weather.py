"""What strikes everybody while people buy: replicas killed, KIE refusing, stammering or speaking another dialect.

Everything is decided by the seed; only when it really happens depends on the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from kiebot.cluster import Cluster
from kiebot.simulators.kie.switches import Switches
from kiebot.storage.verify import verify
from tests.scenarios.world import World
from tests.soak.generations.aim import TARGETS, Aim
from tests.soak.generations.crowd import MODELS
from tests.soak.generations.evidence import Check, Kill

STORMS = ("429", "402", "455", "gateway", "429", "402", "455", "transient", "401", "433")
QUICK_STORMS = ("429", "455", "402", "gateway")
PLENTY = 1_000_000.0
_AIM_S = 3.0  # a shot that finds no target within this long is fired anyway
_GONE_S = 5.0
_OPEN = "SELECT count(*) FROM generations WHERE finished_at IS NULL"
# Nobody waits a day for a task that never ends: for those rows, and no others, the day has passed.
_DAY_PASSES = """
    UPDATE generations SET submitted_at = submitted_at - interval '25 hours'
    WHERE state = 'running' AND task_id = ANY(:tasks) AND submitted_at > now() - interval '20 hours'
"""
# The forms in which KIE has been seen or documented to answer; each lasts until the next.
_DIALECTS: tuple[dict[str, Any], ...] = (
    {"record_fields": "newest", "fail_code_as": "string"},
    {"record_fields": "april", "fail_code_as": "int", "gap_form": "null_data", "text_key": "message"},
    {"record_fields": "docs", "fail_code_as": "word", "extra_fields": True, "callback_credits": "consumeCredits"},
    {"http_status": "mirror", "create_window": "fixed", "gzip": True},
)
_PLAIN_DIALECT = {name: getattr(Switches(), name) for dialect in _DIALECTS for name in dialect}
_EMPTY_FORMS = ("", "{}", '{"resultUrls":[]}')


@dataclass
class Weather:
    """`began`: monotonic; times of blows count from it. `tell` says what strikes."""

    world: World
    cluster: Cluster
    aim: Aim
    rng: random.Random
    pace: float
    tell: Callable[[str], None]
    kill_every_s: float
    kills_all: float
    began: float = field(default_factory=time.monotonic)
    kills: list[Kill] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    storms: Counter[str] = field(default_factory=Counter)
    trouble: list[str] = field(default_factory=list)
    _rising: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def rages(self, storms: list[str], within_s: float) -> AsyncIterator[None]:
        """Meanwhile blows fall; afterwards everybody lives again and KIE serves."""
        for model, form in zip(MODELS, _EMPTY_FORMS, strict=False):
            self.world.kie.switches.set_model(model, empty_form=form)
        work = [self._kills(within_s), self._storms(storms, within_s), self._dialects(within_s)]
        blows = [asyncio.create_task(each) for each in work]
        try:
            yield
        finally:
            for blow in blows:
                blow.cancel()
            for end in await asyncio.gather(*blows, return_exceptions=True):
                if isinstance(end, Exception):
                    self.trouble.append(f"a blow failed: {end!r}")
            self.aim.disarm()
            self._speaks(_DIALECTS[0])
            await asyncio.gather(*self._rising)
            for name in self.cluster.members:
                await self.cluster.start(name)

    @asynccontextmanager
    async def watched(self, check_every_s: float) -> AsyncIterator[None]:
        """Meanwhile the ledger is verified at random moments, and a day passes for whoever is stuck."""
        watching = [asyncio.create_task(self._checks(check_every_s)), asyncio.create_task(self._days_pass())]
        try:
            yield
        finally:
            for each in watching:
                each.cancel()
            for end in await asyncio.gather(*watching, return_exceptions=True):
                if isinstance(end, Exception):
                    self.trouble.append(f"watching failed: {end!r}")

    # kills

    async def _kills(self, within_s: float) -> None:
        while time.monotonic() - self.began < within_s:
            await asyncio.sleep(self.rng.uniform(0.5, 1.5) * self.kill_every_s)
            target = self.rng.choice((None, *TARGETS))
            victim = self.rng.choice([*self.cluster.members])
            if self.rng.random() < self.kills_all:
                for name in self.cluster.members:
                    self.kill(name, "all at once")
            elif target is None or not await self._hits(target):
                self.kill(victim, "at random")

    async def _hits(self, path: str) -> bool:
        """Whether somebody asked for that, and died of it, in time."""
        self.aim.arm(path)
        give_up = time.monotonic() + _AIM_S
        while self.aim.struck is None and time.monotonic() < give_up:
            await asyncio.sleep(0.02)
        self.aim.disarm()
        return self.aim.struck is not None

    def kill(self, name: str, when: str) -> None:
        """SIGKILL, if it lives; it is started again after a moment."""
        if not self.cluster.members[name].is_alive or any(task.get_name() == name for task in self._rising):
            return
        self.cluster.send(name, signal.SIGKILL)
        self.kills.append(Kill(time.monotonic() - self.began, name, when))
        rising = asyncio.create_task(self._rises(name, self.rng.uniform(0.1, 1.0)), name=name)
        self._rising.add(rising)
        rising.add_done_callback(self._rising.discard)

    async def _rises(self, name: str, after_s: float) -> None:
        await self.cluster.wait(name, _GONE_S)
        await asyncio.sleep(after_s)
        await self.cluster.start(name)

    # storms

    async def _storms(self, kinds: list[str], within_s: float) -> None:
        """One after another, evenly: account-wide stops must have time to pass."""
        for place, kind in enumerate(kinds):
            at_s = within_s * (place + self.rng.uniform(0.2, 0.8)) / len(kinds)
            await asyncio.sleep(max(0.0, self.began + at_s - time.monotonic()))
            lasts_s = min(self.rng.uniform(2.0, 5.0), within_s / len(kinds) / 2)
            self.storms[kind] += 1
            self.tell(f"storm {kind} for {lasts_s:.1f} s")
            with self._storm(kind):
                await asyncio.sleep(lasts_s)

    @contextlib.contextmanager
    def _storm(self, kind: str) -> Iterator[None]:
        kie, switches = self.world.kie, self.world.kie.switches
        match kind:
            case "429":
                yield from _switched(switches, creates_per_10s=3, polls_per_s=10, retry_after_s=1.0)
            case "402":
                kie.set_credits(0.0)
                try:
                    yield
                finally:
                    kie.set_credits(PLENTY)
            case "433":
                yield from _switched(switches, key_cap_credits=0.0)
            case "401":
                key, kie.api_key = kie.api_key, "another-key"
                try:
                    yield
                finally:
                    kie.api_key = key
            case "455":
                model = self.rng.choice([*MODELS])
                switches.set_model(model, maintenance=True)
                try:
                    yield
                finally:
                    switches.set_model(model, maintenance=False)
            case "transient":
                yield from _switched(switches, transient_rate=0.5)
            case _:
                yield from _switched(switches, noise_rate=0.3)

    async def _dialects(self, within_s: float) -> None:
        """Each in turn, several times in a long run."""
        turns = max(len(_DIALECTS), int(within_s / 20.0))
        for turn in range(turns):
            self._speaks(_DIALECTS[turn % len(_DIALECTS)])
            await asyncio.sleep(within_s / turns)

    def _speaks(self, dialect: dict[str, Any]) -> None:
        self.world.kie.switches.set(**{**_PLAIN_DIALECT, **dialect})

    # watching

    async def _checks(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(self.rng.uniform(0.2, 1.8) * every_s)
            is_open = int(await self.world.scalar(_OPEN))
            breaches = await verify(self.world.engine)
            told = tuple(f"{each.invariant}: {', '.join(each.rows[:3])}" for each in breaches)
            self.checks.append(Check(time.monotonic() - self.began, is_open, told))
            if told:
                self.tell(f"BROKEN {told[0]}")

    async def _days_pass(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            stuck = [
                task.task_id
                for task in self.world.kie.tasks.values()
                if math.isinf(task.plan.ends_at_s) and task.age_s > 60.0 * self.pace
            ]
            await self.world.execute(_DAY_PASSES, tasks=stuck)


def _switched(switches: Switches, **values: Any) -> Iterator[None]:
    before = {name: getattr(switches, name) for name in values}
    switches.set(**values)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(switches, name, value)
