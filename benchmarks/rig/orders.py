"""Generations bought for a benchmark: through `accept` and the queue, as the bot buys them, without its screens."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from uuid import uuid4

from benchmarks.rig.stage import Stage
from kiebot.generation.model import Order, Quoted
from kiebot.generation.service import accept
from kiebot.generation.tools import Limits
from kiebot.jobs.enqueue import Enqueuer
from kiebot.jobs.pool import make_pool
from kiebot.jobs.tasks import ArqQueue
from kiebot.storage.transaction import Database

PRICE = 1000
_NO_CAP = Limits(open=1_000_000)


class Counter:
    """Where generations are bought on one stage."""

    def __init__(self, stage: Stage, queue: ArqQueue) -> None:
        assert stage.engine is not None
        self._stage = stage
        self._database = Database(stage.engine, queue)

    async def meet(self, users: Iterable[int]) -> None:
        """People with a chat and more credits than they will need."""
        async with self._database.transaction() as tx:
            for user in users:
                self._stage.telegram.user(user, f"P{user}", "en").starts()
                await tx.ledger.grant(f"bench:{user}", user, 1_000_000_000, reason="benchmark", actor="benchmark")

    async def buy(self, users: Iterable[int], *, prompt: str = "a lighthouse in the fog") -> None:
        """A generation for each, accepted and queued in this order; those of one user in one transaction."""
        for user, several in itertools.groupby(users):
            async with self._database.transaction() as tx:
                for _ in several:
                    await accept(tx, _order(user, prompt), _NO_CAP)


def _order(user: int, prompt: str) -> Order:
    generation_id = uuid4()
    quote = Quoted(PRICE // 2, PRICE)
    return Order(generation_id, str(generation_id), user, user, "z-image", {"prompt": prompt}, quote, "en")


@asynccontextmanager
async def counter(stage: Stage) -> AsyncIterator[Counter]:
    prefix = stage.environment["REDIS_PREFIX"]
    pool = make_pool(stage.environment["REDIS_URL"], prefix=prefix)
    try:
        yield Counter(stage, ArqQueue(Enqueuer(pool, prefix=prefix)))
    finally:
        await pool.aclose()
