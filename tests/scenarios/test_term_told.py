"""A term as operators see it afterwards: its lines in the log, and the numbers that are scraped."""

from __future__ import annotations

from structlog.testing import capture_logs

from tests.scenarios.crew import Crew
from tests.scenarios.world import World


async def polls(world: World, name: str) -> None:
    def is_parked() -> bool:
        parked = world.tg.bot.polls.parked
        return parked is not None and parked.process == name

    await world.until(is_parked)


async def test_each_change_of_hands_is_one_line_and_the_epoch_is_in_all_that_follow_the_fence(
    world: World, crew: Crew
) -> None:
    with capture_logs() as logged:
        for _ in range(2):
            name = crew.start()
            await polls(world, name)
            await crew.stop(name)
    changes = [entry for entry in logged if entry["event"] in ("lease.acquired", "poller.started", "lease.released")]
    told = [(entry["event"], entry.get("epoch")) for entry in changes]
    assert told == [
        *(("lease.acquired", None), ("poller.started", 1), ("lease.released", 1)),
        *(("lease.acquired", None), ("poller.started", 2), ("lease.released", 2)),
    ]
    assert len({entry["term"] for entry in changes}) == 2
