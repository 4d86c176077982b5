"""Advisory locks on files: the kernel drops them when their holder dies, however it dies.

They are BSD locks (`flock`): owned by the open file, so they pass to a child with the descriptor and are not lost
when another part of the process opens and closes the same file.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from kiebot.engines.errors import EngineError

if sys.platform != "win32":
    import fcntl

_PAUSE_S = 0.01


def open_lock(path: Path) -> int:
    """A descriptor of the lock file, made when missing (0600); never inherited unless passed on by name."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def open_existing(path: Path) -> int:
    """A descriptor for reading a file that may be locked. Raises: FileNotFoundError."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def try_exclusive(fd: int) -> bool:
    """Take the lock for this open file alone; False when anybody else holds it in any way."""
    return _try(fd, fcntl.LOCK_EX)


def try_shared(fd: int) -> bool:
    """Take the lock beside other sharers; False while somebody holds it exclusively."""
    return _try(fd, fcntl.LOCK_SH)


def unlock(fd: int) -> None:
    fcntl.flock(fd, fcntl.LOCK_UN)


def share(fd: int, *, within_s: float, otherwise: str) -> None:
    """Wait for the shared lock. Raises: EngineError(otherwise), after within_s seconds."""
    deadline = time.monotonic() + within_s
    while not try_shared(fd):
        if time.monotonic() > deadline:
            raise EngineError(otherwise)
        time.sleep(_PAUSE_S)


def _try(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
