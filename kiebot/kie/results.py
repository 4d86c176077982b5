"""KieResults: result files, read from known hosts over checked addresses, capped in bytes and in time.

httpcore is used without httpx on purpose: nothing here should follow redirects by itself, keep cookies, obey proxy
variables (a proxy would resolve the name again), add credentials, or unpack what a server compressed.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urljoin

import httpcore
import structlog

from kiebot.errors import KiebotError, Permanent, Transient
from kiebot.generation import media
from kiebot.generation.ports import Fetched, TooLarge
from kiebot.kie.dial import CheckedDial, Resolve, resolve
from kiebot.kie.exchange import CONNECT_TIMEOUT_S, retry_after_s
from kiebot.kie.hosts import ResultHosts, Target
from kiebot.kie.spool import ONE_BYTES, PREFIX, Spool

log = structlog.get_logger()

Sign = Callable[[str], Awaitable[str]]

MAX_REDIRECTS = 3
MOST_READ = 16  # results at a time: half of the connections; the rest are for what is sent
PART_BYTES = 64 * 1024  # of a head or an end that is asked for alone
_HEAD_PART, _END_PART = f"bytes=0-{PART_BYTES - 1}", f"bytes=-{PART_BYTES}"
_WRITE_BYTES = 1024 * 1024
_RETRY_S = 3.0  # a fresh result may be unknown to the file host for a moment
_WHOLE, _PARTIAL, _FORBIDDEN = 200, 206, 403
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({410, 451})
_MAYBE_LATER = frozenset({403, 404, 408, 416, 425, 429})  # stores without listing rights say 403 for "not there yet"
# The file host refuses the names of common HTTP libraries, so this one is an ordinary browser's in form.
_HEADERS = [
    (b"User-Agent", b"Mozilla/5.0 (compatible; kiebot)"),
    (b"Accept", b"*/*"),
    (b"Accept-Encoding", b"identity"),
]


@dataclass(frozen=True, slots=True)
class FetchDeadlines:
    """Seconds for a whole call, redirects included; `idle_s` for any single wait within it."""

    probe_s: float = 20.0
    fetch_s: float = 300.0
    idle_s: float = 30.0


class KieResults:
    """The Results port over KIE's file hosts. Implements probe, read_through and fetch; close it at the end.

    Args: extra_hosts, more entries for the allow-list (KIE_RESULT_HOSTS), `name` or `name:port`; directory, where
        temporary files live (default: the system's); sign, asks the provider for another address of a result, for one
        that its host keeps from us; resolve, for tests of address checking.
    Raises: ValueError, for an entry that is not a host.
    """

    def __init__(
        self,
        extra_hosts: Iterable[str] = (),
        *,
        directory: Path | None = None,
        deadlines: FetchDeadlines | None = None,
        sign: Sign | None = None,
        ssl_context: ssl.SSLContext | None = None,
        resolve: Resolve = resolve,
    ) -> None:
        self._hosts = ResultHosts(extra_hosts)
        self._directory = directory
        self._deadlines = deadlines or FetchDeadlines()
        self._sign = sign
        self._spool = Spool(directory)
        self._room = asyncio.Semaphore(MOST_READ)
        dial = CheckedDial(self._hosts.endpoints, resolve=resolve)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context, max_connections=32, keepalive_expiry=5.0, network_backend=dial
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        self._spool.close()
        await self._pool.aclose()

    async def probe(self, url: str) -> Fetched:
        """Read the head of a result; see Results.probe. `size_bytes` is 0 when the server does not tell it."""
        async with _translated(self._deadlines.probe_s), self._opened(url, part=_HEAD_PART) as response:
            head = await _head(response.aiter_stream())
            size_bytes = _total_bytes(response)
        found = _sniffed(head)
        return Fetched(path=Path(), size_bytes=size_bytes or 0, mime=found.mime, kind=found.kind)

    async def read_through(self, url: str, *, max_bytes: int) -> None:
        """Read a result to its end; see Results.read_through. One that is not large is kept for the next `fetch`.

        No more than MOST_READ at a time: a host that trickles must not take every slot and connection of a replica.
        """
        if self._spool.has(url):
            return
        if self._room.locked():
            raise Transient("result: too many are read", retry_after_s=_RETRY_S)
        async with self._room, _translated(self._deadlines.fetch_s):
            async with self._opened(url) as response:
                if await self._is_read(url, response, max_bytes):
                    return
            async with self._opened(url, part=_END_PART) as response:
                if response.status == _PARTIAL:  # else its host serves no parts
                    await _drained(response.aiter_stream(), max_bytes)

    @asynccontextmanager
    async def fetch(self, url: str, *, max_bytes: int) -> AsyncIterator[Fetched]:
        """Download a result; see Results.fetch. The file is gone when the context ends."""
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=self._directory, ignore_cleanup_errors=True) as folder:
            path = Path(folder, "result")
            if not self._spool.take(url, path):
                async with _translated(self._deadlines.fetch_s), self._opened(url) as response:
                    await _save(response, path, max_bytes)
            yield await _described(path)

    async def _is_read(self, url: str, response: httpcore.Response, max_bytes: int) -> bool:
        """Read a body to its end. False: it is larger than the cap, and the rest was left."""
        chunks, announced = response.aiter_stream(), _total_bytes(response)
        head = await _head(chunks)
        _sniffed(head)
        if announced is not None and announced > max_bytes:
            return False
        if announced is None or announced > ONE_BYTES or response.status != _WHOLE:
            return await _drained(chunks, max_bytes - len(head))
        async with self._spool.copy(url, announced) as copy:
            await copy.add(head)
            async for chunk in chunks:
                await copy.add(chunk)
        return True

    @asynccontextmanager
    async def _opened(self, url: str, *, part: str | None = None) -> AsyncIterator[httpcore.Response]:
        """A good response to GET, after at most three redirects, each checked like the first address. One that is
        forbidden is tried once more under the address that the provider signs for it."""
        given, is_signed, redirects = url, False, 0
        while redirects <= MAX_REDIRECTS:
            async with self._pool.stream(
                "GET",
                _core_url(self._hosts.check(url)),
                headers=[*_HEADERS, *([(b"Range", part.encode())] if part else [])],
                extensions={"timeout": self._timeouts()},
            ) as response:
                is_forbidden = response.status == _FORBIDDEN and not is_signed
                if response.status in _REDIRECTS:
                    url, redirects = _next_address(url, _header(response, b"location")), redirects + 1
                elif not is_forbidden or self._sign is None:
                    _check_status(response)
                    yield response
                    return
            if is_forbidden and self._sign is not None:  # asked with no connection to the host in hand
                url, is_signed = await self._signed(given, self._sign), True
        raise Permanent("the result redirects too often", code="result_gone")

    async def _signed(self, url: str, sign: Sign) -> str:
        """Raises: Transient, for what is as forbidden as before: there may be nothing yet."""
        try:
            link = await sign(url)
            self._hosts.check(link)
        except KiebotError as error:
            log.warning("result.not_signed", why=str(error))
        else:
            return link
        raise Transient(f"result: HTTP {_FORBIDDEN}", retry_after_s=_RETRY_S)

    def _timeouts(self) -> dict[str, float]:
        idle_s = self._deadlines.idle_s
        return {"connect": min(CONNECT_TIMEOUT_S, idle_s), "read": idle_s, "write": idle_s, "pool": idle_s}


@asynccontextmanager
async def _translated(deadline_s: float) -> AsyncIterator[None]:
    """A total deadline, and httpcore's errors as Transient: a download may always be repeated."""
    trouble = ""
    try:
        async with asyncio.timeout(deadline_s):
            yield
            return
    except TimeoutError:
        trouble = "too slow"
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, ssl.SSLError) as error:
        trouble = type(error).__name__
    raise Transient(f"result: {trouble}", retry_after_s=_RETRY_S)


def _core_url(target: Target) -> httpcore.URL:
    return httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)


def _next_address(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise Permanent("the result redirects to no usable address", code="foreign_host") from None


def _check_status(response: httpcore.Response) -> None:
    if response.status in (_WHOLE, _PARTIAL):
        return
    if response.status in _MAYBE_LATER or response.status >= 500:
        wait_s = retry_after_s(_header(response, b"retry-after")) or _RETRY_S
        raise Transient(f"result: HTTP {response.status}", retry_after_s=wait_s)
    code = "result_gone" if response.status in _GONE else "result_refused"
    raise Permanent(f"result: HTTP {response.status}", code=code)


async def _head(chunks: AsyncIterator[bytes]) -> bytes:
    """The first chunks, HEAD_BYTES or more unless there are fewer; the others are left."""
    head = bytearray()
    async for chunk in chunks:
        head += chunk
        if len(head) >= media.HEAD_BYTES:
            break
    return bytes(head)


async def _drained(chunks: AsyncIterator[bytes], max_bytes: int) -> bool:
    """Whether they end within so many bytes; nothing of them is kept."""
    size_bytes = 0
    async for chunk in chunks:
        size_bytes += len(chunk)
        if size_bytes > max_bytes:
            return False
    return True


async def _save(response: httpcore.Response, path: Path, max_bytes: int) -> None:
    """Write the body to a new file. Raises: TooLarge, past the cap."""
    announced = _total_bytes(response)
    if announced is not None and announced > max_bytes:
        raise TooLarge(announced)
    chunks = response.aiter_stream()
    if not await _write(path, await _head(chunks), chunks, max_bytes):
        raise TooLarge(announced)


async def _write(path: Path, head: bytes, chunks: AsyncIterator[bytes], max_bytes: int) -> bool:
    """Head and chunks, in large pieces. False past the cap, with whatever was written until then."""
    size_bytes, waiting = len(head), bytearray(head)
    async for chunk in chunks:
        size_bytes += len(chunk)
        if size_bytes > max_bytes:
            return False
        waiting += chunk
        if len(waiting) >= _WRITE_BYTES:
            await asyncio.to_thread(_append, path, bytes(waiting))
            waiting.clear()
    await asyncio.to_thread(_append, path, bytes(waiting))
    return size_bytes <= max_bytes


def _append(path: Path, chunk: bytes) -> None:
    with path.open("ab") as file:
        file.write(chunk)


def _sniffed(head: bytes) -> media.MediaType:
    if not head:
        raise Transient("result: the file is empty", retry_after_s=_RETRY_S)
    found = media.sniff(head)
    if found is None:
        raise Permanent("the result is not a media file", code="not_media")
    return found


async def _described(path: Path) -> Fetched:
    def read() -> tuple[bytes, int]:
        with path.open("rb") as file:
            return file.read(media.HEAD_BYTES), path.stat().st_size

    head, size_bytes = await asyncio.to_thread(read)
    found = _sniffed(head)
    measures = await asyncio.to_thread(media.measure, path, found.kind) or media.Measures()
    return Fetched(
        path=path,
        size_bytes=size_bytes,
        mime=found.mime,
        kind=found.kind,
        width=measures.width,
        height=measures.height,
        seconds=measures.seconds,
    )


def _total_bytes(response: httpcore.Response) -> int | None:
    """The whole file's length as the server tells it: after the slash of Content-Range, or Content-Length."""
    total = _header(response, b"content-range").rpartition("/")[2] if response.status == _PARTIAL else ""
    total = total or _header(response, b"content-length")
    return int(total) if total.isascii() and total.isdigit() else None


def _header(response: httpcore.Response, name: bytes) -> str:
    found = (value for key, value in response.headers if key.lower() == name)
    return next(found, b"").decode("latin-1").strip()
