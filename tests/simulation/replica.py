"""One replica of the simulation: the real candidate, poller, drainer, heartbeat and sweep, on lines that fail."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from kiebot.delivery.outbox import Draft, Row
from kiebot.errors import Transient
from kiebot.intake.drain import Malformed
from kiebot.intake.poller import PollTiming
from kiebot.lease.protocol import StoreUnreachable
from kiebot.lease.term import Term
from kiebot.storage.transaction import Database
from kiebot.store import Store, Tx
from kiebot.sweepers import Heartbeat, Sweeper
from kiebot.wakeups import Drain
from tests.simulation.database import MemoryDatabase, MemoryInbox, MemoryQueue
from tests.simulation.lease import NAME, LeaseLine
from tests.simulation.line import Ambush, Line, NodeClock, Reply
from tests.simulation.loop import Process
from tests.simulation.telegram import TelegramLine

if TYPE_CHECKING:
    from tests.simulation.world import World

POSTGRES_TIMEOUT_S = 5.0
QUEUE_TIMEOUT_S = 1.0
MOST_JOBS = 4
LEAVE_S = 4.0


class Bot:
    """The handler and the sender: an effect per update, now and then slow, broken for a while, or no update at all."""

    def __init__(self, clock: NodeClock, rng: random.Random, breaks: dict[int, int]) -> None:
        self._clock = clock
        self._rng = rng
        self._breaks = breaks  # update id -> how often it fails yet

    async def handle(self, tx: Tx, payload: bytes) -> list[Draft]:
        update_id = int(payload)
        await self._clock.sleep(self._rng.choice((0.0, 0.01, 0.05, 0.3)))
        if update_id % 29 == 0:
            raise Malformed("made up")
        if self._breaks.get(update_id, 0) > 0:
            self._breaks[update_id] -= 1
            raise RuntimeError("made up")
        return [Draft(1, "say", {})]

    def press_of(self, payload: bytes) -> str | None:
        return None

    async def apologise(self, tx: Tx, payload: bytes, error_id: str) -> list[Draft]:
        return [Draft(1, "say", {})]

    async def too_fast(self, tx: Tx, payload: bytes) -> list[Draft]:
        return []

    def answer_press(self, callback_query_id: str) -> None:
        return

    async def send_claimed(self, rows: list[Row] | Any) -> None:
        await self._clock.sleep(0.02)


class Replica:
    """From start to death. A restart is a new one under the same number."""

    def __init__(self, world: World, number: int) -> None:
        rng = self._rng = random.Random(world.rng.random())
        self._world = world
        self.name = f"r{number}"
        self.process = Process(world.loop, rng)
        self.clock = NodeClock(world.loop, rng)
        self._incarnation = UUID(int=rng.getrandbits(128))
        self.lines = {
            "lease": self._line("lease", world.timing.call_timeout_s, StoreUnreachable),
            "telegram": self._line("telegram", 0.0, Transient),
            "postgres": self._line("postgres", POSTGRES_TIMEOUT_S, Transient, repeats=False),
            "queue": self._line("queue", QUEUE_TIMEOUT_S, Transient),
        }
        self._lease = LeaseLine(
            world.lease, self.lines["lease"], self.clock, stamps_late=world.mutant.counts_trust_from_the_answer
        )
        self._lease.on_answer = world.look
        self._queue = MemoryQueue(world.jobs, self.lines["queue"])
        self._database = MemoryDatabase(world.loop, world.postgres, self._queue, self.lines["postgres"], rng)
        self._bot = Bot(self.clock, rng, world.breaks)
        self.candidate = world.mutant.candidate(
            self._lease,
            name=NAME,
            replica=self.name,
            clock=self.clock,
            timing=world.timing,
            work=self._lead,
            rng=rng,
        )
        # A drain, a heartbeat and a sweep use the parts of a transaction that the double has.
        store, database = cast(Store, self._database), cast(Database, self._database)
        self._drainer = world.mutant.drainer(store, self._bot, self._bot, self._incarnation, self.clock)
        self._heartbeat = Heartbeat(
            database, self.clock, self._incarnation, self.name, dict, on_silence=self._postgres_is_silent
        )
        self._sweeper = Sweeper(database, self.clock, on_backlog=lambda _: None, on_books=lambda _: None)
        self._jobs: set[asyncio.Task[None]] = set()
        self._pulls: set[Reply] = set()
        self._is_leaving = False
        self._parts: list[asyncio.Task[None]] = []
        self._bidding: asyncio.Task[None] | None = None
        self.process.spawn(self._start())

    @property
    def may_act(self) -> bool:
        return not self.process.is_stopped and self.candidate.is_holder

    def _postgres_is_silent(self, seconds: float) -> None:
        if min(seconds, self.candidate.describe().held_s) > PollTiming().unreachable_s:
            self.candidate.yield_lease("postgres does not answer")

    def pause(self, seconds: float) -> None:
        self._world.paused(self)
        self.process.stop(seconds, then=self._look_soon)

    def kill(self) -> None:
        """kill -9: no step of it is ever run again, and the kernel closes its connections."""
        self.process.kill()
        self._close()
        if self.candidate.term is not None:
            self._world.lease.store.disconnect(self.candidate.term.token)
        self._lease.hang_up()
        self._database.hang_up()
        self._world.jobs.hang_up(self._pulls)

    def leave(self) -> None:
        """SIGTERM: hand over, let running jobs end, go."""
        self._is_leaving = True
        self.process.spawn(self._leave())

    def heal(self) -> None:
        for line in self.lines.values():
            line.weather = type(line.weather)()
            line.ambush = None
        self.process.go(self._look_soon)

    def clear_away(self) -> None:
        self._close()
        self._lease.hang_up()
        self.process.revive()

    # Its parts

    async def _start(self) -> None:
        self._parts = [self._part(self._heartbeat.run()), self._part(self._work()), self._part(self._sweep())]
        self._bidding = self._part(self.candidate.run())

    def _part(self, run: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(run)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._world.violate(f"{self.name}: {error!r}")

    async def _lead(self, term: Term) -> None:
        self._world.look()
        poller = self._world.mutant.poller(
            TelegramLine(self._world.telegram, self.lines["telegram"]),
            MemoryInbox(self._world.postgres, self.lines["postgres"]),
            self._queue,
            clock=self.clock,
            timing=PollTiming(long_poll_s=self._world.long_poll_s),
            rng=self._rng,
        )
        try:
            await poller.run(term)
        finally:
            self._world.counts["conflicts"] += poller.stats.conflicts

    async def _work(self) -> None:
        """The worker: a few drains at once."""
        while not self._is_leaving:
            if len(self._jobs) >= MOST_JOBS:
                await asyncio.wait(self._jobs, return_when=asyncio.FIRST_COMPLETED)
                continue
            try:
                drain = await self.lines["queue"].call(self._pull, timeout_s=4.0)
            except Transient:
                await self.clock.sleep(0.5)
                continue
            if drain is not None:
                job = self._part(self._run(drain))
                self._jobs.add(job)
                job.add_done_callback(self._jobs.discard)

    def _pull(self, reply: Reply) -> None:
        self._pulls = {reply}
        self._world.jobs.take(reply)

    async def _run(self, drain: Drain) -> None:
        try:
            await self._drainer.drain(drain.lane)
        except Transient:
            return  # the job comes again by itself
        self.lines["queue"].tell(lambda _: self._world.jobs.end(drain))

    async def _sweep(self) -> None:
        while True:
            await self.clock.sleep(self._rng.uniform(0.7, 1.3))
            with suppress(Transient):
                self._world.swept(await self._sweeper.sweep())

    async def _leave(self) -> None:
        while self._bidding is None:
            await self.clock.sleep(0.01)
        self._bidding.cancel()
        await asyncio.wait({self._bidding})
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=LEAVE_S)
        for task in [*self._parts, *self._jobs]:
            task.cancel()
        await asyncio.wait([*self._parts, *self._jobs])
        await self._heartbeat.leave()
        self.kill()

    # Its surroundings

    def _look_soon(self) -> None:
        """The very moment it goes on, before it has run a step; and again after its first ones."""
        self._world.look()
        self._world.loop.outside(0.0, self._world.look)

    def _line(self, name: str, timeout_s: float, error: type[Exception], *, repeats: bool = True) -> Line:
        world = self._world
        line = Line(
            name, world.loop, self.process, self._rng, world.faults, timeout_s=timeout_s, error=error, repeats=repeats
        )
        line.on_ambush = self._stopped_by
        return line

    def _stopped_by(self, ambush: Ambush) -> None:
        self._world.faults["pauses before sending" if ambush.is_before_sending else "pauses before the answer"] += 1
        self.pause(ambush.seconds)

    def _close(self) -> None:
        for line in self.lines.values():
            line.is_closed = True
