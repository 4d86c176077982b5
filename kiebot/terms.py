"""Tells Postgres of each term of this replica, where it outlives the replica. Best effort: nobody waits for it."""

from __future__ import annotations

import asyncio
from collections import deque

import structlog

from kiebot.clock import Clock
from kiebot.errors import Transient
from kiebot.lease.chronicle import Transition
from kiebot.storage.transaction import Database

log = structlog.get_logger()

BEGINNING_AFTER_S = 0.5  # the fence and the first poll come first
END_AFTER_S = 0.1  # another replica's, at that
RETRY_S = 1.0
SETTLE_S = 1.0
MOST_UNTOLD = 50


class TermTeller:
    """`note` is called at each change of hands and returns at once; `run` is a part of the replica."""

    def __init__(self, database: Database, clock: Clock, bot_id: int, replica: str) -> None:
        self._database = database
        self._clock = clock
        self._bot_id = bot_id
        self._replica = replica
        self._untold: deque[tuple[Transition, float]] = deque(maxlen=MOST_UNTOLD)  # and when it happened
        self._news = asyncio.Event()
        self._is_away = False  # Postgres; said once

    def note(self, transition: Transition) -> None:
        self._untold.append((transition, self._clock.monotonic()))
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self._untold:
                await self._clock.sleep(BEGINNING_AFTER_S if self._untold[0][0].is_beginning else END_AFTER_S)
            try:
                await self._tell_all()
                self._is_away = False
            except Transient as error:
                if not self._is_away:
                    log.info("terms.untold", why=str(error))
                self._is_away = True
                await self._clock.sleep(RETRY_S)
                self._news.set()
            except Exception:  # a word for operators is never worth a restart
                log.exception("terms.lost")
                self._untold.clear()

    async def settle(self) -> None:
        """The replica leaves: what is untold is told within a moment, or never."""
        if not self._untold:
            return
        try:
            async with asyncio.timeout(SETTLE_S):
                await self._clock.sleep(END_AFTER_S)
                await self._tell_all()
        except (Transient, TimeoutError) as error:
            log.info("terms.untold", why=str(error) or "no answer")
        except Exception:
            log.exception("terms.lost")

    async def _tell_all(self) -> None:
        while self._untold:
            told = self._untold[0]
            await self._tell(*told)
            if self._untold and self._untold[0] is told:  # else it was crowded out meanwhile
                self._untold.popleft()

    async def _tell(self, transition: Transition, happened_at: float) -> None:
        ago_s = self._clock.monotonic() - happened_at
        who = (self._bot_id, transition.token, self._replica)
        async with self._database.single() as tx:
            if transition.is_beginning:
                sign = transition.detail
                await tx.terms.began(*who, ago_s=ago_s, sign=sign, previous=transition.previous)
                await tx.terms.forget_old(self._bot_id)
            else:
                reason = f"{transition.kind}: {transition.detail}" if transition.detail else transition.kind
                await tx.terms.ended(*who, ago_s=ago_s, held_s=transition.seconds, reason=reason)
