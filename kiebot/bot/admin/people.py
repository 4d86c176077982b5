"""/user and what can be done to one: their card, credits, a block."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from kiebot.admin.model import Act, Action, Person
from kiebot.bot.admin.confirm import ask
from kiebot.bot.admin.payments import SHOWN, payment_line, refund_button
from kiebot.bot.admin.screens import show, stamp, whole, words
from kiebot.bot.press import IN_PLACE
from kiebot.bot.screens import pairs
from kiebot.bot.unit import Unit
from kiebot.bot.words import credits, line, work_line
from kiebot.delivery.ports import Keyboard
from kiebot.generation.model import Generation
from kiebot.ledger.entries import Balance

LAST_WORKS = 5
MAX_REASON = 200
MOST_CREDITS = Decimal(10_000_000)


async def user(unit: Unit) -> None:
    """/user ID"""
    given = words(unit, 1)
    user_id = whole(given[0]) if given else None
    if user_id is None:
        show(unit, unit.t("Like this: /user 123456789"))
    else:
        await _show_card(unit, user_id)


async def grant(unit: Unit) -> None:
    """/grant ID CREDITS REASON"""
    given = words(unit, 3)
    user_id, amount = (whole(given[0]), _millicredits(given[1])) if len(given) == 3 else (None, None)
    if user_id is None or amount is None:
        show(unit, unit.t("Like this: /grant 123456789 50 sorry for the wait\nAt most three decimals, more than zero."))
        return
    facts: dict[str, int | str] = {"millicredits": amount, "reason": line(given[2], MAX_REASON)}
    await ask(unit, Act(Action.GRANT, str(user_id), facts))


async def block(unit: Unit) -> None:
    """/block ID REASON"""
    given = words(unit, 2)
    await _ask_about(unit, Action.BLOCK, given[0] if given else "", given[1] if len(given) > 1 else "")


async def unblock(unit: Unit) -> None:
    """/unblock ID"""
    given = words(unit, 1)
    await _ask_about(unit, Action.UNBLOCK, given[0] if given else "")


async def pressed(unit: Unit) -> None:
    """z2:c:<id> · z2:b:<id> · z2:u:<id> · z2:g:<id>"""
    user_id = unit.argument(1)
    match unit.argument(0):
        case "b":
            await _ask_about(unit, Action.BLOCK, user_id)
        case "u":
            await _ask_about(unit, Action.UNBLOCK, user_id)
        case "g":
            show(unit, unit.t("Send: /grant {user} CREDITS REASON", user=unit.number(1)), _back(unit, unit.number(1)))
        case _:
            await _show_card(unit, unit.number(1))


async def _ask_about(unit: Unit, action: Action, subject: str, reason: str = "") -> None:
    user_id = whole(subject)
    if user_id is None:
        show(unit, unit.t("Like this: /block 123456789 spam\nor: /unblock 123456789"))
    else:
        await ask(unit, Act(action, str(user_id), {"reason": line(reason, MAX_REASON)} if reason else {}))


async def _show_card(unit: Unit, user_id: int) -> None:
    person = await unit.tx.users.find(user_id)
    if person is None:
        show(unit, unit.t("I know no user {user}.", user=user_id))
        return
    balance = await unit.tx.ledger.balance(user_id)
    latest = await unit.tx.generations.history(user_id, most=LAST_WORKS)
    paid = await unit.tx.payments.of_user(user_id, most=SHOWN)
    parts = [
        _who(unit, person),
        _wallet(unit, balance),
        "\n".join(work_line(unit.translator, each) for each in latest),
        "\n".join(payment_line(unit, each) for each in paid),
    ]
    refunds = [button for each in paid if (button := refund_button(unit, each)) is not None]
    show(unit, "\n\n".join(filter(None, parts)), (*_ways(unit, person, latest), *pairs(refunds)))


def _who(unit: Unit, person: Person) -> str:
    lines = [
        f"{person.first_name} · {person.id}",
        unit.t("Language: {language}", language=person.language),
        unit.t("Here since {first}, last seen {last}", first=stamp(person.created_at), last=stamp(person.seen_at)),
    ]
    if person.banned_at is not None:
        lines.append(unit.t("🚫 Blocked by an admin since {time}", time=stamp(person.banned_at)))
    if person.blocked_bot_at is not None:
        lines.append(unit.t("Has blocked the bot since {time}", time=stamp(person.blocked_bot_at)))
    return "\n".join(lines)


def _wallet(unit: Unit, balance: Balance) -> str:
    to = unit.translator
    return to.n(
        "May spend {available}, {held} reserved for {count} open work.",
        "May spend {available}, {held} reserved for {count} open works.",
        balance.open_count,
        available=credits(to, balance.available),
        held=credits(to, balance.held),
    )


def _ways(unit: Unit, person: Person, latest: list[Generation]) -> Keyboard:
    grant = unit.button(unit.t("🎁 Grant"), f"z2:g:{person.id}", IN_PLACE)
    if person.banned_at is None:
        ban = unit.button(unit.t("🚫 Block"), f"z2:b:{person.id}", IN_PLACE)
    else:
        ban = unit.button(unit.t("Unblock"), f"z2:u:{person.id}", IN_PLACE)
    works = tuple(unit.button(f"№ {each.number}", f"z5:v:{each.number}", IN_PLACE) for each in latest)
    return ((grant, ban), works) if works else ((grant, ban),)


def _back(unit: Unit, user_id: int) -> Keyboard:
    return ((unit.button(unit.t("‹ Back"), f"z2:c:{user_id}", IN_PLACE),),)


def _millicredits(text: str) -> int | None:
    try:
        amount = Decimal(text.replace(",", "."))
    except InvalidOperation:
        return None
    if not amount.is_finite() or not 0 < amount <= MOST_CREDITS or amount * 1000 != int(amount * 1000):
        return None
    return int(amount * 1000)
