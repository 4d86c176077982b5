"""What the holder does in webhook mode: keep the webhook set, with a poller's patience and a poller's limits."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import structlog

from kiebot.clock import Clock
from kiebot.errors import Permanent, RateLimited, Transient
from kiebot.intake.outage import UNREACHABLE_S, Outage
from kiebot.intake.ports import Conflict
from kiebot.lease.term import Term, TermOver, still_ours

log = structlog.get_logger(__name__)

CHECK_S = 60.0  # somebody may have removed it
_POLITE_RETRY_S = 5.0
_REFUSED_PAUSE_S = 30.0
_CONFLICT_PAUSE_S = 2.0


class WebhookKeeper:
    """`run(term)` is the candidate's work. It ends only by an exception, or by being cancelled.

    ensure: sets the webhook unless it is set; raises what UpdateSource.fetch raises. on_set: called after each success.
    Raises: TermOver, at the end of the term; StepDown, when Telegram stayed out of reach.
    """

    def __init__(
        self,
        ensure: Callable[[], Awaitable[None]],
        on_set: Callable[[], Awaitable[None]],
        *,
        clock: Clock,
        rng: random.Random | None = None,
    ) -> None:
        self._ensure = ensure
        self._on_set = on_set
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311  # jitter, not a secret
        self._telegram = self._outage()
        self._trouble = ""  # said already, and not over

    async def run(self, term: Term) -> None:
        self._telegram = self._outage()
        while True:
            term.check()
            await self._try(term)
            term.check()

    async def _try(self, term: Term) -> None:
        """Once, and the pause until the next try."""
        try:
            await self._ensure()
        except Conflict as conflict:
            await self._on_conflict(term, conflict)
        except RateLimited as error:
            log.warning("webhook.rate_limited", retry_after_s=error.retry_after_s)
            self._telegram.over()  # it answered
            await self._clock.sleep(max(error.retry_after_s, 1.0))
        except Transient as error:
            await self._telegram.endure(term, error)
        except Permanent as error:
            await self._on_refusal(error)
        else:
            self._telegram.over()
            self._trouble = ""
            await self._on_set()
            await self._clock.sleep(CHECK_S)

    async def _on_conflict(self, term: Term, conflict: Conflict) -> None:
        """Perhaps another replica leads by now. Raises: TermOver, when the lease is not ours any more."""
        self._telegram.over()
        if self._is_news("conflict"):
            log.warning("webhook.conflict", reason=str(conflict), term=term.token[:8])
        if not await still_ours(term, self._clock, self._rng):
            raise TermOver("another replica holds the lease")
        await self._clock.sleep(_CONFLICT_PAUSE_S * self._rng.uniform(0.8, 1.2))

    async def _on_refusal(self, error: Permanent) -> None:
        """Telegram refuses the token or the address. All replicas have the same ones, so yielding would not help."""
        self._telegram.over()
        if self._is_news("refusal"):
            names = "TELEGRAM_BOT_TOKEN" if error.code == "token_refused" else "PUBLIC_URL, or WEBHOOK_URL"
            log.error("webhook.refused", error=str(error), advice=f"check {names}; tried again twice a minute")
        await self._clock.sleep(_REFUSED_PAUSE_S * self._rng.uniform(0.9, 1.1))

    def _is_news(self, trouble: str) -> bool:
        known, self._trouble = self._trouble, trouble
        return known != trouble

    def _outage(self) -> Outage:
        return Outage("telegram", clock=self._clock, rng=self._rng, limit_s=UNREACHABLE_S, most_s=_POLITE_RETRY_S)
