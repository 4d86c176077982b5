"""A cancellation that a library swallowed."""

from __future__ import annotations

import asyncio


def stop_if_cancelled() -> None:
    """To be called once per turn of every loop around Redis calls.

    redis-py sends under `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that arrives in the
    instant the send completes; the loop would then go on for ever. The task still counts the request.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
