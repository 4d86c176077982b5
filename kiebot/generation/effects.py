"""Applies one event to one generation: its effects become rows of the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID

from kiebot.delivery.outbox import Draft
from kiebot.generation.machine import (
    Begun,
    Broke,
    Capture,
    Effect,
    Event,
    Finished,
    FreeSlot,
    MarkAttempt,
    NotCreated,
    OpenAttempt,
    TaskCreated,
    Tell,
    Void,
    step,
)
from kiebot.generation.model import AttemptState, Claim, Generation, State
from kiebot.generation.ports import TaskState
from kiebot.generation.pricing import settle
from kiebot.ids import new_id
from kiebot.observe.metrics import METRICS
from kiebot.store import Tx
from kiebot.wakeups import Advance, Deliver, RefreshCard, unique

HANDING_S = 5.0  # a create that takes longer is told on the card; a shorter one would only make it flicker
CARD_STALE_S = 60.0  # what a status card tells of the queue and of the time is shown anew after that


@dataclass(frozen=True, slots=True)
class Applied:
    """What one event made of a generation."""

    before: State
    generation: Generation


async def apply(
    tx: Tx,
    generation_id: UUID,
    event: Event,
    *,
    due_in_s: float | None = None,
    error: str | None = None,
    ends: Claim | None = None,
    attempt_id: UUID | None = None,
    setback: bool = False,
) -> Applied:
    """Lock the row, step, write state and effects. Calls come after the commit, from jobs.

    due_in_s: when the next step is due, for a state that is not final (0: at once). ends: the claim that this write
    uses up; kept while a submit is on its way. attempt_id: the attempt the event speaks of: news of an older one is
    noted on that attempt and moves nothing. setback: counts against the generation's patience.
    """
    before = await tx.generations.lock(generation_id)
    if attempt_id is not None and before.attempt_id != attempt_id:
        return await _old_news(tx, before, attempt_id, event, ends)
    state, effects = step(before.state, event)
    if state is before.state and not effects:
        if ends is not None:
            await tx.generations.release(generation_id, ends)
        return Applied(before.state, before)
    after = _with_facts(replace(before, state=state), before, event)
    if setback:
        after = replace(after, setbacks=after.setbacks + 1)
    for effect in effects:
        after = await _take_effect(tx, after, effect, error)
    if before.attempt_id is not None and _leaves_a_bill(before.state, event):
        await tx.generations.suspect_loss(before.attempt_id)
    await _save(tx, before, after, due_in_s, ends)
    await _tell_onlookers(tx, before, after)
    return Applied(before.state, after)


async def _old_news(tx: Tx, before: Generation, attempt_id: UUID, event: Event, ends: Claim | None) -> Applied:
    """A worker that slept speaks of an attempt that another has followed."""
    if isinstance(event, TaskCreated):
        await tx.generations.mark_attempt(
            attempt_id, AttemptState.ADOPTED, task_id=event.task_id, error="too late", suspected_loss=True
        )
    if ends is not None:
        await tx.generations.release(before.id, ends)
    return Applied(before.state, before)


async def look_later(
    tx: Tx,
    generation: Generation,
    claim: Claim,
    wait_s: float,
    *,
    polled: bool = False,
    setback: bool = False,
    stumble: bool = False,
    report: TaskState | None = None,
) -> None:
    """Nothing is decided: the claim ends, and the next look is due in `wait_s` seconds, or sooner when the row was
    given a sooner time while it was being looked at. report: what the provider said of the task."""
    deferred = await tx.generations.defer(
        generation.id,
        wait_s,
        polled=polled,
        setback=setback,
        stumble=stumble,
        report=report,
        seen=generation.revision,
        ends=claim,
    )
    if deferred is None:
        return
    tx.wakeups.append(Advance(generation.id, deferred.revision, deferred.due_in_s))
    if (version := await tx.cards.want_again(generation.id, CARD_STALE_S)) is not None:
        tx.wakeups.append(RefreshCard(generation.id, version))


def _with_facts(after: Generation, before: Generation, event: Event) -> Generation:
    match event:
        case Begun() if after.state is State.SUBMITTING:
            return replace(after, attempt_no=before.attempt_no + 1, attempt_id=new_id(), task_id=None, polls=0)
        case TaskCreated(task_id):
            return replace(after, task_id=task_id, setbacks=0)
        case NotCreated(is_retake=True):
            return replace(after, retakes=before.retakes + 1)
        case Finished(urls, text, _):
            return replace(after, result_urls=urls, result_text=text)
        case Broke(reason, detail):
            if after.state is not State.ACCEPTED:
                return replace(after, failure=reason, detail=detail)
            after = replace(after, failure=None, detail=detail, polls=0)  # those of a wait for a slot come next
            if reason == "capacity":  # the provider's crowd is no fault of the task: counted apart
                return replace(after, busies=before.busies + 1)
            return replace(after, retakes=before.retakes + 1)
    return after


def _leaves_a_bill(before: State, event: Event) -> bool:
    """The user's money goes back, and the provider may keep ours. In accepted there is no task, or one that failed."""
    return before is State.RUNNING and isinstance(event, Broke) and event.may_be_billed


async def _take_effect(tx: Tx, generation: Generation, effect: Effect, error: str | None) -> Generation:
    match effect:
        case OpenAttempt():
            await tx.generations.open_attempt(generation)
        case MarkAttempt(state, task_id):
            if generation.attempt_id is not None:
                # A task that turned up after the money went back is made for nothing.
                is_lost = state is AttemptState.UNKNOWN or (generation.state is State.FAILED and task_id is not None)
                await tx.generations.mark_attempt(
                    generation.attempt_id, state, task_id=task_id, error=error, suspected_loss=is_lost
                )
        case Capture(cost):
            amount = settle(generation.quote, cost)
            await tx.ledger.capture(generation.id, generation.user_id, amount, slot=generation.holds_slot)
            return replace(generation, holds_slot=False)
        case Void(reason):
            await tx.ledger.void(generation.id, generation.user_id, reason, slot=generation.holds_slot)
            return replace(generation, holds_slot=False, failure=generation.failure or reason)
        case FreeSlot() if generation.holds_slot:
            await tx.ledger.give_slot(generation.user_id)
            return replace(generation, holds_slot=False)
        case Tell():
            await _tell(tx, generation, effect)
    return generation


async def _tell(tx: Tx, generation: Generation, tell: Tell) -> None:
    payload = {"reason": tell.reason, "urls": list(tell.urls), "text": tell.text}
    draft = Draft(generation.chat_id, tell.what, payload, generation.id, key=f"{tell.what}:{generation.id}")
    rows, deliveries = await tx.outbox.add_all([draft], None)
    tx.wakeups.extend(deliveries or [Deliver(row.chat_id, row.id) for row in rows])


async def _save(tx: Tx, before: Generation, after: Generation, due_in_s: float | None, ends: Claim | None) -> None:
    due = None if after.state.is_final else due_in_s or 0.0
    is_submit = after.state is State.SUBMITTING
    revision = await tx.generations.save(
        after,
        slot=after.holds_slot,
        due_in_s=due,
        newly_submitted=is_submit and before.state is not State.SUBMITTING,
        ends=None if is_submit else ends,
    )
    if due is not None and not is_submit:
        tx.wakeups.append(Advance(after.id, revision, due))


async def _tell_onlookers(tx: Tx, before: Generation, after: Generation) -> None:
    """The status card, and the user's next waiting generation when a running slot came free."""
    if after.state.is_final and not before.state.is_final:
        METRICS.generations.labels(model=after.model_id, outcome=after.failure or "ok").inc()
    if after.state is not before.state and after.state is State.SUBMITTING:
        tx.wakeups.append(RefreshCard(after.id, unique(), HANDING_S))  # when it stands there then, the card says so
    elif after.state is not before.state and not after.state.is_final:
        version = await tx.cards.want(after.id, after.chat_id)
        tx.wakeups.append(RefreshCard(after.id, version))
    if before.holds_slot and not after.holds_slot:
        await wake_next(tx, after)


async def wake_next(tx: Tx, generation: Generation) -> None:
    """A running slot of its user's is free, and it has no use for it: another one that waits for one may."""
    waiting = await tx.generations.hurry_next_of(generation.user_id, but=generation.id)
    if waiting is not None:
        tx.wakeups.append(Advance(*waiting))
