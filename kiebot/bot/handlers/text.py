"""A text without a command: it answers the form on the desk, or waits for a model to be chosen."""

from __future__ import annotations

import msgspec
from telegram.ext import filters

from kiebot.bot import form
from kiebot.bot.desk import model_on, show_form
from kiebot.bot.form_state import View
from kiebot.bot.routing import message
from kiebot.bot.screens import show_offer
from kiebot.bot.session import Session
from kiebot.bot.unit import Unit


async def text(unit: Unit) -> None:
    """After a purchase a text is the next prompt for the same model, with the same settings and files."""
    session = (await unit.load()).session
    words = unit.message.text or ""
    model = model_on(session)
    if model is None or session.form is None:
        await _remember(unit, session, words)
        return
    state = session.form
    if session.is_done:
        state = msgspec.structs.replace(state, view=View.MAIN, field="", page=0)
    step = form.apply_text(model, state, words)
    await show_form(unit, msgspec.structs.replace(session, form=step.state), model, problems=step.problems)


async def _remember(unit: Unit, session: Session, words: str) -> None:
    waiting = msgspec.structs.replace(session, form=None, prompt=words, album="")
    kept = await unit.save(waiting)
    show_offer(unit, waiting, screen=kept.version)


ROUTES = (message(filters.TEXT & ~filters.COMMAND, text),)
