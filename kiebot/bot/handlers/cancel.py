"""/cancel: clears the desk, and offers to take back what still waits."""

from __future__ import annotations

from kiebot.bot.routing import command, pressed
from kiebot.bot.screens import home_button
from kiebot.bot.session import Session
from kiebot.bot.unit import Unit
from kiebot.bot.words import credits, work_line
from kiebot.delivery.ports import Button
from kiebot.generation import service
from kiebot.generation.catalog import model_by_id
from kiebot.generation.model import Generation, State


async def cancel(unit: Unit) -> None:
    cleared = await clear_desk(unit)
    open_ones = await unit.tx.generations.open_of(unit.user.id)
    waiting = [each for each in open_ones if each.state is State.ACCEPTED]
    parts = [unit.t("The form is cleared.")] if cleared else []
    if len(waiting) < len(open_ones):
        parts.append(_running(unit, len(open_ones) - len(waiting)))
    if waiting:  # last: its buttons follow
        parts.append(unit.t("These still wait. Take one back, and its credits return at once:"))
    rows = [(_take_back(unit, each),) for each in waiting]
    unit.say("\n\n".join(parts) or unit.t("There is nothing to cancel."), (*rows, (home_button(unit),)))


async def taken_back(unit: Unit) -> None:
    """c1:<number>. What became of the credits is told by the message that the cancellation itself leaves."""
    found = await unit.tx.generations.of_user(unit.user.id, unit.number(0))
    if found is None:
        unit.say(unit.t("I do not find this work."), ((home_button(unit),),))
    elif not await service.cancel(unit.tx, found.id):
        unit.say(_too_late(unit, found))


async def clear_desk(unit: Unit) -> bool:
    """Empty the session. False: there was nothing on it."""
    session = (await unit.load()).session
    if not (session.form or session.prompt or session.files):
        return False
    await unit.save(Session(bought=session.bought, number=session.number))
    return not session.is_done


def _too_late(unit: Unit, found: Generation) -> str:
    if found.state.is_final:
        return f"{unit.t('There is nothing to cancel.')}\n{work_line(unit.translator, found)}"
    return unit.t("No. {number} is already being made and cannot be taken back.", number=found.number)


def _running(unit: Unit, count: int) -> str:
    return unit.translator.n(
        "{count} work is already being made and cannot be taken back.",
        "{count} works are already being made and cannot be taken back.",
        count,
    )


def _take_back(unit: Unit, generation: Generation) -> Button:
    model = model_by_id(generation.model_id)
    label = unit.t(
        "✖ No. {number} · {title} · {amount} back",
        number=generation.number,
        title=model.title if model else generation.model_id,
        amount=credits(unit.translator, generation.quote.price_millicredits),
    )
    return unit.button(label, f"c1:{generation.number}")


ROUTES = (command("cancel", cancel), pressed("c1", taken_back))


def is_urgent(data: str) -> bool:
    """Whether a press takes something back: it may overtake what waits in its lane."""
    return data.startswith("c1:")
