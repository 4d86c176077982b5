"""The poll loop against a Telegram and an inbox that keep state: nothing lost, nothing confirmed before it is kept."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from structlog.testing import capture_logs

from kiebot.clock import ManualClock
from kiebot.errors import Fenced, Permanent, RateLimited, Transient
from kiebot.intake.checkout import CheckoutDesk, is_pre_checkout
from kiebot.intake.poller import Poller, PollerStats, PollTiming
from kiebot.intake.ports import Conflict, FenceRow, RawUpdate
from kiebot.lease.protocol import Lease, StoreUnreachable
from kiebot.lease.term import StepDown, Term, TermOver, Timing, TrustClocks
from kiebot.wakeups import Drain


class Telegram:
    """Keeps updates until an offset confirms them; parks a poll that finds none; the newest poll ends the older."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.stored: dict[int, RawUpdate] = {}
        self.next_id = 1000
        self.polls: list[tuple[float, int, int]] = []  # when, offset, timeout
        self.errors: list[Exception] = []
        self.permanent_error: Exception | None = None
        self.is_silent = False
        self._parked: asyncio.Future[None] | None = None

    def sends(self, *, payload: dict[str, object] | None = None, lane: str = "c1") -> int:
        update_id, self.next_id = self.next_id, self.next_id + 1
        body = json.dumps({"update_id": update_id, **(payload or {"message": {"text": "hi"}})}).encode()
        self.stored[update_id] = RawUpdate(update_id, lane, body)
        if self._parked is not None and not self._parked.done():
            self._parked.set_result(None)
        return update_id

    async def fetch(self, offset: int, *, timeout_s: int, limit: int = 100) -> list[RawUpdate]:
        self.polls.append((self.clock.monotonic(), offset, timeout_s))
        if self.is_silent:
            await self.clock.sleep(timeout_s + 5)
            raise Transient("no answer")
        if self.permanent_error is not None:
            raise self.permanent_error
        if self.errors:
            raise self.errors.pop(0)
        for update_id in [known for known in self.stored if known < offset]:
            del self.stored[update_id]
        if not self.stored:
            await self._park(timeout_s)
        return [self.stored[key] for key in sorted(self.stored) if key >= offset][:limit]

    async def _park(self, timeout_s: float) -> None:
        if self._parked is not None and not self._parked.done():
            self._parked.set_exception(Conflict("terminated by other getUpdates request"))
        parked = self._parked = asyncio.get_running_loop().create_future()
        timer = asyncio.create_task(self.clock.sleep(timeout_s))
        try:
            await asyncio.wait({parked, timer}, return_when=asyncio.FIRST_COMPLETED)
            if parked.done():
                parked.result()
        finally:
            timer.cancel()


class Postgres:
    """An inbox and a fence in memory."""

    def __init__(self, telegram: Telegram) -> None:
        self.telegram = telegram
        self.epoch = 0
        self.token = ""
        self.rows: dict[int, RawUpdate] = {}
        self.writes = 0
        self.is_away = False
        self.is_frozen = False
        self.on_write: Callable[[], None] = lambda: None

    async def take_fence(self, token: str, replica: str) -> FenceRow:
        if self.is_frozen:
            await asyncio.Event().wait()
        if self.is_away:
            raise Transient("no connection")
        self.epoch, self.token = self.epoch + 1, token
        return FenceRow(self.epoch, token, replica)

    async def record(self, updates: Sequence[RawUpdate], *, token: str | None) -> list[Drain]:
        if self.is_frozen:
            await asyncio.Event().wait()
        if self.is_away:
            raise Transient("no connection")
        self.on_write()
        if token != self.token:
            raise Fenced("another term")
        self.writes += 1
        assert all(update.update_id in self.telegram.stored for update in updates), "confirmed before it was stored"
        fresh = [update for update in updates if update.update_id not in self.rows]
        self.rows.update({update.update_id: update for update in fresh})
        return [Drain(lane, self.writes) for lane in sorted({update.lane for update in fresh})]


class Queue:
    def __init__(self) -> None:
        self.queued: list[Drain] = []
        self.is_away = False
        self.is_hung = False

    async def drains(self, drains: Sequence[Drain]) -> None:
        if self.is_hung:
            await asyncio.Event().wait()
        if self.is_away:
            raise OSError("redis is away")
        self.queued.extend(drains)


class Desk:
    """Answers purchases, when let."""

    def __init__(self) -> None:
        self.answered: list[int] = []
        self.let = asyncio.Event()
        self.fails = False

    async def answer(self, update: RawUpdate) -> None:
        await self.let.wait()
        if self.fails:
            raise Transient("telegram")
        self.answered.append(update.update_id)


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.telegram = Telegram(self.clock)
        self.postgres = Postgres(self.telegram)
        self.queue = Queue()
        self.desk = Desk()
        self.prepared = 0
        self.confirm_answers: list[bool | Exception] = []
        self.confirms = 0
        self.poller = self.new_poller()
        self.runs: list[asyncio.Task[None]] = []

    def new_poller(self, stats: PollerStats | None = None) -> Poller:
        return Poller(
            self.telegram,
            self.postgres,
            self.queue,
            CheckoutDesk(self.desk),
            clock=self.clock,
            timing=PollTiming(wakeup_s=0.01),
            prepare=self.prepare,
            stats=stats,
        )

    async def prepare(self) -> None:
        self.prepared += 1

    def term(self, token: str = "t1") -> Term:
        clocks = TrustClocks(self.clock)
        long_lived = Timing(ttl_s=100_000.0)
        return Term(Lease("poller", "one", token, self.clock.monotonic()), long_lived, clocks, clocks.read(), self.ask)

    async def ask(self, _: Term) -> bool:
        self.confirms += 1
        answer = self.confirm_answers.pop(0) if self.confirm_answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer

    def run(self, term: Term | None = None, poller: Poller | None = None) -> asyncio.Task[None]:
        task = asyncio.create_task((poller or self.poller).run(term or self.term()))
        self.runs.append(task)
        return task

    async def passes(self, seconds: float = 0.01) -> None:
        await self.clock.advance(seconds)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    world.desk.let.set()
    for task in world.runs:
        task.cancel()
    await asyncio.gather(*world.runs, return_exceptions=True)
    await world.poller.settle()


async def _raised(task: asyncio.Task[None]) -> BaseException | None:
    assert task.done()
    return task.exception()


async def test_updates_are_recorded_queued_and_only_then_confirmed(world: World) -> None:
    first, second = world.telegram.sends(lane="c1"), world.telegram.sends(lane="c2")
    world.run()
    await world.passes()
    assert list(world.postgres.rows) == [first, second]
    assert [drain.lane for drain in world.queue.queued] == ["c1", "c2"]
    assert [offset for _, offset, _ in world.telegram.polls] == [0, second + 1]
    third = world.telegram.sends()
    await world.passes()
    assert third in world.postgres.rows
    stats = world.poller.stats
    assert (stats.polls, stats.updates, stats.recorded) == (2, 3, 3)
    answered_at = world.poller.last_completed_poll_at
    assert answered_at is not None and (world.clock.now() - answered_at).total_seconds() < 0.02


async def test_the_fence_is_taken_before_the_first_poll(world: World) -> None:
    world.postgres.is_away = True
    world.run()
    await world.passes(2)
    assert world.telegram.polls == []
    world.postgres.is_away = False
    await world.passes(3)
    assert world.postgres.token == "t1"
    assert len(world.telegram.polls) == 1
    assert world.prepared == 1


async def test_a_term_that_ran_out_while_the_fence_was_taken_never_polls(world: World) -> None:
    term = world.term()
    take = world.postgres.take_fence

    async def slow(token: str, replica: str) -> FenceRow:
        row = await take(token, replica)
        term.end()
        return row

    world.postgres.take_fence = slow  # type: ignore[method-assign]  # the same act, only slower
    task = world.run(term)
    await world.passes()
    assert isinstance(await _raised(task), TermOver)
    assert world.telegram.polls == []


async def test_an_answer_that_comes_after_the_term_is_not_recorded(world: World) -> None:
    term = world.term()
    task = world.run(term)
    await world.passes(1)
    term.end()
    update_id = world.telegram.sends()
    await world.passes()
    assert isinstance(await _raised(task), TermOver)
    assert world.postgres.rows == {}
    assert update_id in world.telegram.stored


async def test_a_fenced_write_stops_the_poller_and_loses_nothing(world: World) -> None:
    task = world.run()
    await world.passes(1)
    await world.postgres.take_fence("t2", "two")
    update_id = world.telegram.sends()
    await world.passes()
    assert isinstance(await _raised(task), Fenced)
    assert world.poller.stats.fenced_writes == 1
    assert world.postgres.rows == {} and update_id in world.telegram.stored
    world.run(world.term("t3"))  # started anew: takes the fence again, from offset 0
    await world.passes(1)
    assert update_id in world.postgres.rows
    assert world.postgres.epoch == 3


async def test_postgres_away_for_a_moment_repeats_the_batch_without_a_new_poll(world: World) -> None:
    world.run()
    await world.passes(1)
    world.postgres.is_away = True
    update_id = world.telegram.sends()
    await world.passes(2)
    polls = len(world.telegram.polls)
    assert update_id in world.telegram.stored
    world.postgres.is_away = False
    await world.passes(2)
    assert update_id in world.postgres.rows
    assert len(world.telegram.polls) == polls + 1


@pytest.mark.parametrize("away_s", [1.1, 2.1, 3.1])
async def test_writing_goes_on_within_half_a_second_of_the_return_of_postgres(world: World, away_s: float) -> None:
    world.run()
    await world.passes(1)
    world.postgres.is_away = True
    update_id = world.telegram.sends()
    await world.passes(away_s)
    world.postgres.is_away = False
    await world.passes(0.55)
    assert update_id in world.postgres.rows


@pytest.mark.parametrize("which", ["postgres", "telegram"])
async def test_whoever_cannot_reach_a_side_for_five_seconds_steps_down(world: World, which: str) -> None:
    task = world.run()
    await world.passes(1)
    if which == "postgres":
        world.postgres.is_away = True
    else:
        world.telegram.permanent_error = Transient("bad gateway")
    world.telegram.sends()
    await world.passes(0.01)
    await world.passes(4.5 if which == "postgres" else 0)
    assert not task.done()
    await world.passes(6)
    error = await _raised(task)
    assert isinstance(error, StepDown) and which in str(error)


@pytest.mark.parametrize("when", ["before its first poll", "with updates in hand"])
async def test_a_postgres_that_is_silent_for_five_seconds_is_out_of_reach(world: World, when: str) -> None:
    world.postgres.is_frozen = when == "before its first poll"
    task = world.run()
    await world.passes(1)
    world.postgres.is_frozen = True
    world.telegram.sends()
    await world.passes(3.9)
    assert not task.done()
    await world.passes(2)
    error = await _raised(task)
    assert isinstance(error, StepDown) and "postgres" in str(error)


async def test_whoever_is_deaf_to_telegram_steps_down_well_within_a_minute(world: World) -> None:
    """Packets are dropped, so that every poll takes its whole time to fail: only the first may be a long one."""
    world.telegram.is_silent = True
    task = world.run()
    await world.passes(31)
    assert not task.done()
    await world.passes(14)
    assert task.done()
    assert isinstance(await _raised(task), StepDown)


async def test_a_short_outage_of_telegram_is_waited_out_with_growing_pauses(world: World) -> None:
    world.telegram.errors = [Transient("502")] * 4
    world.run()
    await world.passes(4.9)
    times = [at for at, _, _ in world.telegram.polls]
    assert len(times) == 5
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) >= 0.5  # the same offset
    assert world.poller.stats.failures == 4


async def test_a_conflict_while_the_lease_is_ours_goes_on_after_a_pause(world: World) -> None:
    world.telegram.errors = [Conflict("terminated by other getUpdates request")]
    world.run()
    await world.passes(1)
    assert world.confirms == 1
    (first, _, _), (second, _, _) = world.telegram.polls
    assert 0.5 <= second - first <= 0.85
    assert world.poller.stats.conflicts == 1


async def test_a_conflict_while_the_lease_is_anothers_ends_the_polling(world: World) -> None:
    world.telegram.errors = [Conflict("terminated")]
    world.confirm_answers = [StoreUnreachable("no answer"), False]
    task = world.run()
    await world.passes(5)
    assert isinstance(await _raised(task), TermOver)
    assert world.confirms == 2
    assert len(world.telegram.polls) == 1
    assert world.poller.stats.conflicts == 0, "a hand-over explains it"


async def test_a_stranger_with_our_token_is_reported_once_a_minute(world: World) -> None:
    world.telegram.permanent_error = Conflict("terminated")
    with capture_logs() as logs:
        world.run()
        await world.passes(59)
        alarms = [line for line in logs if line["event"] == "poller.stranger"]
        assert len(alarms) == 1 and alarms[0]["log_level"] == "error"
        await world.passes(10)
        assert len([line for line in logs if line["event"] == "poller.stranger"]) == 2
    assert not world.runs[0].done()


async def test_conflicts_now_and_then_alarm_nobody(world: World) -> None:
    with capture_logs() as logs:
        world.run()
        for _ in range(6):
            world.telegram.errors = [Conflict("terminated")]
            await world.passes(30)
    assert world.poller.stats.conflicts == 6
    assert not [line for line in logs if line["event"] == "poller.stranger"]


async def test_an_active_webhook_is_removed_again(world: World) -> None:
    world.telegram.errors = [Conflict("can't use getUpdates method while webhook is active")]
    world.run()
    await world.passes(2)
    assert world.prepared == 2


async def test_asked_to_slow_down_it_waits_as_long_as_asked_and_keeps_the_lease(world: World) -> None:
    world.telegram.errors = [RateLimited("429", retry_after_s=30)]
    task = world.run()
    await world.passes(29)
    assert len(world.telegram.polls) == 1
    await world.passes(2)
    assert len(world.telegram.polls) == 2
    assert not task.done()


async def test_a_refused_token_is_reported_once_and_tried_slowly_until_it_works(world: World) -> None:
    world.telegram.permanent_error = Permanent("401")
    with capture_logs() as logs:
        task = world.run()
        await world.passes(600)
    assert len([line for line in logs if line["event"] == "poller.token_refused"]) == 1
    assert 15 <= len(world.telegram.polls) <= 23
    assert not task.done()
    world.telegram.permanent_error = None
    update_id = world.telegram.sends()
    await world.passes(40)
    assert update_id in world.postgres.rows


async def test_polls_keep_telegrams_rules(world: World) -> None:
    world.run()
    for _ in range(5):
        world.telegram.sends()
        await world.passes(0.05)
    await world.passes(200)
    for (earlier, offset, timeout_s), (later, next_offset, _) in itertools.pairwise(world.telegram.polls):
        assert 3 <= timeout_s <= 25
        assert next_offset != offset or later - earlier >= 0.5
        assert next_offset >= offset


async def test_a_stopped_poller_says_no_farewell(world: World) -> None:
    task = world.run()
    world.telegram.sends()
    await world.passes(1)
    polls = len(world.telegram.polls)
    task.cancel()
    await world.passes(5)
    assert len(world.telegram.polls) == polls


async def test_a_new_term_starts_from_what_telegram_still_holds(world: World) -> None:
    world.run()
    await world.passes(1)
    world.runs[0].cancel()
    await world.passes()
    world.telegram.next_id = 5  # after a quiet week the ids begin anywhere, also below
    update_id = world.telegram.sends()
    world.run(world.term("t2"))
    await world.passes(1)
    assert world.telegram.polls[-2][1] == 0
    assert update_id in world.postgres.rows


async def test_the_same_offset_is_not_asked_within_half_a_second_of_an_earlier_term(world: World) -> None:
    world.run()
    await world.passes(0.01)
    world.runs[0].cancel()
    await world.passes()
    world.run(world.term("t2"), world.new_poller(world.poller.stats))
    await world.passes(1)
    (first, offset, _), (second, again, _) = world.telegram.polls[:2]
    assert offset == again == 0
    assert second - first >= 0.5


async def test_a_queue_out_of_reach_holds_nothing_up(world: World) -> None:
    world.queue.is_away = True
    world.run()
    update_id = world.telegram.sends()
    await world.passes(1)
    assert update_id in world.postgres.rows
    assert world.telegram.polls[-1][1] == update_id + 1
    assert world.poller.stats.wakeup_failures == 1


async def test_a_queue_that_hangs_is_left_after_a_moment(world: World) -> None:
    world.queue.is_hung = True
    world.run()
    update_id = world.telegram.sends()
    await world.passes()
    await asyncio.sleep(0.05)  # the bound is on real time: the queue's own clock does not stand still
    await world.passes()
    assert world.telegram.polls[-1][1] == update_id + 1


PURCHASE: dict[str, object] = {"pre_checkout_query": {"id": "q"}}


async def test_a_purchase_is_answered_beside_the_loop_even_while_postgres_is_away(world: World) -> None:
    world.desk.let.set()
    world.run()
    await world.passes(1)
    world.postgres.is_away = True
    update_id = world.telegram.sends(payload=PURCHASE)
    await world.passes()
    assert world.desk.answered == [update_id]
    assert world.postgres.rows == {}


async def test_a_slow_answer_to_a_purchase_does_not_stop_the_polling_and_survives_the_term(world: World) -> None:
    task = world.run()
    purchase = world.telegram.sends(payload=PURCHASE)
    await world.passes(1)
    later = world.telegram.sends()
    await world.passes(1)
    assert {purchase, later} <= set(world.postgres.rows)
    task.cancel()
    await world.passes()
    world.desk.let.set()
    await world.poller.settle()
    assert world.desk.answered == [purchase]


async def test_a_purchase_fetched_twice_is_answered_once_while_the_first_answer_is_on_its_way(world: World) -> None:
    purchase = world.telegram.sends(payload=PURCHASE)
    world.run()
    await world.passes()
    world.runs[0].cancel()
    world.telegram.stored[purchase] = world.postgres.rows[purchase]
    world.run(world.term("t2"))
    await world.passes()
    world.desk.let.set()
    await world.poller.settle()
    assert world.desk.answered == [purchase]


async def test_a_purchase_that_cannot_be_answered_stops_nothing(world: World) -> None:
    world.desk.let.set()
    world.desk.fails = True
    task = world.run()
    world.telegram.sends(payload=PURCHASE)
    await world.passes(1)
    assert not task.done()


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"update_id": 1, "pre_checkout_query": {}}', True),
        (b'{"message": {"text": "\\"pre_checkout_query\\""}}', False),
        (b'{"message": {"pre_checkout_query": 1}}', False),
        (b'"pre_checkout_query" is not JSON', False),
        (b'["pre_checkout_query"]', False),
    ],
)
def test_only_an_update_that_asks_is_a_pre_checkout(payload: bytes, expected: bool) -> None:
    assert is_pre_checkout(RawUpdate(1, "u1", payload)) is expected


@pytest.mark.parametrize("seed", range(10))
async def test_two_pollers_that_both_believe_lose_nothing_and_double_nothing(world: World, seed: int) -> None:
    """The lease failed altogether: both poll, take the fence from each other, and are started anew again and again."""

    rng = random.Random(seed)
    other = world.new_poller()

    async def believe(poller: Poller, name: str) -> None:
        for number in range(1000):
            try:
                await poller.run(world.term(f"{name}{number}"))
            except (Fenced, TermOver):
                await world.clock.sleep(rng.uniform(0, 0.3))

    tasks = [asyncio.create_task(believe(world.poller, "a")), asyncio.create_task(believe(other, "b"))]
    sent = []
    for _ in range(40):
        sent += [world.telegram.sends() for _ in range(rng.randrange(3))]
        await world.passes(rng.uniform(0, 1.5))
    await world.passes(60)
    assert sorted(world.postgres.rows) == sent
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("fields", [{"long_poll_s": 2}, {"long_poll_s": 30}, {"same_offset_gap_s": 0.4}])
def test_intervals_that_break_telegrams_rules_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        PollTiming(**fields)
