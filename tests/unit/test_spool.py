"""The spool of results: few, not for long, and of no harm when the disk is."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from kiebot.kie.spool import ALL_BYTES, LEFT_BEHIND_S, LIVES_S, ONE_BYTES, PREFIX, Spool


class Watch:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def spool(tmp_path: Path, watch: Watch) -> Spool:
    return Spool(tmp_path, now=watch)


async def keep(spool: Spool, url: str, content: bytes = b"x") -> None:
    async with spool.copy(url, len(content)) as copy:
        await copy.add(content)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def tidy(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path)


async def test_a_result_is_taken_once(spool: Spool, tmp_path: Path) -> None:
    content = b"one" * 1_000_000
    await keep(spool, "a", content)
    assert spool.has("a")
    assert spool.take("a", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content
    assert not spool.take("a", tmp_path / "out")


async def test_what_a_killed_process_left_behind_long_ago_is_removed_and_nothing_else(
    spool: Spool, tmp_path: Path
) -> None:
    """Nobody else would: each kill may leave as much as is ever kept."""
    old, fresh, strange = (tmp_path / name for name in (f"{PREFIX}old", f"{PREFIX}fresh", "kiebot-0-socket"))
    for folder in (old, fresh, strange):
        folder.mkdir()
        (folder / "1").write_bytes(b"x")
    for folder in (old, strange):
        long_ago = time.time() - LEFT_BEHIND_S - 60
        os.utime(folder, (long_ago, long_ago))
    await keep(spool, "a")
    assert [folder.exists() for folder in (old, fresh, strange)] == [False, True, True]
    assert spool.has("a")


async def test_the_newer_of_two_readings_is_kept(spool: Spool, tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        await keep(spool, "a", content)
    assert spool.take("a", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"new"
    spool.close()
    assert files_in(tmp_path) == [tmp_path / "out"]


async def test_what_nobody_sends_is_forgotten_in_time(spool: Spool, tmp_path: Path, watch: Watch) -> None:
    await keep(spool, "a")
    watch.now = LIVES_S
    assert not spool.take("a", tmp_path / "out")
    assert files_in(tmp_path) == []


async def test_the_oldest_make_room(spool: Spool, tmp_path: Path) -> None:
    content = bytes(ONE_BYTES)
    names = [str(number) for number in range(ALL_BYTES // ONE_BYTES + 2)]
    for name in names:
        await keep(spool, name, content)
        assert sum(path.stat().st_size for path in files_in(tmp_path)) <= ALL_BYTES
    assert [name for name in names if spool.has(name)] == names[2:]


async def test_a_reading_that_broke_off_is_not_kept(spool: Spool, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        async with spool.copy("a", 2_000_000) as copy:
            await copy.add(bytes(1_500_000))
            raise ConnectionError
    assert not spool.has("a")
    assert files_in(tmp_path) == []


async def test_files_that_somebody_tidied_up_are_downloaded_again_and_the_next_are_kept(
    spool: Spool, tmp_path: Path
) -> None:
    await keep(spool, "a")
    tidy(tmp_path)
    assert not spool.take("a", tmp_path / "out")
    await keep(spool, "b")
    assert spool.take("b", tmp_path / "out")


async def test_a_disk_that_takes_nothing_stops_no_reading(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    spool = Spool(tmp_path / "file")  # no directory can be made there
    await keep(spool, "a", bytes(3_000_000))
    assert not spool.has("a")


async def test_a_disk_that_fails_in_the_middle_stops_no_reading(spool: Spool, tmp_path: Path) -> None:
    async with spool.copy("a", 3_000_000) as copy:
        await copy.add(bytes(1_500_000))
        tidy(tmp_path)
        await copy.add(bytes(1_500_000))
    assert not spool.has("a")


async def test_what_is_being_written_counts_too(spool: Spool, tmp_path: Path) -> None:
    content = bytes(ONE_BYTES)
    names = [str(number) for number in range(ALL_BYTES // ONE_BYTES + 2)]
    async with AsyncExitStack() as stack:
        for name in names:
            copy = await stack.enter_async_context(spool.copy(name, ONE_BYTES))
            await copy.add(content)
        assert sum(path.stat().st_size for path in files_in(tmp_path)) <= ALL_BYTES
    assert [name for name in names if spool.has(name)] == names[:-2]
