"""The account's quotas: never more than the limit in any window, however many replicas take, with Redis or without."""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from kiebot.clock import ManualClock
from kiebot.kie.budget import Budget, Limit, create_limit, poll_limit

KEY = "t:kie:create"
WAITS = Limit(1, 0.3, 0.0)
_turns = (f"turn-{number}" for number in itertools.count())


def most_within(window_s: float, instants: list[float]) -> int:
    return max(sum(1 for other in instants if start <= other < start + window_s) for start in instants)


async def test_replicas_together_never_pass_the_limit_in_any_window(redis: Redis) -> None:
    limit = Limit(5, 0.2, 0.05)
    replicas = [Budget(redis, KEY, limit) for _ in range(4)]
    admitted: list[float] = []
    end = time.monotonic() + 1.2

    async def takes_all_it_gets(budget: Budget) -> None:
        turn = next(_turns)
        while time.monotonic() < end:
            if (wait_s := await budget.take(turn)) == 0:
                admitted.append(time.monotonic())
                turn = next(_turns)
            else:
                assert wait_s <= limit.span_s
                await asyncio.sleep(wait_s)

    await asyncio.gather(*(takes_all_it_gets(budget) for budget in replicas))
    assert most_within(limit.window_s, admitted) <= limit.calls
    assert len(admitted) >= 4 * limit.calls  # and the quota is used: five windows of 0.25 s


async def test_the_whole_quota_may_go_out_at_once_and_then_one_waits(redis: Redis) -> None:
    budget = Budget(redis, KEY, create_limit(20))
    assert [await budget.take(next(_turns)) for _ in range(20)] == [0.0] * 20
    assert 10.0 < await budget.take(next(_turns)) <= 10.1


async def test_two_budgets_do_not_share(redis: Redis) -> None:
    polls, creates = Budget(redis, "t:kie:poll", poll_limit()), Budget(redis, KEY, create_limit(1))
    assert await creates.take(next(_turns)) == 0
    assert await creates.take(next(_turns)) > 0
    assert [await polls.take(next(_turns)) for _ in range(3)] == [0.0] * 3
    assert 0 < await polls.take(next(_turns)) <= 1.2


async def test_a_refusal_halves_the_limit_for_all_replicas_once_per_window(redis: Redis) -> None:
    one, two = Budget(redis, KEY, create_limit(8)), Budget(redis, KEY, create_limit(8))
    for budget in (one, two, one, two):
        await budget.refused()
    assert [await two.take(next(_turns)) for _ in range(4)] == [0.0] * 4
    assert await one.take(next(_turns)) > 0
    assert 0 < await redis.pttl(f"{KEY}:penalty") <= 60_000


async def test_many_refusals_leave_at_least_one_call_per_window(redis: Redis) -> None:
    budget = Budget(redis, KEY, create_limit(8))
    for _ in range(9):
        await redis.delete(f"{KEY}:news")
        await budget.refused()
    assert await redis.get(f"{KEY}:penalty") == b"4"
    assert await budget.take(next(_turns)) == 0
    assert await budget.take(next(_turns)) > 0


async def test_kies_own_wish_for_a_pause_holds_everybody(redis: Redis) -> None:
    one, two = Budget(redis, KEY, create_limit()), Budget(redis, KEY, create_limit())
    await one.refused(pause_s=7.0)
    assert 6.0 < await two.take(next(_turns)) <= 7.0
    await one.refused(pause_s=1.0)
    assert await two.take(next(_turns)) > 6.0  # a shorter wish does not cut a longer one


async def test_a_server_clock_that_goes_back_costs_one_window_and_no_more(redis: Redis) -> None:
    budget = Budget(redis, KEY, Limit(2, 0.1, 0.0))
    await redis.zadd(f"{KEY}:calls", {"before": int(time.time() * 1000) + 3_600_000})
    assert await budget.take(next(_turns)) == pytest.approx(0.1)
    await asyncio.sleep(0.11)
    assert await budget.take(next(_turns)) == 0


async def test_who_asked_first_goes_first_whoever_asks_at_the_right_moment(redis: Redis) -> None:
    budget = Budget(redis, KEY, WAITS)
    assert await budget.take("a") == 0
    wait_s = await budget.take("b")
    await budget.take("c")
    await asyncio.sleep(wait_s)
    assert await budget.take("newcomer") > 0
    assert await budget.take("c") > 0
    assert await budget.take("b") == 0
    assert await budget.take("c") > 0


async def test_who_is_due_for_longer_goes_first_though_it_asks_later(redis: Redis) -> None:
    budget, now = Budget(redis, KEY, WAITS), datetime.now(UTC)
    assert await budget.take("a") == 0
    await budget.take("b", now - timedelta(seconds=1))
    wait_s = await budget.take("c", now - timedelta(seconds=2))
    await asyncio.sleep(wait_s)
    assert await budget.take("b", now - timedelta(seconds=1)) > 0
    assert await budget.take("c", now) == 0  # its place was taken when it asked first


async def test_each_of_those_who_wait_is_told_a_time_of_its_own_and_comes_then(redis: Redis) -> None:
    replicas = [Budget(redis, KEY, Limit(2, 0.2, 0.0)) for _ in range(3)]
    asked, order = 0, []

    async def waits_for_its_turn(number: int) -> None:
        nonlocal asked
        await asyncio.sleep(number / 500)
        asked += 1
        while (wait_s := await replicas[number % 3].take(f"turn-of-{number}")) > 0:
            await asyncio.sleep(wait_s)
            asked += 1
        order.append(number)

    began = time.monotonic()
    await asyncio.gather(*(waits_for_its_turn(number) for number in range(12)))
    assert [number // 2 for number in order] == [number // 2 for number in range(12)]  # pairs may change places
    assert time.monotonic() - began >= 5 * 0.2
    assert asked <= 3 * 12  # each of them a few times, and not whenever somebody's turn came


async def test_who_does_not_come_when_told_keeps_nobody_waiting(redis: Redis) -> None:
    budget = Budget(redis, KEY, WAITS)
    await budget.take("a")
    await budget.take("cancelled meanwhile")
    last_s = await budget.take("b")
    assert last_s > 0.3
    await asyncio.sleep(1.0)
    assert await budget.take("b") > 0  # it may be on its way
    await asyncio.sleep(2.5)
    assert await budget.take("b") == 0
    await asyncio.sleep(0.3)
    assert await budget.take("cancelled meanwhile") == 0  # and it may come late


async def test_news_go_before_those_who_have_none(redis: Redis) -> None:
    budget = Budget(redis, KEY, WAITS)
    assert await budget.take("a") == 0
    wait_s = await budget.take("b")
    await budget.take("c")
    await budget.hurry("c")
    await budget.hurry("d")
    await asyncio.sleep(wait_s)
    assert await budget.take("b") > 0
    assert await budget.take("d") > 0
    assert await budget.take("c") == 0


async def test_a_call_counts_from_its_answer_and_without_one_for_longer(redis: Redis) -> None:
    budget = Budget(redis, KEY, Limit(1, 0.2, 0.6))
    assert await budget.take("a") == 0
    await asyncio.sleep(0.15)  # on its way
    await budget.answered("a")
    assert 0.15 < await budget.take("b") <= 0.2
    await asyncio.sleep(0.2)
    assert await budget.take("b") == 0
    await asyncio.sleep(0.25)
    assert await budget.take("c") > 0  # b's answer was not told
    await asyncio.sleep(0.65)
    assert await budget.take("c") == 0
    await budget.answered("of a call nobody made")


async def test_those_far_back_ask_seldom(redis: Redis) -> None:
    budget = Budget(redis, KEY, Limit(1, 1.0, 0.0))
    waits = [await budget.take(next(_turns)) for _ in range(200)]
    assert waits[100] == pytest.approx(90.0, abs=1.0)  # a little before its turn, which may come earlier than it looks
    assert waits[10] == pytest.approx(10.0, abs=0.5)
    assert len({round(wait_s) for wait_s in waits}) > 150  # and not all at one instant


async def test_an_emptied_redis_starts_anew(redis: Redis) -> None:
    budget = Budget(redis, KEY, create_limit(1))
    assert await budget.take(next(_turns)) == 0
    await redis.flushall()
    await redis.script_flush()
    assert await budget.take(next(_turns)) == 0


@pytest.fixture
def nowhere() -> Redis:
    return Redis(unix_socket_path="/nonexistent/socket", socket_timeout=0.2)


async def test_without_redis_each_replica_keeps_to_its_share(nowhere: Redis) -> None:
    clock = ManualClock()
    budget = Budget(nowhere, KEY, create_limit(20), expected_replicas=4, clock=clock)
    assert [await budget.take(next(_turns)) for _ in range(5)] == [0.0] * 5
    assert await budget.take(next(_turns)) == pytest.approx(11.05)
    await clock.advance(10.95)
    assert await budget.take(next(_turns)) == pytest.approx(0.1)
    await clock.advance(0.2)
    assert await budget.take(next(_turns)) == 0


async def test_without_redis_a_refusal_still_pauses_this_replica(nowhere: Redis) -> None:
    clock = ManualClock()
    budget = Budget(nowhere, KEY, create_limit(), clock=clock)
    await budget.refused(pause_s=3.0)
    assert await budget.take(next(_turns)) == pytest.approx(3.0)
    await clock.advance(3.0)
    assert await budget.take(next(_turns)) == 0


async def test_calls_made_just_before_redis_went_away_count_against_the_share(redis: Redis) -> None:
    clock = ManualClock()
    budget = Budget(redis, KEY, create_limit(20), expected_replicas=4, clock=clock)
    for _ in range(5):
        await budget.take(next(_turns))
    await redis.delete(f"{KEY}:calls")
    await redis.set(f"{KEY}:calls", "not a set")  # any error of the server's counts as being away
    assert await budget.take(next(_turns)) == pytest.approx(11.05)
    await redis.delete(f"{KEY}:calls")
    await clock.advance(1.0)  # Redis is asked again after a second
    assert await budget.take(next(_turns)) == 0


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        create_limit(0)
