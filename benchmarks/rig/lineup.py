"""All variants side by side, measured in turns: whatever else the machine does meets them alike, round by round."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from benchmarks.rig.crowd import Crowd
from benchmarks.rig.stage import House, Variant

Result = TypeVar("Result")


@asynccontextmanager
async def lineup(house: House, variants: Sequence[Variant], people: int) -> AsyncIterator[dict[Variant, Crowd]]:
    """Every variant started, with people who know it. Those whose turn it is not idle at a few percent of a CPU."""
    async with AsyncExitStack() as stages:
        crowds = {each: Crowd(await stages.enter_async_context(house.stage(each)), people) for each in variants}
        for crowd in crowds.values():
            await crowd.meets_the_bot()
        yield crowds


async def in_turns(
    crowds: dict[Variant, Crowd], rounds: int, measure: Callable[[Crowd, int], Awaitable[Result]]
) -> dict[Variant, list[Result]]:
    """`measure(crowd, round)` for each variant in each round, every other round in reverse order."""
    found: dict[Variant, list[Result]] = {variant: [] for variant in crowds}
    for number in range(rounds):
        for variant in list(crowds)[:: -1 if number % 2 else 1]:
            found[variant].append(await measure(crowds[variant], number))
    return found
