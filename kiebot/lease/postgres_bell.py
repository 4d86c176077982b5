"""A doorbell in Postgres: a notification wakes all who listen, and whoever clears the row's mark has heard the ring."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kiebot.lease.postgres_session import Session, answered

_HEAR = """
    UPDATE lease_beats SET rung_at = NULL
    WHERE name = $1 AND rung_at > clock_timestamp() - interval '2 seconds' RETURNING name
"""


class Doorbell:
    """One lease's bell, on a session of its own. A session that ends is replaced at the next look."""

    def __init__(
        self, row: str, channel: str, open_session: Callable[[], Awaitable[Session]], timeout_s: float
    ) -> None:
        self._row = row
        self._channel = channel
        self._open = open_session
        self._timeout_s = timeout_s
        self._session: Session | None = None
        self._stirred = asyncio.Event()  # by a notification, or by the end of the session

    async def wait(self, timeout_s: float) -> bool:
        """True when this waiter heard a ring, also one of the last two seconds. Raises: StoreUnreachable."""
        until = asyncio.get_running_loop().time() + timeout_s
        while True:
            with answered(self._timeout_s):
                async with asyncio.timeout(self._timeout_s):
                    if await self._hear():
                        return True
            try:
                async with asyncio.timeout_at(until):
                    await self._stirred.wait()
            except TimeoutError:
                return False

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close(self._timeout_s)

    async def _hear(self) -> bool:
        """Listen before looking, so that no ring falls in between."""
        if self._session is None or not self._session.is_open:
            session = await self._open()
            await session.listen(self._channel, self._stirred.set)
            self._session = session
        self._stirred.clear()
        return bool(await self._session.ask(_HEAR, self._row))
