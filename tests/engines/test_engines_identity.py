"""Root's ways to run PostgreSQL, which refuses root; and that no directory is opened to anybody for it."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from kiebot.engines import BinaryDirs, EngineError, Engines, await_stop
from kiebot.engines.binaries import Program, find_binaries
from kiebot.engines.hold import Wish, open_with
from kiebot.engines.identity import Namespaced
from kiebot.engines.layout import NAMESPACE, NOBODY
from tests.engines.engines_help import end_engines, engine_pids

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")


def namespaces_allowed() -> bool:
    return Namespaced(os.geteuid(), os.getegid(), 65534, 65534).can(lambda: True)


@pytest.fixture
def public_dir() -> Iterator[Path]:
    """A directory that everybody may pass, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="kiebot-public-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(not namespaces_allowed(), reason="this system allows no user namespaces")
async def test_in_a_namespace_files_stay_roots_and_private_parents_private(home: Path) -> None:
    before = modes(home) | modes(find_binaries().postgres.path)
    with open_with(Wish(home, durable=False, linger_s=0, ways=(NAMESPACE,))) as engines:
        await serves(engines)
        postgres = engine_pids(home)["postgres"]
        assert uid_map(postgres) == [nobody().pw_uid, 0, 1]
        assert {path.stat().st_uid for path in (home / "engines/data").rglob("*")} == {0}
    assert modes(home) | modes(find_binaries().postgres.path) == before
    assert 0o700 in modes(home).values()


async def test_nobody_takes_over_the_data_of_a_home_it_can_reach(made_home: Path, public_dir: Path) -> None:
    home = public_dir / "home"
    shutil.copytree(made_home, home)
    before = modes(home)
    wish = Wish(home, durable=False, linger_s=0, ways=(NOBODY,), system=public_dir / "system")
    with open_with(wish) as engines:
        await serves(engines)
        kept = engine_pids(home)
        assert {psutil.Process(kept[name]).uids().effective for name in ("postgres", "redis")} == {nobody().pw_uid}
        assert (home / "engines/data/postgres").stat().st_uid == nobody().pw_uid
        assert (home / "engines/secrets.json").stat().st_uid == 0
    assert await_stop(home)
    assert modes(home) == before


async def test_programs_and_data_out_of_reach_get_a_place_of_their_own(tmp_path: Path, public_dir: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    dirs = out_of_reach(private)
    before = modes(private) | modes(dirs.postgres or private)
    wish = Wish(
        private / "home", durable=False, linger_s=0, binaries=dirs, ways=(NOBODY,), system=public_dir / "system"
    )
    for _ in range(2):  # the second finds copies and data
        with open_with(wish) as engines:
            await serves(engines)
        assert await_stop(wish.home)
        copies = list((public_dir / "system/programs").iterdir())
        assert len(copies) == 2
        assert {stat.S_IMODE(path.stat().st_mode) for path in copies} == {0o755}
        data = next((public_dir / "system/data").iterdir())
        assert (data.stat().st_uid, stat.S_IMODE(data.stat().st_mode)) == (nobody().pw_uid, 0o700)
    assert modes(private) | modes(dirs.postgres or private) == before
    assert modes(private)[private] == 0o700


def test_data_that_nobody_cannot_reach_is_never_replaced_by_empty_data(home: Path, public_dir: Path) -> None:
    assert not stat.S_IMODE(home.parent.stat().st_mode) & 0o077
    with pytest.raises(EngineError, match=r"out of reach .* KIEBOT_HOME"):
        open_with(Wish(home, durable=False, linger_s=0, ways=(NOBODY,), system=public_dir / "system"))
    end_engines(home)
    assert not (public_dir / "system").exists()


async def serves(engines: Engines) -> None:
    connection = await asyncpg.connect(engines.database_url)
    assert await connection.fetchval("SELECT current_user") == "kiebot"
    await connection.close()


def modes(path: Path) -> dict[Path, int]:
    """The modes of a place's parents, up to the root."""
    return {parent: stat.S_IMODE(parent.stat().st_mode) for parent in path.parents} | {
        path: stat.S_IMODE(path.stat().st_mode)
    }


def uid_map(pid: int) -> list[int]:
    return [int(number) for number in Path(f"/proc/{pid}/uid_map").read_text().split()]


def nobody() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


def out_of_reach(private: Path) -> BinaryDirs:
    """The programs of this machine, copied where only root may go."""
    found = find_binaries()
    return BinaryDirs(copied(found.postgres, private, levels=2), copied(found.redis, private, levels=1))


def copied(program: Program, private: Path, levels: int) -> Path:
    """A copy of the program's directory or tree, and of the libraries a wheel keeps beside its package."""
    source = program.path.parents[levels - 1]
    if levels == 2 and not (source / "share").is_dir():
        pytest.skip("the PostgreSQL of this machine cannot be moved")
    target = private / "site" / "/".join(source.parts[-levels:])
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("include", "pgxs"), copy_function=linked)
    for libraries in source.parent.parent.glob(f"{source.parent.name}.libs"):
        shutil.copytree(libraries, private / "site" / libraries.name, copy_function=linked)
    return target / program.path.parent.relative_to(source)


def linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
