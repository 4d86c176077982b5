"""When taking updates in comes before working them off, and when no longer."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from kiebot.clock import ManualClock
from kiebot.errors import Transient
from kiebot.intake.ports import RawUpdate
from kiebot.intake.rush import FULL_IN_A_ROW, Rush


class Telegram:
    """Answers polls with as many updates as are left, at most `limit`; parks one that finds none."""

    def __init__(self) -> None:
        self.left = 0
        self.errors: deque[Exception] = deque()

    async def fetch(self, offset: int, *, timeout_s: int, limit: int = 100) -> list[RawUpdate]:
        if self.errors:
            raise self.errors.popleft()
        if not self.left:
            await asyncio.Event().wait()
        count = min(self.left, limit)
        self.left -= count
        return [RawUpdate(number, "c1", b"{}") for number in range(count)]


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.telegram = Telegram()
        self.is_rush = False
        self.rush = Rush(self.telegram, self.hear, self.clock)

    def hear(self, is_rush: bool) -> None:
        self.is_rush = is_rush

    async def polls(self, count: int) -> None:
        for _ in range(count):
            await self.rush.fetch(0, timeout_s=25)


@pytest.fixture
def world() -> World:
    return World()


async def test_a_burst_is_no_rush_but_a_long_row_of_full_polls_is(world: World) -> None:
    world.telegram.left = 100 * FULL_IN_A_ROW
    await world.polls(FULL_IN_A_ROW - 1)
    assert not world.is_rush
    await world.polls(1)
    assert world.is_rush


async def test_a_poll_that_is_not_full_ends_the_rush(world: World) -> None:
    world.telegram.left = 100 * FULL_IN_A_ROW + 99
    await world.polls(FULL_IN_A_ROW + 1)
    assert not world.is_rush
    world.telegram.left = 100
    await world.polls(1)
    assert not world.is_rush


async def test_a_poll_that_has_to_wait_ends_the_rush_at_once_and_not_after_its_timeout(world: World) -> None:
    world.telegram.left = 100 * FULL_IN_A_ROW
    await world.polls(FULL_IN_A_ROW)
    parked = asyncio.create_task(world.polls(1))
    told = []
    for advance_s in (0.9, 0.2):
        await world.clock.advance(advance_s)
        told.append(world.is_rush)
    parked.cancel()
    await asyncio.gather(parked, return_exceptions=True)
    assert [*told, world.is_rush] == [True, False, False]


async def test_a_poll_that_fails_or_is_given_up_ends_the_rush(world: World) -> None:
    world.telegram.left = 100 * FULL_IN_A_ROW
    await world.polls(FULL_IN_A_ROW)
    world.telegram.errors.append(Transient("telegram is away"))
    with pytest.raises(Transient):
        await world.polls(1)
    assert not world.is_rush
