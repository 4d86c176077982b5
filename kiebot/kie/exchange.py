"""One HTTP request and its whole answer, or the reason why there is none and whether the request had left.

Three limits hold for every call: a total deadline (httpx limits each read only, so a server that drips would hold a
worker for ever), a cap on the bytes of the answer, and no redirects. Failures leave this module as plain exceptions
without a link to httpx's: its errors hold the request, and the request holds the key.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

MAX_ANSWER_BYTES = 1024 * 1024
CONNECT_TIMEOUT_S = 10.0
MAX_RETRY_AFTER_S = 600.0
_MAX_CONNECTIONS = 100
# KIE's gateway keeps idle connections far longer; a short life here makes it unlikely that a create meets a connection
# which the other side is just closing, and so an answer lost for nothing.
_KEEPALIVE_S = 5.0
_DIRECT: dict[str, httpx.AsyncBaseTransport | None] = {"all://localhost": None, "all://127.0.0.1": None}


class NotSent(Exception):
    """The request never left: nothing can have happened."""


class AnswerLost(Exception):
    """The request left, wholly or in part, and no whole answer came back."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer. `retry_after_s` is the server's wish, bounded, when it gave one in seconds."""

    status: int
    body: bytes
    retry_after_s: float | None = None


class _Departure:
    """Learns from httpcore's trace events whether the request's first byte was about to be written."""

    def __init__(self, method: str) -> None:
        self._method = method.encode()
        self.has_left = False

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        # The method is compared because a proxy tunnel's CONNECT shows up here too, and carries nothing of ours.
        if event.endswith("send_request_headers.started") and info["request"].method == self._method:
            self.has_left = True


def new_http_client(user_agent: str, ssl_context: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    """A client fit for `exchange`: proxies of the environment are honoured, except towards this very host."""
    return httpx.AsyncClient(
        headers={"User-Agent": user_agent, "Accept": "application/json", "Accept-Encoding": "identity"},
        verify=ssl_context or True,
        limits=httpx.Limits(max_connections=_MAX_CONNECTIONS, keepalive_expiry=_KEEPALIVE_S),
        follow_redirects=False,
        mounts=_DIRECT,
    )


async def exchange(
    http: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    deadline_s: float,
    headers: Mapping[str, str],
    content: bytes | AsyncIterator[bytes] | None = None,
    max_bytes: int = MAX_ANSWER_BYTES,
) -> Answer:
    """Send one request and read its whole answer.

    Args: deadline_s, seconds for everything, waiting for a connection included; max_bytes, of the decoded body.
    Raises: NotSent, AnswerLost; and whatever `content` raises, unchanged.
    """
    departure = _Departure(method)
    # Thirds, so that waiting for a slot, TCP and TLS each end by a time-out of their own before the deadline cancels
    # them: a handshake that is cancelled from outside leaves its socket to the garbage collector.
    reach_s = min(CONNECT_TIMEOUT_S, deadline_s / 3)
    try:
        request = http.build_request(
            method,
            url,
            headers=dict(headers),
            content=content,
            timeout=httpx.Timeout(deadline_s, connect=reach_s, pool=reach_s),
            extensions={"trace": departure},
        )
        async with asyncio.timeout(deadline_s):
            return await _send(http, request, max_bytes)
    except TimeoutError:
        trouble = "no answer in time"
    except (httpx.HTTPError, httpx.StreamError, ssl.SSLError, _AnswerTooLong) as error:
        trouble = type(error).__name__.lstrip("_")
    except httpx.InvalidURL:
        trouble = "not a usable address"
    # Raised out here, so that the chain of causes does not lead to httpx's request and its headers.
    raise AnswerLost(trouble) if departure.has_left else NotSent(trouble)


class _AnswerTooLong(Exception):
    pass


async def _send(http: httpx.AsyncClient, request: httpx.Request, max_bytes: int) -> Answer:
    response = await http.send(request, stream=True)
    try:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > max_bytes:
                raise _AnswerTooLong
        return Answer(response.status_code, bytes(body), retry_after_s(response.headers.get("Retry-After")))
    finally:
        await response.aclose()


def retry_after_s(header: str | None) -> float | None:
    """Seconds of a Retry-After header, at most ten minutes; None when absent or given as a date."""
    if header is None or not header.strip().isascii() or not header.strip().isdigit():
        return None
    return min(float(header.strip()), MAX_RETRY_AFTER_S)
