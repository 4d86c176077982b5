"""A full queue: the 100,000 updates that Telegram keeps at most wait, and one replica takes them all.

Measured are the seconds until all of them are in the inbox and none is left at Telegram, the replica's memory on the
way, and the seconds until all are worked off, which begins with the first of them. Checked: none lost, none doubled,
each chat in order. Beside it stands the plain bot, which takes them into its memory and nowhere else; it is ended then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from benchmarks.rig.report import table
from benchmarks.rig.stage import House, Stage, Variant
from kiebot.simulators.users import SimUser

UPDATES = 100_000
PEOPLE = 2000
PER_CHAT = UPDATES // PEOPLE
MUST_S = 60.0
_FIRST_ID = 600_000
_LOOK_S = 0.25
_SETTLES_S = 3.0  # an answer too many would come then
_WITHIN_S = 3600.0
_RECORDED = "SELECT count(*) FROM inbox"
_LEFT = """
    SELECT (SELECT count(*) FROM inbox WHERE done_at IS NULL) + (SELECT count(*) FROM dead_letters)
        + (SELECT count(*) FROM outbox WHERE sent_at IS NULL)
"""


@dataclass
class Found:
    """Seconds since the updates were there; megabytes at the start, the most in each part, and at the end."""

    start_mb: float
    taken_s: float = 0.0
    taking_mb: float = 0.0
    handled_s: float = 0.0
    handling_mb: float = 0.0
    end_mb: float = 0.0


@dataclass
class Backlog:
    """People who each wrote PER_CHAT messages while nobody listened."""

    stage: Stage
    people: list[SimUser] = field(default_factory=list)

    async def arrives(self) -> None:
        """All at one instant, everybody in turn: no poll is answered in between."""
        telegram = self.stage.telegram
        self.people = [telegram.user(_FIRST_ID + number, f"P{number}") for number in range(PEOPLE)]
        for turn in range(PER_CHAT):
            for person in self.people:
                await person.sends(f"/n{turn}")

    @property
    def is_taken(self) -> bool:
        return len(self.stage.telegram.bot.queue) == 0

    @property
    def is_answered(self) -> bool:
        return self.stage.telegram.journal.counts["sendmessage", 200] >= UPDATES

    def check(self) -> None:
        """Raises: RuntimeError, when an answer is missing, doubled or out of order."""
        for person in self.people:
            told = [event.state.text or "" for event in person.chat.events]
            wrong = [turn for turn, words in enumerate(told) if f"/n{turn}." not in words]
            if len(told) != PER_CHAT or wrong:
                raise RuntimeError(f"{self.stage.variant.name}: lost, doubled or out of order: {told}")


async def compare(house: House, rounds: int) -> None:
    """One round, whatever is asked: it takes a quarter of an hour.

    Raises: RuntimeError, when an update is lost, doubled or out of order, or intake takes longer than MUST_S.
    """
    plain, ours = [await _measure(house, variant) for variant in (Variant("plain"), Variant("kiebot"))]
    _print(plain, ours)
    if ours.taken_s > MUST_S:
        raise RuntimeError(f"the updates were taken in {ours.taken_s:.0f} s, which must be at most {MUST_S:.0f}")


async def _measure(house: House, variant: Variant) -> Found:
    async with house.stage(variant) as stage:
        backlog, memory = Backlog(stage), psutil.Process(stage.pids[0])
        found = Found(_mb(memory))
        await backlog.arrives()
        began = time.monotonic()
        found.taking_mb = await _most_mb(memory, lambda: backlog.is_taken)
        found.taken_s = time.monotonic() - began
        told = f"{variant.name}: {UPDATES:,} taken in {found.taken_s:.1f} s"
        print(f"  {told}, {found.start_mb:.0f} to {found.taking_mb:.0f} MB", flush=True)
        if stage.engine is not None:
            await _work_off(backlog, memory, found)
            found.handled_s = time.monotonic() - began - _SETTLES_S
        return found


async def _work_off(backlog: Backlog, memory: psutil.Process, found: Found) -> None:
    """Wait until all are answered and check it. Raises: RuntimeError."""
    stage = backlog.stage
    if (recorded := await stage.count(_RECORDED)) != UPDATES:
        raise RuntimeError(f"{recorded:.0f} of {UPDATES} updates are in the inbox")
    found.handling_mb = await _most_mb(memory, lambda: backlog.is_answered)
    await asyncio.sleep(_SETTLES_S)
    found.end_mb = _mb(memory)
    backlog.check()
    if left := await stage.count(_LEFT):
        raise RuntimeError(f"{left:.0f} rows are not finished\n{stage.printed()}")


async def _most_mb(memory: psutil.Process, reached: Callable[[], bool]) -> float:
    most = _mb(memory)
    async with asyncio.timeout(_WITHIN_S):
        while not reached():
            await asyncio.sleep(_LOOK_S)
            most = max(most, _mb(memory))
    return most


def _mb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 1e6


def _print(plain: Found, ours: Found) -> None:
    head = ("", "taken in s", "x plain", "MB: start", "taking", "handling", "end", "all answered in s", "per s")
    rows = (
        ("plain bot", f"{plain.taken_s:.1f}", "1.0", *_sizes(plain.start_mb, plain.taking_mb), "", "", "", ""),
        (
            "kiebot x1",
            f"{ours.taken_s:.1f}",
            f"{ours.taken_s / plain.taken_s:.1f}",
            *_sizes(ours.start_mb, ours.taking_mb, ours.handling_mb, ours.end_mb),
            f"{ours.handled_s:.0f}",
            f"{UPDATES / ours.handled_s:.0f}",
        ),
    )
    table(f"Intake: {UPDATES:,} updates that waited at Telegram, in {PEOPLE:,} chats", head, rows)
    print("\n  none lost, none doubled, every chat in order")


def _sizes(*sizes: float) -> tuple[str, ...]:
    return tuple(f"{size:.0f}" for size in sizes)
