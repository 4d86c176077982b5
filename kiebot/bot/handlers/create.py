"""The form's own buttons: choose, clear, go back, and buy.

Only the newest screen counts. A button of an older one changes nothing and draws the form anew below, except the one
that bought something: it says so.
"""

from __future__ import annotations

import msgspec

from kiebot.bot import form
from kiebot.bot.desk import model_on, show_current, show_form
from kiebot.bot.form_state import Action, Event, Step, Verb, decode
from kiebot.bot.handlers.cancel import clear_desk
from kiebot.bot.routing import pressed
from kiebot.bot.screens import HISTORY, home_button, show_home, show_models
from kiebot.bot.session import Kept, Session
from kiebot.bot.unit import Unit
from kiebot.bot.words import refusal
from kiebot.errors import Refused
from kiebot.generation import service
from kiebot.generation.catalog import model_by_id
from kiebot.generation.model import Generation, Order, Quoted
from kiebot.generation.pricing import Quote
from kiebot.generation.product import Model
from kiebot.ids import new_id


async def form_pressed(unit: Unit) -> None:
    """f1:..."""
    kept = await unit.load()
    press = unit.press
    action = decode(press.body) if press else None
    if press and action and action.verb is Verb.CONFIRM and press.stamp == kept.session.bought:
        _already_started(unit, kept.session.number)
    elif press is None or action is None or press.stamp != kept.stamp:
        await show_current(unit, kept.session, note=unit.t("That screen is old; this is where you are:"))
    else:
        await _current_pressed(unit, kept, action)


async def again(unit: Unit) -> None:
    """a1:<number>: the inputs of an earlier work in a new form."""
    found = await unit.tx.generations.of_user(unit.user.id, unit.number(0))
    model = _model_of(found)
    if found is None or model is None:
        await show_home(unit, note=unit.t("This work cannot be repeated: its model is not on sale any more."))
        return
    kept = await unit.load()
    begun = Session(form=form.start(model, inputs=found.inputs), bought=kept.session.bought, number=kept.session.number)
    await show_form(unit, begun, model, edit=unit.screen_id)


async def _current_pressed(unit: Unit, kept: Kept, action: Action) -> None:
    model, state = model_on(kept.session), kept.session.form
    if model is None or state is None:
        await show_home(unit, note=unit.t("This model is not on sale any more."), edit=unit.screen_id)
        return
    step = form.apply(model, state, action, content_filter=unit.settings.content_filter)
    match step.event:
        case Event.CONFIRM:
            await _confirm(unit, kept, model)
        case Event.LEAVE:
            await show_models(unit, model.kind, 0, edit=unit.screen_id)
        case Event.CANCEL:
            await clear_desk(unit)
            await show_home(unit, note=unit.t("The form is cleared."), edit=unit.screen_id)
        case _:
            await _redraw(unit, kept.session, model, step)


async def _redraw(unit: Unit, session: Session, model: Model, step: Step) -> None:
    note = unit.t("That screen is old; this is where you are:") if step.event is Event.STALE else ""
    changed = msgspec.structs.replace(session, form=step.state)
    await show_form(unit, changed, model, problems=step.problems, note=note, edit=unit.screen_id)


async def _confirm(unit: Unit, kept: Kept, model: Model) -> None:
    """Buy what the screen shows, for no more than its button says: a deploy may have changed the price since.

    Draft, generation and hold change in this one transaction, or not at all.
    """
    session = kept.session
    if await unit.tx.generations.model_is_off(model.id):
        note = unit.t("This model is resting just now. Nothing was charged; try later or take another.")
        await show_form(unit, session, model, note=note, edit=unit.screen_id)
        return
    order = _order(unit, kept, model)
    if order is None:
        await show_form(unit, session, model, edit=unit.screen_id)  # the form itself says what keeps it from a price
        return
    if session.shown is not None and order.quote.price_millicredits > session.shown:
        note = unit.t("The price has changed since this screen was drawn. Nothing was charged; this is the new one:")
        await show_form(unit, session, model, note=note, edit=unit.screen_id)
        return
    try:
        generation = await service.accept(unit.tx, order, unit.settings.limits)
    except Refused as error:
        note = refusal(unit.translator, error)
        await show_form(unit, session, model, note=note, edit=unit.screen_id)
        return
    done = msgspec.structs.replace(session, is_done=True, bought=kept.stamp, number=generation.number)
    await unit.save(done)


def _order(unit: Unit, kept: Kept, model: Model) -> Order | None:
    state = kept.session.form or form.start(model)
    price = form.price_of(model, state, markup=unit.settings.markup)
    if not isinstance(price, Quote):
        return None
    return Order(
        generation_id=new_id(),
        confirm_key=kept.confirm_key(unit.user.id, unit.chat_id),
        user_id=unit.user.id,
        chat_id=unit.chat_id,
        model_id=model.id,
        inputs=state.inputs,
        quote=Quoted(price.cost_millicredits, price.price_millicredits, price.is_maximum),
        language=unit.language,
        card_message_id=unit.screen_id,
    )


def _already_started(unit: Unit, number: int) -> None:
    keyboard = ((unit.button(unit.t("🗂 My works"), HISTORY), home_button(unit)),)
    unit.say(unit.t("Already started: No. {number}. It was charged once.", number=number), keyboard)


def _model_of(generation: Generation | None) -> Model | None:
    return model_by_id(generation.model_id) if generation else None


ROUTES = (pressed("f1", form_pressed), pressed("a1", again))
