"""Data of other versions, what a crash leaves behind, and places that are not to be trusted."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from kiebot.engines import BinaryDirs, EngineError, await_stop, open_engines, status
from kiebot.engines.binaries import find_binaries
from kiebot.engines.identity import Identity
from kiebot.engines.layout import LOG_LIMIT_BYTES, Layout, socket_dir
from kiebot.engines.postgres import Postgres
from tests.engines.engines_help import end_engines, engine_pids, wait_until

OTHER_POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), Path()).parent


def test_data_of_another_major_version_is_refused_with_the_way_out(home: Path) -> None:
    recorded = home / "engines/data/postgres/PG_VERSION"
    major = recorded.read_text()
    recorded.write_text("13\n")
    try:
        with pytest.raises(EngineError, match=r"made by PostgreSQL 13, .*pg_dumpall"):
            open_engines(home, durable=False, linger_s=0)
    finally:
        recorded.write_text(major)
    assert await_stop(home)
    state = json.loads((home / "engines/state.json").read_text())
    assert state["postgres"]["major"] == int(major)


def test_redis_data_of_a_newer_version_is_refused_and_may_be_removed(home: Path) -> None:
    path = home / "engines/state.json"
    state = json.loads(path.read_text())
    state["redis"]["major"] = 99
    path.write_text(json.dumps(state))
    with pytest.raises(EngineError, match=r"99, which does not match .* remove the directory"):
        open_engines(home, durable=False, linger_s=0)
    assert await_stop(home)
    shutil.rmtree(home / "engines/data/redis")
    open_engines(home, durable=False, linger_s=0).close()


def test_the_pid_file_of_a_killed_server_is_not_taken_for_readiness(tmp_path: Path) -> None:
    (tmp_path / "postmaster.pid").write_text("4711\n/data\n1700000000\n5432\n/sockets\n\n  1 2\nready   \n")
    server = Postgres(
        find_binaries().postgres, Identity(os.getuid(), os.getgid()), tmp_path, tmp_path, tmp_path, tmp_path, True
    )
    assert server.ready(4711)
    assert not server.ready(4712)


async def test_after_everything_was_killed_at_once_the_data_is_there(home: Path) -> None:
    with open_engines(home, linger_s=0) as engines:
        connection = await asyncpg.connect(engines.database_url)
        await connection.execute("CREATE TABLE numbers AS SELECT generate_series(1, 500) AS n")
        killed = engine_pids(home)
        for pid in killed.values():
            os.kill(pid, signal.SIGKILL)
        connection.terminate()
        wait_until(lambda: status(home).keeper_pid != killed["keeper"])
        with open_engines(home, linger_s=0) as again:
            connection = await asyncpg.connect(again.database_url)
            assert await connection.fetchval("SELECT count(*) FROM numbers") == 500
            await connection.close()


def test_a_pid_file_that_names_a_stranger_does_not_keep_the_server_from_starting(home: Path) -> None:
    """After a crash of a container its next processes have the numbers of the dead ones."""
    pid_file = home / "engines/data/postgres/postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{pid_file.parent}\n1700000000\n5432\n/sockets\n\n  1 2\nready   \n")
    open_engines(home, durable=False, linger_s=0).close()


@pytest.mark.skipif(Path() == OTHER_POSTGRES, reason="no PostgreSQL of a distribution on this machine")
async def test_a_stand_in_serves_and_a_start_cut_short_is_begun_anew(fresh_home: Path) -> None:
    unfinished = fresh_home / "engines/data/postgres.new"
    unfinished.mkdir(parents=True, mode=0o700)
    (unfinished / "PG_VERSION").touch()
    given = BinaryDirs(postgres=OTHER_POSTGRES)
    with open_engines(fresh_home, durable=False, linger_s=0, binaries=given) as engines:
        assert "(given)" in engines.described
        connection = await asyncpg.connect(engines.database_url)
        assert await connection.fetchval("SELECT upper('ключ')") == "КЛЮЧ"
        await connection.close()
    assert not unfinished.exists()


def test_a_home_may_be_moved_and_its_path_may_be_long(home: Path) -> None:
    moved = home.parent / ("long" * 30) / "home"
    moved.parent.mkdir()
    home.rename(moved)
    with open_engines(moved, durable=False, linger_s=0) as engines:
        assert len(engines.redis_url) < 200
    end_engines(moved)
    moved.rename(home)


@pytest.fixture
def squatted(home: Path) -> Iterator[Path]:
    """The place of this home's sockets, taken by somebody before."""
    path = socket_dir(Layout.of(home))
    path.mkdir()
    (path / "theirs").touch()
    yield path
    shutil.rmtree(path)


def test_a_socket_directory_open_to_others_is_not_used(home: Path, squatted: Path) -> None:
    squatted.chmod(0o755)
    with pytest.raises(EngineError, match="not trusted"):
        open_engines(home, durable=False, linger_s=0)
    assert await_stop(home)
    assert (squatted / "theirs").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's directory")
def test_a_socket_directory_of_another_user_is_not_used(home: Path, squatted: Path) -> None:
    squatted.chmod(0o700)
    os.chown(squatted, 12345, 12345)
    with pytest.raises(EngineError, match="not trusted"):
        open_engines(home, durable=False, linger_s=0)
    assert await_stop(home)
    assert (squatted / "theirs").exists()


def test_a_log_past_its_limit_is_begun_anew(home: Path) -> None:
    logs = [home / "engines/logs" / f"{name}.log" for name in ("keeper", "postgres", "redis")]
    for log in logs:
        log.write_bytes(b"x" * (LOG_LIMIT_BYTES + 1))
    open_engines(home, durable=False, linger_s=0).close()
    assert [log for log in logs if log.stat().st_size > LOG_LIMIT_BYTES] == []
