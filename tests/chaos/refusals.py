"""Ways in which a Redis that runs refuses its work: each begins and ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.chaos.rig import Rig

Step = Callable[[], Awaitable[object]]
_SPIN = "while true do end"
_LOADED_SLOWLY_S = 0.01  # per key
_FILLER = "filler:{}"
_FILLER_BYTES = 4000
_SAVED_S = 5.0


@dataclass(frozen=True)
class Refusal:
    """`name` is how the server's errors begin, where they do."""

    name: str
    begin: Step
    end: Step


def refusals(rig: Rig, for_s: float) -> list[Refusal]:
    """All of them. `for_s`: how long a caller leaves between begin and end; what ends by itself lasts as long."""
    tasks: list[asyncio.Task[None]] = []

    def begins(act: Callable[[], Coroutine[None, None, None]]) -> Step:
        async def begin() -> None:
            tasks.append(asyncio.create_task(act()))

        return begin

    async def over() -> None:
        await asyncio.gather(*tasks)
        tasks.clear()

    async def spin() -> None:
        await rig.redis.config_set("busy-reply-threshold", "50")
        await _spin(rig)

    async def end_script() -> None:
        await rig.redis.script_kill()
        await over()

    return [
        Refusal("READONLY", _asks(rig, "REPLICAOF", "127.0.0.1", "1"), _asks(rig, "REPLICAOF", "NO", "ONE")),
        Refusal("LOADING", begins(lambda: _reload_slowly(rig, for_s)), over),
        Refusal("BUSY", begins(spin), end_script),
        Refusal("MISCONF", lambda: _fail_to_save(rig), lambda: _save_again(rig)),
        Refusal("NOREPLICAS", _sets(rig, "min-replicas-to-write", "1"), _sets(rig, "min-replicas-to-write", "0")),
        Refusal("NOAUTH", lambda: _new_password(rig), _sets(rig, "requirepass", rig.stores.redis.password)),
        Refusal("maxclients", lambda: _one_client(rig), _sets(rig, "maxclients", "10000")),
    ]


def _asks(rig: Rig, *command: str) -> Step:
    return lambda: rig.ask(*command)


def _sets(rig: Rig, name: str, value: str) -> Step:
    return lambda: rig.redis.config_set(name, value)


async def _others_leave(rig: Rig) -> None:
    await rig.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


async def _new_password(rig: Rig) -> None:
    await rig.redis.config_set("requirepass", "another")
    await _others_leave(rig)


async def _one_client(rig: Rig) -> None:
    await rig.redis.config_set("maxclients", "1")
    await _others_leave(rig)


async def _reload_slowly(rig: Rig, for_s: float) -> None:
    """The server loads a snapshot of what it has, key by key, and answers LOADING meanwhile."""
    names = [_FILLER.format(number) for number in range(int(for_s / _LOADED_SLOWLY_S))]
    async with _patient(rig) as redis:
        await redis.mset({name: os.urandom(_FILLER_BYTES) for name in names})  # random bytes are not compressed
        await redis.config_set("key-load-delay", str(int(_LOADED_SLOWLY_S * 1e6)))
        await redis.config_set("loading-process-events-interval-bytes", "1024")
        await redis.execute_command("DEBUG", "RELOAD")  # type: ignore[no-untyped-call]  # untyped in redis-py
        await redis.config_set("key-load-delay", "0")
        await redis.delete(*names)


async def _spin(rig: Rig) -> None:
    async with _patient(rig) as redis:
        with contextlib.suppress(RedisError):  # it is killed in the end
            await redis.execute_command("EVAL", _SPIN, "0")  # type: ignore[no-untyped-call]  # untyped in redis-py


@contextlib.asynccontextmanager
async def _patient(rig: Rig) -> AsyncIterator[Redis]:
    """A client that waits for an answer as long as it takes."""
    redis = Redis.from_url(rig.stores.redis.url)
    try:
        yield redis
    finally:
        await redis.aclose()


async def _fail_to_save(rig: Rig) -> None:
    """A directory stands where the snapshot goes: it cannot be written, and the server takes no writes any more."""
    place = await _snapshot(rig)
    place.unlink(missing_ok=True)
    (place / "full").mkdir(parents=True)
    await rig.redis.config_set("stop-writes-on-bgsave-error", "yes")
    await rig.redis.config_set("save", "3600 1")
    await _save(rig, "err")


async def _save_again(rig: Rig) -> None:
    shutil.rmtree(await _snapshot(rig))
    await _save(rig, "ok")
    await rig.redis.config_set("save", "")


async def _snapshot(rig: Rig) -> Path:
    told = {**await rig.redis.config_get("dir"), **await rig.redis.config_get("dbfilename")}
    return Path(str(told["dir"])) / str(told["dbfilename"])


async def _save(rig: Rig, outcome: str) -> None:
    """Raises: TimeoutError, when saving does not end like that."""
    await rig.redis.bgsave()
    async with asyncio.timeout(_SAVED_S):
        while (await rig.redis.info("persistence"))["rdb_last_bgsave_status"] != outcome:
            await asyncio.sleep(0.01)
