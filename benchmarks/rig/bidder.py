"""One bidder in a process of its own: a real Candidate, or the usual lock. It writes down when its terms begin and end.

Forked from a server that has imported this module, so that twenty of them start within a moment and share memory. The
diary is one file for all: a line per write, whole lines only, and it keeps what a killed process had written.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog
from redis.asyncio import Redis

from benchmarks.rig.locked import Lock
from kiebot.clock import SystemClock
from kiebot.lease.candidate import Candidate
from kiebot.lease.redis import RedisLeaseStore
from kiebot.lease.term import Term, Timing
from kiebot.storage.engine import make_engine, ping
from kiebot.storage.inbox import PostgresInbox

_BOT_ID = 1
LEASE = "poller"


@dataclass(frozen=True)
class Place:
    """Where bidders meet."""

    redis_url: str
    database_url: str
    prefix: str
    diary: Path


@dataclass(frozen=True)
class Line:
    """One line of the diary. at: seconds of the system's monotonic clock; epoch: of the fence, 0 without one."""

    at: float
    what: str
    bidder: str
    epoch: int = 0


def read(text: str) -> list[Line]:
    return [Line(**json.loads(line)) for line in text.splitlines()]


def run(kind: str, name: str, place: Place) -> None:
    """Bid until SIGTERM. kind: kiebot or locked."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_until_asked_to_leave(_candidate if kind == "kiebot" else _locked, name, place))


async def _until_asked_to_leave(bid: Callable[[str, Place], Awaitable[None]], name: str, place: Place) -> None:
    task = asyncio.ensure_future(bid(name, place))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await task


async def _candidate(name: str, place: Place) -> None:
    clock, engine = SystemClock(), make_engine(place.database_url, pool_size=1)
    await ping(engine)  # a replica's connection is there already
    inbox = PostgresInbox(engine, _BOT_ID)

    async def lead(term: Term) -> None:
        fence = await inbox.take_fence(term.token, name)
        await _hold(name, place, fence.epoch)

    store = RedisLeaseStore(place.redis_url, clock=clock, prefix=place.prefix)
    candidate = Candidate(store, name=LEASE, replica=name, clock=clock, timing=Timing(), work=lead)
    _write(place, "ready", name)
    try:
        await candidate.run()
    finally:
        await store.close()
        await engine.dispose()


async def _locked(name: str, place: Place) -> None:
    lock = Lock(Redis.from_url(place.redis_url), f"{place.prefix}:lock", ttl_s=Timing().ttl_s)
    _write(place, "ready", name)
    await lock.wait()
    keeping = asyncio.create_task(lock.keep())
    try:
        await _hold(name, place, 0)
    finally:
        keeping.cancel()
        await lock.release()


async def _hold(name: str, place: Place, epoch: int) -> None:
    _write(place, "began", name, epoch)
    try:
        await asyncio.Event().wait()
    finally:
        _write(place, "ended", name, epoch)


def _write(place: Place, what: str, name: str, epoch: int = 0) -> None:
    line = json.dumps(asdict(Line(time.monotonic(), what, name, epoch))) + "\n"
    diary = os.open(place.diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(diary, line.encode())
    finally:
        os.close(diary)
