"""Generations as use cases: accept, cancel, advance, and the knock of a callback."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID

import structlog

from kiebot.errors import KeyReused, Permanent, RateLimited, Transient
from kiebot.generation.effects import apply, look_later
from kiebot.generation.machine import Broke, Cancelled, Finished, StayedAway, TaskCreated
from kiebot.generation.model import Claim, Generation, Order, State
from kiebot.generation.ports import TaskReport, TaskState
from kiebot.generation.submit import Submitter
from kiebot.generation.tools import Limits, Tools
from kiebot.generation.watch import Watcher
from kiebot.insist import insist
from kiebot.store import Tx
from kiebot.wakeups import Advance, RefreshCard

log = structlog.get_logger()

MAX_STUMBLES = 8
ROOM_WITHIN_S = 8.0  # the provider waits 15 seconds for the answer to its callback


async def accept(tx: Tx, order: Order, limits: Limits) -> Generation:
    """Buy: the row and the hold, in the transaction of the confirm press. A repeated press returns the first row.

    Raises: Refused("not_enough" | "too_many_open" | "spent_user" | "spent_all"); KeyReused, when the first row was
        another order. Nothing was written by this call.
    """
    async with tx.savepoint():
        generation = await tx.generations.add(order)
        if generation is None:
            earlier = await tx.generations.by_confirm_key(order.confirm_key)
            if earlier is None:  # the conflict that made add() return None is this very row
                raise LookupError(f"no generation under the confirm key {order.confirm_key}")
            if not _is_same(order, earlier):
                raise KeyReused(order.confirm_key)
            return earlier
        await tx.ledger.open_wallet(order.user_id)
        price = order.quote.price_millicredits
        await tx.ledger.hold(
            generation.id,
            order.user_id,
            price,
            max_open=limits.open,
            spend_per_user=limits.spend_per_user,
            spend_per_day=limits.spend_per_day,
        )
    version = await tx.cards.want(generation.id, generation.chat_id, order.card_message_id)
    tx.wakeups += [Advance(generation.id, generation.revision), RefreshCard(generation.id, version)]
    return generation


def _is_same(order: Order, earlier: Generation) -> bool:
    wanted = (order.user_id, order.model_id, order.quote, json.loads(json.dumps(dict(order.inputs))))
    return wanted == (earlier.user_id, earlier.model_id, earlier.quote, earlier.inputs)


async def cancel(tx: Tx, generation_id: UUID) -> bool:
    """Give it back while nothing was submitted. False: too late to recall, it goes on."""
    applied = await apply(tx, generation_id, Cancelled())
    return applied.before is State.ACCEPTED and applied.generation.state is State.FAILED


class Generations:
    """The engine. `advance` is one short, resumable step; everything it knows is in the row."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._submitter = Submitter(tools)
        self._watcher = Watcher(tools)

    async def advance(self, generation_id: UUID) -> None:
        """Do what is due for one generation: submit, ask, settle. Safe to run twice and anywhere."""
        generation: Generation | None = None
        try:
            async with self._tools.store.transaction() as tx:
                generation = await tx.generations.claim(generation_id, self._tools.owner)
            if generation is not None:
                await self._step(generation, self._claim_of(generation))
        except (Transient, asyncio.CancelledError):
            # Whatever ended the step must not keep others from it, nor a claim whose commit was not answered.
            if generation is not None:
                await self._release(generation_id, self._claim_of(generation))
            raise
        except Exception as error:
            if generation is None:
                raise
            await self._stumbled(generation, self._claim_of(generation), error)

    def _claim_of(self, generation: Generation) -> Claim:
        return Claim(self._tools.owner, generation.claim_no)

    async def _step(self, generation: Generation, claim: Claim) -> None:
        match generation.state:
            case State.ACCEPTED:
                await self._submitter.submit(generation, claim)
            case State.SUBMITTING:  # its worker died between intent and answer: nobody can say what became of it
                await self._submitter.answer_lost(generation, claim, "the worker died before the answer came")
            case State.UNKNOWN:
                await self._give_up_orphan(generation, claim)
            case State.RUNNING:
                await self._watcher.look(generation, claim)

    async def _give_up_orphan(self, generation: Generation, claim: Claim) -> None:
        async with self._tools.store.transaction() as tx:
            await apply(tx, generation.id, StayedAway(), ends=claim)

    async def _stumbled(self, generation: Generation, claim: Claim, error: Exception) -> None:
        """A bug of ours: tried again with growing pauses, then given up with the money back and a dead letter."""
        log.error("generation.stumbled", generation_id=str(generation.id), times=generation.stumbles, exc_info=error)
        why = repr(error)  # whatever characters its message has, they can be written

        async def write() -> None:
            async with self._tools.store.transaction() as tx:
                now = await tx.generations.lock(generation.id)  # the step may have begun a submit
                if now.stumbles >= MAX_STUMBLES and now.state is not State.SUBMITTING:
                    applied = await apply(tx, now.id, Broke("server", why, may_be_billed=True), ends=claim)
                    if not applied.before.is_final:
                        await tx.letters.bury_work(now.number, f"№ {now.number}: {why}")
                    return
                pause_s = self._tools.pace.scale * 5.0 * 2.0 ** min(generation.stumbles, MAX_STUMBLES)
                await look_later(tx, generation, claim, pause_s, stumble=True)

        await insist(write, self._tools.clock, what="generation.stumbled")

    async def _release(self, generation_id: UUID, claim: Claim) -> None:
        async def write() -> None:
            async with self._tools.store.transaction() as tx:
                await tx.generations.release(generation_id, claim)

        await asyncio.shield(insist(write, self._tools.clock, what="generation.release"))

    async def knock(self, attempt_id: UUID, task_id: str | None) -> bool:
        """Somebody called an attempt's callback address. A hint only: what is true is asked of the provider.

        False: there is no such attempt. Raises: Transient, when nothing can be said of its task yet: whoever called is
        to call again, because nobody else will ask.
        """
        async with self._tools.store.transaction() as tx:
            attempt = await tx.generations.attempt_owner(attempt_id)
            generation = None if attempt is None else await tx.generations.get(attempt[0])
            is_its_own = attempt is None or await _is_its_own(tx, attempt_id, attempt[1], task_id)
        if generation is None:
            return False
        if not is_its_own:
            log.warning("callback.foreign_task", generation_id=str(generation.id), attempt_id=str(attempt_id))
            return False
        if generation.attempt_id != attempt_id or not task_id:
            await self._hurry(generation)
        elif generation.state is State.FAILED:
            await self._receive_gift(generation, task_id)
        elif generation.state in (State.UNKNOWN, State.SUBMITTING):  # it may outrun the answer to the submit itself
            await self._adopt(generation, task_id)
        else:
            await self._hurry(generation)
        return True

    async def _adopt(self, generation: Generation, task_id: str) -> None:
        report = await self._ask(generation, task_id)
        if report.state is TaskState.MISSING:  # made a moment ago: it may not be seen yet
            raise Transient("the task of a callback is not to be seen")
        async with self._tools.store.transaction() as tx:
            adopted = TaskCreated(task_id)
            applied = await apply(tx, generation.id, adopted, due_in_s=0.0, attempt_id=generation.attempt_id)
            if (applied.before, applied.generation.state) == (State.SUBMITTING, State.RUNNING):
                # Its submit may still hang for a minute, and has nothing to add.
                await tx.generations.free(generation.id)
        if applied.generation.state is State.FAILED:  # given up while the provider was being asked
            await self._receive_gift(generation, task_id)
            return
        if applied.before is State.RUNNING:  # the answer to the submit came meanwhile
            await self._hurry(applied.generation)
        log.info("generation.adopted", generation_id=str(generation.id))

    async def _receive_gift(self, generation: Generation, task_id: str) -> None:
        report = await self._ask(generation, task_id)
        if report.state in (TaskState.MISSING, TaskState.RUNNING):
            raise Transient("the task of a callback has not ended")
        if report.state is not TaskState.SUCCEEDED or not await self._is_alive(generation, report):
            return
        async with self._tools.store.transaction() as tx:
            await apply(tx, generation.id, TaskCreated(task_id), attempt_id=generation.attempt_id)
            if report.consumed_millicredits is not None and generation.attempt_id is not None:
                await tx.generations.consumed(generation.attempt_id, report.consumed_millicredits)
            await apply(tx, generation.id, Finished(report.urls, report.text))
        log.info("generation.orphan_delivered", generation_id=str(generation.id))

    async def _is_alive(self, generation: Generation, report: TaskReport) -> bool:
        """Whether there is something to give. Raises: Transient, when that cannot be said yet."""
        try:
            for url in report.urls:
                await self._tools.results.probe(url)
        except Permanent as error:
            log.error("result.unusable", generation_id=str(generation.id), why=str(error))
            return False
        return bool(report.urls or report.text)

    async def _ask(self, generation: Generation, task_id: str) -> TaskReport:
        """Within the budget of polls, and first in its line: the provider calls only a few times and not for long.

        Raises: Transient, when there was no room or no answer.
        """
        budget, clock, turn = self._tools.poll_budget, self._tools.clock, str(generation.id)
        give_up_at = clock.monotonic() + ROOM_WITHIN_S
        await budget.hurry(turn)
        while (wait_s := await budget.take(turn)) > 0:
            if clock.monotonic() + wait_s > give_up_at:
                raise Transient("no room to ask for the task of a callback", retry_after_s=wait_s)
            await clock.sleep(wait_s)
        try:
            return await self._tools.provider.query(task_id)
        except RateLimited as error:
            await budget.refused(pause_s=error.retry_after_s)
            raise

    async def _hurry(self, generation: Generation) -> None:
        if generation.state is not State.RUNNING:
            return
        await self._tools.poll_budget.hurry(str(generation.id))  # else news would wait behind those who have none
        async with self._tools.store.transaction() as tx:
            revision = await tx.generations.hurry(generation.id)
            if revision is not None:
                tx.wakeups.append(Advance(generation.id, revision))


async def _is_its_own(tx: Tx, attempt_id: UUID, known: str | None, named: str | None) -> bool:
    """Whether the task that a callback names may be this attempt's: not another one than it has, nor another's."""
    if named is None or named == known:
        return True
    return known is None and await tx.generations.attempt_of_task(named) is None
