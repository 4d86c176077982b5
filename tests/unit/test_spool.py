"""The spool of results: few, and not for long."""

from __future__ import annotations

from pathlib import Path

import pytest

from kiebot.kie.spool import ALL_BYTES, LIVES_S, ONE_BYTES, Spool


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


def a_file(tmp_path: Path, content: bytes = b"x") -> Path:
    path = tmp_path / "new"
    path.write_bytes(content)
    return path


def test_a_result_is_taken_once(spool: Spool, tmp_path: Path) -> None:
    spool.keep("a", a_file(tmp_path, b"one"), 3)
    assert spool.take("a", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"one"
    assert not spool.take("a", tmp_path / "out")


def test_the_newer_of_two_readings_is_kept(spool: Spool, tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        spool.keep("a", a_file(tmp_path, content), 3)
    assert spool.take("a", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"new"
    spool.close()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_nobody_sends_is_forgotten_in_time(spool: Spool, tmp_path: Path, watch: Watch) -> None:
    spool.keep("a", a_file(tmp_path), 1)
    watch.now = LIVES_S
    assert not spool.take("a", tmp_path / "out")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_oldest_make_room(spool: Spool, tmp_path: Path) -> None:
    names = [str(number) for number in range(ALL_BYTES // ONE_BYTES + 2)]
    for name in names:
        spool.keep(name, a_file(tmp_path), ONE_BYTES)
    kept = [name for name in names if spool.take(name, tmp_path / "out")]
    assert kept == names[2:]


def test_a_file_that_somebody_tidied_up_is_downloaded_again(spool: Spool, tmp_path: Path) -> None:
    spool.keep("a", a_file(tmp_path), 1)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.unlink()
    assert not spool.take("a", tmp_path / "out")
