"""Lanes on a real Postgres: order, exactly one effect, burial, takeover. The handler and the sender keep state."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.clock import SystemClock
from kiebot.delivery.outbox import Draft, Row
from kiebot.errors import Transient
from kiebot.intake.drain import MAX_TRIES, Drainer, Malformed, Measurer
from kiebot.intake.gate import Gate
from kiebot.intake.ports import RawUpdate
from kiebot.storage.inbox import PostgresInbox
from kiebot.storage.transaction import Database
from kiebot.store import Tx
from kiebot.wakeups import Deliver, Drain, Wakeup

LANE = "42/c1"


class LocalQueue:
    """Runs nothing: the test decides when a job runs."""

    def __init__(self) -> None:
        self.wakeups: list[Wakeup] = []

    async def enqueue(self, wakeups: Sequence[Wakeup]) -> None:
        self.wakeups.extend(wakeups)

    def drains(self) -> list[Drain]:
        return [wakeup for wakeup in self.wakeups if isinstance(wakeup, Drain)]


class Scribe:
    """A bot whose only effect is a line in the outbox; updates may be told to be slow, broken or no updates."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.breaks: dict[int, Exception] = {}
        self.slow: dict[int, asyncio.Event] = {}
        self.inside = 0
        self.most_inside = 0

    async def handle(self, tx: Tx, payload: bytes) -> list[Draft]:
        number = json.loads(payload)["update_id"]
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            self.seen.append(number)
            if number in self.slow:
                await self.slow[number].wait()
            if number in self.breaks:
                raise self.breaks[number]
            return [Draft(1, "say", {"text": str(number)})]
        finally:
            self.inside -= 1

    def press_of(self, payload: bytes) -> str | None:
        return None

    async def apologise(self, tx: Tx, payload: bytes, error_id: str) -> list[Draft]:
        return [Draft(1, "say", {"text": f"sorry {error_id}"})]

    async def too_fast(self, tx: Tx, payload: bytes) -> list[Draft]:
        return [Draft(1, "say", {"text": "too fast"})]


class Post:
    """Sends at once, in order."""

    def __init__(self, database: Database, owner: UUID) -> None:
        self._database, self._owner = database, owner
        self.sent: list[str] = []
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    def answer_press(self, callback_query_id: str) -> None:
        return

    async def send_claimed(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if self.meanwhile is not None:
                await self.meanwhile()
            self.sent.append(str(row.payload["text"]))
            async with self._database.transaction() as tx:
                await tx.outbox.sent(row.id, self._owner, 1)


class Rig:
    def __init__(self, engine: AsyncEngine) -> None:
        self.queue = LocalQueue()
        self.database = Database(engine, self.queue)
        self.inbox = PostgresInbox(engine, 42)
        self.scribe = Scribe()
        self.posts: list[Post] = []

    async def drainer(self, gate: Gate | None = None, measurer: Measurer | None = None) -> Drainer:
        owner = uuid4()
        async with self.database.transaction() as tx:
            await tx.replicas.beat(owner, "r", {})
        self.posts.append(Post(self.database, owner))
        return Drainer(self.database, self.scribe, self.posts[-1], owner, SystemClock(), gate, measurer)

    async def receive(self, *numbers: int, urgent: bool = False) -> None:
        updates = [RawUpdate(n, "c1", json.dumps({"update_id": n}).encode(), urgent) for n in numbers]
        await self.inbox.record(updates, token="t")

    @property
    def sent(self) -> list[str]:
        return [line for post in self.posts for line in post.sent]


@pytest.fixture
async def rig(engine: AsyncEngine) -> Rig:
    made = Rig(engine)
    await made.inbox.take_fence("t", "r")
    return made


async def test_an_update_is_completed_before_its_transaction_is_open_and_handled_so(rig: Rig) -> None:
    open_meanwhile: list[int] = []

    class Completes:
        async def complete(self, payload: bytes) -> bytes:
            async with rig.database.engine.connect() as connection:
                query = (
                    "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%' AND datname = current_database()"
                )
                open_meanwhile.append(await connection.scalar(text(query)) or 0)
            return json.dumps({"update_id": json.loads(payload)["update_id"] + 100}).encode()

    await rig.receive(1, 2)
    await (await rig.drainer(measurer=Completes())).drain(LANE)
    assert rig.sent == ["101", "102"]
    assert open_meanwhile == [0, 0]


async def test_updates_of_a_lane_are_handled_in_order_and_answered_in_order(rig: Rig) -> None:
    await rig.receive(*range(1, 8))
    await (await rig.drainer()).drain(LANE)
    assert rig.sent == [str(n) for n in range(1, 8)]


async def test_a_long_lane_yields_after_ten_and_queues_itself_again(rig: Rig) -> None:
    await rig.receive(*range(1, 26))
    drainer = await rig.drainer()
    for _ in range(3):
        await drainer.drain(LANE)
    assert rig.scribe.seen == list(range(1, 26))
    assert len(rig.queue.drains()) == 2  # after the third nothing is left


async def test_four_drains_at_once_handle_each_update_once_and_one_at_a_time(rig: Rig) -> None:
    drainers = [await rig.drainer() for _ in range(4)]
    await rig.receive(*range(1, 11))
    await asyncio.gather(*(drainer.drain(LANE) for drainer in drainers))
    assert rig.scribe.seen == list(range(1, 11))
    assert rig.scribe.most_inside == 1


async def test_what_arrives_while_the_lane_is_held_is_not_forgotten(rig: Rig) -> None:
    rig.scribe.slow[1] = asyncio.Event()
    first, second = await rig.drainer(), await rig.drainer()
    await rig.receive(1)
    holding = asyncio.create_task(first.drain(LANE))
    while not rig.scribe.seen:
        await asyncio.sleep(0.005)
    await rig.receive(2)
    await second.drain(LANE)  # finds the lane held, does nothing
    rig.scribe.slow[1].set()
    await holding
    (again,) = rig.queue.drains()
    await second.drain(again.lane)
    assert rig.scribe.seen == [1, 2]


async def test_a_poison_update_is_buried_after_its_tries_and_the_lane_goes_on(rig: Rig, engine: AsyncEngine) -> None:
    rig.scribe.breaks[1] = ValueError("boom")
    await rig.receive(1, 2)
    drainer = await rig.drainer()
    for _ in range(MAX_TRIES):
        await drainer.drain(LANE)
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE inbox SET next_at = now() WHERE done_at IS NULL"))
    await drainer.drain(LANE)
    assert rig.scribe.seen == [1] * MAX_TRIES + [2]
    assert rig.sent == ["sorry U1", "2"]
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT reason FROM dead_letters")) == "ValueError: boom"


async def test_a_malformed_update_is_buried_at_once_without_a_word(rig: Rig) -> None:
    rig.scribe.breaks[1] = Malformed("no chat")
    await rig.receive(1, 2)
    await (await rig.drainer()).drain(LANE)
    assert rig.sent == ["2"]


async def test_the_effects_of_a_handler_that_fails_are_undone_with_it(rig: Rig, engine: AsyncEngine) -> None:
    rig.scribe.breaks[1] = ValueError("boom")
    await rig.receive(1)
    await (await rig.drainer()).drain(LANE)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM outbox")) == 0


async def test_an_outage_counts_as_no_try(rig: Rig, engine: AsyncEngine) -> None:
    rig.scribe.breaks[1] = Transient("postgres is away")
    await rig.receive(1)
    with pytest.raises(Transient):
        await (await rig.drainer()).drain(LANE)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT attempts FROM inbox")) == 0
    del rig.scribe.breaks[1]
    await (await rig.drainer()).drain(LANE)
    assert rig.sent == ["1"]


async def test_a_dead_replicas_lane_is_taken_over_and_its_late_commit_is_refused(rig: Rig) -> None:
    rig.scribe.slow[1] = asyncio.Event()
    stale, heir = await rig.drainer(), await rig.drainer()
    await rig.receive(1)
    paused = asyncio.create_task(stale.drain(LANE))
    while not rig.scribe.seen:
        await asyncio.sleep(0.005)
    async with rig.database.transaction() as tx:
        await tx.replicas.leave(stale._owner)
    taken = asyncio.create_task(heir.drain(LANE))
    await asyncio.sleep(0.05)  # it waits for the row that the paused one has locked
    rig.scribe.slow[1].set()
    await asyncio.gather(paused, taken)
    assert rig.sent == ["1"]


async def test_a_stop_press_overtakes_what_waits_in_its_lane(rig: Rig) -> None:
    await rig.receive(1, 2)
    await rig.receive(3, urgent=True)
    await (await rig.drainer()).drain(LANE)
    assert rig.scribe.seen[0] == 3


async def test_what_is_decided_for_the_chat_while_a_drain_sends_is_woken_when_it_has_sent(rig: Rig) -> None:
    drainer = await rig.drainer()

    async def somebody_else_decides() -> None:
        async with rig.database.transaction() as tx:
            mine, _ = await tx.outbox.add_all([Draft(1, "say", {"text": "from elsewhere"})], uuid4())
            assert mine == []  # its own wake-up finds the chat's head in the drain's hands

    rig.posts[0].meanwhile = somebody_else_decides
    await rig.receive(1)
    await drainer.drain(LANE)
    assert any(isinstance(wakeup, Deliver) and wakeup.chat_id == 1 for wakeup in rig.queue.wakeups)


class LosesAnswers:
    """A store one of whose next commits happens, and nobody hears of it."""

    def __init__(self, database: Database, *, after: int = 0) -> None:
        self._database = database
        self._before_the_loss = after

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        async with self._database.transaction() as tx:
            yield tx
        self._lose()

    @asynccontextmanager
    async def single(self) -> AsyncIterator[Tx]:
        async with self._database.single() as tx:
            yield tx
        self._lose()

    def _lose(self) -> None:
        self._before_the_loss -= 1
        if self._before_the_loss == -1:
            raise Transient("the answer was lost")


async def test_a_claim_whose_answer_was_lost_is_asked_for_again(rig: Rig) -> None:
    await rig.receive(1, 2)
    post = Post(rig.database, owner := uuid4())
    async with rig.database.transaction() as tx:
        await tx.replicas.beat(owner, "r", {})
    await Drainer(LosesAnswers(rig.database), rig.scribe, post, owner, SystemClock()).drain(LANE)
    assert post.sent == ["1", "2"]


async def test_an_answer_whose_commit_was_not_answered_does_not_silence_the_chat(rig: Rig) -> None:
    await rig.receive(1)
    post = Post(rig.database, owner := uuid4())
    async with rig.database.transaction() as tx:
        await tx.replicas.beat(owner, "r", {})
    store = LosesAnswers(rig.database, after=1)
    with pytest.raises(Transient):
        await Drainer(store, rig.scribe, post, owner, SystemClock()).drain(LANE)
    assert any(isinstance(wakeup, Deliver) for wakeup in rig.queue.wakeups)
    async with rig.database.transaction() as tx:
        row = await tx.outbox.claim_head(1, uuid4())
    assert row is not None, "claimed by a living replica that knows nothing of it"
    assert (row.payload["text"], row.attempts) == ("1", 1)


async def test_a_second_job_beside_a_drain_under_way_does_not_take_its_lane(rig: Rig) -> None:
    await rig.receive(1, 2)
    rig.scribe.slow[1] = asyncio.Event()
    drainer = await rig.drainer()
    first = asyncio.create_task(drainer.drain(LANE))
    while not rig.scribe.inside:
        await asyncio.sleep(0.01)
    await drainer.drain(LANE)
    rig.scribe.slow[1].set()
    await first
    assert rig.sent == ["1", "2"]
    assert rig.scribe.most_inside == 1


async def test_a_lane_claimed_by_a_job_that_was_taken_away_meanwhile_is_free_for_another_replica(
    rig: Rig, engine: AsyncEngine
) -> None:
    await rig.receive(1)
    first, second = await rig.drainer(), await rig.drainer()
    async with engine.begin() as connection:
        await connection.execute(text("SELECT FROM lanes WHERE key = :lane FOR UPDATE"), {"lane": LANE})
        drain = asyncio.create_task(first.drain(LANE))
        await _until_somebody_waits_for_a_row(engine)
        drain.cancel()
        await asyncio.sleep(0.05)  # the cancellation is in the drain's hands, the claim still on its way
    with pytest.raises(asyncio.CancelledError):
        await drain
    await second.drain(LANE)
    assert rig.posts[1].sent == ["1"]


async def _until_somebody_waits_for_a_row(engine: AsyncEngine) -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    async with asyncio.timeout(5):
        while True:
            async with engine.connect() as connection:
                if await connection.scalar(waiting):
                    return
            await asyncio.sleep(0.01)
