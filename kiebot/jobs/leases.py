"""The jobs a worker holds: kept while they run, settled when they end, also when Redis is away at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from kiebot.cancelling import stop_if_cancelled
from kiebot.jobs.claims import Claims, Settlement
from kiebot.jobs.outage import Outage
from kiebot.jobs.pool import OUTAGES

BATCH = 200  # settled per script, which stays well under a millisecond or two

log = structlog.get_logger()


class Leases:
    """Held jobs by id, each with the score of its queue entry; and those that ended and are not settled yet.

    Jobs that end while others are being settled go along with the next write, so a busy worker settles many at once.

    Args: on_lost, called with the id of a job that another worker has taken over.
    """

    def __init__(self, claims: Claims, outage: Outage, *, lease_s: float, on_lost: Callable[[str], None]) -> None:
        self._claims = claims
        self._outage = outage
        self._renew_s = lease_s / 3
        self._on_lost = on_lost
        self._held: dict[str, float] = {}
        self._ended: list[Settlement] = []
        self._writing = asyncio.Lock()
        self._renewing = asyncio.Lock()

    @property
    def unsettled(self) -> int:
        """Jobs that ended and are not settled yet; more than a moment only while Redis is away."""
        return len(self._ended)

    def hold(self, job_id: str, score: float) -> None:
        """Renew this claim from now on."""
        self._held[job_id] = score

    def holds(self, job_id: str) -> bool:
        """False once the job has been settled, though its task may not have ended yet."""
        return job_id in self._held

    def drop(self, job_id: str) -> None:
        """The job's run is over. If nothing settled it, Redis failed before it began: put it back, no try spent."""
        if (score := self._held.pop(job_id, None)) is not None:
            self._ended.append(Settlement(job_id, score, is_done=False, refunds_try=True))

    async def settle(self, job_id: str, *, is_done: bool, later_ms: int = 0, refunds_try: bool = False) -> None:
        """Give the job up: done, or to run again. Never fails: with Redis away it waits for `flush`."""
        self._ended.append(Settlement(job_id, self._held.pop(job_id), is_done, later_ms, refunds_try))
        if self._writing.locked():  # whoever writes takes this one along
            return
        try:
            await self.flush()
        except OUTAGES as error:
            self._outage.met("settle", error)

    async def flush(self) -> None:
        """Settle all that ended, oldest first. Raises what Redis raises, keeping what is not written."""
        async with self._writing:
            while batch := self._ended[:BATCH]:
                if self._renewing.locked():  # a renewal on its way could take a lease again after we gave it up
                    async with self._renewing:
                        pass
                for job_id in await self._claims.settle(batch):
                    log.warning("job.not_ours", job_id=job_id)
                del self._ended[: len(batch)]
        self._outage.passed("settle")

    async def renew_forever(self) -> None:
        """Renew every lease at a third of its length; during an outage more often, so as not to come too late."""
        rest_s = self._renew_s
        while True:
            stop_if_cancelled()
            await asyncio.sleep(rest_s)
            try:
                lost = await self._renew()
            except OUTAGES as error:
                rest_s = min(self._renew_s, self._outage.met("lease", error))
                continue
            self._outage.passed("lease")
            rest_s = self._renew_s
            for job_id in lost:
                log.warning("job.lease_lost", job_id=job_id)
                self._on_lost(job_id)

    async def _renew(self) -> list[str]:
        async with self._renewing:
            return await self._claims.renew(self._held) if self._held else []
