"""A replica that does one thing after another: real services on real stores, jobs run in this very process.

Its wake-ups die with it. Whoever goes on after it has only rows to go by, as if Redis had been emptied in the same
instant. Pauses between tries do not have to be waited for: when nothing else is to be done, time passes at once.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

from sqlalchemy import text

from kiebot.bootstrap import Adapters, Services, open_stores
from kiebot.bot.application import BotHandler
from kiebot.bot.rendering import BotRenderer
from kiebot.bot.settings import BotSettings
from kiebot.botapi.buckets import Bucket
from kiebot.botapi.buckets import Limits as SendLimits
from kiebot.botapi.connection import make_bot
from kiebot.botapi.files import TelegramFiles
from kiebot.botapi.messenger import TelegramMessenger
from kiebot.botapi.ratelimit import SharedRateLimiter
from kiebot.errors import Transient
from kiebot.generation.service import Generations
from kiebot.settings import Settings
from kiebot.storage.claims import BEAT_EVERY_S
from kiebot.storage.transaction import Database
from kiebot.wakeups import Advance, Deliver, Drain, RefreshCard, Wakeup

KNOCKS = "knocks"  # a list in Valkey: callbacks that have come and were not yet acted upon
_IDLE_S, _LONGEST_IDLE_S = 0.004, 0.03
_WAITING = text("""
    SELECT (SELECT count(*) FROM inbox WHERE done_at IS NULL)
        + (SELECT count(*) FROM outbox WHERE sent_at IS NULL AND buried_at IS NULL)
        + (SELECT count(*) FROM generations WHERE finished_at IS NULL)
        + (SELECT count(*) FROM cards WHERE wanted_version > sent_version)
""")
# A running task takes its own time: its next look is brought forward only when it is far away. Who waits for an orphan,
# or for a stopped account, really waits.
_TIME_PASSES = text("""
    WITH
        c AS (UPDATE cards SET next_at = now() WHERE wanted_version > sent_version AND next_at > now()),
        o AS (UPDATE outbox SET next_at = now() WHERE sent_at IS NULL AND buried_at IS NULL AND next_at > now()),
        i AS (UPDATE inbox SET next_at = now() WHERE done_at IS NULL AND next_at > now()),
        m AS (UPDATE model_switches SET until = now() WHERE model_id <> '*' AND until > now())
    UPDATE generations SET due_at = now()
    WHERE finished_at IS NULL AND due_at > now() AND (
        (state = 'accepted' AND NOT EXISTS (SELECT FROM model_switches WHERE model_id = '*' AND until > now()))
        OR (state = 'running' AND due_at > now() + interval '0.3 seconds')
    )
""")
_NO_PAUSE = Bucket(0.001, 1000)
_OTHERS_ARE_DEAD = text("UPDATE replicas SET beat_at = now() - interval '1 minute' WHERE id <> :me")
_I_AM_STEADY = text("UPDATE replicas SET steady_since = now() - interval '1 minute' WHERE id = :me")

Done = Callable[[], Awaitable[bool]]


class OwnQueue:
    """The Queue port; what is due is taken by this process alone."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Wakeup]] = []
        self._order = itertools.count()

    async def enqueue(self, wakeups: Sequence[Wakeup]) -> None:
        for wakeup in wakeups:
            heapq.heappush(self._heap, (time.monotonic() + wakeup.delay_s, next(self._order), wakeup))

    def due(self) -> list[Wakeup]:
        found = []
        while self._heap and self._heap[0][0] <= time.monotonic():
            found.append(heapq.heappop(self._heap)[2])
        return found


class SmallReplica:
    """Built from an environment; `callbacks`: the address prefix that KIE is told, None for none."""

    def __init__(self, environment: Mapping[str, str], *, callbacks: str | None = None) -> None:
        values = {name.lower(): value for name, value in environment.items()}
        settings = Settings(_env_file=None, **values)  # type: ignore[call-arg,arg-type]  # pydantic turns texts into types
        self.adapters = Adapters(settings, open_stores(settings))
        self._hurries_to_send(settings)
        self.queue = OwnQueue()
        self.database = self.adapters.database = Database(self.adapters.engine, self.queue)
        chosen = BotSettings(
            markup=settings.markup,
            bot_username="kiebot_bot",
            payment_terms=settings.payment_terms(),
            welcome_credits_millicredits=settings.welcome_millicredits,
            support_contact=settings.support_contact,
            content_filter=settings.content_filter,
            limits=settings.limits(),
            daily_credits_millicredits=settings.daily_millicredits,
        )
        self.services = Services(self.adapters, BotHandler(chosen, settings.bot_id), BotRenderer(chosen))
        if callbacks is not None:
            tools = replace(self.adapters.tools(), callback_url=lambda attempt: f"{callbacks}/{attempt}")
            self.services.generations = Generations(tools)
        self._beat_at = 0.0
        self._knocks = f"{settings.redis_prefix}:{KNOCKS}"
        self._pauses = f"{settings.redis_prefix}:*pause*"
        self._job: asyncio.Task[None] | None = None

    def _hurries_to_send(self, settings: Settings) -> None:
        """The same limiter with no rate of its own, and no patience: a pause that was asked for is the outbox's."""
        adapters = self.adapters
        limits = SendLimits(_NO_PAUSE, _NO_PAUSE, _NO_PAUSE)
        adapters.telegram = make_bot(
            settings.telegram_bot_token.get_secret_value(),
            api_url=settings.telegram_api_url,
            replica=settings.replica_id,
            limiter=SharedRateLimiter(adapters.redis, settings.redis_prefix, limits=limits, max_wait_s=0.02),
        )
        adapters.messenger = TelegramMessenger(adapters.telegram)
        adapters.files = TelegramFiles(adapters.telegram)

    async def begins(self, *, alone: bool) -> None:
        """Beat. alone: all others have been silent for so long that their claims are free, and this one was there."""
        async with self.database.transaction() as tx:
            me = self.adapters.incarnation
            await tx.replicas.beat(me, "small", {})
            await tx.connection.execute(_I_AM_STEADY, {"me": me})
            if alone:
                await tx.connection.execute(_OTHERS_ARE_DEAD, {"me": me})

    async def works(self, done: Done) -> None:
        """Until nothing waits and `done` says so. Time passes at once when nothing else is to be done."""
        idle_s = _IDLE_S
        while True:
            if await self._turns():
                idle_s = _IDLE_S
                continue
            if not await self._something_waits() and await done():
                return
            await self._time_passes()
            await asyncio.sleep(idle_s)
            idle_s = min(1.5 * idle_s, _LONGEST_IDLE_S)

    async def helps(self, over: asyncio.Event) -> None:
        """Until `over`, and no longer than there is something to do just now."""
        while await self._turns() or not over.is_set():
            await asyncio.sleep(_IDLE_S)

    async def _turns(self) -> int:
        """Everything that is due; how many jobs that were."""
        await self._beats()
        worked = await self._works_off(self.queue.due()) + await self.hears_knocks()
        return worked or await self._works_off(await self._left_behind())

    async def ends(self) -> None:
        await self.adapters.close()

    def cuts_job(self) -> None:
        """As a worker does whose job takes too long, or that has to leave: the job is cancelled, the replica lives."""
        if self._job is not None:
            self._job.cancel()

    async def _works_off(self, wakeups: Sequence[Wakeup]) -> int:
        for wakeup in wakeups:
            self._job = asyncio.create_task(self._does(wakeup))
            await asyncio.wait({self._job})
            if not self._job.cancelled() and (error := self._job.exception()) and not isinstance(error, Transient):
                raise error
        return len(wakeups)

    async def _does(self, wakeup: Wakeup) -> None:
        match wakeup:
            case Drain(lane):
                await self.services.drain(lane)
            case Advance(generation_id):
                await self.services.advance(generation_id)
            case Deliver(chat_id):
                await self.services.deliver(chat_id)
            case RefreshCard(generation_id):
                await self.services.refresh_card(generation_id)

    async def hears_knocks(self) -> int:
        """Acts upon the callbacks that have come. A knock is forgotten only when it was acted upon."""
        knocks: list[bytes] = await self.adapters.redis.lrange(self._knocks, 0, -1)  # type: ignore[misc]  # as it is typed
        for knock in knocks:
            attempt_id, task_id = json.loads(knock)
            with suppress(Transient):
                await self.services.generations.knock(UUID(attempt_id), task_id)
                await self.adapters.redis.lrem(self._knocks, 1, knock)  # type: ignore[misc,arg-type]  # as it is typed
        return len(knocks)

    async def _left_behind(self) -> list[Wakeup]:
        async with self.database.transaction() as tx:
            return [
                *await tx.sweeps.stranded_lanes(grace_s=0.0),
                *await tx.sweeps.due_generations(grace_s=0.0),
                *await tx.sweeps.waiting_chats(grace_s=0.0),
                *await tx.sweeps.cards_behind(grace_s=0.0),
            ]

    async def _something_waits(self) -> bool:
        async with self.database.transaction() as tx:
            return bool(await tx.connection.scalar(_WAITING))

    async def _time_passes(self) -> None:
        async with self.database.transaction() as tx:
            await tx.connection.execute(_TIME_PASSES)
        async for key in self.adapters.redis.scan_iter(self._pauses, count=1000):
            await self.adapters.redis.delete(key)

    async def _beats(self) -> None:
        """Between two steps: nobody else lives who could take a claim for forgotten meanwhile."""
        if time.monotonic() - self._beat_at < BEAT_EVERY_S:
            return
        self._beat_at = time.monotonic()
        async with self.database.transaction() as tx:
            await tx.replicas.beat(self.adapters.incarnation, "small", {})
