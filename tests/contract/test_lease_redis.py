"""What the lease store in Redis owes beyond the port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from kiebot.clock import SystemClock
from kiebot.ids import new_token
from kiebot.lease.protocol import Lease, LeaseStore, StoreUnreachable
from kiebot.lease.redis import RedisLeaseStore
from kiebot.lease.redis_line import connection_factory

from .waiting import until

TTL_S = 5.0
NAME = "poller"


async def _won(store: LeaseStore, ttl_s: float = TTL_S) -> Lease:
    lease = await store.acquire(NAME, "one", token=new_token(), ttl_s=ttl_s)
    assert lease is not None
    return lease


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
    with pytest.raises(StoreUnreachable):  # who waited longer would be answered after the pause
        await redis_store.renew(lease, ttl_s=TTL_S)
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
    await until(lambda: redis_store.holder_is_connected(NAME, lease.token), True)
    await admin.client_kill_filter(_type="pubsub")
    await until(lambda: redis_store.holder_is_connected(NAME, lease.token), True, within_s=0.25)


async def test_one_look_tells_whether_the_holder_is_connected(redis_store: RedisLeaseStore) -> None:
    lease = await _won(redis_store)
    await until(lambda: redis_store.holder_is_connected(NAME, lease.token), True)
    holder = await redis_store.holder(NAME)
    assert holder is not None and (holder.replica, holder.token, holder.is_connected) == ("one", lease.token, True)
    await redis_store.close()
    await until(lambda: redis_store.holder_is_connected(NAME, lease.token), False)
    holder = await redis_store.holder(NAME)
    assert holder is not None and holder.is_connected is False


async def test_a_user_without_pubsub_still_sees_the_holder(valkey_url: str, admin: Redis) -> None:
    prefix = new_token()
    store = RedisLeaseStore(valkey_url, clock=SystemClock(), prefix=prefix)
    await admin.acl_setuser("mute", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-pubsub"])
    mute = RedisLeaseStore(f"{valkey_url}?username=mute&password=any", clock=SystemClock(), prefix=prefix)
    try:
        lease = await _won(store)
        holder = await mute.holder(NAME)
        assert holder is not None and (holder.token, holder.is_connected) == (lease.token, None)
        assert await mute.holder_is_connected(NAME, lease.token) is None
    finally:
        await store.close()
        await mute.close()
        await admin.acl_deluser("mute")


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
