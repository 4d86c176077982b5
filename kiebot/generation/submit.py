"""From accepted to running: slot, budget, uploads, intent, call, answer.

The intent is committed before createTask leaves, and no transaction is open while it travels. Whoever finds an intent
without an answer knows only that the task may exist: it is never sent again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from kiebot.errors import AccountStopped, ModelPaused, OutcomeUnknown, Permanent, RateLimited, Transient
from kiebot.generation.catalog import model_by_id
from kiebot.generation.checks import request_input, with_urls
from kiebot.generation.effects import apply, look_later, wake_next
from kiebot.generation.lengths import NOT_AS_SOLD
from kiebot.generation.machine import AnswerLost, Begun, Broke, Event, NotCreated, TaskCreated
from kiebot.generation.model import Claim, Generation, State
from kiebot.generation.ports import Submission
from kiebot.generation.product import Model
from kiebot.generation.stops import BREAKER_PAUSE_S, PROBE_S, UNKNOWN_PAUSE_S, lift, note_trouble, switch_off
from kiebot.generation.tools import Tools
from kiebot.generation.uploads import uploaded
from kiebot.insist import insist
from kiebot.store import Tx

log = structlog.get_logger()

Also = Callable[[Tx], Awaitable[None]]

SLOT_WAIT_S, MAX_SLOT_WAIT_S = 15.0, 600.0  # a slot that comes free wakes the next one; this is the fallback
NEAR_S, EARLY_S = 2.0, 1.0  # a turn so near is waited for; who is told a later one comes back that much earlier
MODEL_OFF_WAIT_S = 60.0
LONGEST_PAUSE_S = 300.0
MAX_RETAKES = 1
ANSWER_WITHIN_S = 80.0  # createTask has 65 seconds; nobody calls its answer lost before, unless its worker is dead


class Submitter:
    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._telling: set[asyncio.Task[None]] = set()

    async def submit(self, generation: Generation, claim: Claim) -> None:
        """One try to submit. Whatever hinders it leaves the generation accepted, with a time to look again."""
        model = model_by_id(generation.model_id)
        if model is None:
            await self._apply(generation, claim, Broke("model_gone"))
            return
        if not await self._may_go_on(generation, claim):
            return
        try:
            urls = await uploaded(self._tools, generation, model)
        except Transient as error:
            await self._upload_failed(generation, claim, error)
            return
        except Permanent as error:
            reason = error.code if error.code in NOT_AS_SOLD else "input_fetch"
            await self._apply(generation, claim, Broke(reason, str(error)))
            return
        # Asked last: between this yes and the call there is nothing that takes long, so that the call counts when it
        # was let through and not a slow upload later.
        if (wait_s := await self._until_its_turn(generation)) > 0:
            await self._later(generation, claim, wait_s)
            return
        await self._call(generation, claim, model, urls)

    async def answer_lost(self, generation: Generation, claim: Claim, why: str, *, also: Also | None = None) -> None:
        """The task may exist and be billed. With a callback address it can find us; without one the money goes back."""
        model = model_by_id(generation.model_id)
        can_turn_up = self._tools.callback_url is not None and model is not None
        wait_s = self._tools.pace.orphan_wait_s(model) if can_turn_up and model is not None else None
        log.warning("attempt.outcome_unknown", generation_id=str(generation.id), why=why)
        await self._settle(generation, claim, AnswerLost(can_turn_up), due_in_s=wait_s, error=why, also=also)

    async def _until_its_turn(self, generation: Generation) -> float:
        """0 when its create may go out now, else when to come back. A near turn is waited for: the way through the
        queue takes its time, and the quota would lie idle meanwhile."""
        until = self._tools.clock.monotonic() + NEAR_S
        while True:
            wait_s = await self._tools.create_budget.take(str(generation.id), generation.due_at)
            if wait_s <= 0 or self._tools.clock.monotonic() + wait_s > until:
                return max(wait_s - EARLY_S, wait_s / 2)
            await self._tools.clock.sleep(wait_s)

    async def _may_go_on(self, generation: Generation, claim: Claim) -> bool:
        """Takes one of the user's running slots. False: it waits, and the wait is written in the transaction that saw
        the reason, so that whoever removes the reason finds it waiting."""
        async with self._tools.store.transaction() as tx:
            if await tx.switches.is_held_back(generation.model_id):
                if generation.holds_slot:
                    await self._leave_slot(tx, generation)
                await look_later(tx, generation, claim, self._off_wait_s())
                return False
            if not generation.holds_slot and not await self._take_slot(tx, generation):
                wait_s = min(SLOT_WAIT_S * 2.0 ** min(generation.polls, 20), MAX_SLOT_WAIT_S)
                await look_later(tx, generation, claim, wait_s, polled=True)  # counted: it asks ever more seldom
                return False
        return True

    async def _take_slot(self, tx: Tx, generation: Generation) -> bool:
        """Generation row first, then the wallet: the order every other writer keeps. Slots that came free together
        woke the same work perhaps: who takes one and leaves another wakes the next."""
        if not await tx.generations.mark_slot(generation.id):
            return False  # cancelled in the meantime
        most = self._tools.limits.running
        running = await tx.ledger.take_slot(generation.user_id, most=most)
        if running is None:
            await tx.generations.unmark_slot(generation.id)
        elif running < most:
            await wake_next(tx, generation)
        return running is not None

    async def _leave_slot(self, tx: Tx, generation: Generation) -> None:
        """For the user's works of other models. The same order of locks."""
        if (await tx.generations.lock(generation.id)).holds_slot:
            await tx.generations.unmark_slot(generation.id)
            await tx.ledger.give_slot(generation.user_id)
            await wake_next(tx, generation)

    async def _upload_failed(self, generation: Generation, claim: Claim, error: Transient) -> None:
        """Uploads may be repeated, but not for ever: the user waits. A stopped account refuses them too."""
        is_setback = not isinstance(error, RateLimited | AccountStopped | ModelPaused)
        if isinstance(error, AccountStopped | ModelPaused):
            await switch_off(self._tools, generation.model_id, error)
        elif is_setback and self._is_out_of_patience(generation):
            await self._apply(generation, claim, Broke("input_fetch", str(error)))
            return
        await self._later(generation, claim, self._pause(generation, error), setback=is_setback)

    async def _call(self, generation: Generation, claim: Claim, model: Model, urls: Mapping[str, str]) -> None:
        body = request_input(model, with_urls(model, generation.inputs, urls), self._tools.content_filter)
        begun, probes = await self._begin(generation, claim)
        if begun is None or begun.state is not State.SUBMITTING or begun.attempt_id is None:
            await self._tools.create_budget.answered(str(generation.id))
            return  # held back or cancelled in the meantime
        address = self._tools.callback_url
        callback_url = address(begun.attempt_id) if address is not None else None
        submission = Submission(begun.attempt_id, generation.model_id, body, callback_url)
        try:
            task_id = await self._submit(submission, str(generation.id))
        except OutcomeUnknown as error:
            note = self._trouble(begun, probes, error, UNKNOWN_PAUSE_S)
            await self.answer_lost(begun, claim, str(error), also=note)
        except Transient as error:
            await self._not_created(begun, claim, probes, error)
        except Permanent as error:
            await self._refused(begun, claim, probes, error)
        else:
            await self._created(begun, claim, model, probes, task_id)

    async def _begin(self, generation: Generation, claim: Claim) -> tuple[Generation | None, tuple[str, ...]]:
        """Commit the intent, unless creates are held back by now; then None. With it come the switches it is to try."""
        begun: Generation | None = None
        try:
            async with self._tools.store.transaction() as tx:
                probes = await tx.switches.pass_switches(generation.model_id, probe_s=PROBE_S * self._tools.pace.scale)
                if probes is not None:
                    begun = (await apply(tx, generation.id, Begun(), due_in_s=ANSWER_WITHIN_S, ends=claim)).generation
                    if probes and begun.state is not State.SUBMITTING:
                        await tx.switches.leave_probe(probes)
        except (Transient, asyncio.CancelledError):
            if begun is not None:
                await asyncio.shield(self._take_back(begun, claim, probes or ()))
            raise
        if begun is None or probes is None:
            await self._hold_back(generation, claim)
            return None, ()
        _log_step(begun, Begun())
        return begun, probes

    async def _take_back(self, begun: Generation, claim: Claim, probes: Sequence[str]) -> None:
        """The commit of the intent was not answered, so nothing was sent. Should it stand, others would take it for a
        call whose answer was lost."""

        async def write() -> None:
            async with self._tools.store.transaction() as tx:
                await apply(tx, begun.id, NotCreated(), error="not sent", ends=claim, attempt_id=begun.attempt_id)
                if probes:
                    await tx.switches.leave_probe(probes)

        await insist(write, self._tools.clock, what="attempt.not_sent")

    async def _hold_back(self, generation: Generation, claim: Claim) -> None:
        """In a transaction of its own: looking at switches locks them, and who notes trouble locks the wallet first
        and them then."""
        async with self._tools.store.transaction() as tx:
            await self._leave_slot(tx, generation)
            await look_later(tx, generation, claim, self._off_wait_s())

    async def _submit(self, submission: Submission, turn: str) -> str:
        """The budget hears of the answer beside what is done with it: the task id must be written first of all."""
        try:
            return await self._tools.provider.submit(submission)
        finally:
            telling = asyncio.create_task(self._tools.create_budget.answered(turn))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    async def _created(
        self, generation: Generation, claim: Claim, model: Model, probes: Sequence[str], task_id: str
    ) -> None:
        """The task id is in hand and nowhere else: without it the task is billed and lost."""

        async def all_is_well(tx: Tx) -> None:
            await lift(tx, self._tools, probes)

        due_in_s = self._tools.pace.first_poll_s(model)
        also = all_is_well if probes else None
        try:
            await self._settle(generation, claim, TaskCreated(task_id), due_in_s=due_in_s, also=also)
        except Transient:
            log.error("attempt.task_id_not_written", generation_id=str(generation.id), task_id=task_id)
            raise

    async def _not_created(self, generation: Generation, claim: Claim, probes: Sequence[str], error: Transient) -> None:
        """Nothing was created: the generation is accepted again. An account-wide stop holds back all the others too."""
        event: Event = NotCreated()
        is_setback = not isinstance(error, RateLimited | AccountStopped | ModelPaused)  # those are free
        also = self._trouble(generation, probes, error, BREAKER_PAUSE_S) if is_setback else _leave(probes)
        if isinstance(error, RateLimited):
            await self._tools.create_budget.refused(pause_s=error.retry_after_s)
        elif isinstance(error, AccountStopped | ModelPaused):
            await switch_off(self._tools, generation.model_id, error)
            also = None  # else it would end the pause that has just begun
        elif self._is_out_of_patience(generation):
            event = Broke("server", str(error))
        pause_s = self._pause(generation, error)
        await self._settle(generation, claim, event, due_in_s=pause_s, error=str(error), setback=is_setback, also=also)

    async def _refused(self, generation: Generation, claim: Claim, probes: Sequence[str], error: Permanent) -> None:
        """Never again as it is. Files that the provider could not read are uploaded once more."""
        if error.code != "input_fetch" or not generation.uploads or generation.retakes >= MAX_RETAKES:
            await self._settle(generation, claim, Broke(error.code, str(error)), error=str(error), also=_leave(probes))
            return

        async def forget_uploads(tx: Tx) -> None:
            await tx.generations.set_uploads(generation.id, {})
            if probes:
                await tx.switches.leave_probe(probes)

        event, pause_s = NotCreated(is_retake=True), self._pause(generation, Transient(str(error)))
        await self._settle(generation, claim, event, due_in_s=pause_s, error=str(error), also=forget_uploads)

    def _trouble(self, begun: Generation, probes: Sequence[str], error: Exception, pause_s: float) -> Also:
        async def note(tx: Tx) -> None:
            await note_trouble(tx, self._tools, begun, probes, str(error), pause_s)

        return note

    def _is_out_of_patience(self, generation: Generation) -> bool:
        """With the try that has just failed."""
        troubled_s = generation.since_s(generation.troubled_at)
        return self._tools.pace.trouble_is_over(generation.setbacks + 1, troubled_s)

    def _off_wait_s(self) -> float:
        return MODEL_OFF_WAIT_S * self._tools.pace.scale * random.uniform(0.8, 1.2)  # noqa: S311 - jitter

    def _pause(self, generation: Generation, error: Transient) -> float:
        """No sooner than asked; longer with each setback, and never for all at the same moment."""
        grown_s = min(2.0 * 1.7 ** min(generation.setbacks, 20), LONGEST_PAUSE_S)
        return self._tools.pace.scale * max(error.retry_after_s, grown_s) * random.uniform(1.0, 1.4)  # noqa: S311 - jitter

    async def _settle(
        self,
        generation: Generation,
        claim: Claim,
        event: Event,
        *,
        due_in_s: float | None = None,
        error: str | None = None,
        setback: bool = False,
        also: Also | None = None,
    ) -> None:
        """Write what the call brought. It has happened, whether Postgres is there or not: the write is insisted on."""

        async def write() -> Generation:
            return await self._apply(
                generation,
                claim,
                event,
                due_in_s=due_in_s,
                error=error,
                of_attempt=True,
                setback=setback,
                also=also,
            )

        await insist(write, self._tools.clock, what=f"attempt.{type(event).__name__}")

    async def _apply(
        self,
        generation: Generation,
        claim: Claim,
        event: Event,
        *,
        due_in_s: float | None = None,
        error: str | None = None,
        of_attempt: bool = False,
        setback: bool = False,
        also: Also | None = None,
    ) -> Generation:
        """Write one event. also: what is written with it, in the same transaction."""
        async with self._tools.store.transaction() as tx:
            applied = await apply(
                tx,
                generation.id,
                event,
                due_in_s=due_in_s,
                error=error,
                ends=claim,
                attempt_id=generation.attempt_id if of_attempt else None,
                setback=setback,
            )
            if also is not None:
                await also(tx)
        _log_step(applied.generation, event)
        return applied.generation

    async def _later(self, generation: Generation, claim: Claim, wait_s: float, *, setback: bool = False) -> None:
        async with self._tools.store.transaction() as tx:
            await look_later(tx, generation, claim, wait_s, setback=setback)


def _leave(probes: Sequence[str]) -> Also | None:
    """The provider answered, but not the question whether the switches may be removed."""

    async def leave(tx: Tx) -> None:
        await tx.switches.leave_probe(probes)

    return leave if probes else None


def _log_step(after: Generation, event: Event) -> None:
    log.info(
        "generation.step",
        generation_id=str(after.id),
        event_kind=type(event).__name__,
        state=after.state.value,
        attempt=after.attempt_no,
    )
