"""What every lease store owes the candidate; what one of them owes beyond that is in the files beside this one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from kiebot.clock import SystemClock
from kiebot.ids import new_token
from kiebot.lease.memory import MemoryLeaseStore
from kiebot.lease.open import open_lease_store
from kiebot.lease.protocol import Lease, LeaseStore, StoreUnreachable

from .waiting import until

TTL_S = 5.0
NAME = "poller"

OpenStore = Callable[[], LeaseStore]


EXPIRING = pytest.mark.parametrize("lease_url", ["memory", "redis"], indirect=True)  # the others grant without an end
REVOCABLE = pytest.mark.parametrize("lease_url", ["memory", "redis", "postgres"], indirect=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every store, where a test does not choose."""
    chosen = any("lease_url" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "lease_url" in metafunc.fixturenames and not chosen:
        metafunc.parametrize("lease_url", ["memory", "redis", "postgres", "file"], indirect=True)


@pytest.fixture
async def open_store(lease_url: str) -> AsyncIterator[OpenStore]:
    """Opens one store per replica, all looking at the same lease."""
    async with AsyncExitStack() as stack:
        if lease_url == "memory":
            shared = MemoryLeaseStore(SystemClock())
            yield lambda: shared
            return
        prefix = new_token()

        def open_one() -> LeaseStore:
            store = open_lease_store(lease_url, clock=SystemClock(), prefix=prefix)
            stack.push_async_callback(store.close)
            return store

        yield open_one


@pytest.fixture
def first(open_store: OpenStore) -> LeaseStore:
    return open_store()


@pytest.fixture
def second(open_store: OpenStore) -> LeaseStore:
    return open_store()


async def _won(store: LeaseStore, replica: str = "one", ttl_s: float = TTL_S) -> Lease:
    lease = await store.acquire(NAME, replica, token=new_token(), ttl_s=ttl_s)
    assert lease is not None
    return lease


async def test_a_free_lease_is_granted_and_everybody_sees_its_holder(first: LeaseStore, second: LeaseStore) -> None:
    assert await second.holder(NAME) is None
    lease = await _won(first, "replica|with a bar")
    holder = await second.holder(NAME)
    assert holder is not None
    assert (holder.replica, holder.token) == ("replica|with a bar", lease.token)
    assert TTL_S - 1 < holder.remaining_s <= TTL_S


async def test_a_held_lease_is_refused_to_another(first: LeaseStore, second: LeaseStore) -> None:
    await _won(first)
    assert await second.acquire(NAME, "two", token=new_token(), ttl_s=TTL_S) is None


async def test_two_names_are_two_leases(first: LeaseStore, second: LeaseStore) -> None:
    await _won(first)
    assert await second.acquire("sweeper", "two", token=new_token(), ttl_s=TTL_S) is not None


async def test_a_bid_repeated_after_a_lost_answer_is_granted_again(first: LeaseStore) -> None:
    lease = await _won(first, ttl_s=1.0)
    again = await first.acquire(NAME, "one", token=lease.token, ttl_s=TTL_S)
    assert again is not None and again.token == lease.token
    holder = await first.holder(NAME)
    assert holder is not None and holder.remaining_s > 2


async def test_many_bids_at_once_have_one_winner(open_store: OpenStore) -> None:
    stores = [open_store() for _ in range(5)]
    bids = [store.acquire(NAME, f"r{i}", token=new_token(), ttl_s=TTL_S) for i, store in enumerate(stores)]
    assert sum(lease is not None for lease in await asyncio.gather(*bids)) == 1


async def test_a_renewal_lasts_longer_and_is_stamped_anew(first: LeaseStore) -> None:
    lease = await _won(first, ttl_s=1.0)
    before = SystemClock().monotonic()
    renewed = await first.renew(lease, ttl_s=TTL_S)
    assert renewed is not None and renewed.token == lease.token
    assert before <= renewed.sent_at <= SystemClock().monotonic()
    holder = await first.holder(NAME)
    assert holder is not None and holder.remaining_s > 2


@EXPIRING
async def test_an_expired_lease_is_not_renewed_and_free_for_others(first: LeaseStore, second: LeaseStore) -> None:
    lease = await _won(first, ttl_s=0.05)
    await asyncio.sleep(0.1)
    assert await first.renew(lease, ttl_s=TTL_S) is None
    assert await second.holder(NAME) is None
    await _won(second, "two")


@EXPIRING
async def test_a_late_renewal_never_touches_the_next_term(first: LeaseStore, second: LeaseStore) -> None:
    old = await _won(first, ttl_s=0.05)
    await asyncio.sleep(0.1)
    new = await _won(second, "two")
    assert await first.renew(old, ttl_s=60) is None
    await first.release(old)
    holder = await second.holder(NAME)
    assert holder is not None and holder.token == new.token and holder.remaining_s <= TTL_S


async def test_a_released_lease_is_free_at_once_and_releasing_twice_does_nothing(
    first: LeaseStore, second: LeaseStore
) -> None:
    lease = await _won(first)
    await first.release(lease)
    await first.release(lease)
    await _won(second, "two")
    await first.release(lease)
    assert await second.holder(NAME) is not None


async def test_a_release_wakes_one_waiter_only(open_store: OpenStore) -> None:
    holder, *standbys = [open_store() for _ in range(4)]
    lease = await _won(holder)
    waits = [asyncio.create_task(store.wait_for_change(NAME, 0.4)) for store in standbys]
    await asyncio.sleep(0.1)
    await holder.release(lease)
    assert sorted(await asyncio.gather(*waits)) == [False, False, True]


async def test_a_release_rings_the_doorbell_at_once(first: LeaseStore, second: LeaseStore) -> None:
    lease = await _won(first)
    wait = asyncio.create_task(second.wait_for_change(NAME, 60))
    await asyncio.sleep(0.05)
    await first.release(lease)
    assert await asyncio.wait_for(wait, 10)


async def test_a_ring_that_nobody_waited_for_is_kept_for_the_next(first: LeaseStore, second: LeaseStore) -> None:
    await first.release(await _won(first))
    assert await second.wait_for_change(NAME, 1)
    assert not await second.wait_for_change(NAME, 0.05)


async def test_a_wait_at_a_silent_doorbell_ends_in_time(first: LeaseStore) -> None:
    before = time.monotonic()
    assert not await first.wait_for_change(NAME, 0.1)
    assert 0.05 <= time.monotonic() - before < 1


@REVOCABLE
async def test_a_term_judged_dead_is_seized_and_its_old_holder_learns_it(first: LeaseStore, second: LeaseStore) -> None:
    dead = await _won(first)
    seized = await second.seize(NAME, "two", dead_token=dead.token, token=new_token(), ttl_s=TTL_S)
    assert seized is not None
    assert await first.renew(dead, ttl_s=TTL_S) is None
    holder = await first.holder(NAME)
    assert holder is not None and (holder.replica, holder.token) == ("two", seized.token)


@REVOCABLE
async def test_seizing_twice_with_one_token_is_one_seizure(first: LeaseStore, second: LeaseStore) -> None:
    dead, token = await _won(first), new_token()
    for _ in range(2):
        assert await second.seize(NAME, "two", dead_token=dead.token, token=token, ttl_s=TTL_S) is not None


@REVOCABLE
async def test_only_the_token_judged_dead_can_be_seized(open_store: OpenStore) -> None:
    first, second, third = open_store(), open_store(), open_store()
    dead = await _won(first)
    assert await second.seize(NAME, "two", dead_token=dead.token, token=new_token(), ttl_s=TTL_S) is not None
    assert await third.seize(NAME, "three", dead_token=dead.token, token=new_token(), ttl_s=TTL_S) is None


@REVOCABLE
async def test_a_holder_that_was_seized_from_can_no_longer_touch_the_lease(
    first: LeaseStore, second: LeaseStore
) -> None:
    old = await _won(first)
    new = await second.seize(NAME, "two", dead_token=old.token, token=new_token(), ttl_s=TTL_S)
    assert new is not None
    assert await first.renew(old, ttl_s=60) is None
    await first.release(old)
    assert await second.renew(new, ttl_s=TTL_S) is not None
    assert await first.acquire(NAME, "one", token=new_token(), ttl_s=TTL_S) is None


async def test_a_free_lease_cannot_be_seized(first: LeaseStore, second: LeaseStore) -> None:
    lease = await _won(first)
    await first.release(lease)
    assert await second.seize(NAME, "two", dead_token=lease.token, token=new_token(), ttl_s=TTL_S) is None


async def test_the_holders_connection_is_seen_until_it_releases(first: LeaseStore, second: LeaseStore) -> None:
    lease = await _won(first)
    await until(lambda: second.holder_is_connected(NAME, lease.token), True)
    await first.release(lease)
    await until(lambda: second.holder_is_connected(NAME, lease.token), False)


async def test_a_live_holder_is_never_seized_with_another_token(first: LeaseStore, second: LeaseStore) -> None:
    lease = await _won(first)
    assert await second.seize(NAME, "two", dead_token=new_token(), token=new_token(), ttl_s=TTL_S) is None
    assert await first.renew(lease, ttl_s=TTL_S) is not None


async def test_a_renewal_keeps_the_remaining_time_from_falling(first: LeaseStore, second: LeaseStore) -> None:
    lease = await _won(first)
    seen = await second.holder(NAME)
    await asyncio.sleep(0.2)
    fallen = await second.holder(NAME)
    await first.renew(lease, ttl_s=TTL_S)
    risen = await second.holder(NAME)
    assert seen is not None and fallen is not None and risen is not None
    assert fallen.remaining_s < seen.remaining_s - 0.15
    assert risen.remaining_s > fallen.remaining_s + 0.15


@pytest.mark.parametrize("lease_url", ["postgres", "file"], indirect=True)
async def test_a_closed_store_leaves_no_lock_behind(first: LeaseStore, second: LeaseStore) -> None:
    await _won(first)
    await first.close()
    await until(lambda: second.holder(NAME), None)


@pytest.mark.parametrize("kind", ["redis", "postgres", "file"])
async def test_a_store_out_of_reach_is_not_a_lease_held_by_another(kind: str, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    urls = {
        "redis": f"unix://{tmp_path}/nobody",
        "postgres": f"postgresql://u:p@/db?host={tmp_path}",
        "file": (tmp_path / "plain" / "lease").as_uri(),
    }
    store = open_lease_store(urls[kind], clock=SystemClock())
    lease = Lease(NAME, "one", new_token(), 0.0)
    for call in (
        store.acquire(NAME, "one", token=lease.token, ttl_s=TTL_S),
        store.holder(NAME),
        store.wait_for_change(NAME, 1),
        store.seize(NAME, "one", dead_token="dead", token=lease.token, ttl_s=TTL_S),
        store.holder_is_connected(NAME, lease.token),
    ):
        with pytest.raises(StoreUnreachable):
            await asyncio.wait_for(call, 10)
    await store.close()


@pytest.mark.parametrize("url", ["http://localhost", "mysql://u:canary@host/db", "file://other-host/x", "file:x", ""])
def test_any_other_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError) as refused:
        open_lease_store(url, clock=SystemClock())
    assert "canary" not in str(refused.value)
