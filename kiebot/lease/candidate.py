"""The loop every replica runs: bid, do the work while the term may be trusted, step down in time.

Three tasks run during a term: the work, the renewals, and a watchdog that waits for neither. The first of them that has
a reason ends the term; then the work is cancelled, and only when it has stopped is the lease given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine

import structlog

from kiebot.clock import Clock
from kiebot.errors import Fenced
from kiebot.ids import new_token
from kiebot.lease.chronicle import Chronicle, End, Standing, Transition
from kiebot.lease.protocol import Holder, Lease, LeaseStore, StoreUnreachable
from kiebot.lease.standby import Standby
from kiebot.lease.term import StepDown, Term, TermOver, Timing, TrustClocks, still_ours
from kiebot.lease.watch import Sign

log = structlog.get_logger(__name__)

_WATCHDOG_TICK_S = 0.25  # a plain sleep does not count suspended time; a short one notices it soon after waking
_RETRY_FIRST_S = 0.05


class Candidate:
    """Bids for one lease and runs `work(term)` while it holds it.

    `work` may raise: Fenced (another term took the fence: the lease is asked; still ours means work is started anew,
    and takes the fence first), TermOver (it noticed the end itself), StepDown (let another replica lead). Anything else
    is logged and yields too. It is cancelled when the term ends and must then stop within `timing.stop_s`.
    """

    def __init__(
        self,
        store: LeaseStore,
        *,
        name: str,
        replica: str,
        clock: Clock,
        timing: Timing,
        work: Callable[[Term], Awaitable[None]],
        on_transition: Callable[[Transition], None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._store = store
        self._name = name
        self._replica = replica
        self._clock = clock
        self._timing = timing
        self._work = work
        self._rng = rng or random.Random()  # noqa: S311  # jitter, not a secret
        self._clocks = TrustClocks(clock)
        self._chronicle = Chronicle(clock, name, replica, on_transition)
        self._standby = Standby(store, name, clock, timing, self._rng)
        self._token = new_token()  # of the next term; kept until a bid is answered, so that a lost answer is repeated
        self._bid: Lease | None = None  # sent, and perhaps granted
        self._ended: asyncio.Future[End] | None = None
        self.term: Term | None = None

    @property
    def is_holder(self) -> bool:
        """Whether this replica may act as the holder at this very instant."""
        return self.term is not None and self.term.remaining() > 0.0

    def describe(self) -> Standing:
        """What operators and metrics see: who we are, whether we lead, and the counts since the process started."""
        return self._chronicle.standing(self.term)

    def yield_lease(self, reason: str) -> None:
        """Give the term back soon, so that another replica leads, and rest before bidding again. No term: no effect."""
        if self.term is not None:
            self._end(self.term, End.YIELDED, reason)

    async def run(self) -> None:
        """Until cancelled. On cancellation: stops the work, then gives the term back and rings the doorbell."""
        try:
            while True:
                term = await self._win()
                end = await self._hold(term)
                if end.rests:
                    await self._clock.sleep(self._timing.rest_s * self._rng.uniform(1.0, 1.5))
        finally:
            if self._bid is not None:  # cancelled while a bid was on its way: it may have been granted
                await self._give_back(self._bid)

    # Bidding.

    async def _win(self) -> Term:
        """Wait and bid until a term is granted."""
        since = self._clock.monotonic()
        async with self._standby.listening():
            while True:
                try:
                    term = await self._try()
                except StoreUnreachable as error:
                    self._chronicle.unreachable(error)
                    await self._standby.back_off()
                    continue
                self._chronicle.reachable()
                if term is not None:
                    self._chronicle.acquired(
                        term,
                        waited_s=self._clock.monotonic() - since,
                        previous=self._standby.last_seen,
                        leaderless_s=self._standby.unseen_s(),
                    )
                    return term
                await self._standby.pause()

    async def _try(self) -> Term | None:
        """One look at the lease, and a bid when it is free, is already ours, or its holder is judged dead."""
        if self._standby.was_rung():
            return await self._acquire()
        holder = await self._store.holder(self._name)
        if holder is None and await self._standby.must_wait_for_the_last():
            return None
        if holder is None or holder.token == self._token:
            return await self._acquire()
        sign = await self._standby.judge(holder)
        return None if sign is None else await self._seize(holder, sign)

    async def _acquire(self) -> Term | None:
        asked_at = self._about_to_bid()
        granted = await self._store.acquire(self._name, self._replica, token=self._token, ttl_s=self._timing.ttl_s)
        return self._answered(granted, asked_at)

    async def _seize(self, dead: Holder, sign: Sign) -> Term | None:
        asked_at = self._about_to_bid()
        granted = await self._store.seize(
            self._name, self._replica, dead_token=dead.token, token=self._token, ttl_s=self._timing.ttl_s
        )
        if granted is not None:
            self._chronicle.seized(granted, sign)
        return self._answered(granted, asked_at)

    def _about_to_bid(self) -> tuple[float, ...]:
        asked_at = self._clocks.read()
        self._bid = Lease(self._name, self._replica, self._token, asked_at[0])
        return asked_at

    def _answered(self, granted: Lease | None, asked_at: tuple[float, ...]) -> Term | None:
        if granted is None:
            self._bid = None
            return None
        return Term(granted, self._timing, self._clocks, asked_at, self._renew)

    # Holding.

    async def _hold(self, term: Term) -> End:
        """Run the term to its end and give it back. `self._bid` stays set until then, so no path forgets to."""
        self.term = term
        self._ended = asyncio.get_running_loop().create_future()
        tasks = [
            self._part(term, "watchdog", self._watch(term)),
            self._part(term, "renewals", self._keep(term)),
            self._part(term, "nudges", self._hear_nudges(term)),
            self._part(term, "work", self._do_work(term)),
        ]
        end = End.STOPPED
        try:
            end = await self._ended
        finally:
            term.end()
            await self._stop(tasks)
            self._chronicle.ended(term, end)
            self.term = self._ended = None
            await self._give_back(term.lease)
            self._bid, self._token = None, new_token()
        return end

    def _part(self, term: Term, what: str, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Start one part of the holder. However it ends, the term never goes on without it."""
        task = asyncio.create_task(coroutine, name=f"lease {self._name}: {what}")
        task.add_done_callback(lambda _: self._end(term, End.WORK_FAILED, what))
        return task

    def _end(self, term: Term, end: End, detail: str = "") -> None:
        """The first reason counts. A part of an earlier term that lingers cannot end this one."""
        if term is self.term and self._ended is not None and not self._ended.done():
            term.end()
            self._chronicle.ending(detail)
            self._ended.set_result(end)

    async def _watch(self, term: Term) -> None:
        """The watchdog: ends the term at its local deadline, whatever else hangs."""
        while (left_s := term.remaining()) > 0.0:
            await self._clock.sleep(min(left_s, _WATCHDOG_TICK_S))
        self._end(term, End.DEADLINE)

    async def _keep(self, term: Term) -> None:
        """Renew every `renew_s` ± 10 %; after an error sooner, so that a short silence of the store costs no term."""
        retry_s = _RETRY_FIRST_S
        pause_s = self._timing.renew_s
        while True:
            await self._clock.sleep(pause_s * self._rng.uniform(0.9, 1.1))
            try:
                await self._renew(term)
                pause_s, retry_s = self._timing.renew_s, _RETRY_FIRST_S
            except StoreUnreachable:
                pause_s = retry_s
                retry_s = min(retry_s * 2, self._timing.renew_s / 2)

    async def _hear_nudges(self, term: Term) -> None:
        """A standby saw the lease vanish while we act: look at once instead of at the next renewal."""
        while True:
            await self._store.wait_for_nudge(term.token)
            with contextlib.suppress(StoreUnreachable):
                await self._renew(term)

    async def _renew(self, term: Term) -> bool:
        """One round trip. "Not yours" ends the term at once: never retry into someone else's."""
        if term is not self.term:
            return False  # given back already: a late renewal would only keep it from the next holder
        asked_at = self._clocks.read()
        try:
            renewed = await self._store.renew(term.lease, ttl_s=self._timing.ttl_s)
        except StoreUnreachable as error:
            self._chronicle.renew_failed()
            self._chronicle.unreachable(error)
            raise
        self._chronicle.renewed(self._clock.monotonic() - asked_at[0])
        if renewed is None:
            self._end(term, End.TAKEN)
            return False
        term.extend(renewed, asked_at)
        return True

    async def _do_work(self, term: Term) -> None:
        """Run the work; start it anew after the fence was lost while the store still says the term is ours."""
        try:
            while True:
                term.check()  # the grant may have been answered too late to be of use
                try:
                    await self._work(term)
                    return self._end(term, End.WORK_ENDED)
                except Fenced:
                    log.warning("lease.fenced", lease=self._name, replica=self._replica)
                    if not await self._still_ours(term):
                        return self._end(term, End.TAKEN)
        except TermOver:  # said too early it is the work's own fault, and then it rests like any other
            self._end(term, End.WORK_ENDED if term.remaining() > 0.0 else End.DEADLINE)
        except StepDown as reason:
            self._end(term, End.YIELDED, str(reason))
        except Exception as error:
            log.exception("lease.work_failed", lease=self._name, replica=self._replica)
            self._end(term, End.WORK_FAILED, type(error).__name__)

    async def _still_ours(self, term: Term) -> bool:
        """After a pause: clusters that share a database but no lease would take the fence from each other for ever."""
        await self._clock.sleep(0.2 * self._rng.uniform(0.7, 1.3))
        return await still_ours(term, self._clock, self._rng)

    # Leaving.

    async def _stop(self, tasks: list[asyncio.Task[None]]) -> None:
        """Cancel the parts and wait for them, but not for ever: the term is over whether or not they listen."""
        for task in tasks:
            task.cancel()
        limit = asyncio.create_task(self._clock.sleep(self._timing.stop_s))
        stopping = asyncio.create_task(asyncio.wait(tasks))
        await asyncio.wait((stopping, limit), return_when=asyncio.FIRST_COMPLETED)
        limit.cancel()
        if not stopping.done():
            log.error("lease.work_stuck", lease=self._name, replica=self._replica, waited_s=self._timing.stop_s)

    async def _give_back(self, lease: Lease) -> None:
        """Best effort, idempotent by token: when the lease is another's already, nothing happens in the store."""
        self._bid = None
        try:
            await self._store.release(lease)
        except StoreUnreachable as error:
            self._chronicle.unreachable(error)
