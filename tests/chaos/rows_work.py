"""Rows 33 to 36: what happens to jobs."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Iterable, Sequence

from sqlalchemy import text

from kiebot.simulators.telegram.messages import ChatMessage
from kiebot.simulators.users import SimUser
from tests.chaos.matrix import NotMet, expect, row
from tests.chaos.rig import Rig
from tests.scenarios.buying import asks_for_credits, creates, gets, model, opens

BACKLOG, CHATS = 100_000, 50
BUYERS, DECIDED_S = 10, 5.0
COMMANDS, ANSWERED_S, HANDLED_S = 15, 10.0, 20.0
_FIRST_BUYER = 601_100
_FIRST_CHAT = 602_000
_FIRST_FILLED = 10**12  # update ids that Telegram never gives
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
_FILL = text("""
    INSERT INTO inbox (bot_id, update_id, lane, payload)
    SELECT bot_id, :first + row_number() OVER (), lane, payload FROM (
        SELECT DISTINCT ON (lane) bot_id, lane, payload FROM inbox
        WHERE position('my_chat_member'::bytea in payload) > 0
    ) AS heard, generate_series(1, :each)
""")
_UNWITNESS = text("DELETE FROM witness WHERE update_id >= :first")
_FILLED_LEFT = "SELECT count(*) FROM inbox WHERE update_id >= :first AND done_at IS NULL"
_DONE = "SELECT count(*) FROM inbox WHERE update_id = ANY(:ids) AND done_at IS NOT NULL"
_SWEPT = "SELECT count(*) FROM inbox WHERE update_id = ANY(:ids) AND swept_at IS NOT NULL"
_CLEAR = """
    UPDATE inbox SET done_at = now() WHERE id IN (
        SELECT id FROM inbox WHERE update_id >= :first AND done_at IS NULL LIMIT 10000 FOR UPDATE SKIP LOCKED
    )
"""
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
    before = len(rig.world.kie.journal.creates())
    owner = await _creating(rig, anna)
    rig.victims.add(owner)
    at = rig.send(owner, signal.SIGKILL)
    for doors in rig.doors.values():
        doors.kie.resets()
        await doors.kie.open()
    state = await rig.world.until_row(_ENDED, 30.0, user=anna.user_id)
    took_s = time.time() - at
    await _is_settled_once(rig, anna)
    creates_seen = len(rig.world.kie.journal.creates()) - before
    expect(creates_seen == 1, f"{creates_seen} createTask calls")
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
    """Produce: an update whose effects the database refuses every time; then another from the same person. A purchase
    that KIE takes, and then always fails.

    Expect: a dead letter after five tries; the person is told; the lane goes on. The purchase's hold is voided once,
    and the buyer is told.
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
    return f"one dead letter, an apology, the next update answered; {await _is_refused(rig)}"


async def _is_refused(rig: Rig) -> str:
    """A task is created and fails: what its buyer has afterwards."""
    dora = rig.world.tg.user(601_036, "Dora", "en")
    await opens(dora, model())
    had = await rig.world.available(dora.user_id)
    rig.world.kie.fails_next("moderation_prompt")
    await creates(dora)
    state = await rig.world.until_row(_ENDED, 30.0, user=dora.user_id)
    await gets(dora, "content rules refused")
    await _is_settled_once(rig, dora)
    has = await rig.world.available(dora.user_id)
    expect(state == "failed" and has == had, f"a purchase that KIE failed {state}, {had - has} millicredits are gone")
    return "the failed purchase is voided and explained"


@row(36, "queue backlog of 100k")
async def backlog(rig: Rig) -> str:
    """Produce: one person writes 15 commands at once, in peace. Then 100,000 updates of 50 chats wait in the inbox, and
    as many wake-ups as chats in the queue; again 15 commands, and ten people pay, one every half second.

    Expect: in peace no command waits for a sweeper. Amid the backlog every buyer's question is answered within 5 s
    (Telegram gives ten) and all are paid; the person has an answer within 10 s and all commands are handled within
    20 s, while most of the backlog still waits.
    """
    buyers = [rig.world.tg.user(_FIRST_BUYER + number, f"B{number}", "en") for number in range(BUYERS)]
    bills = [await asks_for_credits(buyer, 50) for buyer in buyers]
    await _need_no_sweeper(rig)
    try:
        await _fill(rig)
        mark, at = rig.mark(), time.monotonic()
        paying = asyncio.create_task(_pay(buyers, bills))
        first = await rig.crowd.hurries(COMMANDS)
        await rig.until(lambda: _is_answered(rig, mark, first), ANSWERED_S, "an answer to the person")
        answered_s = time.monotonic() - at
        await _are_handled(rig, [each.update_id for each in rig.crowd.sent[-COMMANDS:]], HANDLED_S - answered_s)
        handled_s, left = time.monotonic() - at, await _left_over(rig)
        decided_s = await paying
        left_then = await _left_over(rig)
    finally:
        await _clear(rig)
    expect(left >= BACKLOG / 2, f"only {left} of {BACKLOG} waited when the person was answered")
    expect(max(decided_s) <= DECIDED_S, f"a buyer waited {max(decided_s):.2f} s")
    buying = f"{BUYERS} buyers decided within {max(decided_s):.2f} s"
    people = f"the person answered after {answered_s:.1f} s, {COMMANDS} commands handled after {handled_s:.1f} s"
    return f"{buying}; {people}; {left} of {BACKLOG} left then, {left_then} when all had paid"


async def _creating(rig: Rig, anna: SimUser) -> str:
    """A purchase whose createTask has reached KIE and is not answered; the replica that waits for it."""
    before = len(rig.world.kie.journal.creates())
    for doors in rig.doors.values():
        doors.kie.holds("down")
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


def _is_answered(rig: Rig, mark: int, serial: int) -> bool:
    sent = rig.world.tg.journal.calls("sendMessage", after=mark)
    return any(re.search(rf"/n{serial}\b", call.arguments.get("text", "")) for call in sent)


async def _need_no_sweeper(rig: Rig) -> None:
    """More commands than one run of a lane handles. A busy machine may be slow enough for a sweeper once, or twice."""
    for _ in range(3):
        await rig.crowd.hurries(COMMANDS)
        await rig.settles()
        ids = [each.update_id for each in rig.crowd.sent[-COMMANDS:]]
        if not await rig.world.scalar(_SWEPT, ids=ids):
            return
    raise NotMet("commands had to be found by a sweeper, three times in a row")


async def _are_handled(rig: Rig, ids: Sequence[int], within_s: float) -> None:
    give_up = time.monotonic() + within_s
    while (done := await rig.world.scalar(_DONE, ids=ids)) < len(ids):
        expect(time.monotonic() < give_up, f"{done} of {len(ids)} commands are handled after {within_s:.1f} s more")
        await asyncio.sleep(0.1)


async def _pay(buyers: Iterable[SimUser], bills: Iterable[ChatMessage]) -> list[float]:
    """One after the other, each beginning half a second after the one before; how long each waited for the verdict.

    Raises: NotMet, when one was refused."""

    async def pay(buyer: SimUser, bill: ChatMessage) -> float:
        began = time.monotonic()
        payment = await buyer.pays(bill)
        expect(payment.is_paid, payment.error or "a buyer was not answered in time")
        return time.monotonic() - began

    paying = []
    for buyer, bill in zip(buyers, bills, strict=True):
        paying.append(asyncio.create_task(pay(buyer, bill)))
        await asyncio.sleep(0.5)
    return list(await asyncio.gather(*paying))


async def _fill(rig: Rig) -> None:
    """Chats that were heard of get a long past each; then each says one thing more, which wakes its lane."""
    await _all_are_left(rig)
    await rig.settles()
    async with rig.world.engine.begin() as connection:
        await connection.execute(_FILL, {"first": _FIRST_FILLED, "each": BACKLOG // CHATS})
        await connection.execute(_UNWITNESS, {"first": _FIRST_FILLED})
    await _all_are_left(rig)
    await rig.until(lambda: not len(rig.world.tg.bot.queue), 30.0, "Telegram's queue is in the inbox")


async def _all_are_left(rig: Rig) -> None:
    tg = rig.world.tg
    for number in range(CHATS):
        tg.inject("my_chat_member", _left(tg.bot.bot_id, _FIRST_CHAT + number, int(time.time())), lane=f"b{number}")


async def _clear(rig: Rig) -> None:
    """The rest of the backlog counts as done, in steps that wait for nobody's locks."""
    while await rig.world.scalar(_FILLED_LEFT, first=_FIRST_FILLED):
        await rig.world.execute(_CLEAR, first=_FIRST_FILLED)


async def _left_over(rig: Rig) -> int:
    return int(await rig.world.scalar(_LEFT))


def _left(bot_id: int, user_id: int, at: int) -> dict[str, object]:
    """The bot was removed from a group: nothing is answered."""
    user = {"id": user_id, "is_bot": False, "first_name": "Kim"}
    bot = {"id": bot_id, "is_bot": True, "first_name": "kiebot", "username": "kiebot_bot"}
    chat = {"id": -user_id, "type": "group", "title": "Group"}
    old, new = {"status": "member", "user": bot}, {"status": "left", "user": bot}
    return {"chat": chat, "from": user, "date": at, "old_chat_member": old, "new_chat_member": new}


async def _execute(rig: Rig, *statements: str) -> None:
    async with rig.world.engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))
