"""What the lease store in Postgres owes beyond the port."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from kiebot.clock import SystemClock
from kiebot.ids import new_token
from kiebot.lease.postgres import PostgresLeaseStore
from kiebot.lease.postgres_session import PoolerInBetween, open_session
from kiebot.lease.protocol import Lease, StoreUnreachable

from .pooler import picky_pooler, transaction_pooler
from .waiting import until

TTL_S = 5.0
NAME = "poller"

OpenStore = Callable[[], PostgresLeaseStore]


@pytest.fixture
def prefix() -> str:
    return new_token()


@pytest.fixture
async def open_store(shared_database_url: str, prefix: str) -> AsyncIterator[OpenStore]:
    async with AsyncExitStack() as stack:

        def open_one() -> PostgresLeaseStore:
            store = PostgresLeaseStore(shared_database_url, clock=SystemClock(), prefix=prefix, call_timeout_s=0.8)
            stack.push_async_callback(store.close)
            return store

        yield open_one


@pytest.fixture
async def admin(shared_database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(shared_database_url)
    yield connection
    await connection.close()


async def _won(store: PostgresLeaseStore, token: str | None = None) -> Lease:
    lease = await store.acquire(NAME, "one", token=token or new_token(), ttl_s=TTL_S)
    assert lease is not None
    return lease


async def _pid(admin: Any, prefix: str) -> int:
    return int(await admin.fetchval("SELECT pid FROM lease_beats WHERE name = $1", f"{prefix}:{NAME}"))


async def test_a_pooler_that_shares_sessions_is_refused_with_the_fix_in_words(shared_database_url: str) -> None:
    with tempfile.TemporaryDirectory(prefix="kb") as directory:
        async with transaction_pooler(shared_database_url, Path(directory)) as url:
            store = PostgresLeaseStore(url, clock=SystemClock(), prefix=new_token())
            for _ in range(2):
                with pytest.raises(PoolerInBetween, match="in LEASE_URL name the direct address"):
                    await store.acquire(NAME, "one", token=new_token(), ttl_s=TTL_S)
            with pytest.raises(PoolerInBetween):
                await store.wait_for_change(NAME, 1)
            await store.close()


async def test_a_pooler_that_refuses_a_setting_is_named_with_that_setting_and_its_mode_is_not_guessed() -> None:
    with tempfile.TemporaryDirectory(prefix="kb") as directory:
        async with picky_pooler(Path(directory), "tcp_user_timeout") as url:
            store = PostgresLeaseStore(url, clock=SystemClock(), prefix=new_token())
            with pytest.raises(StoreUnreachable) as raised:
                await store.acquire(NAME, "one", token=new_token(), ttl_s=TTL_S)
            await store.close()
    assert not isinstance(raised.value, PoolerInBetween)
    assert "unsupported startup parameter: tcp_user_timeout" in str(raised.value)
    assert "ignore_startup_parameters" in str(raised.value)


async def test_a_session_ended_by_the_server_ends_the_term_and_frees_the_lease(
    open_store: OpenStore, admin: Any, prefix: str
) -> None:
    first, second = open_store(), open_store()
    lease = await _won(first)
    await admin.fetchval("SELECT pg_terminate_backend($1)", await _pid(admin, prefix))
    await until(lambda: second.holder(NAME), None)
    assert await first.renew(lease, ttl_s=TTL_S) is None
    await first.release(lease)
    await _won(second)


async def test_a_lock_that_was_lost_without_its_session_is_not_renewed(
    open_store: OpenStore, admin: Any, prefix: str
) -> None:
    store = open_store()
    lease = await _won(store)
    await admin.execute("UPDATE lease_beats SET token = 'another' WHERE name = $1", f"{prefix}:{NAME}")
    assert await store.renew(lease, ttl_s=TTL_S) is None
    await until(lambda: store.holder(NAME), None)


async def test_a_frozen_server_is_unreachable_in_time_and_its_session_is_given_up(
    open_store: OpenStore, admin: Any, prefix: str
) -> None:
    first, second = open_store(), open_store()
    lease = await _won(first)
    assert await second.holder(NAME) is not None
    frozen = await _pid(admin, prefix)
    os.kill(frozen, signal.SIGSTOP)
    try:
        async with asyncio.timeout(20):
            with pytest.raises(StoreUnreachable):
                await first.renew(lease, ttl_s=TTL_S)
            with pytest.raises(StoreUnreachable):  # no signal reaches it: nobody is let in beside it
                await second.seize(NAME, "two", dead_token=lease.token, token=new_token(), ttl_s=TTL_S)
        assert await first.renew(lease, ttl_s=TTL_S) is None
        assert await second.acquire(NAME, "two", token=new_token(), ttl_s=TTL_S) is None
    finally:
        os.kill(frozen, signal.SIGCONT)
    await until(lambda: second.holder(NAME), None)
    await _won(second)


async def test_a_bid_whose_answer_was_lost_takes_over_from_its_own_session(open_store: OpenStore) -> None:
    lost, again = open_store(), open_store()
    lease = await _won(lost)
    assert (await _won(again, lease.token)).token == lease.token
    assert await lost.renew(lease, ttl_s=TTL_S) is None
    assert await again.renew(lease, ttl_s=TTL_S) is not None


async def test_a_strangers_lock_under_our_key_holds_the_lease_and_is_left_alone(
    open_store: OpenStore, admin: Any, prefix: str
) -> None:
    first, second = open_store(), open_store()
    lease = await _won(first)
    key = await admin.fetchval(
        "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND pid = $1",
        await _pid(admin, prefix),
    )
    await first.release(lease)
    await admin.fetchval("SELECT pg_advisory_lock($1)", key)
    holder = await second.holder(NAME)
    assert holder is not None and holder.replica.startswith("unknown") and holder.remaining_s == float("inf")
    assert await second.acquire(NAME, "two", token=new_token(), ttl_s=TTL_S) is None
    assert await second.seize(NAME, "two", dead_token=holder.token, token=new_token(), ttl_s=TTL_S) is None
    await admin.fetchval("SELECT pg_advisory_unlock($1)", key)
    await _won(second)


async def test_a_doorbell_whose_session_was_ended_still_hears_the_next_ring(open_store: OpenStore, admin: Any) -> None:
    holder, standby = open_store(), open_store()
    lease = await _won(holder)
    wait = asyncio.create_task(standby.wait_for_change(NAME, 5))
    await asyncio.sleep(0.1)
    await admin.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'kiebot lease'"
        " AND query LIKE '%rung_at = NULL%'"
    )
    await asyncio.sleep(0.1)
    await holder.release(lease)
    assert await wait


async def test_a_database_without_the_table_is_told_apart_and_the_fix_is_named(shared_database_url: str) -> None:
    store = PostgresLeaseStore(f"{shared_database_url}&search_path=pg_catalog", clock=SystemClock())
    with pytest.raises(StoreUnreachable, match="kiebot migrate"):
        await store.holder(NAME)
    await store.close()


async def test_no_statement_of_a_session_waits_longer_than_a_call_may(shared_database_url: str) -> None:
    session = await open_session(shared_database_url, timeout_s=0.25)
    (shown,) = await session.ask("SELECT current_setting('statement_timeout') AS limit")
    assert shown["limit"] == "250ms"
    with pytest.raises((asyncpg.QueryCanceledError, TimeoutError)):
        await session.ask("SELECT pg_sleep(1)")
    assert not session.is_open


async def test_two_clusters_share_a_database(shared_database_url: str) -> None:
    stores = [PostgresLeaseStore(shared_database_url, clock=SystemClock(), prefix=new_token()) for _ in range(2)]
    for store in stores:
        await _won(store)
    await asyncio.gather(*(store.close() for store in stores))
