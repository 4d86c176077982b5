"""A seeded storm over three replicas: never two that may act at once, always one when it is over.

Every replica has a clock that runs a little wrong and may stand still (SIGSTOP); its way to the store is slow, loses
answers, delivers late or is cut; replicas are killed and come back. The last tests break the rules one by one, to show
that the storm would notice.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import pytest

from kiebot.clock import ManualClock
from kiebot.lease import candidate as candidate_module
from kiebot.lease.candidate import Candidate
from kiebot.lease.memory import MemoryLeaseStore
from kiebot.lease.protocol import Holder, Lease, StoreUnreachable
from kiebot.lease.term import Term, TermOver, Timing

NAME = "poller"
TIMING = Timing(look_s=0.5, probe_s=0.5)  # fewer looks, same rules: the storm is about trust
T = TypeVar("T")


class NodeClock:
    """The shared time as one replica feels it."""

    def __init__(self, shared: ManualClock, rng: random.Random) -> None:
        self._shared = shared
        self._rng = rng
        self._rate = rng.uniform(0.995, 1.005)
        self.now = shared.now
        self.thawed = asyncio.Event()
        self.thawed.set()

    def monotonic(self) -> float:
        return self._shared.monotonic() * self._rate

    async def sleep(self, seconds: float) -> None:
        await self._shared.sleep(seconds / self._rate)
        await self.thaw()

    async def thaw(self) -> None:
        """Stand still while frozen; what was waiting then goes on in no particular order."""
        if not self.thawed.is_set():
            await self.thawed.wait()
            for _ in range(self._rng.randrange(5)):
                await asyncio.sleep(0)


class Network:
    """One replica's way to the store. Its calls end in time, as the port promises; what they carry may arrive later."""

    def __init__(self, store: MemoryLeaseStore, clock: NodeClock, shared: ManualClock, rng: random.Random) -> None:
        self._store = store
        self._clock = clock
        self._shared = shared
        self._rng = rng
        self._late: set[asyncio.Task[object]] = set()
        self.slowness_s = 0.0
        self.loss = 0.0
        self.is_cut = False
        self.stamps_late = False

    async def acquire(self, name: str, replica: str, *, token: str, ttl_s: float) -> Lease | None:
        return await self._stamped(lambda: self._store.acquire(name, replica, token=token, ttl_s=ttl_s))

    async def renew(self, lease: Lease, *, ttl_s: float) -> Lease | None:
        return await self._stamped(lambda: self._store.renew(lease, ttl_s=ttl_s))

    async def release(self, lease: Lease) -> None:
        await self._call(lambda: self._store.release(lease))

    async def holder(self, name: str) -> Holder | None:
        return await self._call(lambda: self._store.holder(name))

    async def seize(self, name: str, replica: str, *, dead_token: str, token: str, ttl_s: float) -> Lease | None:
        seize = self._store.seize
        return await self._stamped(lambda: seize(name, replica, dead_token=dead_token, token=token, ttl_s=ttl_s))

    async def holder_is_connected(self, name: str, token: str) -> bool | None:
        return await self._call(lambda: self._store.holder_is_connected(name, token))

    async def wait_for_change(self, name: str, timeout_s: float) -> bool:
        if self.is_cut:
            await self._clock.sleep(TIMING.call_timeout_s)
            raise StoreUnreachable("cut")
        rung = await self._store.wait_for_change(name, timeout_s)
        await self._clock.thaw()
        return rung

    async def nudge(self, token: str) -> None:
        with suppress(StoreUnreachable):
            await self._call(lambda: self._store.nudge(token))

    async def wait_for_nudge(self, token: str) -> None:
        await self._store.wait_for_nudge(token)
        await self._clock.thaw()

    def is_calling(self) -> bool:
        return bool(self._late)

    async def close(self) -> None:
        """Nothing of its own."""

    async def _stamped(self, call: Callable[[], Awaitable[Lease | None]]) -> Lease | None:
        sent_at = self._clock.monotonic()
        lease = await self._call(call)
        if self.stamps_late:
            sent_at = self._clock.monotonic()
        return None if lease is None else replace(lease, sent_at=sent_at)

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        there_s, back_s = (self._rng.uniform(0, self.slowness_s) for _ in range(2))
        lost = self.is_cut or self._rng.random() < self.loss
        answer = None if self.is_cut else asyncio.create_task(self._deliver(call, there_s))
        if answer is not None:
            self._late.add(answer)
            answer.add_done_callback(self._late.discard)
        if answer is None or lost or there_s + back_s >= TIMING.call_timeout_s:
            await self._clock.sleep(TIMING.call_timeout_s)
            raise StoreUnreachable("no answer")
        if there_s + back_s:
            await self._shared.sleep(there_s + back_s)
        await self._clock.thaw()
        return await answer

    async def _deliver(self, call: Callable[[], Awaitable[T]], there_s: float) -> T:
        if there_s:
            await self._shared.sleep(there_s)
        return await call()


class Node:
    """One replica, from start to kill."""

    def __init__(self, storm: Storm, number: int) -> None:
        self.storm = storm
        self.clock = NodeClock(storm.clock, storm.rng)
        self.network = Network(storm.store, self.clock, storm.clock, storm.rng)
        self.network.stamps_late = storm.stamps_late
        self.candidate = Candidate(
            self.network,
            name=NAME,
            replica=f"r{number}",
            clock=self.clock,
            timing=TIMING,
            work=self.work,
            rng=random.Random(storm.rng.random()),
        )
        self.is_dead = False
        self.task = asyncio.create_task(self.candidate.run())

    async def work(self, term: Term) -> None:
        """Acts every 0.3 s, each time only after a check, as the poller does."""
        while True:
            term.check()
            self.storm.acted(self)
            await self.clock.sleep(0.3)

    def kill(self) -> None:
        self.is_dead = self.network.is_cut = True
        if self.candidate.term is not None:
            self.storm.store.disconnect(self.candidate.term.token)
        self.clock.thawed.set()
        self.task.cancel()


class Storm:
    def __init__(self, seed: int, *, stamps_late: bool = False) -> None:
        self.rng = random.Random(seed)
        self.stamps_late = stamps_late
        self.clock = ManualClock()
        self.store = MemoryLeaseStore(self.clock, tells_connections=self.rng.random() < 0.5)
        self.tasks: list[asyncio.Task[None]] = []
        self.violations: list[str] = []
        self.acts = 0
        self.nodes = [self.start(number) for number in range(3)]

    def start(self, number: int) -> Node:
        node = Node(self, number)
        self.tasks.append(node.task)
        return node

    def acted(self, node: Node) -> None:
        self.acts += 1
        others = [other for other in self.nodes if other is not node and other.candidate.is_holder]
        if not node.is_dead and others:
            self.violations.append(f"two may act at {self.clock.monotonic():.2f}")

    async def strike(self) -> None:
        holders = [node for node in self.nodes if node.candidate.is_holder]
        node = self.rng.choice(holders if holders and self.rng.random() < 0.5 else self.nodes)
        match self.rng.randrange(8):
            case 0 if not node.is_dead:
                node.kill()
            case 1 | 2 if not node.is_dead:
                node.clock.thawed.clear()
            case 3:
                node.network.is_cut = node.is_dead or not self.store._tells_connections
            case 4:
                node.network.slowness_s = self.rng.choice([0.3, 0.7, 1.0, 2.0])
            case 5:
                node.network.loss = self.rng.choice([0.2, 0.6])
            case 6 if not node.is_dead:
                await self.freeze_in_the_middle_of_a_call(node)
            case _:
                self.heal(node)
        await self.clock.advance(self.rng.uniform(0, 3))

    async def freeze_in_the_middle_of_a_call(self, node: Node) -> None:
        """What a stopped process looks like: the question left before, the answer is read long after."""
        node.network.slowness_s = 0.7
        for _ in range(30):
            if node.network.is_calling():
                break
            await self.clock.advance(0.1)
        node.clock.thawed.clear()
        await self.clock.advance(self.rng.uniform(0, 15))
        node.clock.thawed.set()

    def heal(self, node: Node) -> None:
        if node.is_dead:
            self.nodes[self.nodes.index(node)] = self.start(self.nodes.index(node))
            return
        node.clock.thawed.set()
        node.network.is_cut, node.network.slowness_s, node.network.loss = False, 0.0, 0.0

    async def run(self, strikes: int) -> None:
        for _ in range(strikes):
            await self.strike()
            holders = [node for node in self.nodes if not node.is_dead and node.candidate.is_holder]
            if len(holders) > 1:
                self.violations.append(f"{len(holders)} holders at {self.clock.monotonic():.2f}")

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        for node in self.nodes:
            node.clock.thawed.set()
        await self.clock.advance(6)
        await asyncio.wait(self.tasks)


@pytest.mark.parametrize("seed", range(15))
async def test_two_replicas_never_act_at_once_and_one_does_when_the_storm_is_over(seed: int) -> None:
    storm = Storm(seed)
    await storm.run(strikes=40)
    assert storm.violations == []
    assert storm.acts > 0
    for node in list(storm.nodes):
        storm.heal(node)
    await storm.clock.advance(25)
    assert [node.candidate.is_holder for node in storm.nodes].count(True) == 1
    before = storm.acts
    await storm.clock.advance(2)
    assert storm.acts > before
    assert storm.violations == []
    await storm.end()


class EndlessTerm(Term):
    """Trusts whatever was ever granted."""

    def remaining(self) -> float:
        return 0.0 if self._ended else 100.0

    def check(self) -> None:
        if self._ended:
            raise TermOver("ended")


async def _is_noticed(build: Callable[[int], Storm]) -> bool:
    for seed in range(40):
        storm = build(seed)
        await storm.run(strikes=40)
        await storm.end()
        if storm.violations:
            return True
    return False


async def test_the_storm_notices_trust_counted_from_the_answer() -> None:
    assert await _is_noticed(lambda seed: Storm(seed, stamps_late=True))


async def test_the_storm_notices_a_missing_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidate_module, "Term", EndlessTerm)
    assert await _is_noticed(Storm)
