"""The gate's count: shared by all replicas, in the time at which updates were sent, with Redis or without."""

from __future__ import annotations

from kiebot.jobs.pool import make_pool
from kiebot.jobs.turnstile import OWN, Share, Turnstile

from .rig import Rig

LANE = "42/c1"
NOW = 1_790_000_000.0
SHARE = Share(1.0, 20)


def turnstile(rig: Rig, share: Share = SHARE) -> Turnstile:
    return Turnstile(rig.pool, prefix="t", share=share, now=lambda: NOW)


async def test_a_burst_goes_through_and_then_one_for_each_interval(rig: Rig) -> None:
    gate = turnstile(rig)
    assert sum(await gate.admit(LANE, [NOW] * 100)) == SHARE.burst
    assert sum(await gate.admit(LANE, [NOW + 3.0] * 100)) == 3
    assert sum(await gate.admit(LANE, [NOW + 1000.0] * 100)) == SHARE.burst


async def test_all_replicas_together_let_no_more_through_beyond_what_each_does_unasked(rig: Rig) -> None:
    replicas = [turnstile(rig) for _ in range(3)]
    admitted = [await gate.admit(LANE, [NOW] * 10) for _ in range(10) for gate in replicas]
    assert SHARE.burst <= sum(map(sum, admitted)) <= SHARE.burst + len(replicas) * OWN.burst


async def test_one_lane_does_not_use_up_anothers_share(rig: Rig) -> None:
    gate = turnstile(rig)
    await gate.admit(LANE, [NOW] * 1000)
    assert all(await gate.admit("42/c2", [NOW] * SHARE.burst))


async def test_what_piled_up_in_hours_is_no_flood(rig: Rig) -> None:
    gate = turnstile(rig)
    assert all(await gate.admit(LANE, [NOW - 36_000 + 60 * minute for minute in range(600)]))


async def test_an_old_message_after_a_new_one_counts_as_new(rig: Rig) -> None:
    gate = turnstile(rig)
    await gate.admit(LANE, [NOW] * 6)
    assert sum(await gate.admit(LANE, [NOW - 3600.0] * 100)) == SHARE.burst - 6


async def test_a_lane_at_a_persons_pace_is_not_asked_about(rig: Rig) -> None:
    now = NOW
    gate = Turnstile(rig.pool, prefix="t", share=SHARE, now=lambda: now)
    for _ in range(50):
        now += 1.0
        assert await gate.admit(LANE, [now]) == [True]
    assert await rig.pool.keys("t:*") == []


async def test_without_redis_each_replica_counts_for_itself_and_asks_again_soon(rig: Rig) -> None:
    nowhere = make_pool("redis://127.0.0.1:1", prefix="t")
    now = NOW
    gate = Turnstile(nowhere, prefix="t", share=SHARE, now=lambda: now)
    assert sum(await gate.admit(LANE, [NOW] * 100)) == SHARE.burst
    now += 5.0
    assert sum(await gate.admit(LANE, [now] * 100)) == 5
    await nowhere.aclose()


async def test_lanes_that_are_quiet_again_are_forgotten(rig: Rig) -> None:
    now = NOW
    gate = Turnstile(rig.pool, prefix="t", now=lambda: now)
    for number in range(25_000):
        now += 0.001
        await gate.admit(f"42/c{number}", [now])
    assert len(gate._calm) <= 15_000
