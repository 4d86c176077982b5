"""From running to the end: ask the provider, see the result alive, settle."""

from __future__ import annotations

import random

import structlog

from kiebot.errors import Permanent, RateLimited, Transient
from kiebot.generation.catalog import model_by_id
from kiebot.generation.effects import apply, look_later
from kiebot.generation.machine import Broke, Event, Finished
from kiebot.generation.model import Claim, Generation
from kiebot.generation.ports import TaskReport, TaskState
from kiebot.generation.product import Model
from kiebot.generation.tools import Tools
from kiebot.observe.metrics import METRICS

log = structlog.get_logger()

MAX_RETAKES = 1  # a failure of the provider's servers is tried once more as a new task
JITTER = 0.2


class Watcher:
    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def look(self, generation: Generation, claim: Claim) -> None:
        """Ask once about a running task; write what follows."""
        model = model_by_id(generation.model_id)
        if model is None or generation.task_id is None:
            await self._apply(generation, claim, Broke("model_gone"))
            return
        wait_s = await self._tools.poll_budget.take(str(generation.id), generation.due_at)
        if wait_s > 0:
            await self._later(generation, claim, wait_s)
            return
        try:
            report = await self._tools.provider.query(generation.task_id)
        except Transient as error:
            if isinstance(error, RateLimited):
                await self._tools.poll_budget.refused(pause_s=error.retry_after_s)
            asked_s = self._tools.pace.scale * error.retry_after_s
            await self._later(generation, claim, max(asked_s, self._interval(model, generation)), polled=True)
            return
        await self._answer(generation, claim, model, report)

    async def _answer(self, generation: Generation, claim: Claim, model: Model, report: TaskReport) -> None:
        match report.state:
            case TaskState.SUCCEEDED:
                await self._succeeded(generation, claim, model, report)
            case TaskState.FAILED:
                await self._failed(generation, claim, report)
            case TaskState.MISSING if self._tools.pace.is_lost(generation.age_s):
                await self._failed(generation, claim, report, reason="task_lost")
            case _:
                await self._still_running(generation, claim, model)

    async def _succeeded(self, generation: Generation, claim: Claim, model: Model, report: TaskReport) -> None:
        """Money is taken only for a result that was seen to be there."""
        try:
            for url in report.urls:
                await self._tools.results.probe(url)
        except Transient:
            if self._tools.pace.patience_is_over(generation.age_s, model):
                await self._result_lost(generation, claim, report, None)
            else:
                await self._later(generation, claim, self._interval(model, generation), polled=True)
            return
        except Permanent as error:
            log.error("result.unusable", generation_id=str(generation.id), why=str(error))
            await self._result_lost(generation, claim, report, str(error))
            return
        await self._note_consumed(generation, report)
        await self._apply(generation, claim, Finished(report.urls, report.text, report.consumed_millicredits))

    async def _result_lost(self, generation: Generation, claim: Claim, report: TaskReport, detail: str | None) -> None:
        """The provider was paid for a file that nobody can read; the user is not to pay for it."""
        await self._note_consumed(generation, report)
        await self._apply(generation, claim, Broke("result_lost", detail))

    async def _failed(
        self, generation: Generation, claim: Claim, report: TaskReport, reason: str | None = None
    ) -> None:
        await self._note_consumed(generation, report)
        if report.failure == "empty_result" and report.consumed_millicredits is None:
            await self._suspect_loss(generation)  # a success in the provider's eyes: nothing is refunded
        again = report.retryable and generation.retakes < MAX_RETAKES
        if again and report.failure == "input_fetch":  # the provider could not read our uploads: make new ones
            async with self._tools.store.transaction() as tx:
                await tx.generations.set_uploads(generation.id, {})
        event = Broke(reason or report.failure or "unknown", report.detail, again=again)
        await self._apply(generation, claim, event, due_in_s=self._tools.pace.scale * 2.0)

    async def _still_running(self, generation: Generation, claim: Claim, model: Model) -> None:
        age_s = generation.age_s
        if self._tools.pace.is_hopeless(age_s):
            await self._apply(generation, claim, Broke("timeout"))
        elif self._tools.pace.is_stalled(model, age_s):
            await self._later(generation, claim, self._tools.pace.stalled_poll_s(), polled=True)
        else:
            await self._later(generation, claim, self._interval(model, generation), polled=True)

    async def _note_consumed(self, generation: Generation, report: TaskReport) -> None:
        if report.consumed_millicredits is None or generation.attempt_id is None:
            return
        async with self._tools.store.transaction() as tx:
            await tx.generations.consumed(generation.attempt_id, report.consumed_millicredits)

    async def _suspect_loss(self, generation: Generation) -> None:
        if generation.attempt_id is not None:
            async with self._tools.store.transaction() as tx:
                await tx.generations.suspect_loss(generation.attempt_id)

    def _interval(self, model: Model, generation: Generation) -> float:
        jitter = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, protects nothing
        return self._tools.pace.next_poll_s(model, generation.polls) * jitter

    async def _apply(
        self, generation: Generation, claim: Claim, event: Event, *, due_in_s: float | None = None
    ) -> None:
        async with self._tools.store.transaction() as tx:
            applied = await apply(
                tx, generation.id, event, due_in_s=due_in_s, ends=claim, attempt_id=generation.attempt_id
            )
        if applied.generation.state.is_final and not applied.before.is_final:
            took_s = generation.age_s
            METRICS.generation_seconds.labels(outcome=applied.generation.failure or "ok").observe(took_s)
        state = applied.generation.state.value
        log.info("generation.step", generation_id=str(generation.id), event_kind=type(event).__name__, state=state)

    async def _later(self, generation: Generation, claim: Claim, wait_s: float, *, polled: bool = False) -> None:
        async with self._tools.store.transaction() as tx:
            await look_later(tx, generation, claim, wait_s, polled=polled)
