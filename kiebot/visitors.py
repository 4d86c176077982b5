"""What the web part asks and brings: readiness, Telegram's webhook, KIE's callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol
from uuid import UUID

import structlog

from kiebot.bootstrap import Adapters
from kiebot.errors import Transient
from kiebot.generation.service import Generations
from kiebot.intake.poller import PollerStats
from kiebot.kie.callbacks import CallbackVerifier, Knock
from kiebot.kie.replays import Heard
from kiebot.lease.chronicle import Standing
from kiebot.observe.metrics import METRICS
from kiebot.storage.engine import ping

log = structlog.get_logger()

PROBE_TIMEOUT_S = 2.0
DEAF_AFTER_S = 60.0


class Present(Protocol):
    """The replica as it stands, for whoever asks."""

    @property
    def is_draining(self) -> bool: ...
    @property
    def standing(self) -> Standing | None: ...
    @property
    def poller_stats(self) -> PollerStats | None: ...
    @property
    def generations(self) -> Generations | None: ...


class Visitors:
    def __init__(self, adapters: Adapters, present: Present) -> None:
        key = adapters.settings.kie_webhook_key
        self._adapters = adapters
        self._present = present
        self._verifier = CallbackVerifier(key.get_secret_value() if key else None)

    async def receive(self, raw: bytes) -> None:
        """One update of the webhook, safe when this returns. Raises: Transient: Telegram sends it again."""
        try:
            update = self._adapters.updates.read(raw)
        except ValueError as error:  # it has the secret but is no update: refused, Telegram would send it for ever
            log.error("webhook.malformed", why=str(error), size_bytes=len(raw))
            return
        self._adapters.checkouts.serve([update])  # whether it can be recorded or not: the buyer has ten seconds
        drains = await self._adapters.inbox.record([update], token=None)
        await self._adapters.queue.drains(drains)

    async def knock(self, attempt_id: UUID, headers: Mapping[str, str], body: bytes) -> int:
        """A callback: only a hint, once it is not refused. The HTTP status to answer."""
        knock = self._verifier.check(headers, body, now_s=self._adapters.clock.now().timestamp())
        if knock.refused is not None:
            METRICS.callbacks.labels(outcome=knock.refused).inc()
            log.warning("callback.refused", why=knock.refused)
            return 401
        status, outcome = await self._hear_once(attempt_id, knock)
        METRICS.callbacks.labels(outcome=outcome).inc()
        return status

    async def _hear_once(self, attempt_id: UUID, knock: Knock) -> tuple[int, str]:
        """Only what is signed can be told from its replay: without a key each callback is heard."""
        if not knock.is_signed or knock.task_id is None:
            return await self._hear(attempt_id, knock.task_id)
        replays = self._adapters.replays
        heard = await replays.begin(knock.task_id, knock.stamp)
        if heard is not Heard.NEW:
            return (200, "replayed") if heard is Heard.DONE else (503, "later")
        status = 503
        try:
            status, outcome = await self._hear(attempt_id, knock.task_id)
        finally:
            await replays.end(knock.task_id, knock.stamp, done=status == 200)
        return status, outcome

    async def _hear(self, attempt_id: UUID, task_id: str | None) -> tuple[int, str]:
        generations = self._present.generations
        if generations is None:
            return 503, "later"
        try:
            known = await generations.knock(attempt_id, task_id)
        except Transient:
            return 503, "later"
        return (200, "taken") if known else (404, "unknown")

    async def readiness(self) -> Mapping[str, str]:
        """Green on a standby: readiness never depends on the lease."""
        state = "starting" if self._present.generations is None else "ok"
        return {
            "replica": "draining" if self._present.is_draining else state,
            "postgres": await _probe(lambda: ping(self._adapters.engine)),
            "redis": await _probe(self._adapters.redis.ping),
            "updates": self._hearing(),
        }

    def _hearing(self) -> str:
        """A holder whose polls do not end is deaf, however alive it looks."""
        standing, stats = self._present.standing, self._present.poller_stats
        if standing is None or not standing.is_holder or self._adapters.settings.bot_mode == "webhook":
            return "ok"
        last = stats.last_completed_poll_at if stats is not None else None
        silent_s = (self._adapters.clock.now() - last).total_seconds() if last else standing.held_s
        return "ok" if min(silent_s, standing.held_s) < DEAF_AFTER_S else f"no poll ended for {int(silent_s)} s"


async def _probe(ask: Callable[[], Awaitable[object]]) -> str:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await ask()
    except Exception as error:
        return f"unreachable ({type(error).__name__})"
    return "ok"
