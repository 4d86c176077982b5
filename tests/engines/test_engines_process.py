"""Where the kernel does not tell a child of its parent's death, a guard does."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil

from kiebot.engines import locks
from tests.engines.engines_help import wait_until

_PARENT = """
import os, signal, sys
from pathlib import Path
from kiebot.engines.identity import Identity
from kiebot.engines.process import Engine
log, alive = map(Path, sys.argv[1:])
engine = Engine(["/bin/sleep", "60"], Identity(os.getuid(), os.getgid()), log=log, alive=alive,
                when_parent_dies=signal.SIGTERM, guarded=True)
engine.start()
print(engine.pid, flush=True)
sys.stdin.read()
engine.signal(signal.SIGTERM)
engine.wait(5)
"""


def test_a_guarded_engine_ends_with_its_killed_parent_and_no_guard_remains(tmp_path: Path) -> None:
    parent, engine, guards = start_parent(tmp_path)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    wait_until(lambda: gone(engine) and all(map(gone, guards)))
    fd = locks.open_lock(tmp_path / "alive")
    assert locks.try_exclusive(fd)
    locks.unlock(fd)


def test_a_guard_ends_with_its_engine(tmp_path: Path) -> None:
    parent, engine, guards = start_parent(tmp_path)
    parent.communicate("")
    wait_until(lambda: gone(engine) and all(map(gone, guards)))


def start_parent(tmp_path: Path) -> tuple[subprocess.Popen[str], psutil.Process, list[psutil.Process]]:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path / "log"), str(tmp_path / "alive")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert parent.stdout is not None
    engine = psutil.Process(int(parent.stdout.readline()))
    guards = [child for child in psutil.Process(parent.pid).children() if child.pid != engine.pid]
    assert guards
    return parent, engine, guards


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE  # ended; whether anybody collects it is not ours
    except psutil.NoSuchProcess:
        return True
