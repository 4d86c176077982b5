"""Everything of one run, and what must hold in it."""

from __future__ import annotations

import random
from collections import Counter

from kiebot.intake.ports import RawUpdate
from kiebot.lease.term import Timing
from tests.simulation.lease import LeaseServer
from tests.simulation.loop import VirtualLoop
from tests.simulation.mutants import SOUND, Mutant
from tests.simulation.postgres import Postgres
from tests.simulation.queue import JobQueue
from tests.simulation.replica import Replica
from tests.simulation.telegram import Telegram

LANES = ("c1", "c2", "c3")
REPLICAS = 3


class World:
    """Three replicas, their stores, Telegram, and one Random that decides everything."""

    def __init__(self, seed: int, mutant: Mutant = SOUND) -> None:
        self.rng = random.Random(seed)
        self.mutant = mutant
        self.loop = VirtualLoop()
        self.timing = Timing(probe_s=0.5, margin_s=1.5 if mutant.has_margin else 0.001)
        self.long_poll_s = self.rng.choice((3, 4, 6))
        self.violations: list[str] = []
        self.faults: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.breaks: dict[int, int] = {}
        self.tells_connections = self.rng.random() < 0.5
        self.lease = LeaseServer(self.loop, rate=self.rng.uniform(0.99, 1.01), tells_connections=self.tells_connections)
        self.postgres = Postgres(self.loop, self.violate, is_fenced=mutant.is_fenced, has_key=mutant.has_inbox_key)
        self.jobs = JobQueue(self.loop)
        self.telegram = Telegram(self.loop, self._confirmed)
        self.is_calm = False
        self.replicas: list[Replica] = []
        self._past: list[Replica] = []

    def start(self, number: int) -> None:
        """Start a replica, or a new one in the place of one that is gone."""
        replica = Replica(self, number)
        if number < len(self.replicas):
            self._past.append(self.replicas[number])
            self.replicas[number] = replica
        else:
            self.replicas.append(replica)

    def write(self, lane: str) -> None:
        """A user writes; some of what they write breaks the handler once or twice."""
        update = self.telegram.receive(lane)
        if not self.is_calm and self.rng.random() < 0.03:
            self.breaks[update.update_id] = self.rng.choice((1, 1, 2))
        self.counts["updates"] += 1

    def violate(self, what: str) -> None:
        self.violations.append(f"{self.loop.time():.3f} s: {what}")

    def look(self) -> None:
        """At most one may act, but for a term that its store took away: its holder may until its trust runs out."""
        acting = [replica for replica in self.replicas if replica.may_act]
        if len(acting) < 2:
            return
        now = self.loop.time()
        robbed = self.lease.robbed
        rightful = []
        for replica in acting:
            term = replica.candidate.term
            if term is not None and now > robbed.get(term.token, -100.0) + self.timing.ttl_s:
                rightful.append(replica.name)
        if len(rightful) > 1:
            self.violate(f"{' and '.join(rightful)} may act")
        else:
            self.counts["excused overlaps"] += 1

    def paused(self, replica: Replica) -> None:
        self.counts["pauses"] += 1
        if replica.candidate.is_holder:
            self.counts["pauses of the holder"] += 1

    def swept(self, found: int) -> None:
        if found and self.is_calm:
            self.violate("a sweep found a lane whose wake-up was lost although nothing failed")

    def end(self) -> None:
        """Clear the run away: what the dead have left too."""
        for replica in [*self._past, *self.replicas]:
            replica.clear_away()
        self.loop.drown()

    def _confirmed(self, update: RawUpdate) -> None:
        if not self.postgres.has(update):
            self.violate(f"update {update.update_id} is lost: confirmed, and not stored")
