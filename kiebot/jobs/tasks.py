"""A job, one call: wake-ups become jobs, jobs become calls of the services that this replica was given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol
from uuid import UUID

import structlog

from kiebot.errors import Transient
from kiebot.jobs import names
from kiebot.jobs.enqueue import Enqueuer
from kiebot.jobs.names import Job
from kiebot.observe.metrics import METRICS
from kiebot.wakeups import Advance, Deliver, Drain, RefreshCard, Repay, Wakeup

log = structlog.get_logger()


class Services(Protocol):
    """What jobs call. Every call is safe to repeat and safe to lose."""

    async def drain(self, lane: str) -> None: ...
    async def advance(self, generation_id: UUID) -> None: ...
    async def deliver(self, chat_id: int) -> None: ...
    async def refresh_card(self, generation_id: UUID) -> None: ...
    async def repay(self, refund_id: int) -> None: ...


def job_of(wakeup: Wakeup) -> Job:
    match wakeup:
        case Drain(lane, revision, delay_s):
            return names.drain_lane(lane, revision, delay_s=delay_s)
        case Advance(generation_id, revision, delay_s):
            return names.advance(str(generation_id), revision, delay_s=delay_s)
        case Deliver(chat_id, revision, delay_s):
            return names.deliver(chat_id, revision, delay_s=delay_s)
        case RefreshCard(generation_id, revision, delay_s):
            return names.refresh_card(str(generation_id), revision, delay_s=delay_s)
        case Repay(refund_id, revision, delay_s):
            return names.repay(refund_id, revision, delay_s=delay_s)


class ArqQueue:
    """The Queue port on arq. What Redis does not take is left to the sweepers, and said in the log."""

    def __init__(self, enqueuer: Enqueuer) -> None:
        self._enqueuer = enqueuer

    async def enqueue(self, wakeups: Sequence[Wakeup]) -> None:
        try:
            await self._enqueuer.enqueue([job_of(wakeup) for wakeup in wakeups])
        except Transient as error:
            log.warning("queue.unreachable", wakeups=len(wakeups), why=str(error))

    async def drains(self, drains: Sequence[Drain]) -> None:
        await self.enqueue(drains)


JobFunction = Callable[..., Awaitable[None]]


def functions(services: Services) -> Mapping[str, JobFunction]:
    """arq calls these with its context first, then the job's arguments."""

    async def drain_lane(_: object, lane: str, revision: int) -> None:
        with METRICS.job(names.DRAIN_LANE):
            await services.drain(lane)

    async def advance(_: object, generation_id: str, revision: int) -> None:
        with METRICS.job(names.ADVANCE):
            await services.advance(UUID(generation_id))

    async def deliver(_: object, chat_id: int, revision: int) -> None:
        with METRICS.job(names.DELIVER):
            await services.deliver(chat_id)

    async def refresh_card(_: object, generation_id: str, revision: int) -> None:
        with METRICS.job(names.REFRESH_CARD):
            await services.refresh_card(UUID(generation_id))

    async def repay(_: object, refund_id: int, revision: int) -> None:
        with METRICS.job(names.REPAY):
            await services.repay(refund_id)

    return {
        names.DRAIN_LANE: drain_lane,
        names.ADVANCE: advance,
        names.DELIVER: deliver,
        names.REFRESH_CARD: refresh_card,
        names.REPAY: repay,
    }
