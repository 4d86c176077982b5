"""Stories of submitting, watching and settling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kiebot.generation.effects import apply
from kiebot.generation.machine import Event, StayedAway, TaskCreated
from kiebot.generation.service import cancel
from kiebot.generation.submit import NEAR_S
from tests.crashpoints.stage import (
    BOSS,
    DOOMED_SESSIONS,
    EDIT,
    Act,
    Stage,
    Story,
    account_is_filled,
    claim_fails,
    fails,
    fills_in,
    kie,
    postgres,
    presses_create,
)
from tests.scenarios.buying import gets_media
from tests.scenarios.world import World

LATE_RESULT = """
    SELECT EXISTS (
        SELECT 1 FROM outbox WHERE kind = 'late_result'
            AND generation_id = (SELECT id FROM generations WHERE user_id = :user ORDER BY number DESC LIMIT 1)
    )
"""
HOME = """
    SELECT EXISTS (
        SELECT 1 FROM outbox WHERE kind IN ('late_result', 'result')
            AND generation_id = (SELECT id FROM generations WHERE user_id = :user ORDER BY number DESC LIMIT 1)
    )
"""
FAILED = ("failed",)
PATIENT = {"KIE_PACE": "0.05"}  # an orphan is waited for
HASTY = {"KIE_PACE": "0.00001"}  # hours of patience pass
IMPATIENT = {"KIE_PACE": "0.002", "KIE_RESULT_PATIENCE_S": "120"}
_LEFT_ITS_SLOT = """
    SELECT EXISTS (
        SELECT FROM generations
        WHERE user_id = :user AND state = 'accepted' AND claim_no > 1 AND claimed_by IS NULL AND NOT holds_running_slot
    )
"""
_ATTEMPT = "SELECT attempt_id FROM generations WHERE user_id = :user AND state = '{state}'"


async def _takes_back(stage: Stage) -> None:
    """The account is stopped, so that there is something to take back."""
    await stage.anna.hears(lambda state: any("Take back" in label for label in state.buttons), timeout=10)
    await stage.presses("Take back")


async def _empty_account(world: World) -> None:
    world.kie.set_credits(0)


async def _pause_is_over(world: World) -> None:
    await world.execute(
        "INSERT INTO model_switches (model_id, reason, actor, until) VALUES ('*', 'away', 'provider', now())"
    )


async def _task_exists(stage: Stage) -> str:
    """The task of a create whose answer is still on its way; its attempt's id."""
    await stage.world.until(lambda: bool(_tasks(stage)), timeout=10)
    return str(await stage.of_mine(_ATTEMPT.format(state="submitting")))


def _tasks(stage: Stage) -> list[str]:
    """Ids of the tasks that this person's prompts have made."""
    tasks = stage.world.kie.tasks.values()
    return [task.task_id for task in tasks if str(stage.anna.user_id) in str(task.input)]


async def _callback_comes_first(stage: Stage) -> None:
    """Somebody else hears the callback while the answer to the create is on its way."""
    attempt = await _task_exists(stage)
    await stage.knocks(attempt, *_tasks(stage))
    await stage.beside.hears_knocks()


async def _sleeps_through_an_attempt(stage: Stage) -> None:
    """Its worker slept: another took the generation over, the task failed, and a second attempt is under way."""
    await _task_exists(stage)
    await stage.beside.begins(alone=True)

    async def has_second() -> bool:
        return bool(await stage.of_mine("SELECT max(attempt_no) > 1 FROM generations WHERE user_id = :user"))

    await stage.beside.works(has_second)


def _meanwhile(event: Callable[[str], Event], due_in_s: float | None = None) -> Act:
    """Another writes that of an orphan while its callback is being acted upon. event: of the task's id."""

    async def act(stage: Stage) -> None:
        attempt = await stage.of_mine(_ATTEMPT.format(state="unknown"))
        generation_id = await stage.of_mine("SELECT id FROM generations WHERE user_id = :user")
        async with stage.beside.database.transaction() as tx:
            await tx.generations.lock(generation_id)
            await stage.knocks(str(attempt), *_tasks(stage))
            await stage.world.until_row(f"SELECT true {DOOMED_SESSIONS} AND wait_event_type = 'Lock'")
            await apply(tx, generation_id, event(*_tasks(stage)), due_in_s=due_in_s)

    return act


async def _is_cut_while_submitting(stage: Stage) -> None:
    await _task_exists(stage)
    stage.cuts_job()


async def _is_cut_and_called_back(stage: Stage) -> None:
    """The callback waits already when the job is cut off: nobody has said yet that the answer is lost."""
    await stage.knocks(await _task_exists(stage), *_tasks(stage))
    stage.cuts_job()


async def _callback_without_a_task(stage: Stage) -> None:
    attempt = await stage.of_mine(_ATTEMPT.format(state="running"))
    await stage.knocks(str(attempt), None)


async def _has_bought(stage: Stage, story: Story, prompt: str) -> None:
    """The purchase is over, and then the desk is as it was before: a copy of its row was put back."""
    await fills_in(stage, story, prompt)
    facts = {"user": stage.anna.user_id}
    await stage.world.execute("CREATE TABLE desk AS SELECT * FROM drafts WHERE user_id = :user", **facts)
    await presses_create(stage)
    await gets_media(stage.anna)
    await stage.world.settles()
    await stage.world.execute("DELETE FROM drafts WHERE user_id = :user", **facts)
    await stage.world.execute("INSERT INTO drafts SELECT * FROM desk")
    await stage.world.execute("DROP TABLE desk")


async def _presses_again(stage: Stage) -> None:
    await stage.anna.presses_data(stage.anna.presses_made[-1].data)
    await stage.pump()


async def _has_one_waiting(stage: Stage, story: Story, prompt: str) -> None:
    """One is accepted and waits for the account; the form of a second is filled in."""
    stage.world.kie.set_credits(0)
    await fills_in(stage, story, f"{prompt} the first")
    await presses_create(stage)
    await stage.of_mine("SELECT true FROM model_switches WHERE model_id = '*'")
    await fills_in(stage, story, f"{prompt} the second")


def _has_to_wait(pause_s: float) -> Act:
    """The provider has just asked everybody to wait."""

    async def act(stage: Stage) -> None:
        budget = stage.beside.adapters.create_budget()
        begun = "SELECT EXISTS (SELECT FROM generations WHERE user_id = :user AND holds_running_slot)"
        while not await stage.world.scalar(begun, user=stage.anna.user_id):
            await budget.refused(pause_s=pause_s)
            await asyncio.sleep(0.03)

    return act


async def _is_cancelled_while_it_uploads(stage: Stage) -> None:
    """By a press that another replica handles."""
    found = await stage.of_mine(
        "SELECT id FROM generations WHERE user_id = :user AND state = 'accepted' AND holds_running_slot"
    )
    async with stage.beside.database.transaction() as tx:
        await cancel(tx, found)


async def _stop_that_admins_hear_of(world: World) -> None:
    await _admin_is_known(world)
    await kie("create", "code_455")(world)


async def _trouble_after_a_pause(world: World) -> None:
    await _admin_is_known(world)
    await _pause_is_over(world)
    await kie("create", "transient")(world)


async def _admin_is_known(world: World) -> None:
    await world.execute("INSERT INTO users (id) VALUES (:id) ON CONFLICT DO NOTHING", id=BOSS)


async def _slow_download(world: World) -> None:
    world.tg.faults.delays("getFile", 0.6)


async def _slow_download_after_a_pause(world: World) -> None:
    await _pause_is_over(world)
    await _slow_download(world)


async def _refused_after_a_pause(world: World) -> None:
    await _pause_is_over(world)
    await kie("create", "code_422")(world)


async def _intent_fails_after_a_pause(world: World) -> None:
    await _pause_is_over(world)
    await postgres("attempts", "INSERT", fails(1, sqlstate="40001"), at_commit=True)(world)


async def _uploads_refused_after_a_pause(world: World) -> None:
    await _pause_is_over(world)
    await kie("create", "code_451")(world)


async def _key_is_refused_for_longer(world: World) -> None:
    """Than the work sleeps that met it first: it looks once more, with its slot."""
    await kie("upload", "code_401")(world)
    await postgres("model_switches", "INSERT", "NEW.until := NEW.until + interval '1 hour'")(world)


async def _leaves_its_slot(stage: Stage) -> None:
    """At the second look; then the account is well again."""
    while not await stage.world.scalar(_LEFT_ITS_SLOT, user=stage.anna.user_id):
        await asyncio.sleep(0.03)
    await account_is_filled(stage.world)


async def _all_is_held_back_while_it_uploads(stage: Stage) -> None:
    """Others met trouble meanwhile."""
    await stage.of_mine(
        "SELECT id FROM generations WHERE user_id = :user AND state = 'accepted' AND holds_running_slot"
    )
    await stage.world.execute(
        "INSERT INTO model_switches (model_id, reason, actor, until) VALUES ('*', 'away', 'provider', now() + '1 s')"
    )


async def _questions_have_to_wait(stage: Stage) -> None:
    """The provider has just asked everybody to ask less."""
    budget = stage.beside.adapters.poll_budget()
    unknown = "SELECT EXISTS (SELECT FROM generations WHERE user_id = :user AND state = 'unknown')"
    while not await stage.world.scalar(unknown, user=stage.anna.user_id):
        await budget.refused(pause_s=0.3)
        await asyncio.sleep(0.03)
    await budget.refused(pause_s=0.3)


async def _no_word_of_the_cost(world: World) -> None:
    world.kie.switches.set(record_fields="april")


MAKING = (
    Story("success"),
    Story("lost answer", "[[sim:lose=a]]", ends=FAILED),
    Story("lost answer, found by its callback", "[[sim:lose=a]]", callbacks=True),
    Story(
        "lost answer, found too late",
        "[[sim:lose=a]] [[sim:seconds=1.6]]",
        callbacks=True,
        done=LATE_RESULT,
        ends=FAILED,
    ),
    Story(
        "lost answer, given up while its callback is heard",
        "[[sim:lose=a]] [[sim:callback=missing]]",
        callbacks=True,
        act=_meanwhile(lambda _: StayedAway()),
        environment=PATIENT,
        done=HOME,
        ends=FAILED,
    ),
    Story(
        "lost answer, found twice at once",
        "[[sim:lose=a]] [[sim:callback=missing]]",
        callbacks=True,
        act=_meanwhile(TaskCreated, due_in_s=0.2),
        environment=PATIENT,
    ),
    Story("callback of a running task", "[[sim:seconds=0.4]]", callbacks=True),
    Story("failure", "[[sim:fail=server]]", ends=FAILED),
    Story("moderated", "[[sim:fail=moderation_prompt]]", ends=FAILED),
    Story("refused at once", "[[sim:code=422]]", ends=FAILED),
    Story("asked to wait", before=kie("create", "code_429", "code_455")),
    Story("asked to wait a moment", "[[sim:seconds=0.4]]", act=_has_to_wait(0.3)),
    Story("asked to wait for longer", "[[sim:seconds=0.4]]", act=_has_to_wait(NEAR_S + 0.5)),
    Story("polls that fail", before=kie("query", "code_429", "html_502")),
    Story("cancel", before=_empty_account, act=_takes_back, ends=FAILED),
    Story("upload", model_id=EDIT),
    Story("upload that fails at first", model_id=EDIT, before=kie("upload", "html_502")),
    Story("uploads that are refused", model_id=EDIT, before=kie("upload", "code_400"), ends=FAILED),
    Story(
        "uploads that never work",
        model_id=EDIT,
        before=kie("upload", *["html_502"] * 51),
        environment=HASTY,
        ends=FAILED,
    ),
    Story("a key refused at an upload", model_id=EDIT, before=kie("upload", "code_401")),
    Story(
        "a key refused at an upload, and for longer",
        model_id=EDIT,
        before=_key_is_refused_for_longer,
        act=_leaves_its_slot,
    ),
    Story("a key refused at a look", before=kie("query", "code_401")),
    Story("uploads refused at the submit", model_id=EDIT, before=kie("create", "code_451")),
    Story("uploads the maker could not read", "[[sim:fail=input_fetch]]", model_id=EDIT, ends=FAILED),
    Story(
        "cancelled while it uploads",
        model_id=EDIT,
        before=_slow_download,
        act=_is_cancelled_while_it_uploads,
        ends=FAILED,
    ),
    Story("creates that never work", before=kie("create", *["transient"] * 51), environment=HASTY, ends=FAILED),
    Story("the first after a pause", before=_pause_is_over),
    Story("a stop that admins hear of", before=_stop_that_admins_hear_of),
    Story("the first after a pause meets trouble", before=_trouble_after_a_pause),
    Story("the first after a pause is refused", before=_refused_after_a_pause, ends=FAILED),
    Story("the first after a pause has to upload again", model_id=EDIT, before=_uploads_refused_after_a_pause),
    Story(
        "the first after a pause is cancelled",
        model_id=EDIT,
        before=_slow_download_after_a_pause,
        act=_is_cancelled_while_it_uploads,
        ends=FAILED,
    ),
    Story("held back while it uploads", model_id=EDIT, before=_slow_download, act=_all_is_held_back_while_it_uploads),
    Story("found by a callback, too many questions", "[[sim:lose=a]]", before=kie("query", "code_429"), callbacks=True),
    Story("found by a callback, questions wait", "[[sim:lose=a]]", act=_questions_have_to_wait, callbacks=True),
    Story("a maker without room", "[[sim:fail=capacity]]", environment=HASTY, ends=FAILED),
    Story("result not there", "[[sim:result=late]]"),
    Story("result lost", "[[sim:dead_result]]", environment=IMPATIENT, ends=FAILED),
    Story("result that breaks off", "[[sim:result=truncated]]", environment=IMPATIENT, ends=FAILED),
    Story("result at a strange place", environment={"KIE_RESULT_HOSTS": "elsewhere.example", **IMPATIENT}, ends=FAILED),
    Story("result that is empty", "[[sim:empty]]", before=_no_word_of_the_cost, ends=FAILED, billed=2),
    Story("task lost", "[[sim:gap=60]]", environment={"KIE_PACE": "0.002"}, ends=FAILED),
    Story("more looks than allowed", "[[sim:seconds=0.3]]", environment={"KIE_POLLS_PER_S": "1"}),
    Story("a task that takes long", "[[sim:seconds=0.3]]", environment={"KIE_PACE": "0.0001"}),
    Story("a task that never ends", "[[sim:profile=E]]", environment={"KIE_PACE": "0.00001"}, ends=FAILED),
    Story(
        "a model that is gone",
        before=postgres("generations", "INSERT", "NEW.model_id := 'no/such-model'"),
        ends=FAILED,
    ),
    Story(
        "a model that goes while it works",
        before=postgres(
            "generations", "UPDATE", "IF NEW.state = 'running' THEN NEW.model_id := 'no/such-model'; END IF"
        ),
        ends=FAILED,
    ),
    Story("a mistake of ours", before=postgres("attempts", "INSERT", fails(1))),
    Story("a mistake that stays", before=postgres("attempts", "INSERT", fails(99)), ends=FAILED, buries=("work",)),
    Story("an outage in a step", before=postgres("attempts", "INSERT", fails(1, sqlstate="40001"))),
    Story("a claim that is not committed", before=claim_fails("generations")),
    Story("an intent that is not committed", before=_intent_fails_after_a_pause),
    Story("cut off while submitting", "[[sim:lose=b]]", act=_is_cut_while_submitting, ends=FAILED),
    Story("cut off while submitting, and called back", "[[sim:lose=b]]", callbacks=True, act=_is_cut_and_called_back),
    Story(
        "a callback before the answer",
        "[[sim:lose=b]] [[sim:seconds=1]] [[sim:callback=missing]]",
        callbacks=True,
        act=_callback_comes_first,
    ),
    Story(
        "a worker that slept",
        "[[sim:lose=b]] [[sim:fail=server]]",
        callbacks=True,
        act=_sleeps_through_an_attempt,
        ends=FAILED,
    ),
    Story("a callback without a task", "[[sim:seconds=0.4]]", callbacks=True, act=_callback_without_a_task),
    Story("pressed once more later", earlier=_has_bought, moves=_presses_again),
    Story(
        "two, and one may run",
        "[[sim:seconds=0.4]]",
        earlier=_has_one_waiting,
        before=account_is_filled,
        environment={"MAX_RUNNING_PER_USER": "1"},
    ),
)
