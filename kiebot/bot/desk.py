"""The user's desk: the form as it stands drawn as a message, and how a form comes onto it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kiebot.admin.model import EVERYTHING
from kiebot.bot import form
from kiebot.bot.form_screen import Screen, screen
from kiebot.bot.form_state import FormState, MediaInput, Step, encode
from kiebot.bot.form_texts import Text
from kiebot.bot.screens import TOP_UP, home_button, show_home
from kiebot.bot.session import Session
from kiebot.bot.unit import Unit
from kiebot.bot.words import credits
from kiebot.delivery.ports import Keyboard
from kiebot.generation.catalog import model_by_slug
from kiebot.generation.checks import Problem
from kiebot.generation.fields import FieldKind
from kiebot.generation.pricing import Quote
from kiebot.generation.product import Model

_SETTINGS = (FieldKind.CHOICE, FieldKind.FLAG, FieldKind.INTEGER, FieldKind.NUMBER)


def model_on(session: Session) -> Model | None:
    """The model of the form on the desk; None without a form, or when the model is not on sale any more."""
    return model_by_slug(session.form.model_slug) if session.form else None


async def show_form(
    unit: Unit,
    session: Session,
    model: Model,
    *,
    problems: Sequence[Problem] = (),
    note: str = "",
    edit: int | None = None,
) -> None:
    """Save the session under a new version and draw its form: every older screen is stale from now on."""
    state = session.form or form.start(model)
    settings = unit.settings
    price = form.price_of(model, state, markup=settings.markup)
    shown = price.price_millicredits if isinstance(price, Quote) else None
    kept = await unit.save(msgspec.structs.replace(session, form=state, shown=shown, is_done=False), edit)
    drawn = screen(model, state, unit.language, price, problems=problems, content_filter=settings.content_filter)
    how = "" if unit.is_private else unit.t("In a group, send it as a reply to this message.")
    funds, lacks = await _funds(unit, price)
    parts = [note, *(_said(unit, part) for part in drawn.parts), how, funds]
    keyboard = _keyboard(unit, drawn, kept.stamp)
    if lacks:  # a message of its own: the form stays, to go on with it after the payment
        keyboard = ((unit.button(unit.t("⭐ Top up"), TOP_UP),), *keyboard)
    unit.say("\n\n".join(filter(None, parts)), keyboard, edit=edit, screen=kept.version)


async def show_current(unit: Unit, session: Session, *, note: str, edit: int | None = None) -> None:
    """The form on the desk as it stands, or the menu when there is none."""
    model = model_on(session)
    if model is None:
        await show_home(unit, note=note, edit=edit)
    else:
        await show_form(unit, session, model, note=note, edit=edit)


async def show_begun(unit: Unit, *, note: str = "") -> None:
    """The form that was begun, below everything else; the menu when there is none, or it has bought something."""
    session = (await unit.load()).session
    if session.form is None or session.is_done:
        await show_home(unit, note=note)
    else:
        await show_current(unit, session, note=note)


async def open_model(unit: Unit, model: Model, session: Session, *, edit: int | None = None) -> None:
    """Put a model's form onto the desk, with what was sent or filled in before and fits."""
    step = _with_pending(model, _carried(model, session), session)
    opened = Session(form=step.state, bought=session.bought, number=session.number)
    await show_form(unit, opened, model, problems=step.problems, note=await _rest_of(unit, model), edit=edit)


def settings_of(model: Model, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What was chosen for a work without its words and files: how the next one begins."""
    kept = {field.name for field in model.inputs if field.kind in _SETTINGS}
    return {name: value for name, value in inputs.items() if name in kept}


def _carried(model: Model, session: Session) -> FormState:
    old = model_on(session)
    if session.form is None or old is None:
        return form.start(model)
    if not session.is_done:
        return form.start(model, like=old, inputs=session.form.inputs)
    return form.start(model, inputs=settings_of(model, session.form.inputs) if old is model else None)


def _with_pending(model: Model, state: FormState, session: Session) -> Step:
    """Files and words that came before a model was chosen find their fields now."""
    step = Step(state)
    problems: list[Problem] = []
    for each in session.files:
        step = form.apply_media(model, step.state, msgspec.convert(each, MediaInput))
        problems += step.problems
    if session.prompt:
        step = form.apply_text(model, step.state, session.prompt)
        problems += step.problems
    return Step(step.state, problems=tuple(problems))


async def _rest_of(unit: Unit, model: Model) -> str:
    """What there is to know before anybody fills in the form of a model that makes nothing just now."""
    if await unit.tx.generations.model_is_off(model.id):
        return unit.t("This model is resting just now. Better take another.")
    if await unit.tx.generations.model_is_off(EVERYTHING):
        return unit.t("Nothing new is being made just now: what you start waits, and you can take it back.")
    return ""


async def _funds(unit: Unit, price: Quote | Problem | None) -> tuple[str, bool]:
    """What the user has, and whether the price is more than that."""
    balance = await unit.tx.ledger.balance(unit.user.id)
    have = unit.t("You have {amount}.", amount=credits(unit.translator, balance.available))
    if not isinstance(price, Quote) or price.price_millicredits <= balance.available:
        return have, False
    lacking = price.price_millicredits - balance.available
    needed = unit.t("{amount} more needed.", amount=credits(unit.translator, lacking))
    return f"{have} {needed}", True


def _said(unit: Unit, part: Text | str) -> str:
    return part if isinstance(part, str) else unit.t(part.msgid, **part.params)


def _keyboard(unit: Unit, drawn: Screen, stamp: str) -> Keyboard:
    rows = [
        tuple(unit.button(_said(unit, each.label), encode(each.action), stamp) for each in row) for row in drawn.rows
    ]
    return tuple(rows) or ((home_button(unit),),)
