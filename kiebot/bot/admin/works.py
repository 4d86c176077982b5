"""Works of all users, without their words and files: where one stands, what became of its messages, and a push."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from kiebot.admin.model import Act, Action, AttemptLine, MessageLine, WorkLine
from kiebot.bot.admin.confirm import ask
from kiebot.bot.admin.screens import pager, show, stamp, title_of, whole, words
from kiebot.bot.press import IN_PLACE
from kiebot.bot.reasons import reason
from kiebot.bot.screens import pairs
from kiebot.bot.unit import Unit
from kiebot.bot.words import credits, line, state_word
from kiebot.delivery.ports import Keyboard
from kiebot.generation.model import AttemptState, Generation, State
from kiebot.texts import mark

PER_PAGE = 8
_SHOWN_ERROR = 150
_ATTEMPTS: Mapping[str, str] = {
    AttemptState.INTENT: mark("being handed over"),
    AttemptState.CREATED: mark("taken by the maker"),
    AttemptState.REFUSED: mark("not taken by the maker"),
    AttemptState.UNKNOWN: mark("answer lost"),
    AttemptState.ADOPTED: mark("answer lost, task found again"),
}
_MESSAGES: Mapping[str, str] = {
    "result": mark("Result"),
    "failed": mark("News of the failure"),
    "late_result": mark("Late result, a gift"),
}


async def work(unit: Unit) -> None:
    """/work NUMBER"""
    given = words(unit, 1)
    number = whole(given[0]) if given else None
    if number is None:
        await _show_page(unit, 0)
    else:
        await _show_work(unit, number)


async def pressed(unit: Unit) -> None:
    """z5:l:<page> · z5:v:<number> · z5:d:<number> · z5:h:<number> · z5:x:<number>"""
    number = unit.number(1)
    match unit.argument(0):
        case "v":
            await _show_work(unit, number)
        case "d":
            await ask(unit, Act(Action.REDELIVER, str(number)))
        case "h":
            await ask(unit, Act(Action.HURRY, str(number)))
        case "x":
            await ask(unit, Act(Action.GIVE_UP, str(number)))
        case _:
            await _show_page(unit, number)


async def _show_page(unit: Unit, page: int) -> None:
    found = await unit.tx.works.page(most=PER_PAGE + 1, skip=page * PER_PAGE)
    shown = found[:PER_PAGE]
    text = "\n".join(_line(unit, each) for each in shown) or unit.t("Nothing made yet.")
    buttons = [unit.button(f"№ {each.number}", f"z5:v:{each.number}", IN_PLACE) for each in shown]
    show(unit, text, (*pairs(buttons), *pager(unit, "z5:l", page, has_more=len(found) > PER_PAGE)))


async def _show_work(unit: Unit, number: int) -> None:
    generation_id = await unit.tx.works.id_of(number)
    found = None if generation_id is None else await unit.tx.generations.get(generation_id)
    if found is None:
        show(unit, unit.t("I do not find this work."))
        return
    attempts = await unit.tx.works.attempts(found.id)
    messages = await unit.tx.works.messages(found.id)
    parts = [
        _facts(unit, found),
        "\n".join(_attempt(unit, each) for each in attempts),
        "\n".join(_message(unit, each) for each in messages),
    ]
    show(unit, "\n\n".join(filter(None, parts)), _ways(unit, found, messages))


def _facts(unit: Unit, found: Generation) -> str:
    lines = [
        f"№ {found.number} · {title_of(found.model_id)} · {found.id}",
        unit.t(
            "User {user}, {state}", user=found.user_id, state=state_word(unit.translator, found.state, found.failure)
        ),
        unit.t(
            "Price {price}, KIE's price {cost}",
            price=credits(unit.translator, found.quote.price_millicredits),
            cost=credits(unit.translator, found.quote.cost_millicredits),
        ),
        unit.t(
            "Accepted {accepted}, submitted {submitted}, finished {finished}",
            accepted=stamp(found.accepted_at),
            submitted=_when(found.submitted_at),
            finished=_when(found.finished_at),
        ),
    ]
    if found.failure:
        lines.append(_why(unit, found.failure, found.detail))
    return "\n".join(lines)


def _why(unit: Unit, failure: str, detail: str | None) -> str:
    """As its owner reads it; then the fixed word, which logs and metrics count by, and the provider's own sentence."""
    own = f"{failure}: {line(detail, _SHOWN_ERROR)}" if detail else failure
    return f"{reason(unit.translator, failure)}\n{own}"


def _attempt(unit: Unit, attempt: AttemptLine) -> str:
    consumed = attempt.consumed_millicredits
    took = unit.t("KIE took {amount}", amount=credits(unit.translator, consumed)) if consumed is not None else ""
    parts = [
        _named(unit, _ATTEMPTS, attempt.state),
        attempt.task_id or "",
        took,
        line(attempt.error or "", _SHOWN_ERROR),
    ]
    return " · ".join([unit.t("Try {number}", number=attempt.no), *filter(None, parts)])


def _message(unit: Unit, message: MessageLine) -> str:
    if message.sent_at is not None:
        became = unit.t("sent {time}", time=stamp(message.sent_at))
    elif message.buried_at is not None:
        became = unit.t("given up {time}: {why}", time=stamp(message.buried_at), why=line(message.reason or "", 80))
    else:
        became = unit.t("waits")
    return f"{_named(unit, _MESSAGES, message.kind)} · {became}"


def _named(unit: Unit, table: Mapping[str, str], word: str) -> str:
    return unit.t(table[word]) if word in table else word


def _ways(unit: Unit, found: Generation, messages: Sequence[MessageLine]) -> Keyboard:
    """A failure that was told has nothing to deliver again."""
    number = found.number
    user = unit.button(unit.t("👤 User"), f"z2:c:{found.user_id}", IN_PLACE)
    if found.state is State.SUBMITTING:
        return ((user,),)
    if found.state.is_final and found.state is not State.SUCCEEDED and all(each.sent_at for each in messages):
        return ((user,),)
    if found.state.is_final:
        return ((unit.button(unit.t("📥 Deliver again"), f"z5:d:{number}", IN_PLACE), user),)
    stop = unit.button(unit.t("🛑 Stop"), f"z5:x:{number}", IN_PLACE)
    if found.state is State.UNKNOWN:  # nobody can look for its task: it turns up, or not
        return ((stop,), (user,))
    return ((unit.button(unit.t("⏩ Look now"), f"z5:h:{number}", IN_PLACE), stop), (user,))


def _line(unit: Unit, each: WorkLine) -> str:
    state = state_word(unit.translator, State(each.state), each.failure)
    return f"№ {each.number} · {each.user_id} · {title_of(each.model_id)} · {state} · {stamp(each.accepted_at)}"


def _when(at: datetime | None) -> str:
    return stamp(at) if at is not None else "–"
