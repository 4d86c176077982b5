"""The account's quotas: never more than the limit in any window, however many replicas take, with Redis or without."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.asyncio import Redis

from kiebot.clock import ManualClock
from kiebot.kie.budget import POLL_LIMIT, Budget, Limit, create_limit

KEY = "t:kie:create"


def most_within(window_s: float, instants: list[float]) -> int:
    return max(sum(1 for other in instants if start <= other < start + window_s) for start in instants)


async def test_replicas_together_never_pass_the_limit_in_any_window(redis: Redis) -> None:
    limit = Limit(5, 0.2, 0.05)
    replicas = [Budget(redis, KEY, limit) for _ in range(4)]
    admitted: list[float] = []
    end = time.monotonic() + 1.2

    async def takes_all_it_gets(budget: Budget) -> None:
        while time.monotonic() < end:
            if (wait_s := await budget.take()) == 0:
                admitted.append(time.monotonic())
            else:
                assert wait_s <= limit.span_s
                await asyncio.sleep(wait_s)

    await asyncio.gather(*(takes_all_it_gets(budget) for budget in replicas))
    assert most_within(limit.window_s, admitted) <= limit.calls
    assert len(admitted) >= 4 * limit.calls  # and the quota is used: five windows of 0.25 s


async def test_the_whole_quota_may_go_out_at_once_and_then_one_waits(redis: Redis) -> None:
    budget = Budget(redis, KEY, create_limit(20))
    assert [await budget.take() for _ in range(20)] == [0.0] * 20
    assert 10.0 < await budget.take() <= 11.0


async def test_two_budgets_do_not_share(redis: Redis) -> None:
    polls, creates = Budget(redis, "t:kie:poll", POLL_LIMIT), Budget(redis, KEY, create_limit(1))
    assert await creates.take() == 0
    assert await creates.take() > 0
    assert [await polls.take() for _ in range(3)] == [0.0] * 3
    assert 0 < await polls.take() <= 1.2


async def test_a_refusal_halves_the_limit_for_all_replicas_once_per_window(redis: Redis) -> None:
    one, two = Budget(redis, KEY, create_limit(8)), Budget(redis, KEY, create_limit(8))
    for budget in (one, two, one, two):
        await budget.refused()
    assert [await two.take() for _ in range(4)] == [0.0] * 4
    assert await one.take() > 0
    assert 0 < await redis.pttl(f"{KEY}:penalty") <= 60_000


async def test_many_refusals_leave_at_least_one_call_per_window(redis: Redis) -> None:
    budget = Budget(redis, KEY, create_limit(8))
    for _ in range(9):
        await redis.delete(f"{KEY}:news")
        await budget.refused()
    assert await redis.get(f"{KEY}:penalty") == b"4"
    assert await budget.take() == 0
    assert await budget.take() > 0


async def test_kies_own_wish_for_a_pause_holds_everybody(redis: Redis) -> None:
    one, two = Budget(redis, KEY, create_limit()), Budget(redis, KEY, create_limit())
    await one.refused(pause_s=7.0)
    assert 6.0 < await two.take() <= 7.0
    await one.refused(pause_s=1.0)
    assert await two.take() > 6.0  # a shorter wish does not cut a longer one


async def test_a_server_clock_that_goes_back_costs_one_window_and_no_more(redis: Redis) -> None:
    budget = Budget(redis, KEY, Limit(2, 0.1, 0.0))
    push = redis.register_script("return redis.call('LPUSH', KEYS[1], ARGV[1])")
    await push(keys=[f"{KEY}:admitted"], args=[int(time.time() * 1000) + 3_600_000])
    assert await budget.take() == pytest.approx(0.1)
    await asyncio.sleep(0.11)
    assert await budget.take() == 0


async def test_an_emptied_redis_starts_anew(redis: Redis) -> None:
    budget = Budget(redis, KEY, create_limit(1))
    assert await budget.take() == 0
    await redis.flushall()
    await redis.script_flush()
    assert await budget.take() == 0


@pytest.fixture
def nowhere() -> Redis:
    return Redis(unix_socket_path="/nonexistent/socket", socket_timeout=0.2)


async def test_without_redis_each_replica_keeps_to_its_share(nowhere: Redis) -> None:
    clock = ManualClock()
    budget = Budget(nowhere, KEY, create_limit(20), expected_replicas=4, clock=clock)
    assert [await budget.take() for _ in range(5)] == [0.0] * 5
    assert await budget.take() == pytest.approx(11.0)
    await clock.advance(10.9)
    assert await budget.take() == pytest.approx(0.1)
    await clock.advance(0.2)
    assert await budget.take() == 0


async def test_without_redis_a_refusal_still_pauses_this_replica(nowhere: Redis) -> None:
    clock = ManualClock()
    budget = Budget(nowhere, KEY, create_limit(), clock=clock)
    await budget.refused(pause_s=3.0)
    assert await budget.take() == pytest.approx(3.0)
    await clock.advance(3.0)
    assert await budget.take() == 0


async def test_calls_made_just_before_redis_went_away_count_against_the_share(redis: Redis) -> None:
    clock = ManualClock()
    budget = Budget(redis, KEY, create_limit(20), expected_replicas=4, clock=clock)
    for _ in range(5):
        await budget.take()
    await redis.set(f"{KEY}:admitted", "not a list")  # any error of the server's counts as being away
    assert await budget.take() == pytest.approx(11.0)
    await redis.delete(f"{KEY}:admitted")
    await clock.advance(1.0)  # Redis is asked again after a second
    assert await budget.take() == 0


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        create_limit(0)
