"""Reads a request's body, which is limited in size and in time."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

BODY_WITHIN_S = 10.0
CLOSE = {"connection": "close"}
"""What is not read must not be taken for the next request: the connection ends with the answer."""


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body. Raises: HTTPException 413 when it is larger, 408 when it does not come within BODY_WITHIN_S."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise HTTPException(413, headers=CLOSE)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise HTTPException(413, headers=CLOSE)
    except TimeoutError:
        raise HTTPException(408, headers=CLOSE) from None
    except ClientDisconnect:  # nobody is left to answer
        raise HTTPException(400, headers=CLOSE) from None
    return bytes(body)
