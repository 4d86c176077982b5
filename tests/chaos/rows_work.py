"""Rows 33 to 36: what happens to jobs."""

from __future__ import annotations

import asyncio
import signal
import time

from sqlalchemy import text

from kiebot.simulators.users import SimUser
from tests.chaos.matrix import expect, row
from tests.chaos.rig import Rig
from tests.scenarios.buying import creates

BACKLOG = 5000
CHATS = 50
_OWNER = """
    SELECT r.name FROM generations g JOIN replicas r ON r.id = g.claimed_by
    WHERE g.user_id = :user AND g.finished_at IS NULL
"""
_ENDED = "SELECT state FROM generations WHERE user_id = :user AND finished_at IS NOT NULL ORDER BY number DESC LIMIT 1"
_WHY = "SELECT concat(failure, ' ', detail) FROM generations WHERE user_id = :user ORDER BY number DESC LIMIT 1"
_SETTLED = """
    SELECT count(*) FROM settlements s JOIN generations g ON g.id = s.generation_id WHERE g.user_id = :user
"""
_LEFT = "SELECT count(*) FROM inbox WHERE done_at IS NULL"
_POISON = (
    """CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.payload::text LIKE '%/poison%' THEN RAISE EXCEPTION 'poison'; END IF; RETURN NEW; END $$""",
    "CREATE TRIGGER poisoned BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION poison()",
)
_ANTIDOTE = ("DROP TRIGGER poisoned ON outbox", "DROP FUNCTION poison()")


@row(33, "worker kill -9 in the middle of a job")
async def worker_dies(rig: Rig) -> str:
    """Produce: createTask reaches KIE, its answer is held back, kill -9 of the replica that waits for it.

    Expect: the generation ends once within 30 s; one createTask, one settlement; the books balance.
    """
    anna = rig.world.tg.user(601_033, "Anna", "en")
    owner = await _creating(rig, anna)
    rig.victims.add(owner)
    at = rig.send(owner, signal.SIGKILL)
    for doors in rig.doors.values():
        doors.kie.resets()
        await doors.kie.open()
    state = await rig.world.until_row(_ENDED, 30.0, user=anna.user_id)
    took_s = time.time() - at
    await _is_settled_once(rig, anna)
    return f"{state} after {took_s:.1f} s, one createTask, one settlement"


@row(34, "worker SIGTERM with a running job")
async def worker_leaves(rig: Rig) -> str:
    """Produce: createTask is under way, SIGTERM of the replica that waits for its answer, which comes a moment later.

    Expect: the job ends in the drain or is handed back; exit 0; the result is captured and delivered.
    """
    anna = rig.world.tg.user(601_034, "Anna", "en")
    owner = await _creating(rig, anna)
    rig.send(owner, signal.SIGTERM)
    await asyncio.sleep(0.1)
    for doors in rig.doors.values():
        await doors.kie.open()
    status = await rig.cluster.wait(owner, 20.0)
    state = await rig.world.until_row(_ENDED, 30.0, user=anna.user_id)
    await _is_settled_once(rig, anna)
    expect(status == 0, f"{owner} ended with status {status}")
    why = await rig.world.scalar(_WHY, user=anna.user_id)
    expect(state == "succeeded", f"it {state}: {why}")
    return "drained, captured"


@row(35, "poison job")
async def poison(rig: Rig) -> str:
    """Produce: an update whose effects the database refuses every time; then another from the same person.

    Expect: a dead letter after five tries; the person is told; the lane goes on.
    """
    boris = rig.world.tg.user(601_035, "Boris", "en")
    await _execute(rig, *_POISON)
    try:
        letters = await rig.world.scalar("SELECT count(*) FROM dead_letters")
        heard = len(boris.chat.events)
        await boris.sends("/poison")
        await boris.sends("/n0")
        query = "SELECT count(*) > :before FROM dead_letters"
        await rig.world.until_row(query, 60.0, before=letters)
        await rig.until(lambda: len(boris.chat.events) >= heard + 2, 20.0, "an apology, and the next answer")
    finally:
        await _execute(rig, *_ANTIDOTE)
    return "one dead letter, an apology, the next update answered"


@row(36, f"queue backlog ({BACKLOG} of the 100k)")
async def backlog(rig: Rig) -> str:
    """Produce: 5000 updates of 50 chats at once; once they are in the inbox, one person writes and somebody pays.

    Expect: the person is answered and the pre-checkout decided long before the backlog is done, within 10 s.
    """
    tg, at = rig.world.tg, time.time()
    has_desk = await _decided_s(rig, "1", 3.0) is not None
    for number in range(BACKLOG):
        tg.inject("my_chat_member", _left(tg.bot.bot_id, 602_000 + number % CHATS, int(at)), lane=f"b{number % CHATS}")
    await rig.until(lambda: not len(tg.bot.queue), 60.0, "the backlog is in the inbox")
    waiting = await _left_over(rig)
    mark, at = rig.mark(), time.time()
    serial = await rig.crowd.says()
    paid_s = await _decided_s(rig, "2", 10.0) if has_desk else None
    expect(paid_s is not None or not has_desk, "the pre-checkout was not decided within 10 s")
    await rig.until(lambda: _answered(rig, mark, serial), 10.0, "an answer to the person")
    answered_s = time.time() - at
    left = await _left_over(rig)
    paid = f"pre-checkout {paid_s:.2f} s" if paid_s is not None else "nobody decides pre-checkouts in this version"
    return f"{waiting} waited; {paid}, the person {answered_s:.1f} s, {left} left then"


async def _creating(rig: Rig, anna: SimUser) -> str:
    """A purchase whose createTask has reached KIE and is not answered; the replica that waits for it."""
    before = len(rig.world.kie.journal.creates())
    for doors in rig.doors.values():
        doors.kie.falls_silent("down")
    await creates(anna)
    await rig.until(lambda: len(rig.world.kie.journal.creates()) > before, 20.0, "createTask")
    return str(await rig.world.until_row(_OWNER, 5.0, user=anna.user_id))


async def _is_settled_once(rig: Rig, anna: SimUser) -> None:
    await rig.settles()
    settled = await rig.world.scalar(_SETTLED, user=anna.user_id)
    tasks = [task for task in rig.world.kie.tasks.values() if task.billed > task.refunded]
    by_attempt = [task.attempt_id for task in tasks]
    expect(settled == 1, f"{settled} settlements")
    expect(len(set(by_attempt)) == len(by_attempt), "an attempt was billed twice")
    await rig.world.assert_books_are_right()
    await rig.world.assert_nothing_is_held()


def _answered(rig: Rig, mark: int, serial: int) -> bool:
    sent = rig.world.tg.journal.calls("sendMessage", after=mark)
    return any(f"/n{serial}" in call.arguments.get("text", "") for call in sent)


async def _left_over(rig: Rig) -> int:
    return int(await rig.world.scalar(_LEFT))


def _left(bot_id: int, user_id: int, at: int) -> dict[str, object]:
    """The bot was removed from a group: nothing is answered."""
    user = {"id": user_id, "is_bot": False, "first_name": "Kim"}
    bot = {"id": bot_id, "is_bot": True, "first_name": "kiebot", "username": "kiebot_bot"}
    chat = {"id": -user_id, "type": "group", "title": "Group"}
    old, new = {"status": "member", "user": bot}, {"status": "left", "user": bot}
    return {"chat": chat, "from": user, "date": at, "old_chat_member": old, "new_chat_member": new}


async def _decided_s(rig: Rig, query_id: str, within_s: float) -> float | None:
    """Seconds until somebody decided about a payment that is none of ours; None when nobody did in time."""
    tg, mark, at = rig.world.tg, rig.mark(), time.time()
    payer = {"id": 601_036, "is_bot": False, "first_name": "Clara"}
    facts = {"id": query_id, "from": payer, "currency": "XTR", "total_amount": 1}
    tg.inject("pre_checkout_query", {**facts, "invoice_payload": "not one of ours"}, lane="pay")
    try:
        await rig.until(lambda: bool(tg.journal.calls("answerPreCheckoutQuery", after=mark)), within_s, "a decision")
    except TimeoutError:
        return None
    return tg.journal.calls("answerPreCheckoutQuery", after=mark)[0].at - at


async def _execute(rig: Rig, *statements: str) -> None:
    async with rig.world.engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))
