"""Results that were read to their end, until they are sent: on disk, few, and not for long.

Whoever settles a work reads its result through, and somebody sends it a moment later, often the same replica. Then it
need not be downloaded twice. Losing one costs a download, nothing else: a disk that is full or gone stops nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

log = structlog.get_logger()

ONE_BYTES = 16_000_000  # of pictures and sounds; films are worth a second download more than the disk
ALL_BYTES = 64_000_000  # temporary files may live in memory
LIVES_S = 60.0
PREFIX = "kiebot-result-"  # of directories for temporary files
LEFT_BEHIND_S = 3600.0  # nobody needs one for so long
_WRITE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Kept:
    path: Path
    size_bytes: int
    until: float


class Copy:
    """A file that is being written. From the first refusal of the disk on it takes everything and writes nothing."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.size_bytes = 0
        self._waiting = bytearray()

    async def add(self, chunk: bytes) -> None:
        if self.path is None:
            return
        self._waiting += chunk
        if len(self._waiting) >= _WRITE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        if self.path is None:
            return
        piece = bytes(self._waiting)
        self._waiting.clear()
        try:
            await asyncio.to_thread(_append, self.path, piece)
        except OSError as error:
            log.warning("spool.not_written", why=str(error))
            self.path = None
        else:
            self.size_bytes += len(piece)


class Spool:
    """`directory`: where its own is made, when the first result is kept."""

    def __init__(self, directory: Path | None = None, *, now: Callable[[], float] = time.monotonic) -> None:
        self._directory, self._now = directory, now
        self._home: Path | None = None
        self._kept: dict[str, _Kept] = {}  # the oldest first
        self._number = 0
        self._coming = 0  # bytes that are being written

    @asynccontextmanager
    async def copy(self, url: str, size_bytes: int) -> AsyncIterator[Copy]:
        """What is added in the block, some `size_bytes`, is kept for `take` when the block ends well and others left
        room for it."""
        has_room = self._coming + size_bytes <= ALL_BYTES
        self._coming += size_bytes
        self._forget_old()
        path = self._new_path() if has_room else None
        copy = Copy(path)
        try:
            yield copy
            await copy.flush()
            if copy.path is not None:
                self._forget(url)
                self._kept[url] = _Kept(copy.path, copy.size_bytes, self._now() + LIVES_S)
                path = None
        finally:
            self._coming -= size_bytes
            if path is not None:
                path.unlink(missing_ok=True)

    def has(self, url: str) -> bool:
        self._forget_old()
        return url in self._kept

    def take(self, url: str, path: Path) -> bool:
        """Move the file of that result there, if it is kept; it is no longer then."""
        self._forget_old()
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

    def _new_path(self) -> Path | None:
        """None: there is no place for temporary files."""
        self._number += 1
        try:
            if self._home is None or not self._home.is_dir():  # somebody tidied up
                self._home = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._directory))
                _tidy(self._home.parent)
        except OSError as error:
            log.warning("spool.not_written", why=str(error))
            return None
        return self._home / str(self._number)

    def _forget_old(self) -> None:
        total = self._coming + sum(kept.size_bytes for kept in self._kept.values())
        for url, kept in list(self._kept.items()):
            if total <= ALL_BYTES and kept.until > self._now():
                return
            total -= kept.size_bytes
            self._forget(url)

    def _forget(self, url: str) -> None:
        kept = self._kept.pop(url, None)
        if kept is not None:
            kept.path.unlink(missing_ok=True)


def _tidy(folder: Path) -> None:
    """Remove what processes that were killed left there."""
    long_ago = time.time() - LEFT_BEHIND_S
    for each in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # gone already, or another user's
            if each.stat().st_mtime < long_ago:
                shutil.rmtree(each, ignore_errors=True)


def _append(path: Path, piece: bytes) -> None:
    with path.open("ab") as file:
        file.write(piece)
