"""What the screens of admins have in common: ways back, times, arguments."""

from __future__ import annotations

from datetime import datetime

from kiebot.bot.press import IN_PLACE
from kiebot.bot.unit import Unit
from kiebot.delivery.ports import Button, Keyboard
from kiebot.generation.catalog import model_by_id, model_by_slug
from kiebot.generation.product import Model

MENU = "z1"
_MAX_ID_DIGITS = 16


def show(unit: Unit, text: str, rows: Keyboard = ()) -> None:
    """A screen with a way back to the admins' menu; replaces the one whose button was pressed."""
    unit.say(text, (*rows, (menu_button(unit),)), edit=unit.screen_id)


def menu_button(unit: Unit) -> Button:
    return unit.button(unit.t("‹ Admin"), MENU, IN_PLACE)


def pager(unit: Unit, body: str, page: int, *, has_more: bool) -> Keyboard:
    """`body`: what the buttons say before the page's number."""
    row = []
    if page > 0:
        row.append(unit.button(unit.t("‹ Previous"), f"{body}:{page - 1}", IN_PLACE))
    if has_more:
        row.append(unit.button(unit.t("More ›"), f"{body}:{page + 1}", IN_PLACE))
    return (tuple(row),) if row else ()


def words(unit: Unit, most: int) -> list[str]:
    """What follows the command, in at most so many parts; the last one keeps its spaces."""
    text = (unit.message.text or "").split(None, most)
    return text[1:]


def whole(text: str) -> int | None:
    """A number of an id's size; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_ID_DIGITS else None


def stamp(at: datetime) -> str:
    return f"{at:%d.%m.%Y %H:%M} UTC"


def model_named(text: str) -> Model | None:
    """By its id, or by its short name."""
    return model_by_id(text) or model_by_slug(text)


def title_of(model_id: str) -> str:
    model = model_by_id(model_id)
    return model.title if model else model_id
