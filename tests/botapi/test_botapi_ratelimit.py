"""One send budget for all replicas: on a real Redis, against the simulator's own limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from telegram.error import RetryAfter
from telegram.ext import ExtBot

from kiebot.botapi.buckets import Bucket, Limits
from kiebot.botapi.connection import close_bot, make_bot
from kiebot.botapi.messenger import TelegramMessenger
from kiebot.botapi.ratelimit import EXEMPT, SharedRateLimiter
from kiebot.botapi.request import FloodWait
from kiebot.clock import ManualClock
from kiebot.delivery.ports import Media
from kiebot.errors import RateLimited
from kiebot.simulators.server import SimulatorServer
from kiebot.simulators.telegram import FloodRules, Rules, TelegramSimulator
from tests.botapi.conftest import Telegram

MakeLimiter = Callable[..., SharedRateLimiter]


@pytest.fixture
def make_limiter(redis: Redis, redis_prefix: str) -> MakeLimiter:
    def make(**options: Any) -> SharedRateLimiter:
        return SharedRateLimiter(redis, redis_prefix, **options)

    return make


@asynccontextmanager
async def replicas(telegram: Telegram, *limiters: SharedRateLimiter) -> AsyncIterator[list[TelegramMessenger]]:
    async with AsyncExitStack() as stack:
        made = []
        for number, limiter in enumerate(limiters):
            bot: ExtBot[Any] = make_bot(
                telegram.sim.token, api_url=telegram.url, replica=f"replica-{number}", limiter=limiter
            )
            stack.push_async_callback(close_bot, bot)
            made.append(TelegramMessenger(bot))
        yield made


class Calls:
    """A Bot API that answers at once, or as told, and remembers what reached it."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.error: Exception | None = None

    async def __call__(self, endpoint: str) -> bool:
        self.made.append(endpoint)
        if self.error is not None:
            raise self.error
        return True

    async def through(self, limiter: SharedRateLimiter, endpoint: str = "sendMessage", **data: Any) -> None:
        await limiter.process_request(self, (endpoint,), {}, endpoint, data, None)


@pytest.fixture
def calls() -> Calls:
    return Calls()


async def test_two_replicas_together_use_the_whole_rate_and_are_never_refused(
    make_limiter: MakeLimiter, redis: Redis, redis_prefix: str
) -> None:
    shares: list[float] = []
    while len(shares) < 3 and max(shares, default=0.0) < 0.95:  # a machine that stalls makes a message late, not early
        shares.append(await share_of_the_rate(make_limiter))
        await redis.delete(f"{redis_prefix}:send:all")
    assert max(shares) >= 0.95


async def share_of_the_rate(make_limiter: MakeLimiter, messages: int = 90) -> float:
    """Of thirty a second, as Telegram counts what arrives from two replicas."""
    rules = Rules(flood=FloodRules(burst=6, max_hold_s=0.3))  # stricter than Telegram: every excess becomes a 429
    async with TelegramSimulator(rules=rules) as sim, SimulatorServer(sim) as server:
        people = [sim.user() for _ in range(messages)]
        async with replicas(Telegram(sim, server.url), make_limiter(), make_limiter()) as (one, two):
            await asyncio.gather(*((one, two)[n % 2].send_text(p.chat_id, "hi") for n, p in enumerate(people)))
        sends = sim.journal.calls("sendMessage")
    instants = sorted(call.started_at for call in sends)
    assert [call.status for call in sends] == [200] * messages
    assert max(sum(1 for other in instants if at <= other < at + 1) for at in instants) <= 36  # a busy machine squeezes
    assert {call.process for call in sends} == {"replica-0", "replica-1"}
    return (messages - 1) / (instants[-1] - instants[0]) / 30


async def test_one_chat_gets_a_short_burst_whoever_sends(make_limiter: MakeLimiter, calls: Calls) -> None:
    one, two = make_limiter(max_wait_s=0.5), make_limiter(max_wait_s=0.5)
    for limiter in (one, two, one):
        await calls.through(limiter, chat_id=7)
    with pytest.raises(FloodWait) as caught:
        await calls.through(two, chat_id=7)
    assert caught.value.seconds == 1
    await calls.through(two, chat_id=8)
    assert calls.made == ["sendMessage"] * 4
    assert (two.stats.sent, two.stats.refused) == (2, 1)


async def test_a_short_wait_is_slept_and_a_long_one_refused(make_limiter: MakeLimiter, calls: Calls) -> None:
    limiter = make_limiter(limits=Limits(chat=Bucket(0.15, 1)), max_wait_s=0.2)
    started = time.monotonic()
    await calls.through(limiter, chat_id=7)
    await calls.through(limiter, chat_id=7)
    assert time.monotonic() - started >= 0.14
    outcomes = await asyncio.gather(*(calls.through(limiter, chat_id=7) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(FloodWait) == 2


async def test_a_group_gets_no_more_than_twenty_a_minute(make_limiter: MakeLimiter, calls: Calls) -> None:
    limiter = make_limiter(max_wait_s=0.0, limits=Limits(overall=Bucket(0.001, 10)))
    for _ in range(5):
        await calls.through(limiter, chat_id=-100_1)
    with pytest.raises(FloodWait) as caught:
        await calls.through(limiter, chat_id=-100_1)
    assert caught.value.seconds == 4
    await calls.through(limiter, chat_id="@channel")


async def test_a_refused_send_reaches_the_courier_as_a_free_try(telegram: Telegram, make_limiter: MakeLimiter) -> None:
    anna = telegram.sim.user()
    async with replicas(telegram, make_limiter(max_wait_s=0.0)) as (messenger,):
        for _ in range(3):
            await messenger.send_text(anna.chat_id, "hi")
            await asyncio.sleep(1 / 29)
        with pytest.raises(RateLimited) as caught:
            await messenger.send_text(anna.chat_id, "hi")
    assert caught.value.retry_after_s == 1
    assert len(anna.messages) == 3


async def test_edits_cost_and_deletions_do_not(make_limiter: MakeLimiter, calls: Calls) -> None:
    limiter = make_limiter(max_wait_s=0.0, limits=Limits(overall=Bucket(0.001, 100), chat=Bucket(10, 2)))
    await calls.through(limiter, "editMessageText", chat_id=7)
    for _ in range(10):
        await calls.through(limiter, "deleteMessage", chat_id=7)
    await calls.through(limiter, "sendPhoto", chat_id=7)
    with pytest.raises(FloodWait):
        await calls.through(limiter, "editMessageText", chat_id=7)
    lenient = make_limiter(max_wait_s=0.0, costly=frozenset({"sendMessage"}))
    await calls.through(lenient, "editMessageText", chat_id=7)


async def test_an_album_takes_as_many_as_it_has_files_and_leaves_room_for_its_text(
    telegram: Telegram, make_limiter: MakeLimiter, tmp_path: Any, picture: Any
) -> None:
    anna, ben = telegram.sim.user(), telegram.sim.user()
    limiter = make_limiter(max_wait_s=0.2, limits=Limits(overall=Bucket(1.0, 11), chat=Bucket(1.0, 3)))
    async with replicas(telegram, limiter) as (messenger,):
        await messenger.send_album(anna.chat_id, [Media("photo", picture, f"{n}.png", "image/png") for n in range(10)])
        await messenger.send_text(anna.chat_id, "your ten pictures")
        with pytest.raises(RateLimited):
            await messenger.send_text(ben.chat_id, "hi")


async def test_a_wait_that_telegram_asks_for_is_kept_by_the_other_replica_too(
    telegram: Telegram, make_limiter: MakeLimiter
) -> None:
    anna, ben = telegram.sim.user(), telegram.sim.user()
    async with replicas(telegram, make_limiter(), make_limiter(max_wait_s=0.1)) as (one, two):
        telegram.sim.faults.answers("sendMessage", 429, retry_after=20)
        with pytest.raises(RateLimited):
            await one.send_text(anna.chat_id, "hi")
        for chat_id, seconds in ((anna.chat_id, 20), (ben.chat_id, 3)):
            with pytest.raises(RateLimited) as caught:
                await two.send_text(chat_id, "hi")
            assert caught.value.retry_after_s == pytest.approx(seconds, abs=1)
    assert len(telegram.sim.journal.calls("sendMessage")) == 1


async def test_a_second_refused_chat_stops_the_whole_bot_for_as_long_as_asked(
    make_limiter: MakeLimiter, calls: Calls, redis: Redis, redis_prefix: str
) -> None:
    one, two = make_limiter(max_wait_s=0.0), make_limiter(max_wait_s=0.0)
    calls.error = FloodWait(30)
    with pytest.raises(RetryAfter):
        await calls.through(one, chat_id=1)
    await redis.delete(f"{redis_prefix}:send:pause")  # the brief first pause is over
    with pytest.raises(RetryAfter):
        await calls.through(two, chat_id=2)
    calls.error = None
    with pytest.raises(FloodWait) as caught:
        await calls.through(one, chat_id=3)
    assert caught.value.seconds == pytest.approx(30, abs=1)
    assert (one.stats.flood_waits, two.stats.flood_waits, one.stats.refused) == (1, 1, 1)


async def test_a_pause_ends_with_messages_spaced_and_not_all_at_once(
    make_limiter: MakeLimiter, calls: Calls, redis: Redis, redis_prefix: str
) -> None:
    await redis.set(f"{redis_prefix}:send:pause", "1", px=200)
    limiter = make_limiter(limits=Limits(overall=Bucket(0.05, 2)))
    await asyncio.gather(*(calls.through(limiter, chat_id=n) for n in range(6)))
    assert limiter.stats.waited_s == pytest.approx(0.2 * 6 + 0.05 * (1 + 2 + 3 + 4), abs=0.1)


@pytest.mark.parametrize("endpoint", sorted(EXEMPT))
async def test_what_has_a_deadline_never_waits(
    make_limiter: MakeLimiter, calls: Calls, redis: Redis, redis_prefix: str, endpoint: str
) -> None:
    await redis.set(f"{redis_prefix}:send:pause", "1", px=60_000)
    await calls.through(make_limiter(max_wait_s=0.0), endpoint, callback_query_id="1")
    assert calls.made == [endpoint]


async def test_a_press_is_answered_during_a_pause(
    telegram: Telegram, make_limiter: MakeLimiter, redis: Redis, redis_prefix: str
) -> None:
    await redis.set(f"{redis_prefix}:send:pause", "1", px=60_000)
    async with replicas(telegram, make_limiter()) as (messenger,):
        await messenger.answer_press("1")
    assert len(telegram.sim.journal.calls("answerCallbackQuery")) == 1


async def test_without_redis_a_replica_keeps_to_its_share(calls: Calls, unused_tcp_port: int) -> None:
    clock = ManualClock()
    gone: Redis = Redis(host="127.0.0.1", port=unused_tcp_port, socket_connect_timeout=0.2)
    limiter = SharedRateLimiter(gone, "p", clock=clock, expected_replicas=4)
    await calls.through(limiter, "deleteMessage")  # meets the outage, so that the others do not have to
    calls.made.clear()
    sends = [asyncio.create_task(calls.through(limiter, chat_id=n)) for n in range(30)]
    await clock.advance(1.0)
    assert len(calls.made) == 8  # a quarter of 29, and the first at once
    await clock.advance(1.0)
    assert len(calls.made) == 15
    await clock.advance(10)
    await asyncio.gather(*sends)
    assert limiter.stats.without_redis == 31
    await gone.aclose()


async def test_without_redis_a_wait_that_telegram_asks_for_is_kept(calls: Calls, unused_tcp_port: int) -> None:
    clock = ManualClock()
    gone: Redis = Redis(host="127.0.0.1", port=unused_tcp_port, socket_connect_timeout=0.2)
    limiter = SharedRateLimiter(gone, "p", clock=clock, max_wait_s=0.0)
    calls.error = FloodWait(20)
    with pytest.raises(RetryAfter):
        await calls.through(limiter, chat_id=7)
    calls.error = None
    await clock.advance(19)
    with pytest.raises(FloodWait):
        await calls.through(limiter, chat_id=7)
    await clock.advance(1.5)
    await calls.through(limiter, chat_id=7)
    await gone.aclose()


async def test_a_redis_that_forgot_everything_stops_nobody(
    make_limiter: MakeLimiter, calls: Calls, redis: Redis, redis_prefix: str
) -> None:
    limiter = make_limiter()
    await calls.through(limiter, chat_id=7)
    await redis.delete(*[key async for key in redis.scan_iter(f"{redis_prefix}:*")])
    await redis.script_flush()
    await calls.through(limiter, chat_id=7)
    assert limiter.stats.without_redis == 0


async def test_a_server_clock_set_back_stops_nobody(
    make_limiter: MakeLimiter, calls: Calls, redis: Redis, redis_prefix: str
) -> None:
    in_an_hour = int((time.time() + 3600) * 1_000_000)
    await redis.set(f"{redis_prefix}:send:all", in_an_hour)
    await redis.set(f"{redis_prefix}:send:chat:7", in_an_hour)
    limiter = make_limiter(max_wait_s=2.0)
    await asyncio.wait_for(calls.through(limiter, chat_id=7), 1.0)


async def test_nothing_is_left_behind_in_redis(
    make_limiter: MakeLimiter, calls: Calls, redis: Redis, redis_prefix: str
) -> None:
    limiter = make_limiter()
    await calls.through(limiter, chat_id=7)
    calls.error = FloodWait(2)
    with pytest.raises(RetryAfter):
        await calls.through(limiter, chat_id=8)
    keys = [key async for key in redis.scan_iter(f"{redis_prefix}:*")]
    assert len(keys) >= 5
    assert all([0 < await redis.pttl(key) <= 5000 for key in keys])


async def test_other_failures_pass_and_pause_nobody(make_limiter: MakeLimiter, calls: Calls) -> None:
    limiter = make_limiter(max_wait_s=0.5)
    calls.error = ValueError("anything")
    with pytest.raises(ValueError, match="anything"):
        await calls.through(limiter, chat_id=7)
    calls.error = None
    await calls.through(limiter, chat_id=7)
