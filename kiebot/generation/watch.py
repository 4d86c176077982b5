"""From running to the end: ask the provider, see the result alive, settle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import structlog

from kiebot.errors import AccountStopped, ModelPaused, Permanent, RateLimited, Transient
from kiebot.generation.catalog import model_by_id
from kiebot.generation.effects import apply, look_later
from kiebot.generation.machine import Broke, Event, Finished
from kiebot.generation.model import Claim, Generation
from kiebot.generation.ports import RESULT_MAX_BYTES, TaskReport, TaskState
from kiebot.generation.product import Model
from kiebot.generation.stops import switch_off
from kiebot.generation.tools import Tools
from kiebot.observe.metrics import METRICS

log = structlog.get_logger()

MAX_RETAKES = 1  # a failure of the provider's servers is tried once more as a new task
MAX_BUSIES = 5  # a provider without room is asked again, for about an hour
READ_WITHIN_S = 120.0  # for all files of a result together: it holds one of the replica's slots meanwhile
JITTER = 0.2


class Watcher:
    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def look(self, generation: Generation, claim: Claim) -> None:
        """Ask once about a running task; write what follows."""
        model = model_by_id(generation.model_id)
        if model is None or generation.task_id is None:
            await self._apply(generation, claim, Broke("model_gone", may_be_billed=True))
            return
        wait_s = await self._tools.poll_budget.take(str(generation.id), generation.due_at)
        if wait_s > 0:
            await self._later(generation, claim, wait_s)
            return
        try:
            report = await self._tools.provider.query(generation.task_id)
        except Transient as error:
            await self._no_answer(generation, claim, model, error)
            return
        await self._answer(generation, claim, model, report)

    async def _no_answer(self, generation: Generation, claim: Claim, model: Model, error: Transient) -> None:
        """A question that keeps failing has the same end as a task that keeps running."""
        if isinstance(error, RateLimited):
            await self._tools.poll_budget.refused(pause_s=error.retry_after_s)
        elif isinstance(error, AccountStopped | ModelPaused):
            await switch_off(self._tools, generation.model_id, error)
        await self._still_running(generation, claim, model, None, at_least_s=error.retry_after_s)

    async def _answer(self, generation: Generation, claim: Claim, model: Model, report: TaskReport) -> None:
        match report.state:
            case TaskState.SUCCEEDED:
                await self._succeeded(generation, claim, model, report)
            case TaskState.FAILED:
                await self._failed(generation, claim, report)
            case TaskState.MISSING if generation.seen_at is None and self._is_lost(generation):
                await self._failed(generation, claim, report, reason="task_lost")
            case _:
                await self._still_running(generation, claim, model, report.state)

    def _is_lost(self, generation: Generation) -> bool:
        missing_s = generation.since_s(generation.missing_at)
        return self._tools.pace.is_lost(generation.missings + 1, missing_s)  # this answer is not written yet

    async def _succeeded(self, generation: Generation, claim: Claim, model: Model, report: TaskReport) -> None:
        """Money is taken only for a result that was seen to be there, from its head to its end."""
        try:
            await self._read_through(report.urls)
        except (Transient, Permanent) as error:
            await self._unreadable(generation, claim, report, error)
            return
        await self._note_consumed(generation, report)
        await self._apply(generation, claim, Finished(report.urls, report.text, report.consumed_millicredits))

    async def _read_through(self, urls: Sequence[str]) -> None:
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                for url in urls:
                    await self._tools.results.read_through(url, max_bytes=RESULT_MAX_BYTES)
        except TimeoutError:
            raise Transient("result: too slow") from None

    async def _unreadable(
        self, generation: Generation, claim: Claim, report: TaskReport, error: Transient | Permanent
    ) -> None:
        """It is made and billed: what time, or an operator, can mend is waited for."""
        why = error.code if isinstance(error, Permanent) else "out_of_reach"
        ready_s = generation.since_s(generation.ready_at)
        is_over = self._tools.pace.patience_is_over(ready_s, is_doubtful=why == "not_media")
        if why == "result_gone" or is_over:
            log.error("result.unusable", generation_id=str(generation.id), why=str(error))
            await self._result_lost(generation, claim, report, str(error))
            return
        METRICS.results_unreadable.labels(outcome=why).inc()
        say = log.error if why == "foreign_host" else log.warning
        say("result.unreadable", generation_id=str(generation.id), why=str(error), ready_s=round(ready_s, 1))
        wait_s = self._tools.pace.result_poll_s(ready_s) * _jitter()
        await self._later(generation, claim, wait_s, polled=True, report=report.state)

    async def _result_lost(self, generation: Generation, claim: Claim, report: TaskReport, detail: str | None) -> None:
        """The provider was paid for a file that nobody can read; the user is not to pay for it."""
        await self._note_consumed(generation, report)
        await self._apply(generation, claim, Broke("result_lost", detail, may_be_billed=True))

    async def _failed(
        self, generation: Generation, claim: Claim, report: TaskReport, reason: str | None = None
    ) -> None:
        await self._note_consumed(generation, report)
        if report.failure == "empty_result" and report.consumed_millicredits is None:
            await self._suspect_loss(generation)  # a success in the provider's eyes: nothing is refunded
        is_full = report.failure == "capacity"
        again = report.retryable and (generation.busies < MAX_BUSIES if is_full else generation.retakes < MAX_RETAKES)
        if again and report.failure == "input_fetch":  # the provider could not read our uploads: make new ones
            async with self._tools.store.transaction() as tx:
                await tx.generations.set_uploads(generation.id, {})
        failure, is_lost = reason or report.failure or "unknown", reason is not None
        event = Broke(failure, report.detail, again=again, may_be_billed=is_lost)
        wait_s = self._tools.pace.busy_s(generation.busies) * _jitter() if is_full else self._tools.pace.scale * 2.0
        await self._apply(generation, claim, event, due_in_s=wait_s)

    async def _still_running(
        self,
        generation: Generation,
        claim: Claim,
        model: Model,
        state: TaskState | None,
        *,
        at_least_s: float = 0.0,
    ) -> None:
        """Nothing decides yet. state: what the provider said of the task, None when it could not be asked."""
        if self._tools.pace.is_hopeless(generation.age_s):
            why = "result_lost" if generation.ready_at else "timeout"
            await self._apply(generation, claim, Broke(why, may_be_billed=True))
            return
        wait_s = max(self._tools.pace.scale * at_least_s, self._interval(model, generation, state))
        await self._later(generation, claim, wait_s, polled=True, report=state)

    async def _note_consumed(self, generation: Generation, report: TaskReport) -> None:
        if report.consumed_millicredits is None or generation.attempt_id is None:
            return
        async with self._tools.store.transaction() as tx:
            await tx.generations.consumed(generation.attempt_id, report.consumed_millicredits)

    async def _suspect_loss(self, generation: Generation) -> None:
        if generation.attempt_id is not None:
            async with self._tools.store.transaction() as tx:
                await tx.generations.suspect_loss(generation.attempt_id)

    def _interval(self, model: Model, generation: Generation, state: TaskState | None) -> float:
        """Slow once it takes too long, or once a task that was there is not known any more."""
        pace = self._tools.pace
        is_gone = state is TaskState.MISSING and self._is_lost(generation)
        if is_gone or pace.is_stalled(model, generation.age_s):
            return pace.stalled_poll_s() * _jitter()
        return pace.next_poll_s(model, generation.polls) * _jitter()

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

    async def _later(
        self,
        generation: Generation,
        claim: Claim,
        wait_s: float,
        *,
        polled: bool = False,
        report: TaskState | None = None,
    ) -> None:
        async with self._tools.store.transaction() as tx:
            await look_later(tx, generation, claim, wait_s, polled=polled, report=report)


def _jitter() -> float:
    return random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, protects nothing
