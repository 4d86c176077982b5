from __future__ import annotations

from kiebot.engines import Engines
from tests.crashpoints.points import listed, placed
from tests.crashpoints.run import open_theatre
from tests.crashpoints.stories import STORIES

SUCCESS = STORIES[0]
SAMPLE = (
    ("intake/drain.py", "self._handler.handle(tx", "after"),  # the purchase is written, and not committed
    ("generation/submit.py", "self._tools.provider.submit(submission)", "after"),  # billed; nobody knows the task
    ("generation/effects.py", "await tx.ledger.capture(", "after"),  # taken, and not committed
    ("delivery/courier.py", "await self._dispatch(row)", "after"),  # sent; nobody has noted it
)


def test_every_await_of_the_engine_is_listed_once() -> None:
    points = listed()
    assert len(points) == len(set(points)) > 500


async def test_wherever_the_engine_ends_another_replica_brings_the_generation_to_one_end(
    database_url: str, engines: Engines, redis_prefix: str
) -> None:
    """A sample; all of them: `./dev soak crashpoints`."""
    broken = []
    async with open_theatre(database_url, engines.redis_url, redis_prefix) as theatre:
        for place in SAMPLE:
            played = await theatre.plays(SUCCESS, placed(*place))
            if played.wrong or not played.was_killed:
                broken.append((place, played))
    assert broken == []
