"""What every lease store owes the candidate, and what the one in Redis owes beyond that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from kiebot.clock import SystemClock
from kiebot.ids import new_token
from kiebot.lease.memory import MemoryLeaseStore
from kiebot.lease.protocol import Lease, LeaseStore, StoreUnreachable
from kiebot.lease.redis import RedisLeaseStore
from kiebot.lease.redis_line import connection_factory

TTL_S = 5.0
NAME = "poller"

OpenStore = Callable[[], LeaseStore]


async def _until(fact: Callable[[], Any], expected: object, within_s: float = 2.0) -> None:
    """Ask again until the answer is as expected: some promises hold soon, not at once."""
    until = time.monotonic() + within_s
    while (seen := await fact()) != expected:
        assert time.monotonic() < until, f"still {seen!r}, expected {expected!r}"
        await asyncio.sleep(0.01)


@pytest.fixture(params=["memory", "redis"])
async def open_store(request: pytest.FixtureRequest) -> AsyncIterator[OpenStore]:
    """Opens one store per replica, all looking at the same lease."""
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            shared = MemoryLeaseStore(SystemClock())
            yield lambda: shared
            return
        url, prefix = request.getfixturevalue("valkey_url"), new_token()

        def open_redis() -> LeaseStore:
            store = RedisLeaseStore(url, clock=SystemClock(), prefix=prefix)
            stack.push_async_callback(store.close)
            return store

        yield open_redis


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


async def test_an_expired_lease_is_not_renewed_and_free_for_others(first: LeaseStore, second: LeaseStore) -> None:
    lease = await _won(first, ttl_s=0.05)
    await asyncio.sleep(0.1)
    assert await first.renew(lease, ttl_s=TTL_S) is None
    assert await second.holder(NAME) is None
    await _won(second, "two")


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


async def test_the_doorbell_rings_within_milliseconds(first: LeaseStore, second: LeaseStore) -> None:
    lease = await _won(first)
    wait = asyncio.create_task(second.wait_for_change(NAME, 5))
    await asyncio.sleep(0.05)
    before = time.monotonic()
    await first.release(lease)
    assert await wait
    assert time.monotonic() - before < 0.25


async def test_a_ring_that_nobody_waited_for_is_kept_for_the_next(first: LeaseStore, second: LeaseStore) -> None:
    await first.release(await _won(first))
    assert await second.wait_for_change(NAME, 1)
    assert not await second.wait_for_change(NAME, 0.05)


async def test_a_wait_at_a_silent_doorbell_ends_in_time(first: LeaseStore) -> None:
    before = time.monotonic()
    assert not await first.wait_for_change(NAME, 0.1)
    assert 0.05 <= time.monotonic() - before < 1


async def test_a_term_judged_dead_is_seized_and_its_old_holder_learns_it(first: LeaseStore, second: LeaseStore) -> None:
    dead = await _won(first)
    seized = await second.seize(NAME, "two", dead_token=dead.token, token=new_token(), ttl_s=TTL_S)
    assert seized is not None
    assert await first.renew(dead, ttl_s=TTL_S) is None
    holder = await first.holder(NAME)
    assert holder is not None and (holder.replica, holder.token) == ("two", seized.token)


async def test_seizing_twice_with_one_token_is_one_seizure(first: LeaseStore, second: LeaseStore) -> None:
    dead, token = await _won(first), new_token()
    for _ in range(2):
        assert await second.seize(NAME, "two", dead_token=dead.token, token=token, ttl_s=TTL_S) is not None


async def test_only_the_token_judged_dead_can_be_seized(open_store: OpenStore) -> None:
    first, second, third = open_store(), open_store(), open_store()
    dead = await _won(first)
    assert await second.seize(NAME, "two", dead_token=dead.token, token=new_token(), ttl_s=TTL_S) is not None
    assert await third.seize(NAME, "three", dead_token=dead.token, token=new_token(), ttl_s=TTL_S) is None


async def test_a_free_lease_cannot_be_seized(first: LeaseStore, second: LeaseStore) -> None:
    lease = await _won(first)
    await first.release(lease)
    assert await second.seize(NAME, "two", dead_token=lease.token, token=new_token(), ttl_s=TTL_S) is None


async def test_the_holders_connection_is_seen_until_it_releases(first: LeaseStore, second: LeaseStore) -> None:
    lease = await _won(first)
    await _until(lambda: second.holder_is_connected(NAME, lease.token), True)
    await first.release(lease)
    await _until(lambda: second.holder_is_connected(NAME, lease.token), False)


# Beyond the port: what the store in Redis owes.


@pytest.fixture
async def admin(valkey_url: str) -> AsyncIterator[Redis]:
    client: Redis = Redis.from_url(valkey_url, decode_responses=True)
    try:
        yield client
    finally:
        await client.config_set("maxmemory", 0)
        await client.aclose()


@pytest.fixture
async def redis_store(valkey_url: str) -> AsyncIterator[RedisLeaseStore]:
    store = RedisLeaseStore(valkey_url, clock=SystemClock(), prefix=new_token(), call_timeout_s=0.3)
    yield store
    await store.close()


async def test_all_keys_share_one_hash_tag(valkey_url: str, admin: Redis) -> None:
    store = RedisLeaseStore(valkey_url, clock=SystemClock(), prefix="tagged")
    await store.release(await _won(store))
    await _won(store)
    keys = set(await admin.keys("*tagged*"))
    assert keys == {"{tagged}:lease:poller", "{tagged}:lease:poller:bell"}
    assert 0 < await admin.pttl("{tagged}:lease:poller:bell") <= 2000
    assert await admin.lpop("{tagged}:lease:poller:bell", 9) == ["1"]  # type: ignore[misc]  # redis-py's sync-or-async
    await store.close()


async def test_trust_is_stamped_before_a_stalled_server_answers(redis_store: RedisLeaseStore, admin: Redis) -> None:
    before = SystemClock().monotonic()
    await admin.client_pause(150, all=True)
    lease = await _won(redis_store)
    assert SystemClock().monotonic() - before > 0.1
    assert lease.sent_at - before < 0.1


async def test_a_stalled_server_is_unreachable_within_the_call_timeout(
    redis_store: RedisLeaseStore, admin: Redis
) -> None:
    lease = await _won(redis_store)
    await admin.client_pause(600, all=True)
    before = time.monotonic()
    with pytest.raises(StoreUnreachable):
        await redis_store.renew(lease, ttl_s=TTL_S)
    assert time.monotonic() - before < 0.5
    await asyncio.sleep(0.4)
    assert await redis_store.renew(lease, ttl_s=TTL_S) is not None


async def test_an_absent_server_is_unreachable_at_once(tmp_path: Path) -> None:
    store = RedisLeaseStore(f"unix://{tmp_path / 'nobody'}", clock=SystemClock())
    with pytest.raises(StoreUnreachable):
        await store.acquire(NAME, "one", token=new_token(), ttl_s=TTL_S)
    with pytest.raises(StoreUnreachable):
        await store.wait_for_change(NAME, 1)
    await store.close()


async def test_scripts_survive_a_script_flush_and_killed_connections(
    redis_store: RedisLeaseStore, admin: Redis
) -> None:
    lease = await _won(redis_store)
    await admin.script_flush()
    assert await redis_store.renew(lease, ttl_s=TTL_S) is not None
    await admin.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(StoreUnreachable):
        await redis_store.renew(lease, ttl_s=TTL_S)
    assert await redis_store.renew(lease, ttl_s=TTL_S) is not None


async def test_the_liveness_subscription_comes_back_before_three_looks_have_missed_it(
    redis_store: RedisLeaseStore, admin: Redis
) -> None:
    lease = await _won(redis_store)
    await _until(lambda: redis_store.holder_is_connected(NAME, lease.token), True)
    await admin.client_kill_filter(_type="pubsub")
    await _until(lambda: redis_store.holder_is_connected(NAME, lease.token), True, within_s=0.25)


async def test_a_lease_is_taken_renewed_and_given_back_at_maxmemory(redis_store: RedisLeaseStore, admin: Redis) -> None:
    await admin.config_set("maxmemory", 1)
    lease = await _won(redis_store)
    assert await redis_store.renew(lease, ttl_s=TTL_S) is not None
    await redis_store.release(lease)
    assert await redis_store.holder(NAME) is None


async def test_an_emptied_server_ends_the_term_and_the_lease_is_free(
    redis_store: RedisLeaseStore, admin: Redis
) -> None:
    lease = await _won(redis_store)
    await admin.flushall()
    assert await redis_store.renew(lease, ttl_s=TTL_S) is None
    await _won(redis_store)


@pytest.mark.parametrize(
    "refusal",
    [
        b"-READONLY You can't write against a read only replica.",
        b"-LOADING the server is loading the dataset in memory",
        b"-BUSY a script is running",
        b"-MISCONF errors writing to disk",
        b"-NOAUTH Authentication required.",
        b"-OOM command not allowed",
        b"-ERR max number of clients reached",
    ],
)
async def test_a_refusing_server_is_unreachable_and_left_for_a_new_connection(refusal: bytes, tmp_path: Path) -> None:
    connections: list[asyncio.StreamWriter] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        while await reader.read(4096):
            writer.write(refusal + b"\r\n")

    path = Path("/tmp") / f"kb-{new_token()[:8]}"
    server = await asyncio.start_unix_server(refuse, path)
    store = RedisLeaseStore(f"unix://{path}", clock=SystemClock(), call_timeout_s=0.5)
    try:
        for tries in (1, 2):
            with pytest.raises(StoreUnreachable):
                await store.acquire(NAME, "one", token=new_token(), ttl_s=TTL_S)
            assert len(connections) == tries
    finally:
        await store.close()
        for writer in connections:
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("url", ["redis://user:secret@localhost:6379/3?health_check_interval=9", "rediss://localhost"])
def test_no_connection_retries_or_checks_health_whatever_the_url_says(url: str) -> None:
    connection = connection_factory(url, 1.5)()
    assert connection.health_check_interval == 0
    assert connection.retry._retries == 0
    assert connection.socket_connect_timeout == 1.5
    assert connection.socket_keepalive  # type: ignore[attr-defined]  # of the TCP kinds only


def test_an_unreadable_url_is_refused_before_any_connection() -> None:
    with pytest.raises(ValueError):
        RedisLeaseStore("http://localhost", clock=SystemClock())
