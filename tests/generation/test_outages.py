"""The provider is away, full or stopped: works wait, the cluster holds back, and one at a time tries again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kiebot.admin.acts import Doer, perform
from kiebot.admin.model import Act, Action
from kiebot.errors import OutcomeUnknown, Transient
from kiebot.generation.model import Generation, State
from kiebot.generation.pace import Pace
from kiebot.generation.ports import Submission
from kiebot.generation.stops import BREAKER_WORKS
from kiebot.kie.client import KieProvider
from tests.faults.conftest import HeldProvider
from tests.generation.conftest import Rig, Unlimited

PICTURE = {"file_id": "AgAC1", "kind": "image", "mime": "image/png", "file_name": "a.png"}
EDIT, OTHER = "google/nano-banana-edit", "google/nano-banana"


@pytest.fixture
async def rig(rig: Rig) -> Rig:
    """Works wait as long as they do in earnest; each of the crowd may run."""
    await rig.grant(1000)
    limits = replace(rig.tools.limits, running=50, open=50)
    rig.tools = replace(rig.tools, pace=Pace(scale=1.0), limits=limits)
    return rig


async def crowd(rig: Rig, count: int = BREAKER_WORKS, model_id: str = "z-image") -> list[Generation]:
    return [await rig.order(model_id) for _ in range(count)]


async def try_all(rig: Rig, works: Sequence[Generation]) -> list[Generation]:
    """Each is due now; all at once, as in a cluster."""
    async with rig.database.engine.begin() as connection:
        await connection.execute(text("UPDATE generations SET due_at = now() WHERE finished_at IS NULL"))
    await asyncio.gather(*(rig.engine.advance(work.id) for work in works))
    return [await rig.read(work.id) for work in works]


async def hours_pass(rig: Rig, hours: float) -> None:
    """For those who are in trouble."""
    async with rig.database.engine.begin() as connection:
        passed = f"troubled_at = troubled_at - interval '1 hour' * {hours}"
        await connection.execute(text(f"UPDATE generations SET {passed}"))


async def off(rig: Rig) -> list[str]:
    async with rig.database.transaction() as tx:
        return sorted(switch.model_id for switch in await tx.switches.off())


async def pause_ends(rig: Rig) -> None:
    async with rig.database.engine.begin() as connection:
        await connection.execute(text("UPDATE model_switches SET until = now() - interval '1 second'"))


def creates(rig: Rig) -> int:
    return len(rig.kie.journal.creates())


def provider_is(rig: Rig, error: Exception) -> None:
    provider = HeldProvider(rig.tools.provider)

    async def fail(_: Submission) -> None:
        raise error

    provider.before_submit = fail
    rig.tools = replace(rig.tools, provider=provider)


# Patience


@pytest.mark.parametrize("fault", ["code_500", "code_501", "code_550"])
async def test_a_work_outlasts_hours_of_faults_at_create(rig: Rig, fault: str) -> None:
    rig.kie.faults.next_create(fault, count=25)
    works = await crowd(rig, 1)
    for _ in range(25):
        (work,) = await try_all(rig, works)
        await hours_pass(rig, 3.8 / 25)
    assert (work.state, work.setbacks) == (State.ACCEPTED, 25)
    (work,) = await try_all(rig, works)
    assert (work.state, work.setbacks, work.troubled_at) == (State.RUNNING, 0, None)
    assert creates(rig) == 26


async def test_a_provider_that_cannot_be_reached_for_four_hours_voids_at_last(rig: Rig) -> None:
    rig.tools = replace(rig.tools, provider=KieProvider("k", api_url="http://127.0.0.1:9"))
    works = await crowd(rig, 1)
    await try_all(rig, works)
    await try_all(rig, works)
    await hours_pass(rig, 4.1)
    (ended,) = await try_all(rig, works)
    assert (ended.state, ended.failure, ended.setbacks) == (State.FAILED, "server", 3)
    assert await rig.balance() == (1_000_000, 0)
    async with rig.database.transaction() as tx:
        assert await tx.reckoning.losses(days=1) == [], "nothing was ever sent"


async def test_of_many_that_wait_in_an_outage_each_is_given_up_after_few_tries(rig: Rig) -> None:
    """One at a time tries: by their number, fifty tries each of a hundred works would take days."""
    rig.kie.faults.next_create("code_501", count=1000)
    works = await crowd(rig, 12)
    await try_all(rig, works)
    await hours_pass(rig, 5.0)
    for _ in range(2 * len(works)):
        await pause_ends(rig)
        waiting = [work for work in works if not (await rig.read(work.id)).state.is_final]
        await try_all(rig, waiting)
    ended = [await rig.read(work.id) for work in works]
    assert {(work.state, work.failure) for work in ended} == {(State.FAILED, "server")}
    assert creates(rig) <= 3 * len(works)
    assert await rig.balance() == (1_000_000, 0)


async def test_a_work_that_waited_for_days_in_its_line_has_all_its_patience_for_an_outage(rig: Rig) -> None:
    works = await crowd(rig, 1)
    async with rig.database.engine.begin() as connection:
        await connection.execute(text("UPDATE generations SET accepted_at = now() - interval '30 hours'"))
    rig.kie.faults.next_create("code_501", count=10)
    for _ in range(10):
        (work,) = await try_all(rig, works)
    assert (work.state, work.setbacks) == (State.ACCEPTED, 10)


async def test_hours_of_an_operators_pause_are_no_trouble(rig: Rig) -> None:
    rig.kie.faults.next_create("code_501", count=3)
    works = await crowd(rig, 1)
    await try_all(rig, works)
    await try_all(rig, works)
    for action in (Action.PAUSE, Action.RESUME):
        async with rig.database.transaction() as tx:
            await perform(tx, Act(action, "*"), Doer("ann", action.value))
        await hours_pass(rig, 5.0)
    (work,) = await try_all(rig, works)
    assert (work.state, work.setbacks) == (State.ACCEPTED, 1)


async def test_one_fault_long_after_another_is_not_the_end(rig: Rig) -> None:
    rig.kie.faults.next_create("code_501", count=2)
    works = await crowd(rig, 1)
    await try_all(rig, works)
    await hours_pass(rig, 10.0)  # stopped for other reasons meanwhile
    (work,) = await try_all(rig, works)
    assert work.state is State.ACCEPTED


async def test_pauses_grow_to_minutes_and_are_never_the_same_for_all(rig: Rig) -> None:
    provider_is(rig, Transient("createTask was not sent"))
    works = await crowd(rig, 4)
    async with rig.database.engine.begin() as connection:
        await connection.execute(text("UPDATE generations SET setbacks = 20"))
    await try_all(rig, works)
    async with rig.database.engine.connect() as connection:
        query = "SELECT extract(epoch FROM due_at - now())::float8 FROM generations"
        waits_s = list(await connection.scalars(text(query)))
    assert all(299 < wait_s < 421 for wait_s in waits_s)
    assert max(waits_s) - min(waits_s) > 1


async def test_setbacks_of_uploads_leave_creates_all_their_patience(rig: Rig) -> None:
    rig.kie.faults.next_upload("html_502", count=5)
    rig.kie.faults.next_create("code_501", count=5)
    works = [await rig.order(EDIT, image_urls=[PICTURE])]
    for _ in range(10):
        (work,) = await try_all(rig, works)
        await hours_pass(rig, 0.5)
    assert (work.state, work.setbacks) == (State.ACCEPTED, 5)
    (work,) = await try_all(rig, works)
    assert work.state is State.RUNNING


async def test_files_that_cannot_be_uploaded_for_four_hours_end_the_work(rig: Rig) -> None:
    rig.kie.faults.next_upload("html_502", count=5)
    works = [await rig.order(EDIT, image_urls=[PICTURE])]
    for _ in range(3):
        (work,) = await try_all(rig, works)
        await hours_pass(rig, 2.1)
    assert (work.state, work.failure, creates(rig)) == (State.FAILED, "input_fetch", 0)
    assert await rig.balance() == (1_000_000, 0)


async def test_a_key_refused_at_an_upload_stops_the_account_and_is_no_setback(rig: Rig) -> None:
    rig.kie.faults.next_upload("code_401")
    work, other = await rig.order(EDIT, image_urls=[PICTURE]), await rig.order()
    await rig.engine.advance(work.id)
    waiting = await rig.read(work.id)
    assert (waiting.state, waiting.setbacks) == (State.ACCEPTED, 0)
    assert await off(rig) == ["*"]
    await rig.engine.advance(other.id)
    assert creates(rig) == 0


# The breaker


async def test_faults_that_several_works_meet_hold_back_the_model_they_share(rig: Rig) -> None:
    rig.kie.faults.next_create("code_501", count=BREAKER_WORKS)
    await try_all(rig, await crowd(rig))
    assert await off(rig) == ["z-image"]
    (other,) = await try_all(rig, await crowd(rig, 1, OTHER))
    assert other.state is State.RUNNING, "another model is no worse for it"
    (late,) = await try_all(rig, await crowd(rig, 1))
    assert (late.state, late.attempt_no) == (State.ACCEPTED, 0)


async def test_faults_of_several_models_hold_back_everything(rig: Rig) -> None:
    rig.kie.faults.next_create("code_501", count=BREAKER_WORKS)
    await try_all(rig, [*await crowd(rig, BREAKER_WORKS - 1), *await crowd(rig, 1, OTHER)])
    assert await off(rig) == ["*"]


async def test_one_work_that_keeps_failing_holds_back_nobody(rig: Rig) -> None:
    rig.kie.faults.next_create("code_501", count=20)
    works = await crowd(rig, 1)
    for _ in range(20):
        await try_all(rig, works)
    assert await off(rig) == []


async def test_a_success_in_between_begins_the_count_again(rig: Rig) -> None:
    rig.kie.faults.next_create("code_501", count=BREAKER_WORKS - 1)
    await try_all(rig, await crowd(rig, BREAKER_WORKS - 1))
    (well,) = await try_all(rig, await crowd(rig, 1))
    assert well.state is State.RUNNING
    rig.kie.faults.next_create("code_501", count=BREAKER_WORKS - 1)
    await try_all(rig, await crowd(rig, BREAKER_WORKS - 1))
    assert await off(rig) == []


async def test_lost_answers_stop_the_others_before_they_are_lost_too(rig: Rig) -> None:
    provider_is(rig, OutcomeUnknown("createTask: HTTP 502 without a readable answer"))
    works = await crowd(rig, BREAKER_WORKS + 3)
    for work in works:
        await rig.engine.advance(work.id)
    states = [(await rig.read(work.id)).state for work in works]
    assert states == [State.FAILED] * BREAKER_WORKS + [State.ACCEPTED] * 3


# The probe


@pytest.mark.parametrize("why", ["breaker", "account"])
async def test_after_a_pause_one_work_tries_and_its_success_lets_all_others_go(rig: Rig, why: str) -> None:
    works = await crowd(rig, BREAKER_WORKS)
    if why == "breaker":
        rig.kie.faults.next_create("code_501", count=BREAKER_WORKS)
    else:
        rig.kie.set_credits(0)
    await try_all(rig, works)
    rig.kie.set_credits(1000)
    await pause_ends(rig)
    states = [work.state for work in await try_all(rig, works)]
    assert states.count(State.RUNNING) >= 1
    assert await off(rig) == []
    assert {work.state for work in await try_all(rig, works)} <= {State.RUNNING, State.SUCCEEDED}


@pytest.mark.parametrize("fault", ["code_501", "code_402", "reset"])
async def test_a_probe_that_fails_is_the_only_one_and_begins_another_pause(rig: Rig, fault: str) -> None:
    async with rig.database.transaction() as tx:
        await tx.switches.switch_off("*", "away", "provider", for_s=-1)
    works = await crowd(rig, 8)
    rig.kie.faults.next_create(fault, count=100)
    await try_all(rig, works)
    await try_all(rig, works)
    assert creates(rig) == 1
    assert await off(rig) == ["*"]


async def test_a_probe_on_its_way_keeps_the_others_waiting_and_frees_their_slots(rig: Rig) -> None:
    async with rig.database.transaction() as tx:
        await tx.switches.switch_off("*", "away", "provider", for_s=-1)
    provider, on_its_way, goes_on = HeldProvider(rig.tools.provider), asyncio.Event(), asyncio.Event()

    async def slow(_: Submission) -> None:
        on_its_way.set()
        await goes_on.wait()

    provider.before_submit = slow
    rig.tools = replace(rig.tools, provider=provider)
    works = await crowd(rig, 4)
    first = asyncio.create_task(rig.engine.advance(works[0].id))
    await on_its_way.wait()
    waiting = await try_all(rig, works[1:])
    assert [(work.state, work.holds_slot) for work in waiting] == [(State.ACCEPTED, False)] * 3
    goes_on.set()
    await first
    assert (await rig.read(works[0].id)).state is State.RUNNING
    assert await off(rig) == []


@pytest.mark.parametrize("fault", ["code_429", "code_400"])
async def test_a_probe_whose_answer_proves_nothing_leaves_its_place_to_the_next(rig: Rig, fault: str) -> None:
    async with rig.database.transaction() as tx:
        await tx.switches.switch_off("*", "no credits", "provider", for_s=-1)
    first, second = await crowd(rig, 2)
    rig.kie.faults.next_create(fault)
    await rig.engine.advance(first.id)
    await rig.engine.advance(second.id)
    assert (await rig.read(second.id)).state is State.RUNNING


class Crossing(Unlimited):
    """Lets a create through at the moment when another one holds a switch, and a third the wallet."""

    def __init__(self, switch: AsyncConnection, wallet: AsyncConnection) -> None:
        super().__init__()
        self._switch, self._wallet = switch, wallet

    async def take(self, turn: str, since: datetime | None = None) -> float:
        await self._switch.execute(text("SELECT FROM model_switches WHERE model_id = 'z-image' FOR UPDATE"))
        await self._wallet.execute(text("SELECT FROM accounts WHERE key = 'wallet:7' FOR UPDATE"))
        return 0.0


async def test_who_is_held_back_at_the_last_moment_gives_its_slot_back_and_locks_no_switch_meanwhile(rig: Rig) -> None:
    """Whoever notes trouble has locked the wallet first and the switch then."""
    (work,) = await crowd(rig, 1)
    async with rig.database.transaction() as tx:
        for model_id in ("*", "z-image"):
            await tx.switches.switch_off(model_id, "away", "provider", for_s=-1)
    async with rig.database.engine.connect() as switch, rig.database.engine.connect() as wallet:
        rig.tools = replace(rig.tools, create_budget=Crossing(switch, wallet))
        advancing = asyncio.create_task(rig.engine.advance(work.id))
        waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        async with rig.database.engine.connect() as watching, asyncio.timeout(20):
            while not await watching.scalar(waits):
                await asyncio.sleep(0.01)
        await wallet.execute(text("UPDATE model_switches SET reason = 'more' WHERE model_id = '*'"))
        await wallet.commit()
        await switch.rollback()
        await advancing
    waiting = await rig.read(work.id)
    assert (waiting.state, waiting.holds_slot) == (State.ACCEPTED, False)
    assert await off(rig) == [], "the switch it could take alone is free for the next"


async def test_an_admins_own_switch_is_no_pause_and_is_never_probed(rig: Rig) -> None:
    async with rig.database.transaction() as tx:
        await tx.switches.turn_off("*", "holiday", "admin")
    await try_all(rig, await crowd(rig, 2))
    assert creates(rig) == 0


# No room


async def test_a_provider_without_room_is_asked_again_after_minutes_and_several_times(rig: Rig) -> None:
    (work,) = await crowd(rig, 1)
    for times in range(1, 5):
        rig.kie.fails_next("Reached the limit for concurrent generations.")
        await try_all(rig, [work])
        await asyncio.sleep(0.1)
        (waiting,) = await try_all(rig, [work])
        assert (waiting.state, waiting.busies, waiting.retakes) == (State.ACCEPTED, times, 0)
        assert not waiting.holds_slot
        async with rig.database.engine.connect() as connection:
            query = "SELECT extract(epoch FROM due_at - now())::float8 FROM generations"
            assert (await connection.scalar(text(query)) or 0) > 90 * 2 ** (times - 1)
    await try_all(rig, [work])
    await asyncio.sleep(0.1)
    (ended,) = await try_all(rig, [work])
    assert (ended.state, ended.attempt_no) == (State.SUCCEEDED, 5)
    await rig.books_are_right()


async def test_a_provider_that_never_has_room_voids_at_last(rig: Rig) -> None:
    rig.tools = replace(rig.tools, pace=Pace(scale=0.00001))
    for _ in range(20):
        rig.kie.fails_next("Reached the limit for concurrent generations.")
    (work,) = await crowd(rig, 1)
    ended = await rig.settles(work.id, tries=2000)
    assert (ended.state, ended.failure, ended.attempt_no) == (State.FAILED, "capacity", 6)
    assert await rig.balance() == (1_000_000, 0)


# Files the provider cannot read


async def test_files_that_cannot_be_read_at_create_are_uploaded_once_more(rig: Rig) -> None:
    rig.tools = replace(rig.tools, pace=Pace(scale=0.001))
    rig.kie.faults.next_create("code_451")
    work = await rig.order(EDIT, image_urls=[PICTURE])
    assert (await rig.settles(work.id)).state is State.SUCCEEDED
    assert (rig.files.opened, creates(rig)) == (2, 2)


async def test_files_that_cannot_be_read_twice_end_the_work(rig: Rig) -> None:
    rig.tools = replace(rig.tools, pace=Pace(scale=0.001))
    rig.kie.faults.next_create("code_451", count=9)
    work = await rig.order(EDIT, image_urls=[PICTURE])
    ended = await rig.settles(work.id)
    assert (ended.state, ended.failure, creates(rig)) == (State.FAILED, "input_fetch", 2)
    assert await rig.balance() == (1_000_000, 0)


async def test_an_address_of_the_users_own_that_cannot_be_read_is_not_sent_twice(rig: Rig) -> None:
    rig.kie.faults.next_create("code_451", count=9)
    (work,) = await try_all(rig, await crowd(rig, 1))
    assert (work.state, creates(rig)) == (State.FAILED, 1)


@pytest.mark.parametrize(("hours", "uploads"), [(19, 1), (21, 2)])
async def test_an_upload_older_than_twenty_hours_is_made_again(rig: Rig, hours: int, uploads: int) -> None:
    """The provider keeps files for a day, and a task must still be able to read them."""
    rig.kie.faults.next_create("code_429")
    work = await rig.order(EDIT, image_urls=[PICTURE])
    await rig.engine.advance(work.id)
    assert rig.files.opened == 1
    async with rig.database.engine.begin() as connection:
        at = f"to_jsonb((now() - interval '{hours} hours')::text)"
        await connection.execute(
            text(f"UPDATE generations SET uploads = jsonb_set(uploads, '{{{PICTURE['file_id']},at}}', {at})")
        )
    (running,) = await try_all(rig, [work])
    assert (running.state, rig.files.opened) == (State.RUNNING, uploads)
