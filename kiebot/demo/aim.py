"""How a blow is aimed at a write that is under way: the write is made to wait for a lock of ours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

_LOOK_S = 0.01
_LOCK = text("LOCK TABLE inbox IN SHARE MODE")
_WAITING = text("""
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = :name AND wait_event_type = 'Lock' AND query LIKE '%INSERT INTO inbox%'
""")


@asynccontextmanager
async def inbox_locked(engine: AsyncEngine) -> AsyncIterator[None]:
    """No row enters or changes meanwhile. The lock is taken before a statement sees anything, so writers wait blind."""
    async with engine.connect() as connection:
        transaction = await connection.begin()
        try:
            await connection.execute(_LOCK)
            yield
        finally:
            await transaction.rollback()


async def write_waits(engine: AsyncEngine, replica: str, within_s: float) -> bool:
    """Whether a write of that replica came to stand before the lock in time."""
    give_up = time.monotonic() + within_s
    async with engine.connect() as connection:
        while time.monotonic() < give_up:
            if await connection.scalar(_WAITING, {"name": f"kiebot {replica} intake"}):
                return True
            await connection.rollback()
            await asyncio.sleep(_LOOK_S)
    return False
