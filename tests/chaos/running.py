"""Processes of ours: a command for tests, and replicas that outlive nobody."""

from __future__ import annotations

import asyncio
import functools
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


async def runs(module: str, *arguments: str) -> tuple[int, str]:
    """A module of ours, to its end: its status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, said.decode()


@functools.cache
def dying_with_us() -> tuple[str, ...]:
    """What, put before a command, ends it when this process is killed; nothing where no such program is."""
    words = ("setpriv", "--pdeathsig", "KILL", "--")
    found = shutil.which(words[0]) is not None
    return words if found and subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0 else ()
