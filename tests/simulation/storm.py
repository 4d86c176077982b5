"""The weather of one run: faults for a while, then calm, then the questions."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from tests.simulation.line import Ambush
from tests.simulation.mutants import SOUND, Mutant
from tests.simulation.replica import Replica
from tests.simulation.world import LANES, REPLICAS, World

STRIKES = 18
TIME_TO_CALL_S = 2.2  # a holder renews in this time
CALM_WITHIN_S = 40.0
BURST = 12


@dataclass
class Result:
    """What one seed showed."""

    seed: int
    violations: list[str]
    faults: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    virtual_s: float = 0.0
    recovery_s: float = 0.0  # from the end of the faults until one acts and nothing waits
    turns: int = 0


def simulate(seed: int, mutant: Mutant = SOUND) -> Result:
    """One run, which the seed decides completely."""
    world = World(seed, mutant)
    storm = Storm(world)
    with suppress(_Found):
        world.loop.run_until_complete(storm.run())
    virtual_s, turns = world.loop.time(), world.loop.turns
    violations = world.violations + world.loop.complaints
    world.end()
    world.counts["accepted stale writes"] = world.postgres.accepted_stale
    world.counts["refused stale writes"] = world.postgres.refused_stale
    world.counts["handled"] = len(world.postgres.ended)
    return Result(seed, violations, world.faults, world.counts, virtual_s, storm.recovery_s, turns)


class _Found(Exception):
    """A violation: the run need not go on."""


class Storm:
    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng
        self.recovery_s = 0.0

    async def run(self) -> None:
        world = self._world
        for number in range(REPLICAS):
            world.start(number)
        await asyncio.sleep(self._rng.uniform(1.0, 3.0))
        users = asyncio.create_task(self._write_for_ever())
        for _ in range(STRIKES):
            await asyncio.sleep(self._strike() or self._rng.uniform(0.0, 2.5))
            self._stop_when_found()
        users.cancel()
        self._calm()
        await self._recover()
        await self._burst()

    # Faults

    async def _write_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._rng.choice((0.01, 0.1, 0.3, 1.0)))
            self._world.write(self._rng.choice(LANES))

    def _strike(self) -> float | None:
        """Now and then nothing else happens until this one has run its course: so many seconds."""
        rng, replica = self._rng, self._victim()
        strikes = (
            (self._pause, 3),
            (self._ambush, 5),
            (self._kill, 1),
            (self._leave, 1),
            (self._cut, 3),
            (self._spoil, 3),
            (self._lose_connection, 1),
            (self._forget, 1),
            (self._set_store_clock, 1),
            (self._unplug, 1),
            (self._heal, 4),
        )
        strike = rng.choices([one for one, _ in strikes], [weight for _, weight in strikes])[0]
        return strike(replica)

    def _victim(self) -> Replica:
        """The holder as often as not: with it there is more to break."""
        holders = [one for one in self._world.replicas if one.candidate.is_holder and not one.process.is_dead]
        return self._rng.choice(holders if holders and self._rng.random() < 0.6 else self._world.replicas)

    def _pause(self, replica: Replica) -> None:
        if not replica.process.is_stopped:
            self._world.faults["pauses"] += 1
            replica.pause(self._seconds())

    def _ambush(self, replica: Replica) -> float | None:
        """A pause in the middle of a call: between a check and its write, or between a write and its answer."""
        line = replica.lines[self._rng.choice(("lease", "lease", "postgres", "postgres", "telegram", "queue"))]
        line.ambush = Ambush(line.name, self._rng.random() < 0.5, self._seconds())
        return line.ambush.seconds + TIME_TO_CALL_S if self._rng.random() < 0.3 else None

    def _kill(self, replica: Replica) -> None:
        if not replica.process.is_dead:
            self._world.faults["kills"] += 1
            replica.kill()

    def _leave(self, replica: Replica) -> None:
        if not replica.process.is_stopped:
            self._world.faults["orderly leaves"] += 1
            replica.leave()

    def _cut(self, replica: Replica) -> float | None:
        line = replica.lines[self._rng.choice(("lease", "lease", "postgres", "telegram", "queue"))]
        line.weather.is_cut = True
        self._world.faults[f"{line.name} cut off"] += 1
        if line.name == "lease":
            if self._rng.random() < 0.5:  # else the connection stays half open: the store does not notice
                self._world.loop.outside(self._rng.uniform(4.0, 7.0), self._disconnect_if_cut, replica)
            return self._world.timing.ttl_s * 1.2 if self._rng.random() < 0.6 else None
        return None

    def _disconnect_if_cut(self, replica: Replica) -> None:
        if replica.lines["lease"].weather.is_cut:
            self._disconnect(replica)

    def _spoil(self, replica: Replica) -> None:
        """One way gets slow, loses, or repeats itself."""
        weather = replica.lines[self._rng.choice(tuple(replica.lines))].weather
        match self._rng.randrange(3):
            case 0:
                weather.delay_s = self._rng.choice((0.05, 0.3, 0.7, 1.0, 2.0))
            case 1:
                weather.loss = self._rng.choice((0.1, 0.3, 0.6))
            case _:
                weather.duplicates = self._rng.choice((0.2, 0.5))

    def _lose_connection(self, replica: Replica) -> None:
        """The store closes the holder's liveness connection: to the others it looks dead."""
        self._world.faults["liveness connections lost"] += 1
        self._disconnect(replica)

    def _disconnect(self, replica: Replica) -> None:
        if replica.candidate.term is not None:
            self._world.lease.store.disconnect(replica.candidate.term.token)

    def _forget(self, _: Replica) -> None:
        world = self._world
        match self._rng.randrange(3):
            case 0:
                world.faults["lease store emptied"] += 1
                world.lease.forget()
            case 1:
                world.faults["queue emptied"] += 1
                world.jobs.forget()
            case _:
                world.faults["lease store and queue restarted empty"] += 1
                for replica in world.replicas:
                    self._disconnect(replica)
                world.lease.forget()
                world.jobs.forget()

    def _set_store_clock(self, _: Replica) -> None:
        self._world.faults["store clock set"] += 1
        self._world.lease.set_clock(self._rng.choice((-3600.0, -10.0, -1.0, 1.0, 5.0, 3600.0)))

    def _unplug(self, _: Replica) -> None:
        """The inbox, or Telegram, is away for everybody."""
        world, seconds = self._world, self._rng.choice((0.5, 3.0, 8.0))
        if self._rng.random() < 0.7:
            world.faults["inbox out of reach"] += 1
            world.postgres.go_away()
            world.loop.outside(seconds, setattr, world.postgres, "is_away", False)
        else:
            world.faults["Telegram down"] += 1
            world.telegram.is_down = True
            world.loop.outside(seconds, setattr, world.telegram, "is_down", False)

    def _heal(self, replica: Replica) -> None:
        if replica.process.is_dead:
            self._world.start(self._world.replicas.index(replica))
        else:
            replica.heal()

    def _seconds(self) -> float:
        return self._rng.choice(
            (self._rng.uniform(0.05, 2.0), self._rng.uniform(2.0, 9.0), self._rng.uniform(8.0, 14.0))
        )

    # Calm

    def _calm(self) -> None:
        world = self._world
        world.postgres.is_away = world.telegram.is_down = False
        for replica in list(world.replicas):
            self._heal(replica)

    async def _recover(self) -> None:
        """Within a bound one replica acts and nothing waits, neither at Telegram nor in the inbox."""
        world, began = self._world, self._world.loop.time()
        self._world.write(LANES[0])
        while not self._is_well():
            await asyncio.sleep(0.25)
            self._stop_when_found()
            if world.loop.time() - began > CALM_WITHIN_S:
                holders = [replica.name for replica in world.replicas if replica.may_act]
                world.violate(
                    f"{CALM_WITHIN_S:g} s after the last fault: {holders} may act, "
                    f"{world.postgres.backlog} in the inbox, {len(world.telegram.stored)} at Telegram"
                )
                self._stop_when_found()
        self.recovery_s = world.loop.time() - began

    def _is_well(self) -> bool:
        world = self._world
        for replica in list(world.replicas):
            if replica.process.is_dead:  # it was leaving when the calm began
                self._heal(replica)
        acting = [replica for replica in world.replicas if replica.may_act]
        return len(acting) == 1 and world.postgres.backlog == 0 and not world.telegram.stored

    async def _burst(self) -> None:
        """Nothing fails any more: then every update is handled by its own wake-up, and no sweep finds any."""
        world = self._world
        await asyncio.sleep(8.0)
        world.breaks.clear()
        self._stop_when_found()
        world.is_calm = True
        for _ in range(BURST):
            world.write(LANES[0])
            await asyncio.sleep(self._rng.uniform(0.0, 0.15))
        await asyncio.sleep(8.0)
        self._stop_when_found()
        if not self._is_well():
            world.violate("updates of a calm day still wait")
        if missing := world.counts["updates"] - len(world.postgres.ended):
            world.violate(f"{missing} updates have had no effect")

    def _stop_when_found(self) -> None:
        if self._world.violations or self._world.loop.complaints:
            raise _Found
