"""What a user bought, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from kiebot.ledger.entries import Millicredits


class State(StrEnum):
    """Where a generation stands. Delivery is no state of it: that is the outbox row's own."""

    ACCEPTED = "accepted"
    SUBMITTING = "submitting"
    UNKNOWN = "unknown"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        return self in (State.SUCCEEDED, State.FAILED)


class AttemptState(StrEnum):
    """One createTask: what we know of it."""

    INTENT = "intent"  # written before the call; nothing is known yet
    CREATED = "created"  # the provider gave a task_id
    REFUSED = "refused"  # the provider said no: nothing was created
    UNKNOWN = "unknown"  # the answer was lost: it may exist and be billed
    ADOPTED = "adopted"  # was unknown, and its task turned up


@dataclass(frozen=True, slots=True)
class Quoted:
    """The price frozen at accept. `price` is what the user pays at most; `is_maximum`: the real one comes measured."""

    cost_millicredits: Millicredits
    price_millicredits: Millicredits
    is_maximum: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """What the user confirmed. `confirm_key` names the press itself, so a repeated press buys nothing twice."""

    generation_id: UUID
    confirm_key: str
    user_id: int
    chat_id: int
    model_id: str
    inputs: Mapping[str, object]
    quote: Quoted
    language: str
    card_message_id: int | None = None  # the message to turn into the status card, when there is one


@dataclass(frozen=True, slots=True)
class Generation:
    """One row of generations."""

    id: UUID
    number: int
    user_id: int
    chat_id: int
    model_id: str
    inputs: Mapping[str, object]
    language: str
    state: State
    quote: Quoted
    accepted_at: datetime
    attempt_no: int = 0
    attempt_id: UUID | None = None
    task_id: str | None = None
    submitted_at: datetime | None = None
    finished_at: datetime | None = None
    due_at: datetime | None = None
    polls: int = 0
    failure: str | None = None
    detail: str | None = None
    result_urls: tuple[str, ...] = ()
    result_text: str | None = None
    uploads: Mapping[str, object] = field(default_factory=dict)  # file_id -> {"url", "at"}
    holds_slot: bool = False  # counts among the user's running ones
    revision: int = 0
    claim_no: int = 0
    retakes: int = 0  # new tasks that were begun after a failure of the provider
    setbacks: int = 0  # uploads or submits that failed in a row, waits not counted
    troubled_at: datetime | None = None  # the first of these setbacks
    busies: int = 0  # tasks that failed because the provider had no room
    stumbles: int = 0  # steps that failed by a bug of ours
    seen_at: datetime | None = None  # the provider knew the present task
    ready_at: datetime | None = None  # the provider first said that it has a result
    missing_at: datetime | None = None  # the first of the answers in a row that did not know the task
    missings: int = 0  # how many they are
    read_at: datetime | None = None  # the database's time when this was read: ages never mix two clocks

    @property
    def age_s(self) -> float:
        """Seconds since the submit, else since it was accepted, by the database's clock."""
        return self.since_s(self.submitted_at or self.accepted_at)

    def since_s(self, moment: datetime | None) -> float:
        """Seconds from then until this was read, by the database's clock; 0 when it has not come."""
        if moment is None or self.read_at is None:
            return 0.0
        return (self.read_at - moment).total_seconds()


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to advance one generation: whose, and which of their claims. It ends with the write that uses it."""

    owner: UUID
    no: int


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is to be submitted before a generation that waits: all of it, and its own user's part; and what of that
    user's is under way already."""

    works: int
    own: int
    under_way: int = 0

    def wait_s(self, usual_s: float, *, create_every_s: float, running: int) -> float:
        """About how long until it is submitted: one create after the other, and a user's own works a few at a time,
        those under way among them: with all places taken, the next one waits for the end of one."""
        return self.works * create_every_s + (self.own + self.under_way) // running * usual_s


@dataclass(frozen=True, slots=True)
class Deferred:
    """When a generation will be looked at again, and the revision that names this wish."""

    revision: int
    due_in_s: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """Creates that met a fault of the provider's with no success since: of how many works, and of which models."""

    works: int
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Artifact:
    """One delivered file: `file_id` sends it again without an upload."""

    generation_id: UUID
    position: int
    kind: str  # photo | video | audio | document
    mime: str
    size_bytes: int
    file_id: str
    url: str
