"""Looks at the parts of a replica every now and then and writes what it sees into the metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from prometheus_client import Counter

from kiebot.bootstrap import Adapters
from kiebot.cancelling import stop_if_cancelled
from kiebot.errors import KiebotError
from kiebot.intake.poller import PollerStats
from kiebot.jobs.pool import OUTAGES
from kiebot.jobs.worker import Worker
from kiebot.lease.chronicle import Standing, Transition
from kiebot.observe.metrics import METRICS
from kiebot.storage.sweeps import Backlog
from kiebot.storage.verify import Breach
from kiebot.supervise import Supervisor

LOOK_EVERY_S = 1.0
CREDITS_EVERY_S = 300.0
SWITCHES_EVERY_S = 5.0


class Present(Protocol):
    """The replica's parts as they stand; None before they have been started."""

    @property
    def standing(self) -> Standing | None: ...
    @property
    def poller_stats(self) -> PollerStats | None: ...
    @property
    def worker(self) -> Worker | None: ...


def note_transition(transition: Transition) -> None:
    """A change of hands that this replica took part in."""
    METRICS.lease_transitions.labels(kind=transition.kind).inc()
    if transition.kind == "seized":
        METRICS.lease_seizures.labels(sign=transition.detail).inc()
    if transition.leaderless_s is not None:
        METRICS.lease_handover_seconds.observe(transition.leaderless_s)


def note_backlog(backlog: Backlog) -> None:
    """What a sweep saw of the whole cluster."""
    METRICS.inbox_oldest_seconds.set(backlog.oldest_update_s)
    METRICS.outbox_pending.set(backlog.outbox)
    METRICS.generations_open.set(backlog.generations)
    METRICS.dependency_up.labels(name="postgres").set(1)


def note_books(breaches: Sequence[Breach]) -> None:
    """What a check of the whole ledger found."""
    METRICS.ledger_broken.set(len(breaches))
    METRICS.ledger_checked_timestamp_seconds.set(time.time())


class Gauges:
    """Counters are advanced by what a part counted since the last look."""

    def __init__(self, adapters: Adapters, supervisor: Supervisor) -> None:
        self._adapters = adapters
        self._supervisor = supervisor
        self._counted: dict[str, float] = {}
        self._credits_at = 0.0
        self._switches_at = 0.0

    async def run(self, present: Present) -> None:
        """Until cancelled. Also tells how late the event loop comes: what blocks it blocks everybody."""
        while True:
            stop_if_cancelled()
            before = time.monotonic()
            await asyncio.sleep(LOOK_EVERY_S)
            METRICS.loop_lag_seconds.set(max(0.0, time.monotonic() - before - LOOK_EVERY_S))
            self._look_at_lease(present.standing)
            self._look_at_poller(present.poller_stats)
            self._look_at_parts(self._supervisor.restarts)
            await self._look_at_queue(present.worker)
            await self._ask_credits(present.standing)
            await self._ask_switches()

    def _look_at_lease(self, standing: Standing | None) -> None:
        if standing is None:
            return
        METRICS.is_leader.set(1 if standing.is_holder else 0)
        METRICS.lease_trust_seconds.set(standing.trusted_s)
        self._advance("store_errors", METRICS.lease_store_errors, standing.counts.store_errors)

    def _look_at_poller(self, stats: PollerStats | None) -> None:
        if stats is None:
            return
        METRICS.lease_epoch.set(stats.epoch)
        if stats.last_completed_poll_at is not None:
            METRICS.last_poll_timestamp_seconds.set(stats.last_completed_poll_at.timestamp())
        self._advance("conflicts", METRICS.conflicts, stats.conflicts)
        self._advance("fenced", METRICS.fenced_writes, stats.fenced_writes)
        self._advance("recorded", METRICS.updates_recorded, stats.recorded)

    def _look_at_parts(self, restarts: Mapping[str, int]) -> None:
        for part, count in restarts.items():
            self._advance(f"restarts:{part}", METRICS.part_restarts.labels(part=part), count)

    async def _look_at_queue(self, worker: Worker | None) -> None:
        METRICS.job_slots.set(self._adapters.settings.max_jobs)
        if worker is None:
            return
        try:
            METRICS.queue_jobs.set(await self._adapters.redis.zcard(worker.queue_name))
            METRICS.dependency_up.labels(name="redis").set(1)
        except OUTAGES:
            METRICS.dependency_up.labels(name="redis").set(0)

    async def _ask_credits(self, standing: Standing | None) -> None:
        """The holder asks, every five minutes: one number for the account."""
        due = self._adapters.clock.monotonic() >= self._credits_at
        if standing is None or not standing.is_holder or not due:
            return
        self._credits_at = self._adapters.clock.monotonic() + CREDITS_EVERY_S
        try:
            METRICS.kie_credits.set(await self._adapters.provider.credits_left() / 1000)
            METRICS.dependency_up.labels(name="kie").set(1)
        except KiebotError:
            METRICS.dependency_up.labels(name="kie").set(0)

    async def _ask_switches(self) -> None:
        if self._adapters.clock.monotonic() < self._switches_at:
            return
        self._switches_at = self._adapters.clock.monotonic() + SWITCHES_EVERY_S
        try:
            async with self._adapters.database.single() as tx:
                everything, models = await tx.switches.stopped()
        except KiebotError:
            return
        METRICS.provider_stopped.set(everything)
        METRICS.models_off.set(models)

    def _advance(self, name: str, counter: Counter, total: float) -> None:
        grown = total - self._counted.get(name, 0.0)
        if grown > 0:
            counter.inc(grown)
        self._counted[name] = total
