"""The lanes alone: durable updates per second, and how soon the handling of one begins.

    Telegram -> poll -> inbox -> queue -> claim of the lane -> handler -> done mark, committed

The handler writes one row and answers nothing (`rig/light.py`), and nobody is turned away for writing too much;
everything else is `kiebot run` as it is. People write at RATE_PER_S; then UPDATES of them wait at Telegram at once, in
CHATS chats of which a few have many more than others.
Checked in both: every update handled once and durable, each chat in order, never two of a chat at once.

Beside it: the same replica with arq's own Worker in the place of ours.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from sqlalchemy import text

from benchmarks.rig.light import CREATE, Note, read_notes
from benchmarks.rig.replica import statements as counted
from benchmarks.rig.report import quantile, ratio, spread, table
from benchmarks.rig.stage import House, Stage, Variant
from kiebot.simulators.users import SimUser

UPDATES = 10_000
CHATS = 1000
RATE_PER_S = 100.0
PACED_S = 15.0
MUST_PER_S = 1000.0  # with two replicas
MUST_P50_S, MUST_P99_S = 0.010, 0.050
VARIANTS = (Variant("kiebot"), Variant("kiebot", 2), Variant("arq"), Variant("arq", 2))
_FIRST_ID = 700_000
_WITHIN_S = 300.0
_WAITING = "SELECT count(*) FROM inbox WHERE done_at IS NULL"
_EFFECTS = "SELECT count(*) * 1000000 + count(DISTINCT update_id) FROM effects"
_SPAN = "SELECT extract(epoch FROM max(done_at)) FROM inbox"


@dataclass
class Found:
    """Of one variant, a value per round. Waits in seconds."""

    per_s: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    statements: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)


async def compare(house: House, rounds: int) -> None:
    """Raises: RuntimeError, when an update is lost, doubled, out of order or handled beside another of its chat, or
    two replicas of ours are too slow."""
    found = {variant: Found() for variant in VARIANTS}
    for number in range(rounds):
        for variant in VARIANTS[:: -1 if number % 2 else 1]:
            await _measure(house, variant, number, found[variant])
    _print(found)
    _judge(found[Variant("kiebot", 2)])


async def _measure(house: House, variant: Variant, number: int, found: Found) -> None:
    notes = house.directory / f"notes-{variant.kind}{variant.processes}-{number}"
    more = {"BENCH_HANDLER": str(notes), "BENCH_STATEMENTS": f"{notes}.count", "BENCH_GATE": "open"}
    async with house.stage(variant, **more) as stage:
        lanes = Lanes(stage, str(notes), random.Random(number))
        await lanes.open()
        await lanes.paced(found)
        await lanes.backlog(found)
        lanes.check()


@dataclass
class Lanes:
    """The people of one variant, and what became of their updates."""

    stage: Stage
    notes: str
    rng: random.Random
    people: list[SimUser] = field(default_factory=list)
    sent: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    async def open(self) -> None:
        """Everybody is known; the first updates fill caches and open connections."""
        telegram = self.stage.telegram
        assert self.stage.engine is not None
        async with self.stage.engine.begin() as connection:
            await connection.execute(text(CREATE))
        self.people = [telegram.user(_FIRST_ID + number, f"P{number}") for number in range(CHATS)]
        for person in self.people[:200]:
            await self._says(person)
        await self._all_done()

    async def backlog(self, found: Found) -> None:
        weights = [1.0 / (place + 10) for place in range(CHATS)]
        writers = self.rng.choices(self.people, weights, k=UPDATES)
        cpu_s, statements, began = self.stage.cpu_s(), self._statements(), time.time()
        for writer in writers:
            await self._says(writer)
        await self._all_done()
        found.per_s.append(UPDATES / (await self.stage.count(_SPAN) - began))
        found.cpu_ms.append((self.stage.cpu_s() - cpu_s) / UPDATES * 1000)
        found.statements.append((self._statements() - statements) / UPDATES)

    async def paced(self, found: Found) -> None:
        """Independent people: the next one writes after a random pause."""
        loop, sent_at = asyncio.get_running_loop(), dict[int, int]()
        end, next_at = loop.time() + PACED_S, loop.time()
        while (next_at := next_at + self.rng.expovariate(RATE_PER_S)) < end:
            await asyncio.sleep(next_at - loop.time())
            instant = time.monotonic_ns()
            sent_at[await self._says(self.rng.choice(self.people))] = instant
        await self._all_done()
        waits = [(note.began - sent_at[note.update_id]) / 1e9 for note in self._notes() if note.update_id in sent_at]
        found.p50.append(quantile(waits, 0.5))
        found.p99.append(quantile(waits, 0.99))

    def check(self) -> None:
        """Raises: RuntimeError."""
        handled: dict[int, list[Note]] = defaultdict(list)
        for note in sorted(self._notes(), key=lambda note: note.began):
            handled[note.chat_id].append(note)
        for chat_id, sent in self.sent.items():
            notes = handled[chat_id]
            if [note.update_id for note in notes] != sent:
                raise RuntimeError(f"{self.stage.variant.name}: lost, doubled or out of order in {chat_id}")
            if any(one.ended > other.began for one, other in pairwise(notes)):
                raise RuntimeError(f"{self.stage.variant.name}: two at once in {chat_id}")

    async def _says(self, person: SimUser) -> int:
        (update_id,) = (await person.sends("hello")).update_ids
        self.sent[person.chat_id].append(update_id)
        return update_id

    async def _all_done(self) -> None:
        """Raises: RuntimeError, when an effect is missing or doubled."""
        total = sum(map(len, self.sent.values()))
        async with asyncio.timeout(_WITHIN_S):
            while len(self.stage.telegram.bot.queue) or await self.stage.count(_WAITING):  # noqa: ASYNC110 - other processes work on it
                await asyncio.sleep(0.1)
        if (effects := await self.stage.count(_EFFECTS)) != total * 1_000_001:
            raise RuntimeError(f"{self.stage.variant.name}: {effects:.0f} effects of {total} updates")

    def _notes(self) -> list[Note]:
        return [note for place in range(self.stage.variant.processes) for note in read_notes(_path(self.notes, place))]

    def _statements(self) -> int:
        return sum(counted(_path(f"{self.notes}.count", place)) for place in range(self.stage.variant.processes))


def _path(stem: str, place: int) -> Path:
    return Path(f"{stem}.r{place}")


def _print(found: dict[Variant, Found]) -> None:
    rows = [_row(variant, each, found[Variant("arq", variant.processes)]) for variant, each in found.items()]
    head = ("", "durable/s", "x arq's Worker", "CPU ms/update", "statements", "start p50 ms", "p99 ms")
    title = f"Lanes: {UPDATES:,} updates at once in {CHATS:,} chats; start at {RATE_PER_S:g} a second"
    table(title, head, rows)
    print("\n  none lost, none doubled, every chat in order, never two of a chat at once")


def _row(variant: Variant, found: Found, arq: Found) -> Sequence[str]:
    return (
        variant.name,
        spread(found.per_s),
        ratio(found.per_s, arq.per_s) if variant.kind == "kiebot" else "",
        spread(found.cpu_ms, 2),
        spread(found.statements, 1),
        spread([each * 1000 for each in found.p50], 1),
        spread([each * 1000 for each in found.p99], 1),
    )


def _judge(two: Found) -> None:
    """The medians of the rounds. Raises: RuntimeError."""
    per_s, p50, p99 = (statistics.median(values) for values in (two.per_s, two.p50, two.p99))
    if per_s < MUST_PER_S or p50 > MUST_P50_S or p99 > MUST_P99_S:
        raise RuntimeError(
            f"two replicas: {per_s:.0f} updates/s, start p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms; must be "
            f"{MUST_PER_S:.0f}/s, {MUST_P50_S * 1000:.0f} ms, {MUST_P99_S * 1000:.0f} ms"
        )
