"""Results that were read to their end, until they are sent: on disk, few, and not for long.

Whoever settles a work reads its result through, and somebody sends it a moment later, often the same replica. Then it
need not be downloaded twice. Losing one costs a download, nothing else.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ONE_BYTES = 16_000_000  # of pictures and sounds; films are worth a second download more than the disk
ALL_BYTES = 64_000_000  # temporary files may live in memory
LIVES_S = 60.0


@dataclass(frozen=True, slots=True)
class _Kept:
    path: Path
    size_bytes: int
    until: float


class Spool:
    """`directory`: where its own is made, when the first result is kept."""

    def __init__(self, directory: Path | None = None, *, now: Callable[[], float] = time.monotonic) -> None:
        self._directory, self._now = directory, now
        self._home: Path | None = None
        self._kept: dict[str, _Kept] = {}  # the oldest first
        self._number = 0

    def has_room_for(self, size_bytes: int) -> bool:
        return size_bytes <= ONE_BYTES

    def keep(self, url: str, path: Path, size_bytes: int) -> None:
        """Take over the file; the oldest make room for it."""
        self._forget_old(size_bytes)
        if self._home is None:
            self._home = Path(tempfile.mkdtemp(prefix="kiebot-", dir=self._directory))
        self._number += 1
        own = self._home / str(self._number)
        shutil.move(path, own)
        self._drop(url)
        self._kept[url] = _Kept(own, size_bytes, self._now() + LIVES_S)

    def take(self, url: str, path: Path) -> bool:
        """Move the file of that result there, if it is kept; it is no longer then."""
        self._forget_old(0)
        kept = self._kept.pop(url, None)
        if kept is None:
            return False
        try:
            shutil.move(kept.path, path)
        except FileNotFoundError:  # somebody tidied up the temporary files
            return False
        return True

    def close(self) -> None:
        self._kept.clear()
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    def _forget_old(self, needed_bytes: int) -> None:
        total = needed_bytes + sum(kept.size_bytes for kept in self._kept.values())
        for url, kept in list(self._kept.items()):
            if total <= ALL_BYTES and kept.until > self._now():
                return
            total -= kept.size_bytes
            self._drop(url)

    def _drop(self, url: str) -> None:
        kept = self._kept.pop(url, None)
        if kept is not None:
            kept.path.unlink(missing_ok=True)
