"""Every model on sale is bought through the screens: by the buttons shown, with what the form asks for."""

from __future__ import annotations

import pytest

from kiebot.bot import form
from kiebot.bot.desk import model_on
from kiebot.bot.press import MAX_BYTES
from kiebot.bot.session import load
from kiebot.delivery.ports import Button
from kiebot.generation.catalog import models
from kiebot.generation.checks import validate
from kiebot.generation.fields import FieldKind, InputField
from kiebot.generation.product import Model
from kiebot.wakeups import Advance, RefreshCard
from tests.bot.people import Phone, audio, photo, video

CREATE = "f1:g:"
MOST_STEPS = 12


async def walks_to(anna: Phone, model: Model) -> None:
    """Home, shelf, pages, model: only by buttons that are there."""
    await anna.says("/start")
    await anna.presses_word(f"k1:{model.kind}:0")
    while not anna.has_button(f"m1:{model.slug}"):
        await anna.presses_word("More ›")
    await anna.presses_word(f"m1:{model.slug}")


async def answers(anna: Phone, asked: InputField) -> None:
    match asked.kind:
        case FieldKind.MEDIA | FieldKind.MEDIA_LIST:
            sent = {"image": photo(), "video": video(), "audio": audio()}
            await anna.sends(**sent[asked.media or ""])
        case FieldKind.DIALOGUE:
            await anna.says("Hello there!\nAnd good-bye.")
        case FieldKind.SHOTS:
            await anna.says("3: a cat wakes up\n2: it yawns")
        case FieldKind.CHOICE:
            await anna.says(asked.choices[0].label)
        case FieldKind.INTEGER | FieldKind.NUMBER:
            await anna.says(str(int(asked.minimum or 1)))
        case _:
            await anna.says("a ginger cat rides a tram through the rain")


async def fills(anna: Phone) -> None:
    for _ in range(MOST_STEPS):
        if anna.has_button(CREATE):
            return
        session = (await load(anna.tx, anna.user_id, anna.chat_id)).session
        model = model_on(session)
        assert model is not None
        assert session.form is not None
        asked = form.asked(model, session.form)
        assert asked is not None, f"{model.id} asks for nothing and cannot be bought: {anna.screen.text}"
        await answers(anna, asked)
    raise AssertionError(f"no way to buy: {anna.screen.text}")


@pytest.mark.parametrize("model", models(), ids=lambda model: model.id)
async def test_a_model_is_bought_by_the_buttons_and_answers_it_asks_for(anna: Phone, model: Model) -> None:
    await anna.says("/start")
    await anna.is_given(100_000)
    await walks_to(anna, model)
    await fills(anna)
    screen = anna.screen
    await anna.presses_word(CREATE)

    (bought,) = anna.generations()
    assert bought.model_id == model.id
    assert validate(model, bought.inputs) == []
    assert anna.drafts == []  # the pressed message becomes the card
    assert anna.tx.tables.cards[bought.id] == (1, screen.id)
    assert Advance(bought.id, bought.revision) in anna.tx.wakeups
    assert RefreshCard(bought.id, 1) in anna.tx.wakeups
    assert (await anna.tx.ledger.balance(anna.user_id)).held == bought.quote.price_millicredits


@pytest.mark.parametrize(("language", "stale"), [("en", "That screen is old"), ("ru", "Тот экран устарел")])
async def test_every_button_of_every_form_is_answered_and_fits_telegram(anna: Phone, language: str, stale: str) -> None:
    anna.code = language
    for model in models():
        await anna.says(f"/start m_{model.slug}")
        for body in [_body(each) for each in anna.screen.buttons]:
            await anna.says(f"/start m_{model.slug}")
            await _press(anna, body, stale)
            if body.startswith(("f1:e", "f1:m")):  # a screen of its own: its first and last buttons too
                for inner in (_body(anna.screen.buttons[0]), _body(anna.screen.buttons[-1])):
                    await anna.says(f"/start m_{model.slug}")
                    await _press(anna, body, stale)
                    await _press(anna, inner, stale)


async def _press(anna: Phone, body: str, stale: str) -> None:
    assert all(len((each.data or "").encode()) <= MAX_BYTES for each in anna.screen.buttons)
    button = next(each for each in anna.screen.buttons if _body(each) == body)
    await anna.presses(button)
    assert anna.drafts, f"no answer to {button.text}"
    assert stale not in anna.screen.text


def _body(button: Button) -> str:
    return (button.data or "").partition("~")[0]
