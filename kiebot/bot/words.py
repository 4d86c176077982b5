"""Amounts, lengths of time, prices and refusals in words; pure."""

from __future__ import annotations

from decimal import Decimal

from kiebot.errors import Refused
from kiebot.generation.catalog import model_by_id
from kiebot.generation.model import Generation, State
from kiebot.generation.pricing import credits_text, price_from
from kiebot.generation.product import Model
from kiebot.ledger.entries import Millicredits
from kiebot.texts import Translator, decimal, mark

MAX_LINE = 60
_MINUTE_S = 60
_SPOKEN_IN_SECONDS_S = 90


def credits(to: Translator, amount: Millicredits) -> str:
    """An amount with its noun: "1 credit", "5 credits", "0.8 credits"."""
    if amount % 1000 == 0:
        return to.n("{count} credit", "{count} credits", amount // 1000)
    return to.t("{amount} credits", amount=plain(to.language, amount))


def plain(language: str, amount: Millicredits) -> str:
    """An amount without its noun, for a sentence or a button that says of what: "5", "0.8", in Russian "0,8"."""
    return decimal(language, credits_text(amount))


def about(to: Translator, seconds: float) -> str:
    """A rough length of time: seconds in tens, then whole minutes."""
    if seconds < _SPOKEN_IN_SECONDS_S:
        return to.n("{count} second", "{count} seconds", max(10, -(-int(seconds) // 10) * 10))
    return to.n("{count} minute", "{count} minutes", -(-int(seconds) // _MINUTE_S))


def priced_title(to: Translator, model: Model, markup: Decimal) -> str:
    """A model's button: its title and its lowest price."""
    lowest = price_from(model, markup)
    price = plain(to.language, lowest.price_millicredits)
    match lowest.unit:
        case "second":
            return to.t("{title} · from {price} per second", title=model.title, price=price)
        case "1000_chars":
            return to.t("{title} · from {price} per 1000 characters", title=model.title, price=price)
    return to.t("{title} · from {price}", title=model.title, price=price)


def line(text: str, limit: int = MAX_LINE) -> str:
    """A user's own words on one line, shortened."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"


def ask_whom(to: Translator, contact: str | None) -> str:
    """Where a user turns with a question of money or a fault."""
    if contact:
        return to.t("Questions: {contact}", contact=contact)
    return to.t("Questions: ask whoever runs this bot.")


def refusal(to: Translator, error: Refused) -> str:
    """Why a purchase was refused, and what helps. What the user has and lacks stands on the form itself."""
    facts = error.facts
    if error.code == "not_enough":
        return to.t("Not enough credits: this costs {price}.", price=credits(to, _amount(facts.get("price"))))
    if error.code == "too_many_open":
        return to.t(
            "You already have {limit} unfinished works. Wait for one, or take one back with /cancel.",
            limit=facts.get("limit", ""),
        )
    if error.code == "spent_user":
        return to.t(
            "One user may spend {limit} a day; you have spent {spent} today. Nothing was charged. "
            "It goes on tomorrow at 0:00 UTC.",
            limit=credits(to, _amount(facts.get("limit"))),
            spent=credits(to, _amount(facts.get("spent"))),
        )
    if error.code == "spent_all":
        return to.t("Today's limit of this bot is used up. Nothing was charged. It goes on tomorrow at 0:00 UTC.")
    return to.t("This is not possible right now. Nothing was charged.")


_STATES = {
    State.ACCEPTED: mark("waiting"),
    State.SUBMITTING: mark("being made"),
    State.UNKNOWN: mark("being clarified"),
    State.RUNNING: mark("being made"),
    State.SUCCEEDED: mark("ready"),
    State.FAILED: mark("failed, not charged"),
}


def state_word(to: Translator, state: State, failure: str | None = None) -> str:
    """Where a work stands. `failure`: the fixed word of why it ended."""
    if failure == "cancelled":
        return to.t("taken back, not charged")
    return to.t(_STATES[state])


def work_line(to: Translator, generation: Generation) -> str:
    """A work on one line: what became of it, and of the money."""
    model = model_by_id(generation.model_id)
    facts = {
        "number": generation.number,
        "title": model.title if model else generation.model_id,
        "state": state_word(to, generation.state, generation.failure),
    }
    if generation.state is State.FAILED:
        return to.t("No. {number} · {title} · {state}", **facts)
    amount = credits(to, generation.quote.price_millicredits)
    if generation.quote.is_maximum:
        return to.t("No. {number} · {title} · {state} · up to {amount}", **facts, amount=amount)
    return to.t("No. {number} · {title} · {state} · {amount}", **facts, amount=amount)


def prompt_of(model: Model | None, generation: Generation) -> str:
    """The words a work was made from, as far as it has any."""
    field = model.prompt_field if model else None
    value = generation.inputs.get(field.name) if field else None
    if isinstance(value, list):
        return " ".join(str(part.get("text", "")) for part in value if isinstance(part, dict))
    return str(value or "")


def _amount(value: object) -> Millicredits:
    return value if isinstance(value, int) else 0
