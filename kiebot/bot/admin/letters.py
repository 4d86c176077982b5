"""What was given up: look at it, try it once more, or close it. A user's own words are not shown."""

from __future__ import annotations

from kiebot.admin.model import Act, Action, Letter
from kiebot.bot.admin.confirm import ask
from kiebot.bot.admin.screens import pager, show, stamp
from kiebot.bot.press import IN_PLACE
from kiebot.bot.unit import Unit
from kiebot.bot.words import line
from kiebot.delivery.ports import Button

PER_PAGE = 5
_SHOWN_REASON = 200


async def letters(unit: Unit) -> None:
    await _show_page(unit, 0)


async def pressed(unit: Unit) -> None:
    """z4:l:<page> · z4:r:<id> · z4:c:<id>"""
    match unit.argument(0):
        case "r":
            await ask(unit, Act(Action.LETTER_RETRY, str(unit.number(1))))
        case "c":
            await ask(unit, Act(Action.LETTER_BURY, str(unit.number(1))))
        case _:
            await _show_page(unit, unit.number(1))


async def _show_page(unit: Unit, page: int) -> None:
    found = await unit.tx.letters.open(most=PER_PAGE + 1, skip=page * PER_PAGE)
    shown = found[:PER_PAGE]
    text = "\n\n".join(_text(unit, each) for each in shown) or unit.t("No dead letters.")
    rows = [_row(unit, each) for each in shown]
    show(unit, text, (*rows, *pager(unit, "z4:l", page, has_more=len(found) > PER_PAGE)))


def _text(unit: Unit, letter: Letter) -> str:
    kinds = {"outbox": unit.t("a message not sent"), "work": unit.t("a work given up for a bug")}
    kind = kinds.get(letter.kind) or unit.t("an update not handled")
    return f"{letter.id} · {kind} · {stamp(letter.buried_at)}\n{line(letter.reason, _SHOWN_REASON)}"


def _row(unit: Unit, letter: Letter) -> tuple[Button, ...]:
    retry = unit.button(unit.t("🔁 Retry {number}", number=letter.id), f"z4:r:{letter.id}", IN_PLACE)
    close = unit.button(unit.t("🗑 Close {number}", number=letter.id), f"z4:c:{letter.id}", IN_PLACE)
    return (retry, close) if letter.is_retryable else (close,)
