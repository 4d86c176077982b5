"""Where log lines leave the process. Never raises, never makes the caller wait.

A pipe whose reader has stopped blocks whoever writes to it, for as long as the reader likes; on the event loop that
would cost a holder its term. So lines wait in memory, and one daemon thread writes them. What does not fit is dropped
and counted.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import threading
from collections import deque
from typing import Protocol, TextIO

MAX_WAITING_BYTES = 4 * 1024 * 1024
MAX_WRITE_BYTES = 64 * 1024


class Outlet(Protocol):
    """`put` takes one line. `dropped` counts lines that nobody will read."""

    dropped: int

    def put(self, line: str) -> None: ...

    def flush(self, timeout_s: float) -> bool:
        """Wait until what was put has been written. False when the time ran out first."""
        ...

    def close(self, timeout_s: float) -> None: ...


def open_outlet(stream: TextIO | None) -> Outlet:
    """An outlet to where the stream goes. Without a file behind it (a capture in memory) lines are written directly."""
    if stream is None:  # the process was started with this descriptor closed
        return StreamOutlet(io.StringIO(), discards=True)
    try:
        with contextlib.suppress(OSError, ValueError):
            stream.flush()  # what was printed before keeps its place
        return ThreadOutlet(os.dup(stream.fileno()))
    except (OSError, ValueError, AttributeError):
        return StreamOutlet(stream)


class StreamOutlet:
    """Writes to a text stream at once."""

    def __init__(self, stream: TextIO, *, discards: bool = False) -> None:
        self.dropped = 0
        self._stream = stream
        self._discards = discards

    def put(self, line: str) -> None:
        try:
            if not self._discards:
                self._stream.write(line + "\n")
        except (OSError, ValueError):
            self.dropped += 1

    def flush(self, timeout_s: float) -> bool:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()
        return True

    def close(self, timeout_s: float) -> None:
        self.flush(timeout_s)


class ThreadOutlet:
    """Writes to a descriptor, which it owns, from its own thread."""

    def __init__(self, descriptor: int, *, max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._max_waiting_bytes = max_waiting_bytes
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._is_writing = False
        self._is_closed = False
        threading.Thread(target=self._run, name="log outlet", daemon=True).start()

    def put(self, line: str) -> None:
        data = (line + "\n").encode("utf-8", "backslashreplace")
        with self._changed:
            if self._is_closed or self._waiting_bytes + len(data) > self._max_waiting_bytes:
                self.dropped += 1
                return
            self._lines.append(data)
            self._waiting_bytes += len(data)
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines and not self._is_writing, timeout_s)

    def close(self, timeout_s: float) -> None:
        """Write what waits, at most for `timeout_s`, and end the thread. A thread stuck in a write is left behind."""
        self.flush(timeout_s)
        with self._changed:
            self._is_closed = True
            self._lines.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        while batch := self._take():
            written = self._write(b"".join(batch))
            with self._changed:
                self._is_writing = False
                self.dropped += 0 if written else len(batch)
                self._changed.notify_all()
        os.close(self._descriptor)

    def _take(self) -> list[bytes]:
        """The next lines; empty when closed."""
        batch: list[bytes] = []
        size = 0
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._is_closed)
            while self._lines and size < MAX_WRITE_BYTES:
                batch.append(self._lines.popleft())
                size += len(batch[-1])
            self._waiting_bytes -= size
            self._is_writing = bool(batch)
        return batch

    def _write(self, data: bytes) -> bool:
        """False when the other end is full or gone; the next batch tries again, for a disk may be emptied."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:  # somebody who shares it has made it non-blocking
                select.select([], [self._descriptor], [], 1.0)
            except OSError:
                return False
        return True
