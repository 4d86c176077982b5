"""What admins do to works, on the real engine: the pause, a work stopped or pushed, its outcome delivered again."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from kiebot.admin.acts import Doer, perform
from kiebot.admin.model import Act, Action
from kiebot.delivery.outbox import Draft, say_payload
from kiebot.delivery.ports import Say
from kiebot.errors import Refused
from kiebot.generation import service
from kiebot.generation.model import Generation, State
from kiebot.generation.pace import Pace
from kiebot.store import Tx
from kiebot.wakeups import Deliver, Drain, RefreshCard
from tests.generation.conftest import ANNA, Rig


async def does(rig: Rig, action: Action, subject: object = "", **facts: int | str) -> None:
    async with rig.database.transaction() as tx:
        await perform(tx, Act(action, str(subject), facts), Doer("ann", uuid4().hex))


async def rows(rig: Rig, query: str, **facts: object) -> list[tuple[object, ...]]:
    async with rig.database.engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(query), facts)]


async def audited(rig: Rig) -> list[str]:
    async with rig.database.transaction() as tx:
        return [line.action for line in await tx.audit.latest(most=50)][::-1]


async def until_running(rig: Rig, generation: Generation) -> None:
    await rig.engine.advance(generation.id)
    assert (await rig.read(generation.id)).state is State.RUNNING


# The pause


async def test_in_a_pause_what_runs_goes_on_what_is_new_waits_and_all_is_made_after_it(rig: Rig) -> None:
    await rig.grant(10)
    running, early = await rig.order(), await rig.order()
    await until_running(rig, running)
    rig.queue.wakeups.clear()

    await does(rig, Action.PAUSE, reason="moving")
    assert [each.generation_id for each in rig.queue.wakeups if isinstance(each, RefreshCard)] == [early.id]
    late = await rig.order()
    for waiting in (early, late):
        for _ in range(3):
            await rig.engine.advance(waiting.id)
        assert (await rig.read(waiting.id)).state is State.ACCEPTED
    assert len(rig.kie.journal.creates()) == 1
    assert (await rig.settles(running.id)).state is State.SUCCEEDED
    assert await rig.balance() == (10_000 - 3 * 1600, 2 * 1600)

    rig.queue.wakeups.clear()
    await does(rig, Action.RESUME)
    assert {each.generation_id for each in rig.advances()} == {early.id, late.id}
    for waiting in (early, late):
        assert (await rig.settles(waiting.id)).state is State.SUCCEEDED
    assert await rig.balance() == (10_000 - 3 * 1600, 0)
    assert await audited(rig) == ["generating.pause", "generating.resume"]
    await rig.books_are_right()


async def test_a_look_that_still_saw_the_pause_does_not_put_off_what_the_end_of_it_hurried(rig: Rig) -> None:
    await rig.grant(10)
    waiting = await rig.order()
    await does(rig, Action.PAUSE)
    async with rig.database.transaction() as tx:
        claimed = await tx.generations.claim(waiting.id, rig.tools.owner)
    assert claimed is not None
    await does(rig, Action.RESUME)
    async with rig.database.transaction() as tx:
        deferred = await tx.generations.defer(waiting.id, 60.0, seen=claimed.revision)
    assert deferred is not None
    assert deferred.due_in_s == 0


async def test_a_model_that_is_off_holds_back_its_own_works_only(rig: Rig) -> None:
    await rig.grant(100)
    held_back, other = await rig.order("z-image"), await rig.order("qwen/text-to-image")
    await does(rig, Action.MODEL_OFF, "z-image", reason="slow")
    await rig.engine.advance(held_back.id)
    assert (await rig.read(held_back.id)).state is State.ACCEPTED
    assert (await rig.settles(other.id)).state is State.SUCCEEDED
    with pytest.raises(Refused, match="already"):
        await does(rig, Action.MODEL_OFF, "z-image")
    await does(rig, Action.MODEL_ON, "z-image")
    assert (await rig.settles(held_back.id)).state is State.SUCCEEDED


# Works


async def test_a_work_that_is_stopped_gives_its_credits_back_and_its_owner_is_told(rig: Rig) -> None:
    await rig.grant(10)
    waiting, running = await rig.order(), await rig.order()
    await until_running(rig, running)
    for each in (waiting, running):
        await does(rig, Action.GIVE_UP, each.number, reason="stuck")
        assert (await rig.read(each.id)).failure == "given_up"
        assert await rig.told(each.id) == ["failed:given_up"]
    assert await rig.balance() == (10_000, 0)
    with pytest.raises(Refused, match="already"):
        await does(rig, Action.GIVE_UP, running.number)
    with pytest.raises(Refused, match="no_such_work"):
        await does(rig, Action.GIVE_UP, 4444)
    assert await audited(rig) == ["generation.give_up"] * 2
    await rig.books_are_right()


async def test_a_stopped_work_that_the_provider_may_still_bill_is_on_the_books_as_that(rig: Rig) -> None:
    await rig.grant(10)
    waiting, running = await rig.order(), await rig.order()
    await until_running(rig, running)
    for each in (waiting, running):
        await does(rig, Action.GIVE_UP, each.number)
    async with rig.database.transaction() as tx:
        assert [(loss.why, loss.is_certain, loss.amount) for loss in await tx.reckoning.losses(days=1)] == [
            ("given_up", False, 800)
        ]


async def test_a_work_whose_task_may_still_turn_up_is_not_hurried_to_its_end(rig: Rig) -> None:
    """Nothing can be looked for: the next look gives it up."""
    rig = rig.with_callbacks()
    rig.tools = replace(rig.tools, pace=Pace(scale=1.0))
    await rig.grant(10)
    rig.kie.loses_next_answer("a")
    generation = await rig.order()
    await rig.engine.advance(generation.id)
    with pytest.raises(Refused, match="busy"):
        await does(rig, Action.HURRY, generation.number)
    await rig.engine.advance(generation.id)
    assert (await rig.read(generation.id)).state is State.UNKNOWN


async def test_a_work_between_intent_and_answer_is_not_stopped(rig: Rig) -> None:
    await rig.grant(10)
    generation = await rig.order()
    async with rig.database.engine.begin() as connection:
        await connection.execute(text("UPDATE generations SET state = 'submitting'"))
    with pytest.raises(Refused, match="busy"):
        await does(rig, Action.GIVE_UP, generation.number)


async def test_a_hurried_work_is_due_at_once_with_all_its_patience(rig: Rig) -> None:
    await rig.grant(10)
    generation = await rig.order()
    async with rig.database.engine.begin() as connection:
        trouble = "setbacks = 50, troubled_at = now() - interval '9 hours', stumbles = 8"
        await connection.execute(text(f"UPDATE generations SET due_at = now() + interval '1 hour', {trouble}"))
    rig.queue.wakeups.clear()
    await does(rig, Action.HURRY, generation.number)
    assert [each.generation_id for each in rig.advances()] == [generation.id]
    rig.kie.faults.next_create("code_501")
    assert (await rig.settles(generation.id)).state is State.SUCCEEDED
    with pytest.raises(Refused, match="already"):
        await does(rig, Action.HURRY, generation.number)


async def test_an_outcome_is_delivered_again_by_the_shortest_way(rig: Rig) -> None:
    await rig.grant(10)
    generation = await rig.order()
    with pytest.raises(Refused, match="not_ready"):
        await does(rig, Action.REDELIVER, generation.number)
    await rig.settles(generation.id)

    await does(rig, Action.REDELIVER, generation.number)  # it still waits: no second one is made
    assert await rig.told(generation.id) == ["result"]

    await bury(rig, generation.id)
    rig.queue.wakeups.clear()
    await does(rig, Action.REDELIVER, generation.number)  # it was given up: the same row is tried again
    assert [type(each) for each in rig.queue.wakeups] == [Deliver]
    assert await rows(rig, "SELECT buried_at, attempts FROM outbox") == [(None, 0)]
    assert await rows(rig, "SELECT revived_at IS NOT NULL FROM dead_letters") == [(True,)]

    async with rig.database.engine.begin() as connection:
        await connection.execute(text("UPDATE outbox SET sent_at = now()"))
    await does(rig, Action.REDELIVER, generation.number)  # it stands in the chat: once more, without a charge
    assert await rig.told(generation.id) == ["result", "result"]
    assert (await rows(rig, "SELECT payload ->> 'resent' FROM outbox ORDER BY id"))[1] == ("true",)
    assert await rig.balance() == (8400, 0)
    await rig.books_are_right()


# Dead letters


async def bury(rig: Rig, generation_id: UUID, why: str = "gone") -> None:
    async with rig.database.transaction() as tx:
        row = await tx.outbox.claim_head(70, rig.tools.owner)
        assert row is not None
        assert row.generation_id == generation_id
        await tx.outbox.bury(row.id, rig.tools.owner, why)


async def open_letters(rig: Rig) -> list[tuple[str, str, bool]]:
    async with rig.database.transaction() as tx:
        return [(each.kind, each.reason, each.is_retryable) for each in await tx.letters.open(most=10)]


async def bury_update(rig: Rig, tx: Tx, reason: str) -> int | None:
    claimed = await tx.lanes.claim("1/5", rig.tools.owner, most=1, again=True)
    assert claimed is not None
    return await tx.lanes.bury(claimed[0], 1, reason)


async def test_a_revived_update_is_handled_again_and_listed_again_when_it_fails_again(rig: Rig) -> None:
    await rows_are_written(rig)
    for reason in ("boom", "boom again"):
        async with rig.database.transaction() as tx:
            letter_id = await bury_update(rig, tx, reason)
        assert letter_id == 1
        assert await open_letters(rig) == [("update", reason, True)]
        rig.queue.wakeups.clear()
        await does(rig, Action.LETTER_RETRY, 1)
        assert [each.lane for each in rig.queue.wakeups if isinstance(each, Drain)] == ["1/5"]
        assert await rows(rig, "SELECT done_at, attempts FROM inbox") == [(None, 0)]
        assert await open_letters(rig) == []
    with pytest.raises(Refused, match="no_such_letter"):
        await does(rig, Action.LETTER_RETRY, 1)


async def test_a_letter_whose_update_was_forgotten_can_only_be_closed(rig: Rig) -> None:
    await rows_are_written(rig)
    async with rig.database.transaction() as tx:
        await bury_update(rig, tx, "boom")
    async with rig.database.engine.begin() as connection:
        await connection.execute(text("DELETE FROM inbox"))
    assert await open_letters(rig) == [("update", "boom", False)]
    with pytest.raises(Refused, match="letter_gone"):
        await does(rig, Action.LETTER_RETRY, 1)
    await does(rig, Action.LETTER_BURY, 1)
    assert await open_letters(rig) == []
    with pytest.raises(Refused, match="no_such_letter"):
        await does(rig, Action.LETTER_BURY, 1)
    assert await audited(rig) == ["letter.bury"]


async def test_the_letter_of_a_work_that_a_bug_ended_can_only_be_closed(rig: Rig) -> None:
    async with rig.database.transaction() as tx:
        await tx.letters.bury_work(17, "№ 17: KeyError: 'prompt'")
    assert await open_letters(rig) == [("work", "№ 17: KeyError: 'prompt'", False)]
    with pytest.raises(Refused, match="already"):
        await does(rig, Action.LETTER_RETRY, 1)
    await does(rig, Action.LETTER_BURY, 1)
    assert await open_letters(rig) == []


async def test_a_revived_message_has_all_its_tries_again(rig: Rig) -> None:
    async with rig.database.transaction() as tx:
        await tx.outbox.add_all([Draft(70, "say", say_payload(Say("hello")))], rig.tools.owner)
        await tx.outbox.bury(1, rig.tools.owner, "tried too often")
    await does(rig, Action.LETTER_RETRY, 1)
    async with rig.database.transaction() as tx:
        row = await tx.outbox.claim_head(70, rig.tools.owner)
    assert row is not None
    assert row.attempts == 1


async def rows_are_written(rig: Rig) -> None:
    async with rig.database.engine.begin() as connection:
        await connection.execute(text("INSERT INTO lanes (key) VALUES ('1/5')"))
        await connection.execute(
            text("INSERT INTO inbox (bot_id, update_id, lane, payload, attempts) VALUES (1, 9, '1/5', '{}', 5)")
        )


# Figures


async def test_the_figures_are_those_of_the_rows(rig: Rig) -> None:
    await rig.grant(10)
    made = await rig.order()
    await rig.settles(made.id)
    rig.kie.fails_next("moderation_prompt")
    await rig.settles((await rig.order()).id)
    await rig.order()
    async with rig.database.transaction() as tx:
        await service.cancel(tx, (await rig.order()).id)
    async with rig.database.transaction() as tx:
        await tx.users.seen(ANNA, "Anna", "en")
        found = await tx.statistics.read(days=3)
    assert (found.totals.available, found.totals.held) == (10_000 - 2 * 1600, 1600)
    assert found.totals.states == {"succeeded": 1, "failed": 1, "accepted": 1, "cancelled": 1}
    assert (found.totals.users, found.totals.active_day, found.totals.banned) == (1, 1, 0)
    assert len(found.people) == len(found.money) == 3
    today = found.money[0]
    assert (today.held, today.taken, today.voided, today.granted) == (6400, 1600, 3200, 10_000)
    assert (today.stars_paid, today.stars_refunded) == (0, 0)
    assert (found.people[0].new_users, found.people[0].buyers) == (1, 1)
    (model,) = found.models
    assert (model.model_id, model.sold, model.failed, model.captured) == ("z-image", 1, 2, 1600)
    consumed = sum(
        int(str(row[0])) for row in await rows(rig, "SELECT coalesce(consumed_millicredits, 0) FROM attempts")
    )
    assert consumed > 0
    assert (model.cost, model.margin) == (consumed, 1600 - consumed)


async def test_a_work_whose_cost_is_unknown_counts_at_its_quoted_cost(rig: Rig) -> None:
    await rig.grant(10)
    await rig.settles((await rig.order()).id)
    await rig.settles((await rig.order()).id)
    async with rig.database.engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE attempts SET consumed_millicredits = NULL WHERE id = (SELECT min(id::text)::uuid FROM attempts)"
            )
        )
    async with rig.database.transaction() as tx:
        (model,) = (await tx.statistics.read(days=1)).models
    assert (model.sold, model.unreported, model.captured, model.cost) == (2, 1, 3200, 2 * 800)
    assert model.margin == 3200 - 2 * 800
