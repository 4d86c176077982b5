"""Waiting no longer than one's own patience: a server that is frozen, or behind a cut, refuses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from kiebot.clock import Clock
from kiebot.errors import Transient

T = TypeVar("T")


async def within(limit_s: float, call: Awaitable[T], clock: Clock, *, what: str) -> T:
    """The answer of `call`. Cancelled, it waits until the call has ended.

    Raises: Transient, when there is none after `limit_s` seconds; the call is cancelled then, and may have had its
        effect. What the call raises.
    """
    calling = asyncio.ensure_future(call)
    limit = asyncio.create_task(clock.sleep(limit_s))
    try:
        await asyncio.wait({calling, limit}, return_when=asyncio.FIRST_COMPLETED)
        if calling.done():
            return calling.result()
        calling.cancel()
        calling.add_done_callback(_heard)  # not waited for: cancelling asks the same silent server
        raise Transient(f"{what}: no answer for {limit_s:g} s")
    except asyncio.CancelledError:
        calling.cancel()
        await asyncio.wait({calling})
        raise
    finally:
        limit.cancel()


def _heard(call: asyncio.Future[T]) -> None:
    """What became of it is nobody's business any more; asyncio is not to complain of that."""
    if not call.cancelled():
        call.exception()
