"""What the lease store in a file owes beyond the port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from kiebot.clock import SystemClock
from kiebot.ids import new_token
from kiebot.lease.file import FileLeaseStore, path_of
from kiebot.lease.protocol import Lease

from .waiting import until

TTL_S = 5.0
NAME = "poller"

OpenStore = Callable[[], FileLeaseStore]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "lease"


@pytest.fixture
async def open_store(place: Path) -> AsyncIterator[OpenStore]:
    async with AsyncExitStack() as stack:

        def open_one() -> FileLeaseStore:
            store = FileLeaseStore(place.as_uri(), clock=SystemClock())
            stack.push_async_callback(store.close)
            return store

        yield open_one


def _file(place: Path, kind: str) -> Path:
    (found,) = place.parent.glob(f"*.{kind}")
    return found


async def _won(store: FileLeaseStore, ttl_s: float = TTL_S) -> Lease:
    lease = await store.acquire(NAME, "one", token=new_token(), ttl_s=ttl_s)
    assert lease is not None
    return lease


async def test_a_deleted_lock_file_never_makes_two_holders(open_store: OpenStore, place: Path) -> None:
    first, second = open_store(), open_store()
    lease = await _won(first)
    _file(place, "lock").unlink()
    holder = await second.holder(NAME)
    assert holder is not None and holder.token == lease.token
    for _ in range(3):
        assert await second.acquire(NAME, "two", token=new_token(), ttl_s=TTL_S) is None
    assert await first.renew(lease, ttl_s=TTL_S) is None
    assert await second.holder(NAME) is None
    await _won(second)
    assert await first.renew(lease, ttl_s=TTL_S) is None


async def test_a_holder_of_a_deleted_file_that_is_silent_for_its_ttl_is_succeeded(
    open_store: OpenStore, place: Path
) -> None:
    first, second = open_store(), open_store()
    lease = await _won(first, ttl_s=0.3)
    _file(place, "lock").unlink()
    token = new_token()
    assert await second.acquire(NAME, "two", token=token, ttl_s=TTL_S) is None
    await asyncio.sleep(0.35)
    assert await second.acquire(NAME, "two", token=token, ttl_s=TTL_S) is not None
    assert await first.renew(lease, ttl_s=TTL_S) is None
    await first.release(lease)
    assert await second.renew(Lease(NAME, "two", token, 0.0), ttl_s=TTL_S) is not None


async def test_a_lock_file_replaced_by_another_ends_the_term(open_store: OpenStore, place: Path) -> None:
    store = open_store()
    lease = await _won(store)
    path = _file(place, "lock")
    other = path.with_name("other")
    other.touch()
    other.replace(path)
    assert await store.renew(lease, ttl_s=TTL_S) is None
    await _won(store)


@pytest.mark.parametrize("rubbish", ["", "{", "[]", '{"token": 1}', "null"])
async def test_a_record_that_somebody_spoiled_is_written_anew(open_store: OpenStore, place: Path, rubbish: str) -> None:
    first, second = open_store(), open_store()
    lease = await _won(first)
    _file(place, "json").write_text(rubbish)
    assert await second.holder(NAME) is None
    assert await second.acquire(NAME, "two", token=new_token(), ttl_s=TTL_S) is None
    assert await first.renew(lease, ttl_s=TTL_S) is not None
    holder = await second.holder(NAME)
    assert holder is not None and holder.token == lease.token


async def test_a_program_started_by_the_holder_does_not_keep_the_lock(open_store: OpenStore) -> None:
    first, second = open_store(), open_store()
    lease = await _won(first)
    child = await asyncio.create_subprocess_exec("sleep", "30")
    await first.release(lease)
    await _won(second)
    child.kill()
    await child.wait()


async def test_names_may_hold_what_a_path_may_not(open_store: OpenStore, place: Path) -> None:
    store = open_store()
    names = ["poller:1", "poller-1", "../x", "a\\b|c?*", "Ш" * 200]
    for name in names:
        assert await store.acquire(name, "one", token=new_token(), ttl_s=TTL_S) is not None
    assert len(list(place.parent.glob("*.lock"))) == len(names)
    assert {path.parent for path in place.parent.rglob("*.lock")} == {place.parent}


async def test_giving_back_leaves_no_name_behind(open_store: OpenStore, place: Path) -> None:
    store = open_store()
    await store.release(await _won(store))
    assert {path.suffix for path in place.parent.iterdir()} == {".lock", ".bell"}
    await until(lambda: store.wait_for_change(NAME, 0), True)
    assert {path.suffix for path in place.parent.iterdir()} == {".lock"}


def test_an_address_names_an_absolute_path(tmp_path: Path) -> None:
    assert path_of((tmp_path / "a b").as_uri()) == tmp_path / "a b"
    for url in ("file://host/x", "file:///", "file:x", "file://", "http:///x"):
        with pytest.raises(ValueError, match="absolute path"):
            path_of(url)
