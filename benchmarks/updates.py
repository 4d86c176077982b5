"""Updates per second: a backlog that waits at Telegram, from the first poll to the last answer, all of it durable.

Three updates of each person: a command, an unknown command (its answer names it, so that order and doubles show), and
words (a draft is written). Checked after each round: every update answered once, in order, and marked done.

The processor time is that of the processes under test alone, without Postgres, Redis and Telegram. It says more than
the rate on a machine that is busy with something else.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.rig.crowd import PER_CHAT, Crowd
from benchmarks.rig.lineup import in_turns, lineup
from benchmarks.rig.report import ratio, spread, table
from benchmarks.rig.stage import House, Stage, Variant

PEOPLE = 120
UPDATES = PEOPLE * PER_CHAT
PLAIN = Variant("plain")
VARIANTS = (PLAIN, Variant("kiebot"), Variant("arq"), Variant("kiebot", 2), Variant("arq", 2))
_LEFT = """
    SELECT (SELECT count(*) FROM inbox WHERE done_at IS NULL) + (SELECT count(*) FROM dead_letters)
        + (SELECT count(*) FROM outbox WHERE sent_at IS NULL)
"""
_HANDLED_AT = "SELECT extract(epoch FROM max(done_at)) FROM inbox"


@dataclass(frozen=True)
class Found:
    """Of one round. `handled_per_s`: by the inbox's own marks; 0 for a bot without an inbox."""

    answered_per_s: float
    handled_per_s: float
    cpu_ms: float


async def compare(house: House, rounds: int) -> None:
    async with lineup(house, VARIANTS, PEOPLE) as crowds:
        _print(await in_turns(crowds, rounds, _measure))


async def _measure(crowd: Crowd, number: int) -> Found:
    stage, began, cpu_s = crowd.stage, time.time(), crowd.stage.cpu_s()
    took_s = await crowd.backlog()
    used_s = stage.cpu_s() - cpu_s
    await crowd.check_backlog()
    return Found(UPDATES / took_s, await _handled_per_s(stage, began), used_s / UPDATES * 1000)


async def _handled_per_s(stage: Stage, began: float) -> float:
    """Raises: RuntimeError, when work is left."""
    if stage.engine is None:
        return 0.0
    if left := await stage.count(_LEFT):
        raise RuntimeError(f"{stage.variant.name}: {left:.0f} rows are not finished\n{stage.printed()}")
    return UPDATES / (await stage.count(_HANDLED_AT) - began)


def _print(found: dict[Variant, list[Found]]) -> None:
    rates = {variant: [each.answered_per_s for each in results] for variant, results in found.items()}
    rows = [_row(variant, found[variant], rates) for variant in found]
    head = ("", "answered/s", "marked done/s", "x plain", "x arq's Worker", "CPU ms/update")
    table(f"Updates per second: {UPDATES} at once in {PEOPLE} chats", head, rows)


def _row(variant: Variant, results: Sequence[Found], rates: dict[Variant, list[float]]) -> tuple[str, ...]:
    is_ours = variant.kind == "kiebot"
    return (
        variant.name,
        spread(rates[variant]),
        "keeps none" if variant == PLAIN else spread([each.handled_per_s for each in results]),
        ratio(rates[variant], rates[PLAIN]),
        ratio(rates[variant], rates[Variant("arq", variant.processes)]) if is_ours else "",
        spread([each.cpu_ms for each in results], 1),
    )
