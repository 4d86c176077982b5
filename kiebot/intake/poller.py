"""The getUpdates loop: fetch -> record, fenced -> enqueue. Runs only under a term of the lease."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import structlog

from kiebot.clock import Clock
from kiebot.errors import Fenced, Permanent, RateLimited, Transient
from kiebot.intake.checkout import CheckoutDesk
from kiebot.intake.outage import UNREACHABLE_S, Outage
from kiebot.intake.ports import Conflict, FenceRow, Inbox, RawUpdate, UpdateSource, Wakeups
from kiebot.lease.term import Term, TermOver, still_ours
from kiebot.wakeups import Drain
from kiebot.within import within

T = TypeVar("T")

log = structlog.get_logger(__name__)

_ALARM_WINDOW_S = 60.0
_POLITE_RETRY_S = 5.0
_OWN_RETRY_S = 0.5  # Postgres is ours, and one holder knocks at it: no need to be polite
_SHORT_POLL_S = 3  # after a failure: whether anybody is there shows sooner, and Telegram takes no shorter one as it is
_ALARM_ABOVE = 3  # conflicts within the window that a change of leader cannot explain


@dataclass(frozen=True, slots=True)
class PollTiming:
    """Intervals of the poll loop, seconds.

    Telegram sets the bounds: a timeout below 3 turns a repeated poll into a longer one that ends other polls, and the
    same offset within 0.5 makes it hand out one update at a time.
    """

    long_poll_s: int = 25
    same_offset_gap_s: float = 0.5
    unreachable_s: float = UNREACHABLE_S
    refused_pause_s: float = 30.0  # between tries while Telegram refuses the token
    wakeup_s: float = 2.0  # how long queueing may hold up the next poll

    def __post_init__(self) -> None:
        if not 3 <= self.long_poll_s <= 25:
            raise ValueError("a long poll lasts 3 to 25 seconds")
        if self.same_offset_gap_s < 0.5:
            raise ValueError("the same offset may not be asked twice within 0.5 seconds")


@dataclass(slots=True)
class PollerStats:
    """Since the process started."""

    epoch: int = 0  # of the fence this poller took last
    polls: int = 0  # completed, with or without updates
    updates: int = 0
    recorded: int = 0  # updates written, including those the inbox knew already
    conflicts: int = 0
    fenced_writes: int = 0
    failures: int = 0  # polls that ended with an error other than a conflict
    wakeup_failures: int = 0
    last_completed_poll_at: datetime | None = None
    last_asked: tuple[int, float] | None = None  # the offset of the last poll, and when it was sent: monotonic seconds


class Poller:
    """`run(term)` is the candidate's work. It ends only by an exception, or by being cancelled.

    Raises: TermOver, at the end of the term; Fenced, when the inbox refused a write; StepDown, when Postgres or
    Telegram stayed out of reach. Whatever was fetched and not recorded is still with Telegram.
    """

    def __init__(
        self,
        source: UpdateSource,
        inbox: Inbox,
        wakeups: Wakeups,
        desk: CheckoutDesk | None = None,
        *,
        clock: Clock,
        timing: PollTiming | None = None,
        prepare: Callable[[], Awaitable[None]] | None = None,
        rng: random.Random | None = None,
        stats: PollerStats | None = None,
    ) -> None:
        """`desk` answers pre-checkout questions, and outlives this poller. `prepare` makes polling possible (no webhook
        set); before the first poll of a term, and again when Telegram says that a webhook is active. It raises what
        UpdateSource.fetch raises. `stats` goes on counting what earlier pollers of this process counted.
        """
        self._source = source
        self._inbox = inbox
        self._wakeups = wakeups
        self._clock = clock
        self._timing = timing or PollTiming()
        self._prepare = prepare
        self._rng = rng or random.Random()  # noqa: S311  # jitter, not a secret
        self._desk = desk or CheckoutDesk(None)
        self._telegram = self._outage("telegram", _POLITE_RETRY_S)
        self._postgres = self._outage("postgres", _OWN_RETRY_S)
        self._conflicts: deque[float] = deque()
        self._alarmed_at: float | None = None
        self._is_refused = False
        self._is_prepared = False
        self.stats = stats or PollerStats()

    @property
    def last_completed_poll_at(self) -> datetime | None:
        """When Telegram last answered a poll: a holder for which this is long ago is deaf, however alive it looks."""
        return self.stats.last_completed_poll_at

    async def run(self, term: Term) -> None:
        self._telegram = self._outage("telegram", _POLITE_RETRY_S)
        self._postgres = self._outage("postgres", _OWN_RETRY_S)
        self._is_prepared = False
        fence = await self._take_fence(term)
        self.stats.epoch = term.epoch = fence.epoch
        log.info("poller.started", epoch=fence.epoch, replica=term.replica, term=term.token[:8])
        offset = 0
        while True:
            updates = await self._fetch(term, offset)
            if updates:
                await self._record(term, updates)
                offset = max(update.update_id for update in updates) + 1

    async def settle(self) -> None:
        """For the drain: wait for pre-checkout answers under way, five seconds at most."""
        await self._desk.settle()

    async def _take_fence(self, term: Term) -> FenceRow:
        while True:
            term.check()
            asked_at = self._clock.monotonic()
            try:
                fence = await self._within(self._inbox.take_fence(term.token, term.replica))
            except Transient as error:
                await self._postgres.endure(term, error, asked_at=asked_at)
                continue
            self._postgres.over()
            term.check()  # taking it may have lasted longer than our trust
            return fence

    async def _fetch(self, term: Term, offset: int) -> list[RawUpdate]:
        """The next completed poll, whatever it takes. Nothing is fetched or handed on once the term is over."""
        while True:
            try:
                updates = await self._poll(term, offset)
            except Conflict as conflict:
                await self._on_conflict(term, conflict)
            except RateLimited as error:
                await self._on_rate_limit(term, error)
            except Transient as error:
                self.stats.failures += 1
                await self._telegram.endure(term, error)
            except Permanent as error:
                await self._on_refusal(term, error)
            else:
                term.check()
                self._desk.serve(updates)
                return updates

    async def _poll(self, term: Term, offset: int) -> list[RawUpdate]:
        if self._prepare is not None and not self._is_prepared:
            term.check()
            await self._prepare()
            self._is_prepared = True
        await self._keep_apart(offset)
        term.check()
        self.stats.last_asked = (offset, self._clock.monotonic())
        timeout_s = _SHORT_POLL_S if self._telegram.is_on else self._timing.long_poll_s
        updates = await self._source.fetch(offset, timeout_s=timeout_s)
        self._telegram.over()
        self._is_refused = False
        self.stats.polls += 1
        self.stats.updates += len(updates)
        self.stats.last_completed_poll_at = self._clock.now()
        return updates

    async def _keep_apart(self, offset: int) -> None:
        """Let 0.5 s pass between two polls with the same offset, the last one of an earlier term included."""
        last = self.stats.last_asked
        if last is not None and last[0] == offset:
            wait_s = last[1] + self._timing.same_offset_gap_s - self._clock.monotonic()
            if wait_s > 0:
                await self._clock.sleep(wait_s + 0.01)  # two clocks compare: ours and Telegram's

    async def _record(self, term: Term, updates: Sequence[RawUpdate]) -> None:
        """T1, repeated while Postgres is away; then the wake-ups. Only after this may the offset move."""
        while True:
            term.check()
            asked_at = self._clock.monotonic()
            try:
                drains = await self._within(self._inbox.record(updates, token=term.token))
            except Fenced:
                self.stats.fenced_writes += 1
                raise
            except Transient as error:
                await self._postgres.endure(term, error, asked_at=asked_at)
                continue
            self._postgres.over()
            self.stats.recorded += len(updates)
            return await self._wake(drains)

    async def _within(self, call: Awaitable[T]) -> T:
        """A Postgres that is silent for so long is out of reach as much as one that refuses."""
        return await within(self._timing.unreachable_s, call, self._clock, what="postgres")

    async def _wake(self, drains: Sequence[Drain]) -> None:
        if not drains:
            return
        try:
            async with asyncio.timeout(self._timing.wakeup_s):
                await self._wakeups.drains(drains)
        except Exception as error:  # whatever it is: the rows stand, and a sweeper finds them
            self.stats.wakeup_failures += 1
            log.warning("poller.wakeup_failed", lanes=len(drains), error=type(error).__name__)

    async def _on_conflict(self, term: Term, conflict: Conflict) -> None:
        """Somebody else polls, or set a webhook. Raises: TermOver, when the lease is not ours any more."""
        log.warning("poller.conflict", reason=str(conflict), term=term.token[:8])
        if not await still_ours(term, self._clock, self._rng):
            raise TermOver("another replica holds the lease")
        self.stats.conflicts += 1
        if "webhook" in str(conflict).lower():
            self._is_prepared = False
        self._note_stranger()
        await self._clock.sleep(self._rng.uniform(0.5, 0.8))
        term.check()

    def _note_stranger(self) -> None:
        """Loud, once a minute: conflicts while the lease is ours come from outside the cluster."""
        now = self._clock.monotonic()
        self._conflicts.append(now)
        while self._conflicts[0] < now - _ALARM_WINDOW_S:
            self._conflicts.popleft()
        rested = self._alarmed_at is None or now - self._alarmed_at >= _ALARM_WINDOW_S
        if len(self._conflicts) > _ALARM_ABOVE and rested:
            self._alarmed_at = now
            log.error(
                "poller.stranger",
                conflicts=len(self._conflicts),
                advice="another program uses this bot token: stop it, or revoke the token at @BotFather",
            )

    async def _on_rate_limit(self, term: Term, error: RateLimited) -> None:
        self.stats.failures += 1
        log.warning("poller.rate_limited", retry_after_s=error.retry_after_s)
        await self._clock.sleep(max(error.retry_after_s, 1.0))
        term.check()

    async def _on_refusal(self, term: Term, error: Permanent) -> None:
        """Telegram refuses the token. All replicas have the same one, so yielding would not help: wait, say it once."""
        self.stats.failures += 1
        if not self._is_refused:
            self._is_refused = True
            log.error("poller.token_refused", error=str(error), advice="check TELEGRAM_BOT_TOKEN at @BotFather")
        self._telegram.over()
        await self._clock.sleep(self._timing.refused_pause_s * self._rng.uniform(0.9, 1.1))
        term.check()

    def _outage(self, what: str, most_s: float) -> Outage:
        limit_s = self._timing.unreachable_s
        return Outage(what, clock=self._clock, rng=self._rng, limit_s=limit_s, most_s=most_s)
