"""What the engine promises of generations, line by line: each measured by a benchmark of its own, then judged."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from benchmarks import creates, holds, resume, running, sending
from benchmarks.rig.report import table
from benchmarks.rig.stage import House

MUST_HOLD, MUST_SEND = 0.3, 0.95


@dataclass(frozen=True)
class Line:
    what: str
    must: str
    found: str
    is_kept: bool


async def compare(house: House, rounds: int) -> None:
    """Ten minutes. Raises: RuntimeError, when a line is not kept."""
    lines = [
        *_creates(await creates.compare(house, rounds)),
        _resume(await resume.compare(house, rounds)),
        *_running(await running.compare(house, rounds)),
        _holds(await holds.compare(house, rounds)),
        *_sending(await sending.compare(house, rounds)),
    ]
    rows = [(line.what, line.must, line.found, "yes" if line.is_kept else "NO") for line in lines]
    table("The engine's promises", ("", "must be", "is", "kept"), rows)
    if missed := [line.what for line in lines if not line.is_kept]:
        raise RuntimeError(f"not kept: {', '.join(missed)}")


def _creates(found: list[creates.Used]) -> list[Line]:
    least, refused = min(each.use for each in found), sum(each.refused for each in found)
    total, counted = sum(each.creates for each in found), sum(each.counted for each in found)
    heavy, displaced = max(each.heavy for each in found), max(each.displaced for each in found)
    return [
        Line(
            "KIE's creates used, 1, 2 and 4 replicas",
            f">= {creates.MUST_USE:.0%}",
            f"{least:.1%}",
            least >= creates.MUST_USE,
        ),
        Line(
            "creates refused (429)",
            f"<= {creates.MUST_REFUSED:.1%}, none counted",
            f"{refused} of {total}, {counted} counted",
            refused <= creates.MUST_REFUSED * total and counted == 0,
        ),
        Line(
            "creates that one user's 500 take",
            f"<= {creates.MUST_HEAVY:.0%}",
            f"{heavy:.0%}",
            heavy <= creates.MUST_HEAVY,
        ),
        Line(
            "others' first works, places out of order",
            f"<= {creates.MUST_DISPLACE}",
            str(displaced),
            displaced <= creates.MUST_DISPLACE,
        ),
    ]


def _resume(waits: list[float]) -> Line:
    return Line(
        "a killed replica's generations go on",
        f"<= {resume.MUST_S:.0f} s",
        f"{statistics.median(waits):.1f} s, worst {max(waits):.1f} of {len(waits)}",
        max(waits) <= resume.MUST_S,
    )


def _running(costs: list[running.Cost]) -> list[Line]:
    fewer, most = costs[-3], costs[-2]
    kb = running.kb_each(most, fewer)
    grows = most.percent / fewer.percent
    return [
        Line("memory of a running generation", f"<= {running.MUST_KB} KB", f"{kb:.2f} KB", kb <= running.MUST_KB),
        Line(
            f"processor time for {most.generations} running, x that for {fewer.generations}",
            f"<= {running.MUST_GROW}",
            f"{grows:.2f} ({most.percent:.1f} % of a core)",
            grows <= running.MUST_GROW,
        ),
    ]


def _holds(found: dict[str, list[float]]) -> Line:
    pairs = zip(found["repository"], found["bare asyncpg"], strict=True)
    share = statistics.median(ours / bare for ours, bare in pairs)
    return Line("holds, x bare asyncpg", f">= {MUST_HOLD}", f"{share:.2f}", share >= MUST_HOLD)


def _sending(found: dict[int, list[sending.Measured]]) -> list[Line]:
    share = min(statistics.median(each.share for each in rounds) for rounds in found.values())
    refused = sum(each.refused for rounds in found.values() for each in rounds)
    return [
        Line("Telegram's 30 messages/s used", f">= {MUST_SEND:.0%}", f"{share:.1%}", share >= MUST_SEND),
        Line("messages refused (429)", "0", str(refused), refused == 0),
    ]
