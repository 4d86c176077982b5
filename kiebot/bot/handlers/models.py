"""From the shelves to a model: /models, pages, and the offer for what was sent without a model."""

from __future__ import annotations

from kiebot.bot.desk import open_model
from kiebot.bot.routing import command, pressed
from kiebot.bot.screens import show_home, show_kinds, show_models, show_offer
from kiebot.bot.unit import Unit
from kiebot.generation.catalog import model_by_slug


async def models(unit: Unit) -> None:
    show_kinds(unit, edit=unit.screen_id)


async def shelf(unit: Unit) -> None:
    """k1 · k1:<shelf>:<page>"""
    if not await show_models(unit, unit.argument(0), unit.number(1), edit=unit.screen_id):
        show_kinds(unit, edit=unit.screen_id)


async def fitting_shelf(unit: Unit) -> None:
    """o1 · o1:<shelf>:<page>: only models that can use what was sent before."""
    session = (await unit.load()).session
    if not await show_models(unit, unit.argument(0), unit.number(1), only_for=session, edit=unit.screen_id):
        show_offer(unit, session, edit=unit.screen_id)


async def chosen(unit: Unit) -> None:
    """m1:<slug>"""
    model = model_by_slug(unit.argument(0))
    if model is None:
        await show_home(unit, note=unit.t("This model is not on sale any more."), edit=unit.screen_id)
        return
    await open_model(unit, model, (await unit.load()).session, edit=unit.screen_id)


ROUTES = (
    command("models", models),
    pressed("k1", shelf),
    pressed("o1", fitting_shelf),
    pressed("m1", chosen),
)
