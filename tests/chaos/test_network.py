"""Namespaces really drop packets, where they are permitted; where they are not, one is told why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chaos.entering import choose, why_not
from tests.chaos.running import runs

REFUSAL = "unshare: unshare failed: Operation not permitted"
PROGRAMS = ("unshare", "nsenter", "ip", "tc")


@pytest.fixture
def permitted() -> None:
    """Only where this machine lets us."""
    if reason := why_not():
        pytest.skip(f"namespaces are not permitted here: {reason}")


@pytest.fixture
def refusing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has all programs and says no."""
    for name in PROGRAMS:
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{REFUSAL}' >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.slow
async def test_a_cut_line_drops_packets_one_way_and_what_was_sent_arrives_late(permitted: None) -> None:
    status, said = await runs("tests.chaos.packets")
    assert status == 0, said
    told = json.loads(said)
    up, down = told.pop("up"), told.pop("down")
    assert up == [0, 0], "the server heard nothing, so nothing was answered"
    assert down[0] > 0, "the server heard on"
    assert down[1] == 0, "its answers did not come"
    assert told == {"connections": 1, "all came in order": True}


@pytest.mark.slow
async def test_network_rows_that_want_namespaces_are_skipped_with_the_reason_where_not_permitted(
    refusing: None,
) -> None:
    status, said = await runs("tests.chaos", "--rows", "22-24,51", "--network", "namespaces")
    assert status == 0, said
    assert said.count(f"skipped: namespaces are not permitted: {REFUSAL}") == 4
    assert "0 met, 0 not met, 4 skipped" in said


def test_without_a_wish_doors_stand_in_and_the_reason_is_told(refusing: None) -> None:
    choice = choose(None)
    assert choice.told == f"doors, because namespaces are not permitted: {REFUSAL}"
    assert not choice.refused, "nothing is skipped"


def test_a_program_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert why_not() == "no unshare, nsenter, ip, tc here"


def test_doors_are_had_wherever_asked_for(refusing: None) -> None:
    assert choose("doors").told == "doors"
