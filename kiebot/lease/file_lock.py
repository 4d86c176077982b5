"""What lies on the disk: a file that the kernel locks, a record of who did, a bell. Blocking, but never for long."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

_BELL_KEPT_S = 2.0
_ATTEMPTS = 5
_ATTEMPT_PAUSE_S = 0.003


@dataclass(frozen=True, slots=True)
class Record:
    """Who holds the lock. `beat` differs at each renewal; `locked` is the identity of the file that was locked."""

    token: str
    replica: str
    ttl_s: float
    beat: str
    locked: str
    written_at: str  # for people


class LockedFile:
    """The kernel's lock on one file; gone with the process. The descriptor is closed on exec, but a plain fork keeps
    the lock as long as its child lives."""

    def __init__(self, lock: FileLock, path: Path, identity: str) -> None:
        self._lock = lock
        self._path = path
        self.identity = identity

    def is_in_place(self) -> bool:
        """Whether the path still names the very file that we locked: nobody deleted or replaced it."""
        return identity_at(self._path) == self.identity

    def unlock(self) -> None:
        self._lock.release()


def try_lock(path: Path) -> LockedFile | None:
    """The lock, when nobody has it. Raises: OSError, also where the file system cannot lock."""
    identities: list[str] = []
    lock = FileLock(
        path,
        mode=0o600,
        thread_local=False,
        blocking=False,
        fallback_to_soft=False,  # a mark on the disk would outlive a killed process
        preserve_lock_file=True,
        on_acquired=lambda descriptor: identities.append(_identity(os.fstat(descriptor))),
    )
    try:
        lock.acquire()
    except Timeout:
        return None
    locked = LockedFile(lock, path, identities[0])
    if locked.is_in_place():
        return locked
    locked.unlock()
    return None


def lock_soon(path: Path) -> LockedFile | None:
    """Like `try_lock`, but tries again for some milliseconds: others take it for an instant, just to look."""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_ATTEMPT_PAUSE_S)
        if (locked := try_lock(path)) is not None:
            return locked
    return None


def identity_at(path: Path) -> str | None:
    """What tells this file from any other that exists at the same time; None when there is none."""
    try:
        return _identity(path.stat())
    except FileNotFoundError:
        return None


def _identity(stat: os.stat_result) -> str:
    return f"{stat.st_dev}:{stat.st_ino}"


def read_record(path: Path) -> Record | None:
    """None when there is none, or when somebody wrote something else there."""
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write_record(path: Path, record: Record) -> None:
    """Readers see the old one or the new one, never a part."""
    _put(path, json.dumps(asdict(record)))


def remove(path: Path) -> None:
    _patiently(lambda: path.unlink(missing_ok=True))


def ring(path: Path) -> None:
    _put(path, "")


def hear(path: Path) -> bool:
    """Whether the bell was rung within the last seconds; of all who ask, one hears it."""
    try:
        age_s = time.time() - path.stat().st_mtime
        path.unlink()
    except (FileNotFoundError, PermissionError):  # another heard it; Windows says the second while that one is at it
        return False
    return abs(age_s) <= _BELL_KEPT_S


def _put(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.{os.getpid()}-{time.monotonic_ns()}")
    try:
        fresh.write_text(text, encoding="utf-8")
        _patiently(lambda: fresh.replace(path))
    finally:
        fresh.unlink(missing_ok=True)


def _patiently(action: Callable[[], object]) -> None:
    """Windows refuses to touch a file while another reads it; the reader is done in an instant."""
    for attempt in range(_ATTEMPTS):
        try:
            action()
            return
        except PermissionError:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_ATTEMPT_PAUSE_S)
