"""Doing what an admin decided: each act checks, changes and is written down in the caller's transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from kiebot.admin.model import EVERYTHING, Act, Action
from kiebot.delivery.outbox import Draft
from kiebot.errors import Refused
from kiebot.generation.catalog import model_by_id
from kiebot.generation.effects import apply
from kiebot.generation.machine import Broke
from kiebot.generation.model import Generation, State
from kiebot.ledger.entries import Millicredits
from kiebot.payments.model import STARS
from kiebot.payments.refunds import request_refund
from kiebot.store import Tx


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for whoever acts. `grant_per_day`: millicredits within 24 hours, None for no limit."""

    admin_ids: frozenset[int] = frozenset()
    grant_per_day: Millicredits | None = None


@dataclass(frozen=True, slots=True)
class Doer:
    """Who acts, as the audit names them, and the key of this one decision: it takes effect once, however often told."""

    actor: str
    key: str
    rules: Rules = Rules()


Performer = Callable[[Tx, Act, Doer], Awaitable[None]]


def admin_actor(admin_id: int) -> str:
    return f"admin:{admin_id}"


async def perform(tx: Tx, act: Act, doer: Doer) -> None:
    """Do it and write it down, together or not at all.

    Raises: Refused, with nothing done: no_such_user, no_such_model, no_such_letter, no_such_work, already, is_admin,
        daily_limit (limit, left), letter_gone, not_ready, busy, no_payment, under_way (held).
    """
    async with tx.savepoint():
        await PERFORMERS[act.action](tx, act, doer)
        await tx.audit.add(doer.actor, act)


async def _grant(tx: Tx, act: Act, doer: Doer) -> None:
    """The key counts once in the ledger too: even a confirmation used twice could not grant twice."""
    user_id, amount = await _known(tx, act), act.amount("millicredits")
    if doer.rules.grant_per_day is not None:
        left = max(0, doer.rules.grant_per_day - await tx.audit.granted_today(doer.actor))
        if amount > left:
            raise Refused("daily_limit", limit=doer.rules.grant_per_day, left=left)
    reason = act.word("reason")
    if not await tx.ledger.grant(f"admin:{doer.key}", user_id, amount, reason=reason, actor=doer.actor):
        raise Refused("already")


async def _block(tx: Tx, act: Act, doer: Doer) -> None:
    user_id = await _known(tx, act)
    if user_id in doer.rules.admin_ids:
        raise Refused("is_admin")
    if not await tx.users.ban(user_id):
        raise Refused("already")


async def _unblock(tx: Tx, act: Act, doer: Doer) -> None:
    if not await tx.users.unban(await _known(tx, act)):
        raise Refused("already")


async def _model_off(tx: Tx, act: Act, doer: Doer) -> None:
    await _turn_off(tx, _known_model(act), act, doer)


async def _model_on(tx: Tx, act: Act, doer: Doer) -> None:
    await _turn_on(tx, _known_model(act))


async def _pause(tx: Tx, act: Act, doer: Doer) -> None:
    await _turn_off(tx, EVERYTHING, act, doer)


async def _resume(tx: Tx, act: Act, doer: Doer) -> None:
    await _turn_on(tx, EVERYTHING)


async def _turn_off(tx: Tx, model_id: str, act: Act, doer: Doer) -> None:
    """What runs goes on; what waits goes on waiting, and its card says so."""
    if not await tx.switches.turn_off(model_id, act.word("reason"), doer.actor):
        raise Refused("already")
    tx.wakeups += await tx.switches.redraw(model_id)


async def _turn_on(tx: Tx, model_id: str) -> None:
    if not await tx.switches.turn_on(model_id):
        raise Refused("already")
    tx.wakeups += await tx.switches.hurry(model_id)
    tx.wakeups += await tx.switches.redraw(model_id)


async def _retry_letter(tx: Tx, act: Act, doer: Doer) -> None:
    letter_id = _number(act)
    letter = await tx.letters.get(letter_id)
    if letter is None:
        raise Refused("no_such_letter")
    if letter.kind == "work":  # it has ended, and its money is back
        raise Refused("already")
    wakeup = await tx.letters.revive(letter_id)
    if wakeup is None:  # handled updates are forgotten after three days
        raise Refused("letter_gone")
    tx.wakeups.append(wakeup)


async def _bury_letter(tx: Tx, act: Act, doer: Doer) -> None:
    if not await tx.letters.close(_number(act)):
        raise Refused("no_such_letter")


async def _redeliver(tx: Tx, act: Act, doer: Doer) -> None:
    """What was given up is tried again, what waits goes out now, what was sent is sent once more without a charge."""
    generation = await _work(tx, act)
    if not generation.state.is_final:
        raise Refused("not_ready")
    letter_id = await tx.works.buried_outcome(generation.id)
    wakeup = None if letter_id is None else await tx.letters.revive(letter_id)
    wakeup = wakeup or await tx.works.hurry_messages(generation.id)
    if wakeup is not None:
        tx.wakeups.append(wakeup)
    elif generation.state is State.SUCCEEDED:
        payload = {"urls": list(generation.result_urls), "text": generation.result_text, "resent": True}
        draft = Draft(generation.chat_id, "result", payload, generation.id, key=f"redeliver:{doer.key}")
        _, deliveries = await tx.outbox.add_all([draft], None)
        tx.wakeups += deliveries
    else:
        raise Refused("not_ready")


async def _hurry(tx: Tx, act: Act, doer: Doer) -> None:
    generation = await tx.generations.lock((await _work(tx, act)).id)
    if generation.state is State.UNKNOWN:  # its next look is its end: it waits for its task to turn up
        raise Refused("busy")
    wakeup = await tx.works.hurry(generation.id)
    if wakeup is None:
        raise Refused("already")
    tx.wakeups.append(wakeup)


async def _give_up(tx: Tx, act: Act, doer: Doer) -> None:
    """End it with the money back. A task that the provider makes all the same is a gift, should it turn up, and may be
    billed: it stays on the books as that."""
    generation = await _work(tx, act)
    locked = await tx.generations.lock(generation.id)
    if locked.state.is_final:
        raise Refused("already")
    if locked.state is State.SUBMITTING:  # its answer is on the way, and says whether there is a task
        raise Refused("busy")
    await apply(tx, generation.id, Broke("given_up", act.word("reason") or None, may_be_billed=True))


async def _refund(tx: Tx, act: Act, doer: Doer) -> None:
    """Decided here, asked of the provider by a job; the payer is told when it is done."""
    provider = act.word("provider") or STARS
    if await tx.payments.standing_refund(provider, act.subject) is not None:
        raise Refused("already")
    reason = act.word("reason") or "refunded by an admin"
    refund = await request_refund(tx, act.subject, actor=doer.actor, reason=reason, provider=provider)
    if refund.actor != doer.actor:  # another decided while this transaction waited for theirs
        raise Refused("already")


PERFORMERS: Mapping[Action, Performer] = {
    Action.GRANT: _grant,
    Action.BLOCK: _block,
    Action.UNBLOCK: _unblock,
    Action.MODEL_OFF: _model_off,
    Action.MODEL_ON: _model_on,
    Action.PAUSE: _pause,
    Action.RESUME: _resume,
    Action.LETTER_RETRY: _retry_letter,
    Action.LETTER_BURY: _bury_letter,
    Action.REDELIVER: _redeliver,
    Action.HURRY: _hurry,
    Action.GIVE_UP: _give_up,
    Action.REFUND: _refund,
}


async def _known(tx: Tx, act: Act) -> int:
    user_id = _number(act)
    if await tx.users.find(user_id) is None:
        raise Refused("no_such_user")
    return user_id


def _known_model(act: Act) -> str:
    if model_by_id(act.subject) is None:
        raise Refused("no_such_model")
    return act.subject


async def _work(tx: Tx, act: Act) -> Generation:
    generation_id = await tx.works.id_of(_number(act))
    generation = None if generation_id is None else await tx.generations.get(generation_id)
    if generation is None:
        raise Refused("no_such_work")
    return generation


def _number(act: Act) -> int:
    return int(act.subject)
