"""/stats: people, works, money and margins, from the rows themselves."""

from __future__ import annotations

from collections import Counter

from kiebot.admin.model import Margin, MoneyDay, PeopleDay, Statistics, Totals
from kiebot.bot.admin.screens import show, title_of, whole, words
from kiebot.bot.press import IN_PLACE
from kiebot.bot.unit import Unit
from kiebot.bot.words import credits, plain, state_word
from kiebot.delivery.ports import Button
from kiebot.generation.model import State
from kiebot.texts import decimal

MOST_DAYS = 14  # what fits one message, with the models
MOST_MODELS = 15


async def stats(unit: Unit) -> None:
    """/stats DAYS"""
    given = words(unit, 1)
    days = whole(given[0]) if given else 1
    if days is None or not 1 <= days <= MOST_DAYS:
        show(
            unit,
            unit.t("Like this: /stats 7\nA whole number of days, {most} at most.", most=MOST_DAYS),
            (_spans(unit),),
        )
    else:
        await _show(unit, days)


async def pressed(unit: Unit) -> None:
    """z6:<days>"""
    await _show(unit, unit.number(0))


async def _show(unit: Unit, days: int) -> None:
    found = await unit.tx.statistics.read(days=min(max(days, 1), MOST_DAYS))
    days_text = "\n".join(_day(unit, *pair) for pair in zip(found.people, found.money, strict=True))
    parts = [_totals(unit, found.totals), days_text, _models(unit, found), _kie(unit, found)]
    show(unit, "\n\n".join(filter(None, parts)), (_spans(unit),))


def _spans(unit: Unit) -> tuple[Button, ...]:
    return (
        unit.button(unit.t("Today"), "z6:1", IN_PLACE),
        unit.button(unit.t("7 days"), "z6:7", IN_PLACE),
        unit.button(unit.t("14 days"), "z6:14", IN_PLACE),
    )


def _totals(unit: Unit, totals: Totals) -> str:
    return "\n".join(
        [
            unit.t(
                "Users: {users}; {day} active in a day, {week} in a week; {gone} blocked the bot, {banned} are blocked",
                users=totals.users,
                day=totals.active_day,
                week=totals.active_week,
                gone=totals.blocked_bot,
                banned=totals.banned,
            ),
            unit.t(
                "In wallets: {available}, reserved: {held}",
                available=plain(unit.language, totals.available),
                held=plain(unit.language, totals.held),
            ),
            unit.t(
                "Works: {states}",
                states=" · ".join(f"{said} {count}" for said, count in _states(unit, totals).items()) or "–",
            ),
            unit.t(
                "Waiting: {updates} updates, {messages} messages; {letters} dead letters",
                updates=totals.updates_waiting,
                messages=totals.messages_waiting,
                letters=totals.letters,
            ),
        ]
    )


def _states(unit: Unit, totals: Totals) -> dict[str, int]:
    """In the words their owners read, in the order of a work's life; two states may have one word."""
    to = unit.translator
    counted: Counter[str] = Counter()
    for state in State:
        counted[state_word(to, state)] += totals.states.get(state, 0)
    counted[state_word(to, State.FAILED, "cancelled")] = totals.states.get("cancelled", 0)
    return {said: count for said, count in counted.items() if count}


def _day(unit: Unit, people: PeopleDay, money: MoneyDay) -> str:
    return unit.t(
        "{day}: {new} new, {buyers} buying, {updates} updates; "
        "reserved {held}, taken {taken}, given back {voided}, granted {granted}; "
        "paid ⭐ {stars}, refunded ⭐ {refunded}",
        day=f"{people.day:%d.%m}",
        new=people.new_users,
        buyers=people.buyers,
        updates=people.updates,
        held=plain(unit.language, money.held),
        taken=plain(unit.language, money.taken),
        voided=plain(unit.language, money.voided),
        granted=plain(unit.language, money.granted),
        stars=money.stars_paid,
        refunded=money.stars_refunded,
    )


def _models(unit: Unit, found: Statistics) -> str:
    lines = [_model(unit, each) for each in found.models[:MOST_MODELS]]
    if len(found.models) > MOST_MODELS:
        lines.append("…")
    return "\n".join(lines)


def _model(unit: Unit, each: Margin) -> str:
    return unit.t(
        "{day} {model}: {good} made, {bad} failed, taken {taken}; KIE {cost}, margin {margin}",
        day=f"{each.day:%d.%m}",
        model=title_of(each.model_id),
        good=each.sold,
        bad=each.failed,
        taken=plain(unit.language, each.captured),
        cost=plain(unit.language, each.cost),
        margin=plain(unit.language, each.margin),
    )


def _kie(unit: Unit, found: Statistics) -> str:
    cost = sum(each.cost for each in found.models)
    margin = sum(each.margin for each in found.models)
    if not found.models:
        return ""
    usd = unit.settings.kie_credit_usd * cost / 1000
    return unit.t(
        "KIE took {cost} (about {usd} USD), margin {margin}; works at their quoted cost: {unreported}.",
        cost=credits(unit.translator, cost),
        usd=decimal(unit.language, f"{usd:.2f}"),
        unreported=sum(each.unreported for each in found.models),
        margin=credits(unit.translator, margin),
    )
