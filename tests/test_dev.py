"""./dev as somebody meets it who has nothing yet."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = ("cat", "cksum", "dirname", "mkdir", "rm", "sh", "sleep")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with a PATH of its own: the few tools every system has, and no Python."""
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or "")
    shutil.copy(ROOT / "dev", tmp_path / "dev")
    (tmp_path / "requirements-dev.lock").touch()
    (tmp_path / "pyproject.toml").touch()
    return tmp_path


def put_python(clone: Path, name: str, script: str) -> None:
    path = clone / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def dev(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(clone / "bin"), "HOME": str(clone)}
    return subprocess.run(
        [clone / "dev", *arguments], env=environment, capture_output=True, text=True, check=False, timeout=30
    )


def test_without_python_it_says_what_is_needed(clone: Path) -> None:
    done = dev(clone, "test")
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed" in done.stderr
    assert not (clone / ".dev" / "set-up").exists()


def test_a_python_that_is_too_old_or_cannot_run_is_named_or_passed_over(clone: Path) -> None:
    put_python(clone, "python3.13", "echo 'pyenv: command not found' >&2; exit 127")
    put_python(clone, "python3", 'case "$2" in *print*) echo 3.9 ;; *version_info*) exit 1 ;; esac')
    done = dev(clone, "lint")
    assert done.returncode == 1
    assert "python3=3.9 (too old)" in done.stderr
    assert "3.13" not in done.stderr


def test_a_python_without_venv_comes_with_the_advice_that_fixes_it(clone: Path) -> None:
    put_python(clone, "python3", 'case "$2" in *print*) echo 3.12 ;; *venv*) exit 1 ;; esac')
    done = dev(clone, "lint")
    assert done.returncode == 1
    assert "apt install python3.12-venv" in done.stderr


def test_a_set_up_that_fails_shows_what_was_said_and_leaves_nothing_half_made(clone: Path) -> None:
    put_python(clone, "python3", 'case "$1" in -m) echo "no space left"; exit 1 ;; esac; echo 3.12')
    done = dev(clone, "run", "true")
    assert done.returncode == 1
    assert "no space left" in done.stderr
    assert not (clone / ".dev" / "locked").exists()
    assert not (clone / ".dev" / "set-up").exists()


def test_the_turn_of_a_set_up_that_died_is_taken_over(clone: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    (clone / ".dev" / "set-up").mkdir(parents=True)
    (clone / ".dev" / "set-up" / "pid").write_text(f"{gone.pid}\n")
    assert "Python 3.11 or newer is needed" in dev(clone, "test").stderr


def test_help_and_mistakes_need_no_environment(clone: Path) -> None:
    assert dev(clone).returncode == 0
    assert "./dev COMMAND" in dev(clone, "--help").stdout
    mistake = dev(clone, "frobnicate")
    assert mistake.returncode == 2
    assert "./dev COMMAND" in mistake.stderr
    assert not (clone / ".dev").exists()


def test_every_command_that_help_lists_is_known(clone: Path) -> None:
    listed = re.findall(r"^  ([a-z]+) ", dev(clone, "help").stdout, re.MULTILINE)
    assert len(listed) > 8
    assert [name for name in listed if dev(clone, name).returncode == 2] == []


def test_run_wants_to_know_what(clone: Path) -> None:
    done = dev(clone, "run")
    assert (done.returncode, done.stderr) == (1, "./dev: run what?\n")
