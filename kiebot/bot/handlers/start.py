"""/start with its deep links, and the main menu."""

from __future__ import annotations

from kiebot.bot.desk import open_model, show_begun
from kiebot.bot.handlers.topup import TOP_UP_LINK, show_packages
from kiebot.bot.routing import command, pressed
from kiebot.bot.screens import FORM, show_home
from kiebot.bot.session import Session
from kiebot.bot.unit import Unit
from kiebot.generation.catalog import model_by_slug, models_of
from kiebot.generation.pricing import price_from
from kiebot.generation.product import Model

MODEL_LINK = "m_"  # /start m_<slug> opens a model


async def start(unit: Unit) -> None:
    """The main menu, or the model or the packages a link names."""
    payload = (unit.message.text or "").partition(" ")[2].strip()
    if payload == TOP_UP_LINK:
        await show_packages(unit)
        return
    if not payload.startswith(MODEL_LINK):
        await show_home(unit, is_first=True)
        return
    model = model_by_slug(payload.removeprefix(MODEL_LINK))
    if model is None:
        note = unit.t("The model of this link is not on sale any more.")
        await show_home(unit, note=note, is_first=True)
        return
    kept = await unit.load()
    await open_model(unit, model, Session(bought=kept.session.bought, number=kept.session.number))


async def home(unit: Unit) -> None:
    await show_home(unit, edit=unit.screen_id)


async def go_on(unit: Unit) -> None:
    """From a receipt back to the form that lacked the credits."""
    await show_begun(unit)


async def example(unit: Unit) -> None:
    """A form that is ready to go, so that a first picture is one tap away."""
    kept = await unit.load()
    prompt = unit.t("A ginger cat in a spacesuit waters tulips on the Moon, soft morning light")
    begun = Session(prompt=prompt, bought=kept.session.bought, number=kept.session.number)
    await open_model(unit, await _cheapest(unit), begun, edit=unit.screen_id)


async def _cheapest(unit: Unit) -> Model:
    """Of those that are on, as far as any is."""
    off = {each.model_id for each in await unit.tx.switches.off()}
    on_sale = [model for model in models_of("image") if model.id not in off] or models_of("image")
    return min(on_sale, key=lambda model: price_from(model, 1).price_millicredits)


ROUTES = (
    command("start", start),
    pressed("n1:home", home),
    pressed(FORM, go_on),
    pressed("n1:example", example),
)
