from __future__ import annotations

import dataclasses
import re
from decimal import Decimal
from typing import Any

import pytest

from kiebot.bot.application import BotHandler
from kiebot.bot.rendering import BotRenderer
from kiebot.generation.catalog import model_by_id, model_by_slug
from kiebot.generation.model import Quoted, State
from kiebot.generation.tools import Limits
from tests.bot.doubles import FakeTx
from tests.bot.people import BOT_ID, SETTINGS, Phone, document, photo, video

PICTURES, EDIT = "z-image", "google/nano-banana-edit"
SPEAKS, UPSCALE = "wan/2-2-a14b-speech-to-video-turbo", "topaz/video-upscale"
CREATE = "f1:g:"


def slug(model_id: str) -> str:
    model = model_by_id(model_id)
    assert model is not None
    return model.slug


def named(content: dict[str, Any], name: str) -> dict[str, Any]:
    content["document"]["file_name"] = name
    return content


async def opens(phone: Phone, model_id: str, prompt: str = "") -> None:
    await phone.says(f"/start m_{slug(model_id)}")
    if prompt:
        await phone.says(prompt)


async def test_a_double_press_buys_once_and_says_so(anna: Phone) -> None:
    await opens(anna, PICTURES, "a cat")
    create = anna.button(CREATE)
    await anna.presses(create)
    await anna.presses(create)
    assert len(anna.generations()) == 1
    assert "Already started: No. 1" in anna.screen.text


async def test_nobody_pays_more_than_the_button_said_when_the_price_has_risen_since(anna: Phone) -> None:
    await opens(anna, PICTURES, "a cat")
    assert "1.6" in anna.button(CREATE).text
    anna.handler = BotHandler(dataclasses.replace(SETTINGS, markup=Decimal(3)), BOT_ID)  # after a deploy
    await anna.presses_word(CREATE)
    assert anna.generations() == []
    assert "The price has changed" in anna.screen.text
    assert "2.4" in anna.button(CREATE).text
    await anna.presses_word(CREATE)
    assert [each.quote.price_millicredits for each in anna.generations()] == [2_400]


async def test_a_price_that_has_fallen_since_is_the_one_that_is_paid(anna: Phone) -> None:
    await opens(anna, PICTURES, "a cat")
    anna.handler = BotHandler(dataclasses.replace(SETTINGS, markup=Decimal(1)), BOT_ID)
    await anna.presses_word(CREATE)
    assert [each.quote.price_millicredits for each in anna.generations()] == [800]


async def test_the_button_that_bought_says_so_even_after_another_form_was_opened(anna: Phone) -> None:
    await opens(anna, PICTURES, "a cat")
    create = anna.button(CREATE)
    await anna.presses(create)
    await opens(anna, EDIT)
    await anna.presses(create)
    assert len(anna.generations()) == 1
    assert "Already started" in anna.screen.text


async def test_a_button_of_an_older_screen_redraws_below_and_changes_nothing(anna: Phone) -> None:
    await opens(anna, PICTURES, "a cat")
    old = anna.screen
    create = anna.button(CREATE)
    await anna.says("a dog instead")
    await anna.presses(create, on=old)
    assert anna.generations() == []
    assert "That screen is old" in anna.screen.text
    assert "a dog instead" in anna.screen.text
    assert anna.screen.id != old.id
    await anna.presses_word(CREATE)  # and the new screen works
    assert anna.generations()[0].inputs["prompt"] == "a dog instead"


async def test_a_button_of_a_form_that_was_cancelled_leads_to_the_menu(anna: Phone) -> None:
    await opens(anna, PICTURES, "a cat")
    old = anna.screen
    create = anna.button(CREATE)
    await anna.presses_word("Cancel")
    await anna.presses(create, on=old)
    await opens(anna, PICTURES, "a boat")  # a new form must not make the old button good again
    await anna.presses(create, on=old)
    assert anna.generations() == []
    assert "That screen is old" in anna.screen.text


async def test_somebody_elses_button_and_forged_data_have_no_effect(anna: Phone) -> None:
    await opens(anna, PICTURES, "a cat")
    create = anna.button(CREATE)
    assert await anna.presses(create, by=99) == []
    for forged in ("", "f1:g:x", "~~", "f1:g:zzzzz~1.abcd~16", "f1:" + "x" * 60, "c1:99999999999999~~16", "ж~~16"):
        await anna.presses(dataclasses.replace(create, data=forged))
    assert anna.generations() == []
    assert 99 not in anna.tx.tables.users


async def test_another_users_work_cannot_be_seen_repeated_or_taken_back(anna: Phone, handler: BotHandler) -> None:
    await opens(anna, PICTURES, "a secret cat")
    await anna.presses_word(CREATE)
    eve = Phone(handler, anna.tx, user_id=66, chat_id=66)
    await eve.says("/start")
    for body in ("h1:v:1", "h1:r:1", "a1:1", "c1:1"):
        await eve.presses(dataclasses.replace(eve.screen.buttons[0], data=f"{body}~~1u"))
        assert eve.drafts, body
        assert "secret" not in eve.screen.text
    assert anna.generations()[0].state is State.ACCEPTED


async def test_too_few_credits_are_told_with_price_and_balance_and_a_way_to_buy_more(handler: BotHandler) -> None:
    poor = Phone(BotHandler(dataclasses.replace(SETTINGS, welcome_credits_millicredits=1_000), BOT_ID), FakeTx())
    await opens(poor, "nano-banana-pro", "a cat")
    assert "more needed" in poor.screen.text
    await poor.presses_word(CREATE)
    assert poor.generations() == []
    assert "Not enough credits" in poor.screen.text
    assert "You have 1 credit." in poor.screen.text
    create = poor.button(CREATE)
    await poor.presses_word("⭐ Top up")
    assert "How many credits?" in poor.screen.text
    assert poor.tx.tables.wallets["wallet:42"].available == 1_000
    await poor.is_given(1_000)
    await poor.presses(create)  # the form stands where it was, and sells once the credits are there
    assert len(poor.generations()) == 1


@pytest.mark.parametrize(
    ("code", "price", "have", "lacking"),
    [("en", "36 credits", "You have 1 credit", "35 credits"), ("ru", "36 кредитов", "У вас 1 кредит", "35 кредитов")],
)
async def test_what_a_user_has_and_lacks_stands_once_on_a_refusal(
    code: str, price: str, have: str, lacking: str
) -> None:
    shop = BotHandler(dataclasses.replace(SETTINGS, welcome_credits_millicredits=1_000), BOT_ID)
    poor = Phone(shop, FakeTx(), code=code)
    await opens(poor, "nano-banana-pro", "a cat")
    await poor.presses_word(CREATE)
    said = poor.screen.text
    assert [said.count(each) for each in (price, have, lacking)] == [1, 1, 1]
    assert len(re.findall(r"\b35\b", said)) == 1


async def test_a_receipt_leads_back_to_the_form_that_lacked_the_credits(anna: Phone) -> None:
    await opens(anna, "veo-3-1", "a cat on an airship")
    assert "more needed" in anna.screen.text
    bought = {"currency": "XTR", "total_amount": 500, "invoice_payload": "x", "telegram_payment_charge_id": "c1"}
    await anna.sends(successful_payment={**bought, "provider_payment_charge_id": ""})
    assert "⭐ 500 paid" in anna.screen.text
    receipt = anna.button("n1:form")
    await anna.presses(receipt)
    assert "a cat on an airship" in anna.screen.text
    assert "more needed" not in anna.screen.text
    await anna.presses_word(CREATE)
    assert len(anna.generations()) == 1
    await anna.presses(receipt)  # what it was for is bought: the menu
    assert "What shall we make?" in anna.screen.text


async def test_the_cap_of_open_works_is_told(handler: BotHandler) -> None:
    busy = Phone(BotHandler(dataclasses.replace(SETTINGS, limits=Limits(1, 1)), BOT_ID), FakeTx())
    await opens(busy, PICTURES, "one")
    await busy.presses_word(CREATE)
    await busy.says("two")
    await busy.presses_word(CREATE)
    assert len(busy.generations()) == 1
    assert "1 unfinished" in busy.screen.text


async def test_a_model_that_is_switched_off_is_not_sold(anna: Phone) -> None:
    await opens(anna, PICTURES, "a cat")
    anna.tx.tables.off.add(PICTURES)
    await anna.presses_word(CREATE)
    assert anna.generations() == []
    assert "resting" in anna.screen.text


async def test_after_a_purchase_a_text_is_the_next_prompt_with_the_same_settings(anna: Phone) -> None:
    await opens(anna, PICTURES, "a cat")
    ratio = anna.button("f1:e:", "f1:s:")
    await anna.presses(ratio)
    if anna.has_button("f1:s:"):
        chosen = [b for b in anna.screen.buttons if ":s:" in (b.data or "") and "✓" not in b.text][-1]
        await anna.presses(chosen)
    await anna.presses_word(CREATE)
    await anna.says("a dog")
    await anna.presses_word(CREATE)
    first, second = anna.generations()
    assert second.inputs == {**first.inputs, "prompt": "a dog"}


async def test_changing_the_model_keeps_prompt_and_picture(anna: Phone) -> None:
    await opens(anna, EDIT)
    await anna.sends(**photo(caption="make it snow"))
    await anna.presses_word("‹ Back")
    await anna.presses_word("m1:" + slug("qwen/image-edit"), "More ›")
    if anna.has_button("m1:" + slug("qwen/image-edit")):
        await anna.presses_word("m1:" + slug("qwen/image-edit"))
    assert "make it snow" in anna.screen.text
    assert anna.has_button(CREATE)


async def test_a_text_without_a_form_is_remembered_until_a_model_is_chosen(anna: Phone) -> None:
    await anna.says("a whale over Paris")
    assert "What shall I make of it?" in anna.screen.text
    await anna.presses_word("o1:image:0")
    await anna.presses_word("m1:")
    assert "a whale over Paris" in anna.screen.text
    assert anna.has_button(CREATE)


async def test_a_picture_without_a_form_offers_only_models_that_take_pictures(anna: Phone) -> None:
    await anna.sends(**photo(caption="make it night"))
    await anna.presses_word("o1:image:0")
    for shown in [b for b in anna.screen.buttons if (b.data or "").startswith("m1:")]:
        model = model_by_slug((shown.data or "").split("~")[0].removeprefix("m1:"))
        assert model is not None
        assert any(field.media == "image" for field in model.inputs)
    await anna.presses_word("‹ Back")
    await anna.presses_word("o1:edit:0")
    await anna.presses_word("m1:")
    assert "make it night" in anna.screen.text
    assert anna.has_button(CREATE)


async def test_an_album_fills_one_screen(anna: Phone) -> None:
    await opens(anna, EDIT, "join them")
    await anna.sends(**photo(media_group_id="g1"))
    first = anna.screen.id
    await anna.sends(**photo(media_group_id="g1"))
    await anna.sends(**photo(media_group_id="g1"))
    assert anna.screen.id == first
    await anna.presses_word(CREATE)
    assert len(anna.generations()[0].inputs["image_urls"]) == 3  # type: ignore[arg-type]  # a list of references


async def test_an_album_without_a_form_waits_as_a_whole(anna: Phone) -> None:
    for _ in range(3):
        await anna.sends(**photo(media_group_id="g2"))
    assert len(anna.chat) == 1
    await anna.presses_word("o1:edit:0")
    await anna.presses_word("m1:" + slug(EDIT))
    await anna.says("join them")
    await anna.presses_word(CREATE)
    assert len(anna.generations()[0].inputs["image_urls"]) == 3  # type: ignore[arg-type]  # a list of references


async def test_too_long_a_prompt_is_told_with_the_limit_and_changes_nothing(anna: Phone) -> None:
    await opens(anna, PICTURES, "a cat")
    model = model_by_id(PICTURES)
    limit = model.prompt_field.max_length if model and model.prompt_field else 0
    await anna.says("x" * ((limit or 0) + 1))
    assert f"{limit} characters" in anna.screen.text
    await anna.presses_word(CREATE)
    assert anna.generations()[0].inputs["prompt"] == "a cat"


async def test_a_photo_of_30_mb_is_refused_with_the_limit_with_and_without_a_form(anna: Phone) -> None:
    await anna.sends(**photo(size=30_000_000))
    assert "20 MB" in anna.screen.text
    await opens(anna, EDIT)
    await anna.sends(**photo(size=30_000_000))
    assert "MB at most" in anna.screen.text
    assert not anna.has_button(CREATE)


async def test_a_wrong_kind_of_file_is_refused_in_words(anna: Phone) -> None:
    await anna.sends(**document("application/pdf"))
    assert "cannot use this kind" in anna.screen.text
    await opens(anna, EDIT)
    await anna.sends(**video())
    assert "pictures only" in anna.screen.text
    await anna.sends(**document("image/gif"))
    assert "pictures only" in anna.screen.text
    await opens(anna, PICTURES)
    await anna.sends(**photo())
    assert "takes no files" in anna.screen.text


@pytest.mark.parametrize(
    ("mime", "name"), [("audio/mpeg", "song"), ("application/octet-stream", "song.MP3"), ("audio/x-m4a", "song.m4a")]
)
async def test_a_sound_sent_as_a_file_is_taken_where_sounds_are(anna: Phone, mime: str, name: str) -> None:
    await anna.sends(**named(document(mime), name))
    assert "What shall I make of it" in anna.screen.text
    await opens(anna, SPEAKS)
    await anna.sends(**named(document(mime), name))
    assert "Audio: ✓" in [button.text for button in anna.screen.buttons]


async def test_the_length_of_a_file_is_its_price_when_it_was_measured(anna: Phone) -> None:
    await anna.is_given(1000)
    await opens(anna, UPSCALE)
    await anna.sends(**named(document("video/mp4"), "clip.mp4"))
    assert "Telegram does not say its length" in anna.screen.text
    measured = document("video/mp4")
    measured["document"]["duration"] = 2.4
    await anna.sends(**measured)
    assert "48 credits at most" in anna.screen.text


async def test_prices_in_russian_have_a_decimal_comma_on_every_screen(anna: Phone) -> None:
    anna.code = "ru"
    await anna.says("/start")
    seen = [anna.screen]
    for word in ("k1:image", "m1:", "n1:example", CREATE):
        await anna.says("/start") if word == "n1:example" else None
        await anna.presses_word(word)
        seen.append(anna.screen)
    await anna.says("/cancel")
    seen.append(anna.screen)
    await anna.says("/history")
    seen.append(anna.screen)
    said = "\n".join("\n".join([each.text, *(button.text for button in each.buttons)]) for each in seen)
    assert "✨ Создать · 1,6 кр." in said
    assert "от 1,6" in said
    assert "1,6 кредита" in said
    assert re.findall(r"\d\.\d+ (?:кр|за)|от \d+\.\d", said) == []


async def test_cancel_clears_the_form_and_gives_a_waiting_work_back(anna: Phone) -> None:
    await opens(anna, PICTURES, "a cat")
    await anna.presses_word(CREATE)
    await opens(anna, PICTURES, "half a cat")
    await anna.says("/cancel")
    assert "cleared" in anna.screen.text
    await anna.presses_word("c1:1")
    assert anna.generations()[0].state is State.FAILED
    assert anna.tx.tables.outbox[-1].payload["reason"] == "cancelled"
    assert (await anna.tx.ledger.balance(anna.user_id)).available == 50_000
    await anna.says("/cancel")
    assert "nothing to cancel" in anna.screen.text


@pytest.mark.parametrize(
    ("state", "failure", "told"),
    [
        (State.FAILED, "cancelled", "taken back, not charged"),
        (State.FAILED, "server", "failed, not charged"),
        (State.SUCCEEDED, None, "ready · 1.6 credits"),
    ],
)
async def test_an_old_button_to_take_back_says_what_became_of_work_and_money(
    anna: Phone, state: State, failure: str | None, told: str
) -> None:
    await opens(anna, PICTURES, "a cat")
    await anna.presses_word(CREATE)
    (bought,) = anna.generations()
    take_back = BotRenderer(SETTINGS).card(bought, {}).keyboard[0][0]
    ended = dataclasses.replace(bought, state=state, failure=failure, quote=Quoted(800, 1600))
    anna.tx.tables.generations[bought.id] = ended
    await anna.presses(take_back)
    assert "nothing to cancel" in anna.screen.text
    assert told in anna.screen.text


async def test_a_work_under_way_cannot_be_taken_back_and_the_user_hears_so(anna: Phone) -> None:
    await opens(anna, PICTURES, "a cat")
    await anna.presses_word(CREATE)
    (bought,) = anna.generations()
    take_back = BotRenderer(SETTINGS).card(bought, {}).keyboard[0][0]
    anna.tx.tables.generations[bought.id] = dataclasses.replace(bought, state=State.RUNNING)
    await anna.presses(take_back)
    assert "cannot be taken back" in anna.screen.text
    await anna.says("/cancel")
    assert "1 work is already being made" in anna.screen.text
