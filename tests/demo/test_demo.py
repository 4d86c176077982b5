"""The demo as a user starts it, and what it prints."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from kiebot.demo.feed import Feed
from kiebot.demo.mutant_replica import PATCHES
from kiebot.demo.mutants import MUTANTS
from kiebot.demo.show import Show, Snapshot

SNAPSHOT = Snapshot("replica-1", 3, {"replica-0": "up", "replica-1": "up"}, 10, 9, {"running": 2}, 1_000_000, 5_000)


@pytest.mark.slow
def test_a_run_keeps_every_promise_and_ends_with_status_0() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kiebot", "demo", "--plain", "--seed", "7"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "BROKEN" not in done.stdout
    assert "promises kept" in done.stdout
    assert "before its updates were written" in done.stdout  # every blow was aimed
    assert "in the middle of a write" in done.stdout


def test_every_mutant_has_its_patch() -> None:
    assert set(MUTANTS) == set(PATCHES)


def test_the_live_view_redraws_in_place_and_gives_the_terminal_back() -> None:
    out = io.StringIO()
    show = Show(is_plain=False, out=out)
    show.look(SNAPSHOT)
    show.tell("something happened")
    show.end()
    show.end()
    drawn = out.getvalue()
    assert drawn.count("\x1b[?1049h") == drawn.count("\x1b[?1049l") == 1
    assert "leader       replica-1, term 3" in drawn
    assert "something happened" in drawn


def test_plain_lines_hold_no_escape_sequence() -> None:
    out = io.StringIO()
    show = Show(is_plain=True, out=out)
    show.tell("something happened")
    show.look(SNAPSHOT)
    show.end()
    assert "\x1b" not in out.getvalue()
    assert "replica-1 leads (term 3)" in out.getvalue()


def test_the_feed_reads_terms_from_lines_that_arrive_in_pieces(tmp_path: Path) -> None:
    log = tmp_path / "replicas.log"
    feed = Feed(log)
    assert feed.read() == []
    entry = {"ts": "2026-01-02T03:04:05.5Z", "event": "poller.started", "epoch": 4, "replica": "replica-2"}
    line = json.dumps(entry)
    log.write_text(line[:20])
    assert feed.read() == []
    log.write_text(f"{line}\nno json\n")
    assert feed.read() == ["replica-2 polls, term 4"]
    assert [(each.epoch, each.replica) for each in feed.epochs] == [(4, "replica-2")]
    assert list(feed.last) == [line, "no json"]
