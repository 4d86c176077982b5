"""What must be so when the survivor has nothing left to do, wherever the other replica died."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kiebot.simulators.telegram.journal import Call
from kiebot.storage.verify import breaches_in
from tests.crashpoints.stage import Story
from tests.scenarios.world import World

_ENDED = text("""
    SELECT g.id, g.state, coalesce(g.failure, '') AS failure, s.outcome, s.amount,
        g.inputs::text AS inputs,
        (SELECT count(*) FROM attempts a WHERE a.generation_id = g.id) AS attempts,
        (SELECT count(*) FROM outbox o WHERE o.generation_id = g.id AND o.kind IN ('result', 'failed')
            AND o.payload ->> 'resent' IS NULL) AS outcomes,
        (SELECT count(*) FROM outbox o WHERE o.generation_id = g.id AND o.kind = 'late_result') AS gifts
    FROM generations g LEFT JOIN settlements s ON s.generation_id = g.id WHERE g.user_id = :user
""")
_WALLET = text("""
    SELECT a.available, a.held, a.running, a.open_count, (
        SELECT coalesce(sum(e.delta_available), 0) FROM entries e JOIN postings p ON p.key = e.posting_key
        WHERE e.account = a.key AND p.kind NOT IN ('hold', 'capture', 'void')
    ) AS put_in
    FROM accounts a WHERE a.key = :key
""")
_LEFT_OVER = text("""
    SELECT 'update' AS what FROM inbox WHERE done_at IS NULL
    UNION ALL SELECT 'message' FROM outbox WHERE sent_at IS NULL AND buried_at IS NULL
    UNION ALL SELECT 'card' FROM cards WHERE wanted_version > sent_version
    UNION ALL SELECT 'refund' FROM refunds WHERE state = 'open'
    UNION ALL SELECT 'claim of a lane' FROM lanes WHERE claimed_by = :alive
    UNION ALL SELECT 'claim of a card' FROM cards WHERE claimed_by = :alive
    UNION ALL SELECT 'claim of a message' FROM outbox WHERE claimed_by = :alive
    UNION ALL SELECT 'claim of a generation' FROM generations WHERE claimed_by = :alive AND finished_at IS NULL
""")
_LETTERS = text("SELECT kind FROM dead_letters WHERE id > :after")
_LAST_LETTER = text("SELECT coalesce(max(id), 0) FROM dead_letters")
_SENT = text("""
    SELECT count(*) FROM outbox
    WHERE id > :after AND sent_at IS NOT NULL AND payload ->> 'edit' IS NULL AND message_id IS DISTINCT FROM 0
""")
_LAST_ROW = text("SELECT coalesce(max(id), 0) FROM outbox")
_UNMARKED = """
    SELECT max(messages) FROM (
        SELECT 0 AS messages
        UNION ALL SELECT 1 FROM cards WHERE claimed_by IS NOT NULL
        UNION ALL SELECT CASE WHEN payload ->> 'resent' IS NULL THEN 1 ELSE 2 END FROM outbox
            WHERE claimed_by IS NOT NULL AND sent_at IS NULL AND buried_at IS NULL
    ) AS claims
"""


_UNANSWERED = """
    SELECT EXISTS (
        SELECT FROM attempts a JOIN generations g ON g.id = a.generation_id
        WHERE a.state = 'intent' AND g.user_id = :user
    )
"""


_PAYMENTS = """
    SELECT p.charge_id, r.state FROM payments p
    LEFT JOIN refunds r ON r.provider = p.provider AND r.charge_id = p.charge_id AND r.state <> 'refused'
    WHERE p.user_id = :user
"""


@dataclass
class Mark:
    """Where everything stood when the dying replica began."""

    call: int
    row: int
    letter: int


async def mark(world: World) -> Mark:
    async with world.engine.connect() as connection:
        row, letter = await connection.scalar(_LAST_ROW), await connection.scalar(_LAST_LETTER)
    return Mark(world.tg.journal.last_number, int(row or 0), int(letter or 0))


@dataclass(frozen=True)
class Death:
    """What the dead replica left unsaid. messages: so many it may have sent and had no time to note (it held one row;
    files that are sent again at a user's wish are followed by their words). task: it may have made one at the provider.
    """

    messages: int
    task: bool


async def died(world: World, user: int) -> Death:
    """Before anybody goes on."""
    return Death(int(await world.scalar(_UNMARKED)), bool(await world.scalar(_UNANSWERED, user=user)))


@dataclass(frozen=True)
class Verdict:
    """`wrong`: the promises that broke. `repeats`: messages that went out again; `doubles`: other double effects."""

    wrong: tuple[str, ...]
    state: str
    repeats: int
    doubles: int


async def judged(world: World, story: Story, user: int, since: Mark, *, alive: UUID, death: Death | None) -> Verdict:
    """alive: the incarnation that went on. death: None when nobody was killed."""
    async with world.engine.connect() as connection:
        rows = (await connection.execute(_ENDED, {"user": user})).all()
        wallet = (await connection.execute(_WALLET, {"key": f"wallet:{user}"})).one()
        wrong = [f"{breach.invariant}: {breach.rows}" for breach in await breaches_in(connection)]
        wrong += await _left_over(connection, story, since, alive)
        sent = int(await connection.scalar(_SENT, {"after": since.row}) or 0)
    calls = [call for call in world.tg.journal.calls(after=since.call) if call.sent]
    repeats = _repeats(calls)
    doubles = [each for row in rows for each in _doubled(world, story, row)]
    if repeats > (death.messages if death is not None else 0):
        doubles.append(f"{repeats} messages went out again")
    if len(calls) < sent:
        wrong.append(f"{sent} messages are noted as sent, {len(calls)} were")
    for row in rows:
        wrong += _of_generation(row, story, death)
    wrong += await _of_payments(world, user)
    taken = sum(row.amount or 0 for row in rows)
    if wallet.available + taken != wallet.put_in or wallet.held or wallet.running or wallet.open_count:
        wrong.append(f"the wallet has {wallet} after {taken} were taken")
    if not rows:
        wrong.append("the purchase is lost")
    states = ", ".join(f"{row.state} {row.failure}".strip() for row in rows)
    return Verdict((*wrong, *doubles), states, repeats, len(doubles))


async def _left_over(connection: AsyncConnection, story: Story, since: Mark, alive: UUID) -> list[str]:
    left = Counter((await connection.scalars(_LEFT_OVER, {"alive": alive})).all())
    letters = (await connection.scalars(_LETTERS, {"after": since.letter})).all()
    wrong = [f"left over: {what}, {count} times" for what, count in left.items()]
    return wrong + [f"a dead letter: {kind}" for kind in letters if kind not in story.buries]


def _of_generation(row: Row[tuple[object, ...]], story: Story, death: Death | None) -> list[str]:
    wrong = []
    ends = story.ends if death is None else (*story.ends, "succeeded")  # the misfortune may have died with the replica
    may_be_lost = death is not None and (death.task or "sim:lose" in story.marks)
    if row.state not in ends and not (may_be_lost and row.failure == "answer_lost"):
        wrong.append(f"it should end as {ends}, not {row.state} ({row.failure})")
    if row.outcomes < 1:
        wrong.append("no outcome was decided")
    if (row.state == "succeeded") != (row.outcome == "captured") or (row.gifts and row.state == "succeeded"):
        wrong.append(f"{row.state} but {row.outcome}, {row.gifts} gifts")
    return wrong


async def _of_payments(world: World, user: int) -> list[str]:
    """Stars that were paid are booked, and no more when they went back (nobody may ever have heard of those)."""
    booked = {row.charge_id: row.state for row in await world.rows(_PAYMENTS, user=user)}
    wrong = []
    for charge in world.tg.bot.till.charges.values():
        if charge.user_id == user and charge.is_refunded != (booked.get(charge.charge_id, "done") == "done"):
            state = booked.get(charge.charge_id, "never booked")
            wrong.append(f"{charge.charge_id} went back there: {charge.is_refunded}, here: {state}")
    return wrong


def _doubled(world: World, story: Story, row: Row[tuple[object, ...]]) -> list[str]:
    """Tasks at the provider are told apart by the prompt, which no other generation has."""
    made = [task for task in world.kie.tasks.values() if _is_of(task.input, row.inputs)]
    billed = [task for task in world.kie.billed_tasks() if _is_of(task.input, row.inputs)]
    doubles = []
    if row.outcomes > 1 or row.gifts > 1:
        doubles.append(f"{row.outcomes} outcomes, {row.gifts} gifts")
    if len(made) > row.attempts:
        doubles.append(f"{len(made)} tasks for {row.attempts} attempts")
    if len(billed) > min(story.billed, row.attempts):
        made_by = [(task.task_id[-6:], task.attempt_id, task.plan.failure, task.refunded) for task in billed]
        doubles.append(
            f"{len(billed)} tasks were billed, of {row.attempts} attempts ({row.state} {row.failure}): {made_by}"
        )
    return doubles


def _is_of(task_input: object, inputs: str) -> bool:
    prompt = str(task_input.get("prompt")) if isinstance(task_input, dict) else ""
    return bool(prompt) and prompt in inputs


def _repeats(calls: list[Call]) -> int:
    """Sends of words that stood in the chat already, by whatever method; files without words count as themselves."""
    said = Counter((call.chat_id, _words(call)) for call in calls)
    return sum(count - 1 for count in said.values())


def _words(call: Call) -> object:
    return call.arguments.get("text") or call.arguments.get("caption") or call.sent
