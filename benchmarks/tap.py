"""From a tap to the answer: a person's press or message reaches Telegram; the bot's answer to it reaches Telegram.

Two waits of every tap: until the press is answered (the button stops spinning), and until the screen changes (a new or
edited message). People go through the menu: start, a shelf, a model, its form, words for it; no two taps of one person
overlap. Taps come at random instants, the same for every variant.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence

from benchmarks.rig.crowd import Crowd, Waits
from benchmarks.rig.lineup import in_turns, lineup
from benchmarks.rig.report import quantile, ratio, spread, table
from benchmarks.rig.stage import House, Variant

PEOPLE = 200
RATES = (20, 50)
SECONDS = 2.5
PLAIN = Variant("plain")
VARIANTS = (PLAIN, Variant("kiebot"), Variant("kiebot", 2), Variant("arq"))
MEASURES: dict[str, Callable[[Waits], float]] = {
    "screen p50": lambda waits: quantile(waits.seen, 0.5),
    "screen p95": lambda waits: quantile(waits.seen, 0.95),
    "press p50": lambda waits: quantile(waits.pressed, 0.5),
    "press p95": lambda waits: quantile(waits.pressed, 0.95),
}


async def compare(house: House, rounds: int) -> None:
    async with lineup(house, VARIANTS, PEOPLE) as crowds:
        for crowd in crowds.values():
            await crowd.taps(RATES[0], 1.0, random.Random(0))
        for rate in RATES:
            _print(rate, await in_turns(crowds, rounds, _taps_at(rate)))


def _taps_at(rate: int) -> Callable[[Crowd, int], Awaitable[Waits]]:
    async def measure(crowd: Crowd, number: int) -> Waits:
        return await crowd.taps(rate, SECONDS, random.Random(f"{rate}:{number}"))

    return measure


def _print(rate: int, found: dict[Variant, list[Waits]]) -> None:
    head = ["ms", *(part for name in MEASURES for part in (name, "x plain"))]
    rows = [[variant.name, *_cells(waits, found[PLAIN])] for variant, waits in found.items()]
    table(f"From a tap to the answer: {rate} taps/s over {PEOPLE} chats", head, rows)


def _cells(waits: Sequence[Waits], plain: Sequence[Waits]) -> list[str]:
    cells = []
    for measure in MEASURES.values():
        values = [measure(each) * 1000 for each in waits]
        cells += [spread(values), ratio(values, [measure(each) * 1000 for each in plain])]
    return cells
