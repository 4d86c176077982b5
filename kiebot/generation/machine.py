"""The life of a generation as a pure machine: step(state, event) -> state, effects.

    accepted -> submitting -> running -> succeeded | failed
         ^          |  \\         |
         |          |   unknown -+-> failed (void), a late result is a gift
         +----------+ (nothing was created: wait, then again; or a new task after a failure of the server)

Effects are data: the service turns them into rows of the same transaction. Late and repeated events have an answer too.
"""

from __future__ import annotations

from dataclasses import dataclass

from kiebot.errors import IllegalTransition
from kiebot.generation.model import AttemptState, State


@dataclass(frozen=True, slots=True)
class Begun:
    """A submit starts: the intent is about to be committed."""


@dataclass(frozen=True, slots=True)
class TaskCreated:
    task_id: str


@dataclass(frozen=True, slots=True)
class NotCreated:
    """The provider answered that nothing was created; the same submit may be tried later. `is_retake`: it counts as the
    new try that a failure allows."""

    is_retake: bool = False


@dataclass(frozen=True, slots=True)
class AnswerLost:
    """The submit may have taken effect. `may_turn_up`: a callback address was given, so an orphan can find us."""

    may_turn_up: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """The provider has a result, and it was seen to be alive."""

    urls: tuple[str, ...]
    text: str | None = None
    cost_millicredits: int | None = None


@dataclass(frozen=True, slots=True)
class Broke:
    """It will not come. `reason` is a fixed word; `again`: a new task may be tried (bounded by the caller);
    `may_be_billed`: the provider has not said that a task under way came to nothing."""

    reason: str
    detail: str | None = None
    again: bool = False
    may_be_billed: bool = False


@dataclass(frozen=True, slots=True)
class StayedAway:
    """The task of a lost answer did not turn up in its time."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The user changed their mind."""


Event = Begun | TaskCreated | NotCreated | AnswerLost | StayedAway | Finished | Broke | Cancelled


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """Write the intent of one createTask."""


@dataclass(frozen=True, slots=True)
class MarkAttempt:
    state: AttemptState
    task_id: str | None = None


@dataclass(frozen=True, slots=True)
class Capture:
    """Take the money; `cost_millicredits` is what the provider really took, for quotes that were a maximum."""

    cost_millicredits: int | None = None


@dataclass(frozen=True, slots=True)
class Void:
    reason: str


@dataclass(frozen=True, slots=True)
class FreeSlot:
    """It does not run now: another generation of the user may."""


@dataclass(frozen=True, slots=True)
class Tell:
    """A message to the user: result, failed, late_result."""

    what: str
    reason: str = ""
    urls: tuple[str, ...] = ()
    text: str | None = None


Effect = OpenAttempt | MarkAttempt | Capture | Void | FreeSlot | Tell
Step = tuple[State, tuple[Effect, ...]]


def step(state: State, event: Event) -> Step:
    """One event in one state. Raises: IllegalTransition, for what only a bug could bring about."""
    match state, event:
        case State.ACCEPTED, Begun():
            return State.SUBMITTING, (OpenAttempt(),)
        case State.ACCEPTED, Cancelled():
            return State.FAILED, (Void("cancelled"), Tell("failed", "cancelled"))
        case State.SUBMITTING, NotCreated():
            return State.ACCEPTED, (MarkAttempt(AttemptState.REFUSED), FreeSlot())
        case State.ACCEPTED, NotCreated():  # heard twice: the answer to its commit was lost
            return state, ()
        case State.SUBMITTING, TaskCreated(task_id):
            return State.RUNNING, (MarkAttempt(AttemptState.CREATED, task_id),)
        case State.UNKNOWN, TaskCreated(task_id):  # the orphan turned up through its callback address
            return State.RUNNING, (MarkAttempt(AttemptState.ADOPTED, task_id),)
        case State.SUBMITTING, AnswerLost(may_turn_up=True):  # it may exist and be billed: never submitted again
            return State.UNKNOWN, (MarkAttempt(AttemptState.UNKNOWN),)
        case State.SUBMITTING, AnswerLost():  # no callback can ever tell: give the money back at once
            void = (Void("answer_lost"), Tell("failed", "answer_lost"))
            return State.FAILED, (MarkAttempt(AttemptState.UNKNOWN), *void)
        case State.UNKNOWN, StayedAway():
            return State.FAILED, (Void("answer_lost"), Tell("failed", "answer_lost"))
        case ((State.SUBMITTING | State.RUNNING | State.UNKNOWN | State.ACCEPTED), _):
            return _open(state, event)
        case ((State.SUCCEEDED | State.FAILED), _):
            return _closed(state, event)
    raise IllegalTransition(f"{type(event).__name__} in {state}")


def _open(state: State, event: Event) -> Step:
    match event:
        case Finished(urls, text, cost):  # a callback may outrun the answer to the submit itself
            return State.SUCCEEDED, (Capture(cost), Tell("result", urls=urls, text=text))
        case Broke("capacity", again=True) if state is State.RUNNING:  # for minutes: the slot is another's
            return State.ACCEPTED, (FreeSlot(),)
        case Broke(again=True) if state is State.RUNNING:
            return State.ACCEPTED, ()
        case Broke(again=True) if state is State.ACCEPTED:  # heard twice
            return state, ()
        case Broke(reason):
            closed = (MarkAttempt(AttemptState.REFUSED),) if state is State.SUBMITTING else ()
            return State.FAILED, (*closed, Void(reason), Tell("failed", reason))
        case Cancelled() | TaskCreated() | AnswerLost() | StayedAway():  # too late, heard of twice, at home
            return state, ()
    raise IllegalTransition(f"{type(event).__name__} in {state}")


def _closed(state: State, event: Event) -> Step:
    match state, event:
        case State.FAILED, TaskCreated(task_id):  # answered after the void: remember whose task it is
            return state, (MarkAttempt(AttemptState.ADOPTED, task_id),)
        case State.FAILED, Finished(urls, text):  # an orphan came home after the money went back: a gift
            return state, (Tell("late_result", urls=urls, text=text),)
    return state, ()
