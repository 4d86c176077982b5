"""What is known when a run is over: plain values, so that the audit needs neither stores nor simulators.

All times are Unix seconds of one machine. Money is millicredits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Blow(StrEnum):
    """The kinds of misfortune."""

    KILL = "kill"  # SIGKILL of the leader
    FREEZE = "freeze"  # SIGSTOP of the leader, SIGCONT after somebody else leads
    ROLL = "roll"  # SIGTERM, then a new process
    FLUSH = "flush"  # Redis emptied
    LOST_ANSWER = "lost answer"  # KIE takes the task, the answer never arrives
    CUT_POLL = "cut poll"  # Telegram's answer to a poll breaks off


@dataclass(frozen=True, slots=True)
class Strike:
    """One misfortune: from when until when it acted, and on whom."""

    blow: Blow
    at: float
    until: float
    victim: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """An update that a person caused and Telegram stored."""

    update_id: int
    what: str
    at: float


@dataclass(frozen=True, slots=True)
class Recorded:
    """A row of the inbox."""

    update_id: int
    received_at: float
    done_at: float | None
    swept_at: float | None = None
    is_buried: bool = False


@dataclass(frozen=True, slots=True)
class Marked:
    """A numbered message, and when new messages of the bot repeated its number."""

    person: str
    mark: str
    sent_at: float
    answered_at: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Pressed:
    """A button pressed: whether its waiting circle ended."""

    person: str
    data: str
    at: float
    is_answered: bool


@dataclass(frozen=True, slots=True)
class Repeat:
    """The same content sent into the same chat more than once."""

    chat_id: int
    what: str
    times: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Purchases:
    """Confirm presses on fresh forms against rows of generations, for one person."""

    person: str
    pressed: int
    made: int


@dataclass(frozen=True, slots=True)
class Work:
    """A generation as it stands: `settled` is captured, voided or None; `delivered` the kinds of media in the chat."""

    number: int
    key: str
    output: str
    state: str
    settled: str | None
    amount: int
    settled_at: float | None
    delivered: tuple[str, ...]
    is_told: bool


@dataclass(frozen=True, slots=True)
class Create:
    """A createTask request that reached KIE. `is_lost`: its answer never came back whole."""

    at: float
    work: str
    attempt_id: str
    is_lost: bool


@dataclass(frozen=True, slots=True)
class Task:
    """A task at KIE; `ends_at` is when its end is or will be visible."""

    work: str
    attempt_id: str
    ends_at: float
    is_success: bool
    is_billed: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of attempts."""

    work: str
    number: int
    state: str


@dataclass(frozen=True, slots=True)
class Epoch:
    """A term's beginning, as its holder logged it."""

    at: float
    epoch: int
    replica: str


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two getUpdates of different living clients at the same time."""

    at: float
    first: str
    second: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Conflict:
    """A 409 that a living client read."""

    at: float
    replica: str


@dataclass(frozen=True, slots=True)
class Failover:
    """From the loss of a leader to the next poll by another replica; None: nobody took over."""

    what: str
    victim: str
    successor: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Books:
    """The ledger in sums, and what its invariants say."""

    granted: int = 0
    captured: int = 0
    wallets: int = 0
    breaches: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the audit looks at."""

    strikes: tuple[Strike, ...] = ()
    sent: tuple[Sent, ...] = ()
    inbox: tuple[Recorded, ...] = ()
    confirmed_at: Mapping[int, float] = field(default_factory=dict)
    marks: tuple[Marked, ...] = ()
    presses: tuple[Pressed, ...] = ()
    repeats: tuple[Repeat, ...] = ()
    purchases: tuple[Purchases, ...] = ()
    works: tuple[Work, ...] = ()
    creates: tuple[Create, ...] = ()
    tasks: tuple[Task, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    books: Books = Books()
    epochs: tuple[Epoch, ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    failovers: tuple[Failover, ...] = ()
    unfinished: tuple[str, ...] = ()
    trouble: tuple[str, ...] = ()  # a person, a blow or a process that failed in a way nobody planned

    def struck(self, start: float, end: float, slack_s: Mapping[Blow, float]) -> bool:
        """Whether a blow of these kinds, each with its aftermath of so many seconds, touches that stretch of time."""
        return any(
            strike.blow in slack_s and strike.at <= end and start <= strike.until + slack_s[strike.blow]
            for strike in self.strikes
        )


def by_update(rows: Iterable[Recorded]) -> dict[int, list[Recorded]]:
    """Inbox rows by Telegram's update id."""
    found: dict[int, list[Recorded]] = {}
    for row in rows:
        found.setdefault(row.update_id, []).append(row)
    return found
