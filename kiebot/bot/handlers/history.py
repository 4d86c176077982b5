"""What a user has made: the list, one work, and its files once more without a charge."""

from __future__ import annotations

from kiebot.bot.press import IN_PLACE
from kiebot.bot.routing import command, pressed
from kiebot.bot.screens import HISTORY, home_button, pairs
from kiebot.bot.unit import Unit
from kiebot.bot.words import line, prompt_of, work_line
from kiebot.delivery.outbox import Draft
from kiebot.delivery.ports import Button, Keyboard
from kiebot.generation.catalog import model_by_id
from kiebot.generation.model import Generation, State

PER_PAGE = 8
_SHOWN_PROMPT = 500


async def history(unit: Unit) -> None:
    await _show_page(unit, 0)


async def page(unit: Unit) -> None:
    """h1:p:<page> · h1:v:<number> · h1:r:<number>"""
    match unit.argument(0):
        case "v":
            await _show_work(unit, await unit.tx.generations.of_user(unit.user.id, unit.number(1)))
        case "r":
            await _send_again(unit, await unit.tx.generations.of_user(unit.user.id, unit.number(1)))
        case _:
            await _show_page(unit, unit.number(1))


async def _show_page(unit: Unit, number: int) -> None:
    found = await unit.tx.generations.history(unit.user.id, most=PER_PAGE + 1, skip=number * PER_PAGE)
    if not found:
        unit.say(unit.t("Nothing made yet."), ((home_button(unit),),), edit=unit.screen_id)
        return
    shown = found[:PER_PAGE]
    text = "\n".join([unit.t("Your works, newest first:"), *(work_line(unit.translator, each) for each in shown)])
    works = pairs([_work_button(unit, each) for each in shown])
    pager = _pager(unit, number, has_more=len(found) > PER_PAGE)
    unit.say(text, (*works, *pager, (home_button(unit),)), edit=unit.screen_id)


async def _show_work(unit: Unit, found: Generation | None) -> None:
    if found is None:
        unit.say(unit.t("I do not find this work."), ((home_button(unit),),), edit=unit.screen_id)
        return
    words = line(prompt_of(model_by_id(found.model_id), found), _SHOWN_PROMPT)
    parts = [work_line(unit.translator, found), f"{found.accepted_at:%d.%m.%Y}", words]
    unit.say("\n\n".join(filter(None, parts)), _work_keyboard(unit, found), edit=unit.screen_id)


async def _send_again(unit: Unit, found: Generation | None) -> None:
    """The row's key is the press itself, so that the same press handled twice sends once."""
    query = unit.update.callback_query
    if found is None or found.state is not State.SUCCEEDED or query is None:
        unit.say(unit.t("I do not find this work."), ((home_button(unit),),))
        return
    payload = {"urls": list(found.result_urls), "text": found.result_text, "resent": True}
    unit.drafts.append(Draft(unit.chat_id, "result", payload, found.id, key=f"resend:{query.id}"))


def _work_button(unit: Unit, found: Generation) -> Button:
    return unit.button(unit.t("No. {number}", number=found.number), f"h1:v:{found.number}", IN_PLACE)


def _work_keyboard(unit: Unit, found: Generation) -> Keyboard:
    rows: list[tuple[Button, ...]] = []
    if found.state is State.SUCCEEDED:
        rows.append((unit.button(unit.t("📥 Send it again"), f"h1:r:{found.number}"),))
    if found.state is State.ACCEPTED:
        rows.append((unit.button(unit.t("✖ Take back"), f"c1:{found.number}"),))
    if model_by_id(found.model_id) is not None:
        rows.append((unit.button(unit.t("🔁 Make another"), f"a1:{found.number}", IN_PLACE),))
    rows.append((unit.button(unit.t("‹ Back"), HISTORY, IN_PLACE), home_button(unit)))
    return tuple(rows)


def _pager(unit: Unit, number: int, *, has_more: bool) -> Keyboard:
    row = []
    if number > 0:
        row.append(unit.button(unit.t("‹ Previous"), f"h1:p:{number - 1}", IN_PLACE))
    if has_more:
        row.append(unit.button(unit.t("More ›"), f"h1:p:{number + 1}", IN_PLACE))
    return (tuple(row),) if row else ()


ROUTES = (command("history", history), pressed("h1", page))
