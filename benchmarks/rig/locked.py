"""Another baseline: the plain bot in several processes, with the lock in Redis that everybody writes.

`SET key token NX PX ttl` says who polls. Whoever holds it renews it at a third of its life and gives it back on
SIGTERM; the others try again every second. What it lacks is the point of the comparison: nobody hears that the lock is
free, a holder learns of its loss only between two polls and never by its own clock, and nothing that is written to
asks who writes.

Environment: as the plain bot, and REDIS_URL, REDIS_PREFIX, LOCK_TTL_S (10).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError
from telegram.error import TelegramError
from telegram.ext import Application

from benchmarks.rig.plain import ALLOWED_UPDATES, make_application
from kiebot.ids import new_token

TRY_AGAIN_S = 1.0
_POLL_S = 10
_AFTER_ERROR_S = 1.0
_RENEW = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0"
_RELEASE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"


class Lock:
    """One process's view of the lock. `is_held` is what it was told last."""

    def __init__(self, redis: Redis, key: str, *, ttl_s: float) -> None:
        self._redis = redis
        self._key = key
        self._token = new_token()
        self._ttl_s = ttl_s
        self._renew = redis.register_script(_RENEW)
        self._release = redis.register_script(_RELEASE)
        self.is_held = False

    async def wait(self) -> None:
        """Until it is ours."""
        while not self.is_held:
            with contextlib.suppress(RedisError, OSError):
                self.is_held = bool(await self._redis.set(self._key, self._token, nx=True, px=int(self._ttl_s * 1000)))
            if not self.is_held:
                await asyncio.sleep(TRY_AGAIN_S)

    async def keep(self) -> None:
        """Renew it until it is lost. A renewal that fails is left for the next."""
        while self.is_held:
            await asyncio.sleep(self._ttl_s / 3)
            with contextlib.suppress(RedisError, OSError):
                self.is_held = bool(await self._renew(keys=[self._key], args=[self._token, int(self._ttl_s * 1000)]))

    async def release(self) -> None:
        self.is_held = False
        await self._release(keys=[self._key], args=[self._token])


async def poll(application: Application[Any, Any, Any, Any, Any, Any], lock: Lock) -> None:
    """Handle updates one after the other while the lock is believed to be ours."""
    offset = 0
    while lock.is_held:
        try:
            updates = await application.bot.get_updates(offset, timeout=_POLL_S, allowed_updates=ALLOWED_UPDATES)
        except TelegramError as error:
            print(f"poll failed: {error}", flush=True)
            await asyncio.sleep(_AFTER_ERROR_S)
            continue
        for update in updates:
            await application.process_update(update)
            offset = update.update_id + 1


async def serve() -> None:
    """Wait, poll, lose the lock, wait again; until SIGTERM."""
    redis = Redis.from_url(os.environ["REDIS_URL"])
    lock = Lock(redis, f"{os.environ['REDIS_PREFIX']}:lock", ttl_s=float(os.environ.get("LOCK_TTL_S", "10")))
    async with make_application() as application:
        task = asyncio.create_task(_take_turns(application, lock))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await lock.release()
    await redis.aclose()


async def _take_turns(application: Application[Any, Any, Any, Any, Any, Any], lock: Lock) -> None:
    print("waiting", flush=True)
    while True:
        await lock.wait()
        print("polling", flush=True)
        keeping = asyncio.create_task(lock.keep())
        try:
            await poll(application, lock)
        finally:
            keeping.cancel()


if __name__ == "__main__":
    sys.exit(asyncio.run(serve()))
