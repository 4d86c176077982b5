"""What a running task's provider, or the host of its file, may answer wrongly for a while without anybody losing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from kiebot.errors import AccountStopped, Permanent, Transient
from kiebot.generation import watch
from kiebot.generation.model import Generation, State
from kiebot.generation.pace import Pace
from kiebot.generation.ports import Fetched, TaskReport, TaskState
from kiebot.kie.results import KieResults
from kiebot.observe.metrics import METRICS
from tests.faults.conftest import HeldProvider
from tests.generation.conftest import Rig

AGES = {"hour": timedelta(hours=1), "day": timedelta(hours=25)}


async def begun(rig: Rig, marks: str = "") -> Generation:
    """A generation that the provider is at work on; looks wait as long as they do in earnest."""
    await rig.grant(10)
    rig.tools = replace(rig.tools, pace=Pace(scale=1.0))
    generation = await rig.order(prompt=f"a cat {marks}")
    await rig.engine.advance(generation.id)
    assert (await rig.read(generation.id)).state is State.RUNNING
    return generation


async def looks(rig: Rig, generation: Generation, *, after: timedelta = timedelta()) -> Generation:
    """One look, so much later by the database's time; what became of it."""
    moments = ("accepted_at", "submitted_at", "seen_at", "ready_at", "missing_at")
    earlier = ", ".join(f"{each} = {each} - CAST(:after AS interval)" for each in moments)
    async with rig.database.engine.begin() as connection:
        await connection.execute(text(f"UPDATE generations SET {earlier}, due_at = now()"), {"after": after})
    await rig.engine.advance(generation.id)
    return await rig.read(generation.id)


async def due_in_s(rig: Rig) -> float:
    async with rig.database.engine.connect() as connection:
        found = await connection.scalar(text("SELECT extract(epoch FROM due_at - now())::float8 FROM generations"))
    assert found is not None
    return float(found)


def says(rig: Rig, *answers: TaskState | Transient) -> None:
    """What the provider answers from now on; the last answer stays."""
    provider, left = HeldProvider(rig.tools.provider), list(answers)

    async def answer(_: TaskReport) -> TaskReport:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Transient):
            raise found
        return TaskReport(found)

    provider.after_query = answer
    rig.tools = replace(rig.tools, provider=provider)


def host_is(rig: Rig, kind: str, times: int) -> Callable[[], None]:
    rig.kie.faults.next_file(kind, count=times)
    return rig.kie.faults.clear


class ErrorPages:
    """A host that serves a page of its own instead of every file."""

    async def probe(self, url: str) -> Fetched:
        raise Permanent("the result is not a media file", code="not_media")

    async def read_through(self, url: str, *, max_bytes: int) -> None:
        raise Permanent("the result is not a media file", code="not_media")

    def fetch(self, url: str, *, max_bytes: int) -> AbstractAsyncContextManager[Fetched]:
        raise Permanent("the result is not a media file", code="not_media")


# The file of a finished task


@pytest.mark.parametrize("kind", ["dead", "reset", "zero", "html", "truncated"])
async def test_a_result_that_cannot_be_read_just_after_a_long_task_is_waited_for(rig: Rig, kind: str) -> None:
    generation = await begun(rig)
    await asyncio.sleep(0.05)
    host_is_well = host_is(rig, kind, 1000)
    waiting = await looks(rig, generation, after=AGES["hour"])
    assert waiting.state is State.RUNNING, "patience counts from the end of the task and not from its submit"
    host_is_well()
    assert (await looks(rig, generation)).state is State.SUCCEEDED
    assert await rig.balance() == (8400, 0)


async def test_a_result_out_of_reach_for_hours_is_still_delivered_and_looked_for_slowly(rig: Rig) -> None:
    generation = await begun(rig)
    await asyncio.sleep(0.05)
    host_is_well = host_is(rig, "dead", 1000)
    await looks(rig, generation)
    assert await due_in_s(rig) < 5
    for _ in range(20):
        waiting = await looks(rig, generation, after=AGES["hour"])
    assert waiting.state is State.RUNNING
    assert 400 < await due_in_s(rig) < 800
    host_is_well()
    assert (await looks(rig, generation)).state is State.SUCCEEDED


async def test_a_result_out_of_reach_for_a_day_is_given_up_and_a_certain_loss(rig: Rig) -> None:
    generation = await begun(rig, "[[sim:dead_result]]")
    await asyncio.sleep(0.05)
    assert (await looks(rig, generation)).state is State.RUNNING
    ended = await looks(rig, generation, after=AGES["day"])
    assert (ended.state, ended.failure) == (State.FAILED, "result_lost")
    assert await rig.balance() == (10_000, 0)
    async with rig.database.transaction() as tx:
        (loss,) = await tx.reckoning.losses(days=1)
    assert (loss.why, loss.is_certain) == ("result_lost", True)


async def test_a_body_that_breaks_off_for_a_day_is_given_up_with_the_money_back_and_said(rig: Rig) -> None:
    generation = await begun(rig, "[[sim:result=truncated]]")
    await asyncio.sleep(0.05)
    for _ in range(3):
        assert (await looks(rig, generation, after=AGES["hour"])).state is State.RUNNING
    ended = await looks(rig, generation, after=AGES["day"])
    assert (ended.state, ended.failure) == (State.FAILED, "result_lost")
    assert await rig.balance() == (10_000, 0)
    assert await rig.told(generation.id) == ["failed:result_lost"]
    await rig.books_are_right()


async def test_files_that_take_longer_than_a_step_may_are_out_of_reach(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "READ_WITHIN_S", 0.05)
    generation = await begun(rig, "[[sim:result=slow]]")
    rig.kie.switches.set(slow_bytes_per_s=50)
    await asyncio.sleep(0.05)
    assert (await looks(rig, generation)).state is State.RUNNING
    monkeypatch.undo()
    rig.kie.switches.set(slow_bytes_per_s=1_000_000)
    assert (await looks(rig, generation)).state is State.SUCCEEDED


async def test_a_file_that_stays_no_media_is_given_up_within_the_hour(rig: Rig) -> None:
    generation = await begun(rig)
    await asyncio.sleep(0.05)
    rig.tools = replace(rig.tools, results=ErrorPages())
    assert (await looks(rig, generation)).state is State.RUNNING
    assert (await looks(rig, generation, after=AGES["hour"])).failure == "result_lost"


async def test_a_result_at_a_host_nobody_allowed_waits_for_the_operator_and_raises_an_alarm(rig: Rig) -> None:
    def alarms() -> float:
        name, labels = "kiebot_results_unreadable_total", {"outcome": "foreign_host"}
        return METRICS.registry.get_sample_value(name, labels) or 0.0

    generation, before = await begun(rig), alarms()
    await asyncio.sleep(0.05)
    allowed, unaware = rig.tools.results, KieResults()
    rig.tools = replace(rig.tools, results=unaware)
    assert (await looks(rig, generation)).state is State.RUNNING, "it is made, and billed"
    assert (await looks(rig, generation, after=AGES["hour"])).state is State.RUNNING
    assert alarms() == before + 2
    rig.tools = replace(rig.tools, results=allowed)  # KIE_RESULT_HOSTS names it now
    assert (await looks(rig, generation)).state is State.SUCCEEDED
    await unaware.close()


# A task that is not known


async def test_one_answer_that_does_not_know_the_task_loses_nothing(rig: Rig) -> None:
    generation = await begun(rig)
    await asyncio.sleep(0.05)
    rig.kie.faults.next_query("record_is_null")
    assert (await looks(rig, generation, after=AGES["hour"])).state is State.RUNNING
    assert (await looks(rig, generation)).state is State.SUCCEEDED


async def test_a_task_never_seen_is_lost_after_several_such_answers_and_booked_as_a_loss(rig: Rig) -> None:
    generation = await begun(rig)
    says(rig, TaskState.MISSING)
    assert (await looks(rig, generation)).state is State.RUNNING
    assert (await looks(rig, generation, after=timedelta(seconds=100))).state is State.RUNNING, "the second"
    ended = await looks(rig, generation)
    assert (ended.state, ended.failure) == (State.FAILED, "task_lost")
    assert await rig.balance() == (10_000, 0)


async def test_answers_that_know_it_in_between_begin_the_count_again(rig: Rig) -> None:
    generation = await begun(rig)
    missing = TaskState.MISSING
    says(rig, missing, missing, Transient("no answer"), missing, TaskState.RUNNING, missing)
    for _ in range(5):
        await looks(rig, generation, after=timedelta(seconds=25))
    waiting = await looks(rig, generation, after=timedelta(seconds=100))
    assert (waiting.state, waiting.missings) == (State.RUNNING, 1)


async def test_a_task_that_was_seen_is_watched_slowly_and_not_lost(rig: Rig) -> None:
    generation = await begun(rig)
    says(rig, TaskState.RUNNING, TaskState.MISSING)
    for _ in range(5):
        waiting = await looks(rig, generation, after=timedelta(seconds=60))
    assert waiting.state is State.RUNNING
    assert await due_in_s(rig) > 400
    says(rig, TaskState.RUNNING)
    assert (await looks(rig, generation)).state is State.RUNNING
    assert await due_in_s(rig) < 60
    says(rig, TaskState.MISSING)
    assert (await looks(rig, generation, after=AGES["day"])).failure == "timeout"


# Questions that fail


async def test_a_task_that_takes_too_long_is_watched_slowly_then_given_up_after_a_day(rig: Rig) -> None:
    generation = await begun(rig)
    says(rig, TaskState.RUNNING)
    await looks(rig, generation, after=AGES["hour"])
    assert 400 < await due_in_s(rig) < 800
    ended = await looks(rig, generation, after=AGES["day"])
    assert (ended.state, ended.failure) == (State.FAILED, "timeout")


async def test_questions_that_keep_failing_have_the_same_end(rig: Rig) -> None:
    generation = await begun(rig)
    says(rig, Transient("no answer"))
    await looks(rig, generation)
    assert await due_in_s(rig) < 60
    await looks(rig, generation, after=AGES["hour"])
    assert 400 < await due_in_s(rig) < 800
    ended = await looks(rig, generation, after=AGES["day"])
    assert (ended.state, ended.failure) == (State.FAILED, "timeout")
    assert await rig.balance() == (10_000, 0)


async def test_a_key_refused_at_a_look_stops_the_whole_account_and_costs_no_patience(rig: Rig) -> None:
    generation = await begun(rig)
    rig.kie.faults.next_query("code_401")
    waiting = await looks(rig, generation)
    assert (waiting.state, waiting.setbacks) == (State.RUNNING, 0)
    async with rig.database.transaction() as tx:
        (switch,) = await tx.switches.off()
    assert (switch.model_id, switch.actor) == ("*", "provider")
    other = await rig.order()
    await rig.engine.advance(other.id)
    assert (await rig.read(other.id)).state is State.ACCEPTED
    assert len(rig.kie.journal.creates()) == 1, "the second one did not even ask"


async def test_a_stopped_account_does_not_keep_a_running_task_from_its_end(rig: Rig) -> None:
    generation = await begun(rig)
    await asyncio.sleep(0.05)
    async with rig.database.transaction() as tx:
        await tx.switches.switch_off("*", str(AccountStopped("402", reason="no_credits")), "provider", for_s=600)
    assert (await looks(rig, generation)).state is State.SUCCEEDED
