"""What a caller gets: addresses that work, and nothing that others could get at."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis

from kiebot.engines import EngineError, Engines, open_engines, status
from tests.engines.engines_help import Running, pids_of


async def test_a_new_home_serves_both_engines_and_keeps_its_addresses(fresh_home: Path) -> None:
    with open_engines(fresh_home, durable=True, linger_s=0) as engines:
        connection = await asyncpg.connect(engines.database_url)
        assert await connection.fetchval("SELECT upper('ключ äö')") == "КЛЮЧ ÄÖ"
        assert await connection.fetchval("SHOW fsync") == "on"
        assert await connection.fetchval("SELECT current_database()") == "kiebot"
        await connection.close()
        assert await pings(engines)
        assert status(fresh_home).described == engines.described
        with open_engines(fresh_home) as again:
            assert again == engines


async def test_the_role_may_create_databases_and_is_no_superuser(running: Running) -> None:
    connection = await asyncpg.connect(running.engines.database_url)
    await connection.execute("CREATE DATABASE another")
    assert not await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    await connection.close()
    other = await asyncpg.connect(running.engines.database_url, database="another")
    await other.close()


async def test_nobody_gets_in_without_the_password(running: Running) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(running.engines.database_url, password="guessed")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(running.engines.database_url, user="postgres", password="guessed")
    hba = (running.home / "engines/data/postgres/pg_hba.conf").read_text()
    assert "trust" not in [line.split()[-1] for line in hba.splitlines() if line and line[0] != "#"]


def test_the_engines_listen_on_no_network(running: Running) -> None:
    kept = [psutil.Process(pid) for pid in pids_of(running.home)]
    assert len(kept) >= 3
    assert [connection for process in kept for connection in process.net_connections("inet")] == []


def test_sockets_and_secrets_are_for_their_owner_only(running: Running) -> None:
    sockets = Path(parse_qs(urlsplit(running.engines.database_url).query)["host"][0])
    assert len(str(sockets / ".s.PGSQL.5432")) <= 107
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    inside = running.home / "engines"
    for private in (inside / "secrets.json", inside / "data/redis/server.conf", *(inside / "logs").iterdir()):
        assert stat.S_IMODE(private.stat().st_mode) == 0o600, private
    assert stat.S_IMODE((inside / "data").stat().st_mode) == 0o700


def test_passwords_are_in_no_argument_no_environment_no_log_and_no_repr(running: Running) -> None:
    urls = (running.engines.database_url, running.engines.redis_url)
    passwords = [str(urlsplit(url).password) for url in urls]
    shown = [repr(running.engines), str(running.engines)]
    for pid in pids_of(running.home):
        shown += [Path(f"/proc/{pid}/{what}").read_bytes().decode() for what in ("cmdline", "environ")]
    shown += [log.read_text() for log in (running.home / "engines/logs").iterdir()]  # since the home was made
    assert not [text for text in shown for password in passwords if password in text]


def test_the_keeper_inherits_no_secret_of_who_started_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", "12345:secret")
    with open_engines(home, durable=False, linger_s=0):
        environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in pids_of(home)]
        assert environments
        assert not [each for each in environments if b"12345:secret" in each]


async def test_debug_commands_are_served_only_where_asked_for(running: Running) -> None:
    with pytest.raises(EngineError, match="without debug commands"):
        open_engines(running.home, durable=False, debug_commands=True)
    async with Redis.from_url(running.engines.redis_url) as redis:
        with pytest.raises(Exception, match="DEBUG command not allowed"):
            await redis.execute_command("DEBUG", "SLEEP", "0")


async def test_debug_commands_can_be_asked_for(home: Path) -> None:
    with open_engines(home, durable=False, linger_s=0, debug_commands=True) as engines:
        async with Redis.from_url(engines.redis_url) as redis:
            assert await redis.execute_command("DEBUG", "SLEEP", "0")
            assert (await redis.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
            assert (await redis.config_get("appendonly"))["appendonly"] == "yes"


def test_who_needs_durability_is_not_given_engines_without(running: Running) -> None:
    with pytest.raises(EngineError, match="without durability"):
        open_engines(running.home, durable=True)


def test_engines_are_a_plain_value_and_may_be_closed_twice() -> None:
    engines = Engines("postgresql://kiebot:pw@/kiebot?host=/s", "unix://:pw@/s/redis.sock?db=0", "described")
    engines.close()
    engines.close()
    assert repr(engines) == "Engines(described='described')"
    with pytest.raises(dataclasses.FrozenInstanceError):
        engines.described = "other"  # type: ignore[misc]  # that it is refused is the point


async def pings(engines: Engines) -> bool:
    async with Redis.from_url(engines.redis_url) as redis:
        return bool(await redis.ping())
