"""The keeper's life: one per home, as long as anybody uses it, no longer; and what the death of each one does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psutil
from redis import Redis
from redis.exceptions import RedisError

from kiebot.engines import Engines, await_stop, open_engines, status
from tests.engines.engines_help import UserProcess, engine_pids, pids_of, wait_until

StartUser = Callable[..., UserProcess]


async def test_the_last_one_out_stops_the_engines_and_nothing_is_left(home: Path, start_user: StartUser) -> None:
    first, second = start_user(home), start_user(home)
    assert first.opened() == second.opened()
    before = engine_pids(home)
    first.leave()
    with open_engines(home, durable=False) as engines:
        second.leave()
        assert await one(engines) == 1
        assert engine_pids(home) == before
        everything = pids_of(home)
    assert await_stop(home)
    assert not [pid for pid in everything if psutil.pid_exists(pid) and not is_zombie(pid)]
    assert not sockets_of(engines).exists()
    assert not status(home).running


async def test_a_killed_user_takes_nothing_along(home: Path, start_user: StartUser) -> None:
    first, second = start_user(home), start_user(home)  # either may have started the keeper
    first.opened(), second.opened()
    with open_engines(home, durable=False) as engines:
        before = engine_pids(home)
        first.kill()
        second.kill()
        assert await one(engines) == 1
        assert engine_pids(home) == before
    assert await_stop(home)


def test_a_killed_last_user_lets_the_engines_stop(home: Path, start_user: StartUser) -> None:
    user = start_user(home)
    user.opened()
    user.kill()
    assert await_stop(home)


async def test_a_killed_keeper_takes_the_engines_along_and_the_next_one_finds_the_data(home: Path) -> None:
    with open_engines(home, durable=False) as engines:
        await stores(engines, "42")
        everything = pids_of(home)
    os.kill(engine_pids(home)["keeper"], signal.SIGKILL)
    assert await_stop(home)
    assert not [pid for pid in everything if psutil.pid_exists(pid) and not is_zombie(pid)]
    with open_engines(home, durable=False, linger_s=0) as again:
        assert again == engines
        assert await stored(again) == ("42", "42")


async def test_reopening_right_after_the_kill_never_gets_the_dying_engines(home: Path) -> None:
    for _ in range(2):
        with open_engines(home, durable=False, linger_s=0):
            old = engine_pids(home)
            os.kill(old["keeper"], signal.SIGKILL)
            wait_until(partial(keeper_is_not, home, old["keeper"]))  # its engines may still answer
            with open_engines(home, durable=False, linger_s=0) as engines:
                assert engine_pids(home)["postgres"] != old["postgres"]
                assert await one(engines) == 1


def test_users_replace_a_killed_keeper_by_themselves(home: Path) -> None:
    with open_engines(home, durable=False, linger_s=0) as engines:
        old = engine_pids(home)["keeper"]
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: status(home).keeper_pid not in (None, old))
        assert pings(engines)


async def test_an_engine_that_dies_is_started_again(home: Path) -> None:
    with open_engines(home, durable=False, linger_s=0) as engines:
        before = engine_pids(home)
        os.kill(before["postgres"], signal.SIGKILL)
        os.kill(before["redis"], signal.SIGKILL)
        wait_until(lambda: len(psutil.Process(before["keeper"]).children()) == 2 and pings(engines))
        assert engine_pids(home)["keeper"] == before["keeper"]
        assert engine_pids(home)["postgres"] != before["postgres"]
        with open_engines(home, durable=False) as joined:  # returns once both answer
            assert await one(joined) == 1


def test_many_who_arrive_together_share_one_keeper(home: Path, start_user: StartUser) -> None:
    log = home / "engines/logs/keeper.log"
    before = log.read_text().count("serving")
    users = [start_user(home) for _ in range(4)]
    assert len({tuple(user.opened()) for user in users}) == 1
    assert log.read_text().count("serving") == before + 1
    for user in users:
        user.leave()
    assert await_stop(home)


async def test_one_who_arrives_while_the_engines_stop_waits_and_gets_new_ones(
    home: Path, start_user: StartUser
) -> None:
    with open_engines(home, durable=False, linger_s=0) as engines:
        old = engine_pids(home)
        os.kill(old["postgres"], signal.SIGSTOP)  # so that stopping takes as long as the test needs
    wait_until(lambda: not status(home).running)
    newcomer = start_user(home)
    assert not newcomer.has_opened(within_s=0.5)
    os.kill(old["postgres"], signal.SIGCONT)
    assert newcomer.opened() == [engines.database_url, engines.redis_url]
    assert engine_pids(home)["postgres"] != old["postgres"]
    with open_engines(home, durable=False) as joined:
        assert await one(joined) == 1


async def test_every_arrival_at_any_moment_of_leaving_gets_living_engines(home: Path) -> None:
    chance = Random(7)
    for _ in range(4):
        with open_engines(home, durable=False, linger_s=0) as engines:
            assert await one(engines) == 1
            assert pings(engines)
        if chance.random() < 0.5:  # right after the hold is given up, or right after the keeper took its word back
            wait_until(lambda: not status(home).running)


async def test_a_newcomer_during_the_linger_finds_the_same_engines(home: Path) -> None:
    open_engines(home, durable=False, linger_s=5).close()
    before = engine_pids(home)
    with open_engines(home, durable=False) as engines:
        assert engine_pids(home) == before
        assert await one(engines) == 1


def test_the_keeper_and_the_engines_get_no_signal_of_a_users_terminal(home: Path) -> None:
    with open_engines(home, durable=False, linger_s=0):
        pids = engine_pids(home)
        assert os.getsid(pids["keeper"]) != os.getsid(0)
        assert os.getpgid(pids["postgres"]) == pids["postgres"]


def keeper_is_not(home: Path, pid: int) -> bool:
    return status(home).keeper_pid != pid


def sockets_of(engines: Engines) -> Path:
    return Path(parse_qs(urlsplit(engines.database_url).query)["host"][0])


async def stores(engines: Engines, value: str) -> None:
    connection = await asyncpg.connect(engines.database_url)
    await connection.execute(f"CREATE TABLE stored AS SELECT '{value}' AS value")
    await connection.close()
    with Redis.from_url(engines.redis_url) as redis:
        redis.set("stored", value)


async def stored(engines: Engines) -> tuple[str, str]:
    connection = await asyncpg.connect(engines.database_url)
    in_postgres = await connection.fetchval("SELECT value FROM stored")
    await connection.close()
    with Redis.from_url(engines.redis_url, decode_responses=True) as redis:
        return in_postgres, str(redis.get("stored"))


async def one(engines: Engines) -> int:
    connection = await asyncpg.connect(engines.database_url)
    try:
        return int(await connection.fetchval("SELECT 1"))
    finally:
        await connection.close()


def pings(engines: Engines) -> bool:
    try:
        with Redis.from_url(engines.redis_url) as redis:
            return bool(redis.ping())
    except RedisError:
        return False


def is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
