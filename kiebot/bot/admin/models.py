"""Models off and on, and the pause of all new works."""

from __future__ import annotations

from kiebot.admin.model import Act, Action
from kiebot.bot.admin.confirm import ask
from kiebot.bot.admin.screens import model_named, pager, show, words
from kiebot.bot.press import IN_PLACE
from kiebot.bot.unit import Unit
from kiebot.bot.words import line
from kiebot.generation.catalog import models

PER_PAGE = 12
MAX_REASON = 200


async def off(unit: Unit) -> None:
    """/off MODEL REASON"""
    await _switch(unit, Action.MODEL_OFF)


async def on(unit: Unit) -> None:
    """/on MODEL"""
    await _switch(unit, Action.MODEL_ON)


async def pause(unit: Unit) -> None:
    """/pause REASON"""
    given = words(unit, 1)
    await ask(unit, Act(Action.PAUSE, facts={"reason": line(given[0], MAX_REASON) if given else ""}))


async def resume(unit: Unit) -> None:
    """/resume"""
    await ask(unit, Act(Action.RESUME))


async def pressed(unit: Unit) -> None:
    """z3:l:<page> · z3:f:<slug> · z3:n:<slug> · z3:p · z3:r"""
    match unit.argument(0):
        case "f":
            await _ask_about(unit, Action.MODEL_OFF, unit.argument(1))
        case "n":
            await _ask_about(unit, Action.MODEL_ON, unit.argument(1))
        case "p":
            await ask(unit, Act(Action.PAUSE, facts={"reason": ""}))
        case "r":
            await resume(unit)
        case _:
            await _show_page(unit, unit.number(1))


async def _switch(unit: Unit, action: Action) -> None:
    given = words(unit, 2)
    if given:
        await _ask_about(unit, action, given[0], given[1] if len(given) > 1 else "")
    else:
        await _show_page(unit, 0)


async def _ask_about(unit: Unit, action: Action, name: str, reason: str = "") -> None:
    model = model_named(name)
    if model is None:
        show(unit, unit.t("There is no model {name} on sale.", name=line(name, 60)))
    else:
        await ask(unit, Act(action, model.id, {"reason": line(reason, MAX_REASON)}))


async def _show_page(unit: Unit, page: int) -> None:
    """Those that are off come first."""
    switches = {each.model_id: each for each in await unit.tx.switches.off()}
    everything = sorted(models(), key=lambda model: model.id not in switches)
    shown = everything[page * PER_PAGE : (page + 1) * PER_PAGE]
    rows = []
    for model in shown:
        is_off = model.id in switches
        label = f"{'💤' if is_off else '✅'} {model.title}"
        rows.append((unit.button(label, f"z3:{'n' if is_off else 'f'}:{model.slug}", IN_PLACE),))
    reasons = [f"💤 {model.title}: {switches[model.id].reason or '–'}" for model in shown if model.id in switches]
    text = "\n".join([unit.t("Press a model to switch it off or on."), *reasons])
    has_more = len(everything) > (page + 1) * PER_PAGE
    show(unit, text, (*rows, *pager(unit, "z3:l", page, has_more=has_more)))
