"""The lease in a file of one host: a lock of the kernel, held as long as the term lasts. No service is needed.

Beside the path of `file:///path/to/lock` lie, for each lease, the file that is locked, a record of its holder (for
standbys and `status`), and the doorbell. The kernel frees the lock when its holder's process ends, however it ends;
standbys look every 200 ms. So nothing expires here, and a renewal only checks that the lock still stands.

- A **frozen** holder keeps the lease: no standby can take a kernel's lock away. `seize` succeeds only when the process
  is gone. Whoever needs more than that uses Redis or Postgres.
- A **deleted** lock file does not make two holders. The holder finds at its next renewal that the path no longer names
  what it locked, and stops; until then, or until its record has not changed for its TTL, nobody locks the new file for
  more than an instant. Only deleting the record as well leaves room for two, for one renewal interval.
- The path must be on a local file system. Network ones, and some that containers mount, lock each host for itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from kiebot.clock import Clock
from kiebot.ids import new_token
from kiebot.lease.beat import BeatWatch
from kiebot.lease.file_lock import (
    LockedFile,
    Record,
    hear,
    identity_at,
    lock_soon,
    read_record,
    remove,
    ring,
    try_lock,
    write_record,
)
from kiebot.lease.protocol import Holder, Lease, StoreUnreachable

_LISTEN_S = 0.05

Answer = TypeVar("Answer")


def path_of(url: str) -> Path:
    """The absolute path that a `file:///` URL names. Raises: ValueError, whose text says what is wrong."""
    parts = urlsplit(url)
    path = Path(url2pathname(parts.path))
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not path.is_absolute() or not path.name:
        raise ValueError("must be file:/// and an absolute path on this host")
    return path


@dataclass(frozen=True, slots=True)
class _Held:
    """A term of this process."""

    token: str
    lock: LockedFile


class FileLeaseStore:
    """One replica's view of the lease on this host. Touches the disk in one thread of its own, one call at a time."""

    def __init__(self, url: str, *, clock: Clock, prefix: str = "kiebot", call_timeout_s: float = 1.5) -> None:
        """Raises: ValueError, when the URL names no absolute path."""
        self._clock = clock
        self._timeout_s = call_timeout_s
        self._files = _Files(path_of(url), prefix)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kiebot-lease")
        self._held: dict[str, _Held] = {}  # by name; this and the watches are touched in the thread only
        self._watches: dict[str, BeatWatch] = {}
        self._is_closed = False

    async def acquire(self, name: str, replica: str, *, token: str, ttl_s: float) -> Lease | None:
        lease = Lease(name, replica, token, self._clock.monotonic())
        return lease if await self._run(lambda: self._acquire(lease, ttl_s)) else None

    async def renew(self, lease: Lease, *, ttl_s: float) -> Lease | None:
        renewed = Lease(lease.name, lease.replica, lease.token, self._clock.monotonic())
        return renewed if await self._run(lambda: self._renew(renewed, ttl_s)) else None

    async def release(self, lease: Lease) -> None:
        await self._run(lambda: self._release(lease))

    async def holder(self, name: str) -> Holder | None:
        return await self._run(lambda: self._holder(name))

    async def wait_for_change(self, name: str, timeout_s: float) -> bool:
        """Looks twenty times a second: no way to wait for a file works everywhere."""
        bell = self._files.bell(name)
        until = self._clock.monotonic() + timeout_s
        while True:
            if await self._run(lambda: hear(bell)):
                return True
            left_s = until - self._clock.monotonic()
            if left_s <= 0:
                return False
            await self._clock.sleep(min(left_s, _LISTEN_S))

    async def seize(self, name: str, replica: str, *, dead_token: str, token: str, ttl_s: float) -> Lease | None:
        lease = Lease(name, replica, token, self._clock.monotonic())
        return lease if await self._run(lambda: self._seize(lease, dead_token, ttl_s)) else None

    async def holder_is_connected(self, name: str, token: str) -> bool | None:
        holder = await self.holder(name)
        return holder is not None and holder.token == token

    async def nudge(self, token: str) -> None:
        """Nobody to nudge: a lease in this store does not vanish under its holder."""

    async def wait_for_nudge(self, token: str) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        if self._is_closed:
            return
        try:
            await self._run(self._let_go_of_all)
        finally:
            self._is_closed = True
            self._thread.shutdown(wait=False)

    async def _run(self, act: Callable[[], Answer]) -> Answer:
        """An act that outlasts the timeout still ends, before the next begins: repeating it finds what it did."""
        if self._is_closed:
            raise StoreUnreachable("this store was closed")
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._thread, act)
        except TimeoutError as error:
            raise StoreUnreachable(f"the disk gave no answer within {self._timeout_s:g} s") from error
        except OSError as error:
            raise StoreUnreachable(f"{type(error).__name__}: {str(error)[:200]}") from error

    # In the thread.

    def _acquire(self, lease: Lease, ttl_s: float) -> bool:
        held = self._held.get(lease.name)
        if held is not None:
            return held.token == lease.token and self._renew(lease, ttl_s)
        self._files.root.parent.mkdir(parents=True, exist_ok=True)
        lock = lock_soon(self._files.lock(lease.name))
        if lock is None:
            return False
        try:
            if self._is_held_through_a_lost_file(lease.name, lock.identity):
                lock.unlock()
                return False
            self._write(lease, ttl_s, lock.identity)
        except BaseException:
            lock.unlock()
            raise
        self._held[lease.name] = _Held(lease.token, lock)
        return True

    def _renew(self, lease: Lease, ttl_s: float) -> bool:
        held = self._held.get(lease.name)
        if held is None or held.token != lease.token:
            return False
        if not held.lock.is_in_place():
            self._let_go(lease.name)
            return False
        self._write(lease, ttl_s, held.lock.identity)
        return True

    def _release(self, lease: Lease) -> None:
        held = self._held.get(lease.name)
        if held is not None and held.token == lease.token:
            self._let_go(lease.name)
            ring(self._files.bell(lease.name))

    def _seize(self, lease: Lease, dead_token: str, ttl_s: float) -> bool:
        record = read_record(self._files.record(lease.name))
        return record is not None and record.token in (dead_token, lease.token) and self._acquire(lease, ttl_s)

    def _holder(self, name: str) -> Holder | None:
        record = read_record(self._files.record(name))
        if record is None:
            return None
        left_s = self._left(name, record)
        return Holder(record.replica, record.token, left_s) if self._stands(name, record, left_s) else None

    def _stands(self, name: str, record: Record, left_s: float) -> bool:
        path = self._files.lock(name)
        if name in self._held:
            return True
        if identity_at(path) != record.locked:
            return left_s > 0
        lock = try_lock(path)  # the only way to see it; `lock_soon` makes room for such looks
        if lock is not None:
            lock.unlock()
        return lock is None

    def _is_held_through_a_lost_file(self, name: str, identity: str) -> bool:
        """Whether somebody may still hold the file that used to be in the place of the one we have just locked."""
        record = read_record(self._files.record(name))
        return record is not None and record.locked != identity and self._left(name, record) > 0

    def _left(self, name: str, record: Record) -> float:
        watch = self._watches.setdefault(name, BeatWatch())
        return watch.remaining(self._clock.monotonic(), record.beat, record.ttl_s)

    def _write(self, lease: Lease, ttl_s: float, identity: str) -> None:
        at = self._clock.now().isoformat(timespec="milliseconds")
        record = Record(lease.token, lease.replica, ttl_s, new_token(), identity, at)
        write_record(self._files.record(lease.name), record)

    def _let_go(self, name: str) -> None:
        """Remove our record, then unlock; in this order nobody finds the lock free under our name."""
        held = self._held.pop(name)
        path = self._files.record(name)
        try:
            record = read_record(path)
            if record is not None and record.token == held.token:
                remove(path)
        finally:
            held.lock.unlock()

    def _let_go_of_all(self) -> None:
        for name in list(self._held):
            self._let_go(name)


class _Files:
    """The paths of each lease, beside the one that was given. Names are free text; paths are not, on every system."""

    def __init__(self, root: Path, prefix: str) -> None:
        self.root = root
        self._prefix = prefix

    def lock(self, name: str) -> Path:
        return self._beside(name, "lock")

    def record(self, name: str) -> Path:
        return self._beside(name, "json")

    def bell(self, name: str) -> Path:
        return self._beside(name, "bell")

    def _beside(self, name: str, kind: str) -> Path:
        full = f"{self._prefix}:{name}"
        readable = re.sub(r"[^A-Za-z0-9_-]+", "-", full)[:60]
        digest = hashlib.sha256(full.encode()).hexdigest()[:8]
        return self.root.with_name(f"{self.root.name}-{readable}-{digest}.{kind}")
