"""What happened to the lease: one log line and one callback per transition, and counts for metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

from kiebot.clock import Clock
from kiebot.lease.protocol import Lease, StoreUnreachable
from kiebot.lease.term import Term
from kiebot.lease.watch import Sign
from kiebot.observe.metrics import METRICS

log = structlog.get_logger(__name__)


class End(StrEnum):
    """Why a term ended."""

    STOPPED = "stopped"  # this replica leaves
    YIELDED = "yielded"  # it gave the lease away on purpose
    DEADLINE = "deadline"  # no renewal was answered in time
    TAKEN = "taken"  # the store says that it is not ours
    WORK_ENDED = "work_ended"
    WORK_FAILED = "work_failed"

    @property
    def rests(self) -> bool:
        """Whether this replica keeps away from the next bid for a while, so that another one gets its chance."""
        return self in (End.YIELDED, End.WORK_ENDED, End.WORK_FAILED)

    @property
    def is_loss(self) -> bool:
        """Whether the term was lost rather than given back."""
        return self in (End.DEADLINE, End.TAKEN)


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of hands. `kind` is acquired, seized, or an End; seconds are what was waited, or held.

    detail: the Sign of a seizure, or more about an End. previous: the replica that held it before, if it was seen.
    leaderless_s: for a grant, at most how long nobody held it: since that replica was last seen alive.
    epoch: for an End, of the fence taken under this term; None, when it came to none.
    """

    kind: str
    token: str
    seconds: float
    detail: str = ""
    previous: str = ""
    leaderless_s: float | None = None
    epoch: int | None = None

    @property
    def is_beginning(self) -> bool:
        return self.kind in ("acquired", "seized")


@dataclass(slots=True)
class LeaseCounts:
    """Since the process started."""

    acquired: int = 0
    seized: Counter[str] = field(default_factory=Counter)  # by Sign
    ended: Counter[str] = field(default_factory=Counter)  # by End
    renewals: int = 0
    store_errors: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """A candidate as operators see it."""

    name: str
    replica: str
    is_holder: bool
    term: str | None  # the first characters of the token: enough to compare, useless to steal
    held_s: float
    trusted_s: float
    store_reachable: bool
    counts: LeaseCounts


class Chronicle:
    """Written by one candidate. Outages of the store are logged when they begin and end, not at every try."""

    def __init__(
        self, clock: Clock, name: str, replica: str, on_transition: Callable[[Transition], None] | None
    ) -> None:
        self._clock = clock
        self._name = name
        self._replica = replica
        self._on_transition = on_transition
        self._log = log.bind(lease=name, replica=replica)
        self._counts = LeaseCounts()
        self._unreachable_since: float | None = None
        self._detail = ""
        self._seizure: tuple[str, Sign] | None = None  # the token seized with, and what gave the dead holder away

    def acquired(self, term: Term, *, waited_s: float, previous: str, leaderless_s: float | None) -> None:
        self._detail = ""
        sign = self._seizure[1] if self._seizure is not None and self._seizure[0] == term.token else None
        facts = {"term": term.token[:8], "waited_s": round(waited_s, 3), "previous": previous}
        if sign is None:
            self._counts.acquired += 1
            self._log.info("lease.acquired", **facts)
        else:
            self._counts.seized[sign] += 1
            self._log.warning("lease.seized", sign=str(sign), **facts)
        kind, detail = ("acquired", "") if sign is None else ("seized", str(sign))
        self._tell(Transition(kind, term.token, waited_s, detail, previous, leaderless_s))

    def seized(self, lease: Lease, sign: Sign) -> None:
        """Kept until the grant is told: one line per change of hands."""
        self._seizure = (lease.token, sign)

    def renewed(self, took_s: float) -> None:
        self._counts.renewals += 1
        METRICS.lease_renew_seconds.observe(took_s)
        self.reachable()

    def renew_failed(self) -> None:
        METRICS.lease_renew_failures.inc()

    def ending(self, detail: str) -> None:
        """Kept until the work has stopped and the end is told."""
        self._detail = detail

    def ended(self, term: Term, end: End) -> None:
        held_s = self._clock.monotonic() - term.began_at
        self._counts.ended[end] += 1
        say = self._log.warning if end.is_loss else self._log.info
        event = "lease.lost" if end.is_loss else "lease.released"
        facts = {"epoch": term.epoch, "term": term.token[:8], "held_s": round(held_s, 3)}
        say(event, reason=str(end), detail=self._detail, **facts)
        self._tell(Transition(str(end), term.token, held_s, self._detail, self._replica, epoch=term.epoch))

    def unreachable(self, error: StoreUnreachable) -> None:
        self._counts.store_errors += 1
        if self._unreachable_since is None:
            self._unreachable_since = self._clock.monotonic()
            self._log.warning("lease.store_unreachable", error=str(error))

    def reachable(self) -> None:
        if self._unreachable_since is not None:
            away_s = self._clock.monotonic() - self._unreachable_since
            self._unreachable_since = None
            self._log.info("lease.store_back", away_s=round(away_s, 3))

    def standing(self, term: Term | None) -> Standing:
        return Standing(
            name=self._name,
            replica=self._replica,
            is_holder=term is not None and term.remaining() > 0.0,
            term=term.token[:8] if term else None,
            held_s=self._clock.monotonic() - term.began_at if term else 0.0,
            trusted_s=term.remaining() if term else 0.0,
            store_reachable=self._unreachable_since is None,
            counts=self._counts,
        )

    def _tell(self, transition: Transition) -> None:
        if self._on_transition is not None:
            self._on_transition(transition)
