"""Generations while claims lapse, Postgres goes away, and two do the same thing at once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from kiebot.clock import SystemClock
from kiebot.errors import ModelPaused, OutcomeUnknown, RateLimited, Transient
from kiebot.generation.model import State
from kiebot.generation.pace import Pace
from kiebot.generation.ports import Submission, TaskReport, TaskState
from kiebot.generation.service import Generations, cancel
from kiebot.generation.tools import Limits
from kiebot.storage.ledger import LedgerRepository
from tests.faults.conftest import HeldProvider, ShakyStore, another_replica, heartbeat_is_late
from tests.generation.conftest import ANNA, Rig


async def _until(rig: Rig, generation_id: UUID, state: State) -> None:
    async with asyncio.timeout(5):
        while (await rig.read(generation_id)).state is not state:
            await asyncio.sleep(0.01)


async def _running_count(rig: Rig) -> int:
    async with rig.database.transaction() as tx:
        return (await tx.ledger.balance(ANNA)).running


async def test_a_cancel_between_the_claim_and_the_slot_leaves_no_slot_taken(rig: Rig) -> None:
    await rig.grant(10)
    generation = await rig.order()
    store = ShakyStore(rig.database)

    async def user_cancels() -> None:
        async with rig.database.transaction() as tx:
            assert await cancel(tx, generation.id)

    store.before[2] = user_cancels  # 1: claim, 2: slot
    await Generations(replace(rig.tools, store=store)).advance(generation.id)
    assert (await rig.read(generation.id)).state is State.FAILED
    assert await _running_count(rig) == 0
    await rig.books_are_right()


async def test_two_workers_on_one_generation_take_one_slot(rig: Rig) -> None:
    """The claim lapses between the first worker's claim and its slot."""
    await rig.grant(10)
    generation = await rig.order()
    store = ShakyStore(rig.database)
    other = await another_replica(rig)

    async def claim_lapses() -> None:
        await heartbeat_is_late(rig, rig.tools.owner)
        await other.advance(generation.id)

    store.before[2] = claim_lapses
    await asyncio.gather(Generations(replace(rig.tools, store=store)).advance(generation.id), return_exceptions=True)
    ended = await rig.settles(generation.id)
    assert ended.state is State.SUCCEEDED
    assert await _running_count(rig) == 0


async def test_cancel_and_the_start_of_a_submit_do_not_deadlock(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.grant(10)
    generation = await rig.order()
    take_slot = LedgerRepository.take_slot
    presses: list[asyncio.Task[bool]] = []

    async def user_cancels() -> bool:
        async with rig.database.transaction() as tx:
            return await cancel(tx, generation.id)

    async def slow_take(self: LedgerRepository, user_id: int, *, most: int) -> int | None:
        taken = await take_slot(self, user_id, most=most)
        presses.append(asyncio.create_task(user_cancels()))
        await asyncio.sleep(0.2)
        return taken

    monkeypatch.setattr(LedgerRepository, "take_slot", slow_take)
    (ended,) = await asyncio.gather(rig.engine.advance(generation.id), return_exceptions=True)
    pressed = await asyncio.gather(*presses, return_exceptions=True)
    assert [each for each in (ended, *pressed) if isinstance(each, BaseException)] == []


async def test_a_task_id_in_hand_survives_a_second_without_postgres(rig: Rig) -> None:
    await rig.grant(10)
    generation = await rig.order()
    store, provider = ShakyStore(rig.database), HeldProvider(rig.tools.provider)

    async def postgres_goes(_: Submission, __: str) -> None:
        store.is_away = True
        asyncio.get_running_loop().call_later(1.0, setattr, store, "is_away", False)

    provider.after_submit = postgres_goes
    engine = Generations(replace(rig.tools, store=store, provider=provider))
    await asyncio.gather(engine.advance(generation.id), return_exceptions=True)
    await asyncio.sleep(1.2)
    await _free(rig, generation.id)
    ended = await rig.settles(generation.id)
    assert len(rig.kie.billed_tasks()) == 1
    assert ended.state is State.SUCCEEDED, f"billed by the provider, and the user was told: {ended.failure}"


@pytest.mark.parametrize("marks", ["", "[[sim:code=500]]", "[[sim:code=429]]", "[[sim:code=422]]", "[[sim:lose=a]]"])
async def test_a_lost_answer_to_any_commit_of_a_submit_is_no_bug_and_changes_nothing(rig: Rig, marks: str) -> None:
    """The server has written it, the connection broke: it is written again, or found."""
    await rig.grant(1000)
    for number in range(1, 7):
        store = ShakyStore(rig.database)
        store.lose = {number}
        generation = await rig.order(prompt=f"a cat {number} {marks}")
        with suppress(Transient):
            await Generations(replace(rig.tools, store=store, limits=Limits(running=100))).advance(generation.id)
        after = await rig.read(generation.id)
        assert after.stumbles == 0, f"the {number}. commit, {after.state}"
    assert max(rig.kie.journal.creates_by_attempt().values()) == 1
    await rig.books_are_right()


async def test_a_release_that_met_an_outage_does_not_block_the_generation_for_minutes(rig: Rig) -> None:
    await rig.grant(10)
    generation = await rig.order()
    store = ShakyStore(rig.database)
    store.refuse = {2, 3}  # the step, and the release that follows its failure
    with pytest.raises(Transient):
        await Generations(replace(rig.tools, store=store)).advance(generation.id)
    await asyncio.sleep(1.0)
    await rig.engine.advance(generation.id)  # as the sweeper's job a second later, with Postgres long back
    assert (await rig.read(generation.id)).state is State.RUNNING


async def test_a_claim_whose_commit_was_not_answered_does_not_block_the_generation_for_minutes(rig: Rig) -> None:
    await rig.grant(10)
    generation = await rig.order()
    store = ShakyStore(rig.database)
    store.lose = {1}
    with pytest.raises(Transient):
        await Generations(replace(rig.tools, store=store)).advance(generation.id)
    await rig.engine.advance(generation.id)
    assert (await rig.read(generation.id)).state is State.RUNNING


async def test_an_intent_whose_commit_was_not_answered_is_no_lost_call(rig: Rig) -> None:
    """Nothing was sent, and we know it: neither is the user to wait for an orphan, nor a loss to be booked."""
    await rig.grant(10)
    generation = await rig.order()
    async with rig.database.transaction() as tx:
        await tx.switches.switch_off("*", "away", "provider", for_s=-1)
    store = ShakyStore(rig.database)
    store.lose = {3}  # 1: claim, 2: slot, 3: intent
    with pytest.raises(Transient):
        await Generations(replace(rig.tools, store=store)).advance(generation.id)
    accepted = await rig.read(generation.id)
    assert (accepted.state, accepted.holds_slot, accepted.setbacks) == (State.ACCEPTED, False, 0)
    assert (await rig.settles(generation.id)).state is State.SUCCEEDED
    assert len(rig.kie.journal.creates()) == 1
    async with rig.database.transaction() as tx:
        assert await tx.reckoning.losses(days=1) == []


async def test_a_heartbeat_that_came_late_does_not_declare_a_call_in_flight_lost(rig: Rig) -> None:
    """Postgres away for five seconds: every living owner's claims look dead until its next beat."""
    await rig.grant(10)
    generation = await rig.order()
    provider, answered = HeldProvider(rig.tools.provider), asyncio.Event()

    async def slow_answer(_: Submission, __: str) -> None:
        await answered.wait()

    provider.after_submit = slow_answer
    submitting = asyncio.create_task(Generations(replace(rig.tools, provider=provider)).advance(generation.id))
    await _until(rig, generation.id, State.SUBMITTING)
    other = await another_replica(rig)
    await heartbeat_is_late(rig, rig.tools.owner)
    await other.advance(generation.id)  # what its sweeper queued
    answered.set()
    await submitting
    assert (await rig.read(generation.id)).state is State.RUNNING


async def test_a_callback_that_outruns_the_lost_answer_of_its_submit_is_not_thrown_away(rig: Rig) -> None:
    rig = rig.with_callbacks()
    await rig.grant(10)
    generation = await rig.order()
    provider = HeldProvider(rig.tools.provider)

    async def called_back_then_lost(submission: Submission, task_id: str) -> None:
        assert await rig.engine.knock(submission.attempt_id, task_id)
        raise OutcomeUnknown("createTask: no answer")

    provider.after_submit = called_back_then_lost
    await Generations(replace(rig.tools, provider=provider)).advance(generation.id)
    ended = await rig.settles(generation.id)
    assert ended.state is State.SUCCEEDED, "the provider told us the task id, and billed it"


async def test_a_second_wake_up_does_not_cut_short_the_wait_for_an_orphan(rig: Rig) -> None:
    """After a kill two jobs exist: the one whose lease ran out, and the one the sweeper queued."""
    rig = rig.with_callbacks()
    rig.tools = replace(rig.tools, pace=Pace(scale=1.0))
    await rig.grant(10)
    rig.kie.loses_next_answer("a")
    generation = await rig.order()
    await rig.engine.advance(generation.id)
    assert (await rig.read(generation.id)).state is State.UNKNOWN
    await rig.engine.advance(generation.id)
    assert (await rig.read(generation.id)).state is State.UNKNOWN


async def test_a_stale_look_at_the_first_task_does_not_abandon_the_second(rig: Rig) -> None:
    """A worker is stopped between the provider's answer and its write; another goes on meanwhile."""
    await rig.grant(10)
    rig.kie.fails_next("server")
    generation = await rig.order()
    await rig.engine.advance(generation.id)
    provider, seen, resumed = HeldProvider(rig.tools.provider), asyncio.Event(), asyncio.Event()

    async def pause_on_failure(report: TaskReport) -> TaskReport:
        if report.state is TaskState.FAILED:
            seen.set()
            await resumed.wait()
        return report

    provider.after_query = pause_on_failure
    stale = Generations(replace(rig.tools, provider=provider))
    while not seen.is_set():
        paused = asyncio.create_task(stale.advance(generation.id))
        await asyncio.wait({paused, asyncio.ensure_future(seen.wait())}, return_when=asyncio.FIRST_COMPLETED)
    other = await another_replica(rig)
    await heartbeat_is_late(rig, rig.tools.owner)
    async with asyncio.timeout(5):
        while (await rig.read(generation.id)).attempt_no < 2:  # failed -> accepted -> the second task
            await other.advance(generation.id)
            await asyncio.sleep(0.01)
    resumed.set()
    await asyncio.gather(paused, return_exceptions=True)
    await rig.settles(generation.id)
    assert len(rig.kie.tasks) == 2, "a third task was made and the second was left to run unwatched"


async def test_a_replica_whose_wall_clock_is_a_day_ahead_does_not_end_running_tasks(rig: Rig) -> None:
    class Ahead(SystemClock):
        def now(self) -> datetime:
            return super().now() + timedelta(hours=25)

    async def still_running(_: TaskReport) -> TaskReport:
        return TaskReport(TaskState.RUNNING)

    await rig.grant(10)
    generation = await rig.order()
    await rig.engine.advance(generation.id)
    provider = HeldProvider(rig.tools.provider)
    provider.after_query = still_running
    tools = replace(rig.tools, provider=provider, clock=Ahead(), pace=Pace(scale=1.0))
    await Generations(tools).advance(generation.id)
    assert (await rig.read(generation.id)).state is State.RUNNING


async def test_a_paused_model_does_not_keep_the_users_slots_from_other_models(rig: Rig) -> None:
    rig.tools = replace(rig.tools, limits=Limits(running=1, open=20))
    await rig.grant(100)
    provider = HeldProvider(rig.tools.provider)

    async def maintenance(submission: Submission) -> None:
        if submission.model_id == "z-image":
            raise ModelPaused("maintenance", retry_after_s=300.0)

    provider.before_submit = maintenance
    engine = Generations(replace(rig.tools, provider=provider, pace=Pace(scale=1.0)))
    first, second = await rig.order("z-image"), await rig.order("google/nano-banana")
    await engine.advance(first.id)
    await engine.advance(second.id)
    assert (await rig.read(second.id)).state is State.RUNNING


async def test_a_generation_that_is_asked_to_wait_waits(rig: Rig) -> None:
    """It gives its slot to the user's next one, and is not that next one itself."""
    await rig.grant(10)
    rig.tools = replace(rig.tools, pace=Pace(scale=1.0))
    generation, other = await rig.order(), await rig.order()
    async with rig.database.transaction() as tx:
        await tx.generations.defer(other.id, 60.0)
    rig.kie.faults.next_create("code_501")
    await rig.engine.advance(generation.id)
    assert await _due_in_s(rig, generation.id) > 20.0
    assert await _due_in_s(rig, other.id) < 1.0


@pytest.mark.parametrize("refusal", ["code_402", "code_429", "code_455", "code_501"])
async def test_what_the_provider_asks_to_wait_passes_as_fast_as_every_other_wait_for_it(rig: Rig, refusal: str) -> None:
    await rig.grant(10)
    generation = await rig.order()
    rig.kie.faults.next_create(refusal)
    await rig.engine.advance(generation.id)
    assert await _due_in_s(rig, generation.id) < 1.0, "seconds of a provider whose time is a thousand times as fast"


async def test_being_asked_to_wait_does_not_use_up_the_second_task(rig: Rig) -> None:
    await rig.grant(10)
    rig.kie.fails_next("server")
    provider = HeldProvider(rig.tools.provider)
    refusals = [RateLimited("429"), RateLimited("429")]

    async def busy(_: Submission) -> None:
        if refusals:
            raise refusals.pop()

    provider.before_submit = busy
    rig.tools = replace(rig.tools, provider=provider)
    generation = await rig.order()
    ended = await rig.settles(generation.id)
    assert ended.state is State.SUCCEEDED, "a failure of the server was not tried again, because of two 429 before it"


@pytest.mark.parametrize(("words", "kept"), [("a bug of ours", "'a bug of ours'"), ("\udc80\x00\n", r"'\udc80\x00\n'")])
async def test_a_step_that_always_raises_backs_off_and_ends(rig: Rig, words: str, kept: str) -> None:
    """Also when its error says what no database can keep."""
    await rig.grant(10)
    generation = await rig.order()
    await rig.engine.advance(generation.id)
    provider = HeldProvider(rig.tools.provider)

    async def boom(_: TaskReport) -> TaskReport:
        raise KeyError(words)

    provider.after_query = boom
    rig.tools = replace(rig.tools, provider=provider)
    ended = await rig.settles(generation.id, tries=2000)
    assert (ended.state, ended.failure) == (State.FAILED, "server")
    assert ended.stumbles <= 8, "it was tried without a pause and without an end"
    assert await rig.balance() == (10_000, 0)
    assert await rig.told(generation.id) == ["failed:server"]
    async with rig.database.transaction() as tx:
        (letter,) = await tx.letters.open(most=9)
    assert (letter.kind, letter.source_id, letter.is_retryable) == ("work", ended.number, False)
    assert letter.reason == f"№ {ended.number}: KeyError({kept})"


async def test_a_callback_during_a_look_is_not_forgotten(rig: Rig) -> None:
    """The look says "running", the callback comes, the look's own pause is written over it."""
    rig = rig.with_callbacks()
    await rig.grant(10)
    generation = await rig.order()
    await rig.engine.advance(generation.id)
    attempt_id = (await rig.read(generation.id)).attempt_id
    assert attempt_id is not None
    provider = HeldProvider(rig.tools.provider)

    async def finished_just_after(_: TaskReport) -> TaskReport:
        await rig.engine.knock(attempt_id, None)
        return TaskReport(TaskState.RUNNING)

    provider.after_query = finished_just_after
    await Generations(replace(rig.tools, provider=provider, pace=Pace(scale=1.0))).advance(generation.id)
    assert await _due_in_s(rig, generation.id) < 0.5


async def _due_in_s(rig: Rig, generation_id: UUID) -> float:
    async with rig.database.engine.connect() as connection:
        query = "SELECT extract(epoch FROM due_at - now())::float8 FROM generations WHERE id = :id"
        due_in_s = await connection.scalar(text(query), {"id": generation_id})
    assert due_in_s is not None
    return float(due_in_s)


async def _free(rig: Rig, generation_id: UUID) -> None:
    """As if the claim's age had ended it."""
    async with rig.database.engine.begin() as connection:
        await connection.execute(text("UPDATE generations SET claimed_by = NULL WHERE id = :id"), {"id": generation_id})
