"""The fault matrix as a table of functions: how a row is declared, run and judged."""

from __future__ import annotations

import inspect
import time
import traceback
from collections.abc import Awaitable, Callable, Container, Iterable
from dataclasses import dataclass

from tests.chaos import history
from tests.chaos.rig import Rig

SETTLES_S = 90.0
Run = Callable[[Rig], Awaitable[str]]


class Skipped(Exception):
    """This machine cannot produce the fault. The text says why."""


class NotMet(Exception):
    """What was expected did not happen. The text says what did."""


@dataclass(frozen=True)
class Row:
    """`run` produces the fault and tells what was seen; its docstring says "Produce: … Expect: …"."""

    number: int
    fault: str
    run: Run
    polls_may_meet: bool
    of_network: bool

    @property
    def produce(self) -> str:
        return _part(self.run, "Produce")

    @property
    def expect(self) -> str:
        return _part(self.run, "Expect")


@dataclass(frozen=True)
class Outcome:
    """`verdict` is "met", "not met" or "skipped"."""

    row: Row
    verdict: str
    seen: str
    took_s: float


ROWS: dict[int, Row] = {}


def row(number: int, fault: str, *, polls_may_meet: bool = False, of_network: bool = False) -> Callable[[Run], Run]:
    """Declare a row. `polls_may_meet`: the lease itself is lost in it, so two polls may meet for a moment.
    `of_network`: packets are to be dropped in it, really where there are namespaces."""

    def declare(run: Run) -> Run:
        ROWS[number] = Row(number, fault, run, polls_may_meet, of_network)
        return run

    return declare


def expect(condition: object, otherwise: str) -> None:
    """Raises: NotMet."""
    if not condition:
        raise NotMet(otherwise)


def chosen(text: str, existing: Container[int]) -> list[int]:
    """`1-4,7` as numbers of rows that exist. Raises: ValueError."""
    wanted: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        wanted += [number for number in range(int(first), int(last or first) + 1) if number in existing]
    return wanted


async def play(rig: Rig, row: Row) -> Outcome:
    """One row on a healthy rig: its own expectation first, then everything that must be true of every stretch."""
    began = time.monotonic()

    def outcome(verdict: str, seen: str) -> Outcome:
        return Outcome(row, verdict, seen, time.monotonic() - began)

    try:
        await rig.heal()
        since = await history.mark(rig)
        began = time.monotonic()
        seen = await row.run(rig)
        await rig.heal()
        await rig.settles(SETTLES_S)
        found = await history.look(rig, since, polls_may_meet=row.polls_may_meet)
    except Skipped as reason:
        return outcome("skipped", str(reason))
    except (NotMet, TimeoutError) as reason:
        return outcome("not met", str(reason) or f"not in time: {_place(reason)}")
    except Exception as error:  # a row that fails in a way nobody planned has shown nothing
        return outcome("not met", f"{type(error).__name__}: {error}")
    if found.breaches:
        return outcome("not met", f"{seen}; {'; '.join(found.breaches[:3])}")
    return outcome("met", f"{seen}; {found.told}")


async def play_all(rig: Rig, rows: Iterable[Row], tell: Callable[[Outcome], None]) -> list[Outcome]:
    outcomes = []
    for row in rows:
        outcomes.append(await play(rig, row))
        tell(outcomes[-1])
    return outcomes


def _place(error: BaseException) -> str:
    """The line of a row at which this was raised."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/tests/chaos/rows" in frame.filename]
    return frames[-1].line or "" if frames else type(error).__name__


def _part(run: Run, name: str) -> str:
    """The paragraph of the docstring that begins with this word."""
    paragraphs = (inspect.getdoc(run) or "").split("\n\n")
    found = (" ".join(each.split()) for each in paragraphs if each.startswith(f"{name}:"))
    return next(found, "").removeprefix(f"{name}: ")
