"""A question before every act, and the one press that does it.

An act asked about here is an act of kiebot.admin: what its question says and what is answered afterwards are two lines
in the tables below.
"""

from __future__ import annotations

from collections.abc import Mapping

from kiebot.admin import confirm
from kiebot.admin.acts import Doer, admin_actor, perform
from kiebot.admin.model import Act, Action
from kiebot.bot.admin.screens import show, title_of
from kiebot.bot.press import IN_PLACE
from kiebot.bot.unit import Unit
from kiebot.bot.words import credits
from kiebot.delivery.outbox import Draft, say_payload
from kiebot.delivery.ports import Say
from kiebot.errors import Refused
from kiebot.texts import mark, translator

_QUESTIONS = {
    Action.GRANT: mark("Grant {amount} to {subject}?\nReason: {reason}"),
    Action.BLOCK: mark("Block {subject}? Their updates will start nothing; their credits stay as they are."),
    Action.UNBLOCK: mark("Let {subject} in again?"),
    Action.MODEL_OFF: mark(
        "Switch {title} off? Nobody can start it then. What runs goes on, what waits keeps waiting."
    ),
    Action.MODEL_ON: mark("Switch {title} on?"),
    Action.PAUSE: mark(
        "Pause all new works? They wait with their credits reserved, and users are told. What runs goes on."
    ),
    Action.RESUME: mark("Go on with new works?"),
    Action.LETTER_RETRY: mark("Try dead letter {subject} once more?"),
    Action.LETTER_BURY: mark("Close dead letter {subject} for good?"),
    Action.REDELIVER: mark("Deliver No. {subject} again? It costs nothing."),
    Action.HURRY: mark("Look at No. {subject} right now?"),
    Action.GIVE_UP: mark("Stop No. {subject} and give its credits back?"),
    Action.REFUND: mark("Give ⭐ {stars} back to {user}? Taken out of the wallet, as far as it is there: {amount}."),
}
_ANSWERS = {
    Action.GRANT: mark("✅ Granted {amount} to {subject}, who is told."),
    Action.BLOCK: mark("✅ {subject} is blocked. Their credits stay as they are."),
    Action.UNBLOCK: mark("✅ {subject} may use the bot again."),
    Action.MODEL_OFF: mark("✅ {title} is off."),
    Action.MODEL_ON: mark("✅ {title} is on."),
    Action.PAUSE: mark("✅ New works are paused. Nobody is charged for what waits."),
    Action.RESUME: mark("✅ New works go on."),
    Action.LETTER_RETRY: mark("✅ Dead letter {subject} is tried once more."),
    Action.LETTER_BURY: mark("✅ Dead letter {subject} is closed."),
    Action.REDELIVER: mark("✅ No. {subject} is on its way, without a charge."),
    Action.HURRY: mark("✅ No. {subject} is being looked at."),
    Action.GIVE_UP: mark("✅ No. {subject} is stopped. Its credits went back to its owner, who is told."),
    Action.REFUND: mark("✅ On the way back to {user}, who is told of the arrival: ⭐ {stars}."),
}
_REFUSALS = {
    "already_done": mark("This was answered before. Nothing was done a second time."),
    "expired": mark("This question is too old. Nothing was done; please ask again."),
    "already": mark("It is so already. Nothing was done."),
    "no_such_user": mark("I know no such user. Nothing was done."),
    "no_such_model": mark("There is no such model on sale. Nothing was done."),
    "no_such_letter": mark("There is no such open dead letter. Nothing was done."),
    "no_such_work": mark("There is no such work. Nothing was done."),
    "letter_gone": mark("It is too old to be tried again. Nothing was done."),
    "not_ready": mark("There is nothing to deliver. Nothing was done."),
    "busy": mark("It is just being handed to the maker. Nothing was done; please try again in a minute."),
    "is_admin": mark("Admins cannot be blocked. Nothing was done."),
    "no_payment": mark("I know no such payment. Nothing was done."),
    "under_way": mark("Works under way hold {held} of it. Nothing was done; try again when they have ended."),
    "daily_limit": mark("Your limit within 24 hours: {limit}. Left of it: {left}. Nothing was granted."),
}


async def ask(unit: Unit, act: Act) -> None:
    """Show the question. The act is done by the press of its button, by this admin, within minutes, once."""
    nonce = await confirm.ask(unit.tx, unit.user.id, act)
    rows = ((unit.button(unit.t("✅ Yes, do it"), f"y1:{nonce}", IN_PLACE),),)
    show(unit, _said(unit, _QUESTIONS, act), rows)


async def pressed(unit: Unit) -> None:
    """y1:<nonce>"""
    nonce = unit.argument(0)
    try:
        act = await confirm.confirmed(unit.tx, unit.user.id, nonce)
        await perform(unit.tx, act, Doer(admin_actor(unit.user.id), nonce, unit.settings.admins))
    except Refused as error:
        show(unit, refusal(unit, error))
        return
    show(unit, _said(unit, _ANSWERS, act))
    if act.action is Action.GRANT:
        await _tell_owner(unit, act, nonce)


def refusal(unit: Unit, error: Refused) -> str:
    """Why nothing was done. An unknown code is a bug, and raised again."""
    if error.code not in _REFUSALS:
        raise error
    amounts = {name: credits(unit.translator, value) for name, value in error.facts.items() if isinstance(value, int)}
    return unit.t(_REFUSALS[error.code], **amounts)


def _said(unit: Unit, table: Mapping[Action, str], act: Act) -> str:
    facts: dict[str, object] = {**act.facts, "subject": act.subject, "title": title_of(act.subject)}
    if "millicredits" in act.facts:
        facts["amount"] = credits(unit.translator, act.amount("millicredits"))
    return unit.t(table[act.action], **facts)


async def _tell_owner(unit: Unit, act: Act, nonce: str) -> None:
    """Whose wallet changed hears of it, in their own language; once, whatever is repeated."""
    user_id = int(act.subject)
    person = await unit.tx.users.find(user_id)
    if person is None or user_id == unit.user.id:
        return
    to = translator(person.language)
    balance = await unit.tx.ledger.balance(user_id)
    text = to.t(
        "🎁 You were given {amount}. You have {available} now.",
        amount=credits(to, act.amount("millicredits")),
        available=credits(to, balance.available),
    )
    unit.drafts.append(Draft(user_id, "say", say_payload(Say(text), is_news=True), key=f"granted:{nonce}"))
