"""How long a grant may be trusted, and whether it still is."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kiebot.clock import Clock, SystemClock
from kiebot.lease.protocol import Lease, StoreUnreachable

_MIN_RENEWALS_PER_TTL = 4


class TermOver(Exception):
    """The term has ended, or may not be trusted any longer. Whoever acts under it stops at once."""


class StepDown(Exception):
    """Raised by the holder's work: it cannot be done from here, let another replica lead. The text is the reason."""


def trusted_until(sent_at: float, ttl_s: float, margin_s: float) -> float:
    """The instant, on the clock that gave `sent_at`, at which a holder stops acting, whatever the store may say.

    Counted from when the request was sent, because the store's time may have begun while its answer was still on the
    way. The holder therefore always stops before the store lets anybody else in.

    Args: sent_at, seconds, read before the request left; ttl_s, seconds asked of the store; margin_s, seconds kept back
        for clocks that run at different rates, and for the time it takes to stop.
    Raises: ValueError, if ttl_s <= margin_s: such a grant could never be used.
    """
    if ttl_s <= margin_s:
        raise ValueError(f"a lease of {ttl_s:g} s is used up by its own safety margin of {margin_s:g} s")
    return sent_at + ttl_s - margin_s


@dataclass(frozen=True, slots=True)
class Timing:
    """Every interval of the election, in seconds, checked against each other.

    Raises: ValueError, when the holder could not survive a single slow call, or would renew too seldom.
    """

    ttl_s: float = 10.0
    renew_s: float = 2.0
    call_timeout_s: float = 1.5
    margin_s: float = 1.5
    look_s: float = 0.2  # how often a standby looks at the holder
    probe_s: float = 0.1  # how soon it looks again when it has found the holder's liveness connection gone
    probe_misses: int = 3  # looks in a row that must find it gone
    rest_s: float = 3.0  # kept away from the next bid after yielding
    stop_s: float = 2.0  # how long cancelled work may take before the term is given back without it

    def __post_init__(self) -> None:
        intervals = (self.ttl_s, self.renew_s, self.call_timeout_s, self.margin_s, self.look_s, self.probe_s)
        if min(*intervals, self.rest_s, self.stop_s) <= 0:
            raise ValueError("lease intervals must be above zero")
        if self.probe_misses < 2:
            raise ValueError("one look that misses the holder's connection is no proof: at least two in a row")
        if self.ttl_s < _MIN_RENEWALS_PER_TTL * self.renew_s:
            raise ValueError(f"a lease of {self.ttl_s:g} s must leave room for four renewals, {self.renew_s:g} s each")
        if self.stall_s <= self.call_timeout_s:
            raise ValueError(
                f"a lease trusted for {self.trust_s:g} s must outlast a renewal interval ({self.renew_s:g} s) "
                f"and two lost calls ({self.call_timeout_s:g} s each)"
            )

    @classmethod
    def scaled(cls, *, ttl_s: float, renew_s: float) -> Timing:
        """The same proportions for another TTL: margin and call timeout are 15 % of it each."""
        return cls(ttl_s=ttl_s, renew_s=renew_s, call_timeout_s=0.15 * ttl_s, margin_s=0.15 * ttl_s)

    @property
    def trust_s(self) -> float:
        """How long a grant is trusted, counted from sending."""
        return trusted_until(0.0, self.ttl_s, self.margin_s)

    @property
    def stall_s(self) -> float:
        """The longest silence of the store that never costs the holder its term."""
        return self.trust_s - self.renew_s - self.call_timeout_s


class TrustClocks:
    """The clocks a deadline is measured on; the one that runs out first decides.

    The first is the Clock's own (it counts suspended time where the system can tell). Beside a SystemClock stands
    CLOCK_MONOTONIC, so that neither a clock that jumps nor one that stops can stretch a term alone.
    """

    def __init__(self, clock: Clock) -> None:
        second = (time.monotonic,) if isinstance(clock, SystemClock) else ()
        self._reads: tuple[Callable[[], float], ...] = (clock.monotonic, *second)

    def read(self) -> tuple[float, ...]:
        return tuple(read() for read in self._reads)


class Term:
    """One term as its holder sees it, from grant to loss.

    `confirm` asks the store by a round trip whether the term is still ours: True extends the trust, False ends the
    term. It raises StoreUnreachable when the store gave no answer.
    """

    def __init__(
        self,
        lease: Lease,
        timing: Timing,
        clocks: TrustClocks,
        asked_at: tuple[float, ...],
        confirm: Callable[[Term], Awaitable[bool]],
    ) -> None:
        """`asked_at` is what `clocks` read before the bid that won this lease was sent."""
        self._lease = lease
        self._timing = timing
        self._clocks = clocks
        self._confirm = confirm
        self._ended = False
        self._deadlines = self._trusted(lease, asked_at)
        self.began_at = lease.sent_at
        self.epoch: int | None = None  # of its fence, told by the work when it has taken one; nothing here relies on it

    @property
    def lease(self) -> Lease:
        return self._lease

    @property
    def token(self) -> str:
        return self._lease.token

    @property
    def replica(self) -> str:
        return self._lease.replica

    def extend(self, lease: Lease, asked_at: tuple[float, ...]) -> None:
        """Trust the term longer after a renewal. An older answer that arrives late never shortens it."""
        fresh = self._trusted(lease, asked_at)
        self._deadlines = tuple(max(old, new) for old, new in zip(self._deadlines, fresh, strict=True))
        self._lease = lease

    def remaining(self) -> float:
        """Seconds of trust left on the clock that runs out first; 0.0 when over."""
        if self._ended:
            return 0.0
        left = min(until - now for until, now in zip(self._deadlines, self._clocks.read(), strict=True))
        return max(0.0, left)

    def check(self) -> None:
        """Raises: TermOver, when nothing may be done under this term any more."""
        if self.remaining() <= 0.0:
            raise TermOver(f"term {self.token[:8]} is over")

    def end(self) -> None:
        """Nothing may be done under this term from now on, however long it was granted for."""
        self._ended = True

    async def confirm(self) -> bool:
        return await self._confirm(self)

    def _trusted(self, lease: Lease, asked_at: tuple[float, ...]) -> tuple[float, ...]:
        sent_at = (lease.sent_at, *asked_at[1:])
        return tuple(trusted_until(at, self._timing.ttl_s, self._timing.margin_s) for at in sent_at)


async def still_ours(term: Term, clock: Clock, rng: random.Random) -> bool:
    """Ask until the store answers. Raises: TermOver, when the trust runs out first."""
    while True:
        term.check()
        try:
            return await term.confirm()
        except StoreUnreachable:
            await clock.sleep(rng.uniform(0.1, 0.2))
