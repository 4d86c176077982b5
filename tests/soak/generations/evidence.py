"""What is known when a run is over: plain values. Times are Unix seconds of one machine, money is millicredits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody pressed Create for. `price`: as their button said it."""

    serial: int
    profile: str
    user_id: int
    price: int


@dataclass(frozen=True, slots=True)
class Task:
    """A task at KIE. `has_result`: it ended, or will end, in files that can be read.

    told: the callbacks that were answered with 200, as the kinds under which they went out.
    """

    task_id: str
    attempt_id: str
    ends_at: float
    is_success: bool
    has_result: bool
    billed: int
    told: tuple[str, ...] = ()

    @property
    def is_billed(self) -> bool:
        return self.billed > 0


@dataclass(frozen=True, slots=True)
class Create:
    """A createTask request. `is_lost`: nobody who asked can know what came of it."""

    at: float
    attempt_id: str
    outcome: str
    is_lost: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of attempts. `is_loss`: the books list it as paid to the provider for nothing, surely or perhaps."""

    attempt_id: str
    number: int
    state: str
    is_loss: bool


@dataclass(frozen=True, slots=True)
class Work:
    """A generation. `settled` is captured, voided or None; `moved` what its postings took from the wallet for good.

    captures, voids: postings of that kind. decided: kinds of its outcome messages; unsent: those that have not gone
    out. seen: what stands in the chat of it: "media", "link", "failed", "late_result".
    """

    serial: int
    key: str
    number: int
    user_id: int
    state: str
    failure: str
    price: int
    settled: str | None
    amount: int
    settled_at: float | None
    moved: int
    captures: int
    voids: int
    attempts: tuple[Attempt, ...]
    decided: tuple[str, ...]
    unsent: tuple[str, ...]
    seen: frozenset[str]

    @property
    def is_gift(self) -> bool:
        return "late_result" in self.decided


@dataclass(frozen=True, slots=True)
class Wallet:
    user_id: int
    granted: int
    available: int
    held: int


@dataclass(frozen=True, slots=True)
class Check:
    """The ledger verified during the run. `is_open`: generations that were on their way at that moment."""

    at: float
    is_open: int
    breaches: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kill:
    at: float
    name: str
    when: str


@dataclass(frozen=True, slots=True)
class Asked:
    """How hard a run was meant to be, at the least: a run that was easier proves less than it says.

    checks: verifications of the ledger while works were under way.
    """

    works: int = 0
    kills: int = 0
    storms: int = 0
    checks: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the promises are asked of. `revenue`: what the shop's account holds."""

    wishes: tuple[Wish, ...] = ()
    works: tuple[Work, ...] = ()
    tasks: tuple[Task, ...] = ()
    creates: tuple[Create, ...] = ()
    wallets: tuple[Wallet, ...] = ()
    revenue: int = 0
    checks: tuple[Check, ...] = ()
    kills: tuple[Kill, ...] = ()
    storms: Mapping[str, int] = field(default_factory=dict)
    breaches: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    trouble: tuple[str, ...] = ()
    repeated: int = 0
    asked: Asked = Asked()

    def tasks_of(self, work: Work) -> list[Task]:
        """Oldest attempt first."""
        order = {attempt.attempt_id: attempt.number for attempt in work.attempts}
        return sorted((task for task in self._tasks(work)), key=lambda task: order[task.attempt_id])

    def creates_of(self, work: Work) -> list[Create]:
        """In order of time."""
        attempts = {attempt.attempt_id for attempt in work.attempts}
        return sorted((each for each in self.creates if each.attempt_id in attempts), key=lambda each: each.at)

    def is_unknown(self, work: Work) -> bool:
        """An outcome of it was unknown: an answer was lost, or whoever was to hear it died."""
        if any(attempt.state in ("unknown", "adopted") for attempt in work.attempts):
            return True
        return any(each.is_lost for each in self.creates_of(work))

    def _tasks(self, work: Work) -> list[Task]:
        attempts = {attempt.attempt_id for attempt in work.attempts}
        return [task for task in self.tasks if task.attempt_id in attempts]
