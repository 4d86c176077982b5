"""Serves files under `/files/`: ranges, expiry, and the ways in which a download goes wrong."""

import re
from collections.abc import AsyncIterator

from kiebot.simulators.clock import SimClock
from kiebot.simulators.kie.exchange import Cut, Exchange, Headers, Page, Reply, Stream
from kiebot.simulators.kie.faults import Faults
from kiebot.simulators.kie.files import PREFIX, FileStore, StoredFile
from kiebot.simulators.kie.noise import gateway_page
from kiebot.simulators.kie.switches import Switches

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_CHUNK_BYTES = 65_536
_ACCEPTS_RANGES = ("accept-ranges", "bytes")


class FileServing:
    """GET and HEAD for uploads, results and signed links. No authorization: whoever has the URL has the file."""

    def __init__(self, files: FileStore, faults: Faults, switches: Switches, clock: SimClock) -> None:
        self._files, self._faults, self._switches, self._clock = files, faults, switches, clock

    async def serve(self, exchange: Exchange) -> Reply:
        """The file, or the failure planned for it."""
        if exchange.method not in ("GET", "HEAD"):
            return Page(405, b"", "text/plain")
        if self._switches.blocks_urllib and exchange.headers.get("user-agent", "").startswith("Python-urllib"):
            return Page(403, b"error code: 1010", "text/plain; charset=UTF-8")
        path = exchange.path.removeprefix(PREFIX)
        file = self._files.linked(path) if path.startswith("link/") else self._files.get(path)
        if file is None:
            return _not_found()
        mode = self._faults.take("file") or file.mode
        exchange.note(outcome=f"file {mode}")
        return self._in_mode(mode, file, exchange)

    def _in_mode(self, mode: str, file: StoredFile, exchange: Exchange) -> Reply:
        match mode:
            case "dead":
                return _not_found()
            case "late" if self._clock.monotonic() - file.stored_at < self._switches.late_file_s:
                return _not_found()
            case "private" if not exchange.path.startswith(f"{PREFIX}link/"):
                return Page(403, b"<html><body>403 Forbidden</body></html>")
            case "zero":
                return Page(200, b"", file.content_type)
            case "wrong_type":
                return Page(200, file.data, "application/octet-stream")
            case "html":
                return gateway_page(502)
            case "reset":
                return Cut()
            case "truncated" | "slow" | "endless" | "oversized":
                return self._streamed(mode, file)
            case _:
                return _whole_or_part(file, exchange.headers.get("range"))

    def _streamed(self, mode: str, file: StoredFile) -> Stream:
        data, headers = file.data, (("content-type", file.content_type), _ACCEPTS_RANGES)
        match mode:
            case "truncated":
                return Stream(200, (*headers, _length(len(data))), _pieces(data[: len(data) // 2]), breaks=True)
            case "slow":
                return Stream(200, (*headers, _length(len(data))), self._slowly(data))
            case "oversized":
                size = self._switches.oversized_bytes
                return Stream(200, (*headers, _length(size)), _filled(data, size))
            case _:
                return Stream(200, headers, _filled(data, self._switches.endless_cap_bytes))

    async def _slowly(self, data: bytes) -> AsyncIterator[bytes]:
        step = max(1, int(self._switches.slow_bytes_per_s))
        for start in range(0, len(data), step):
            await self._clock.sleep(1.0)
            yield data[start : start + step]


def _whole_or_part(file: StoredFile, wanted: str | None) -> Page:
    data, whole = file.data, _RANGE.fullmatch(wanted or "")
    if whole is None or whole.groups() == ("", ""):
        return Page(200, data, file.content_type, (_ACCEPTS_RANGES,))
    first, last = whole.groups()
    start = int(first) if first else max(0, len(data) - int(last))
    end = min(int(last), len(data) - 1) if first and last else len(data) - 1
    if start >= len(data) or end < start:
        return Page(416, b"", file.content_type, (("content-range", f"bytes */{len(data)}"),))
    headers: Headers = (_ACCEPTS_RANGES, ("content-range", f"bytes {start}-{end}/{len(data)}"))
    return Page(206, data[start : end + 1], file.content_type, headers)


def _not_found() -> Page:
    return Page(404, b"<html><body>404 Not Found</body></html>")


def _length(size: int) -> tuple[str, str]:
    return ("content-length", str(size))


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _CHUNK_BYTES):
        yield data[start : start + _CHUNK_BYTES]


async def _filled(data: bytes, size: int) -> AsyncIterator[bytes]:
    """The file first, then zeros, until `size` bytes have gone out."""
    yield data[:size]
    sent = len(data)
    while sent < size:
        chunk = bytes(min(_CHUNK_BYTES, size - sent))
        sent += len(chunk)
        yield chunk
