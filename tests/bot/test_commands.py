from __future__ import annotations

import dataclasses
import re

import pytest

from kiebot.bot.application import BotHandler
from kiebot.bot.menu import commands, menus
from kiebot.generation.catalog import kinds
from kiebot.generation.tools import Limits
from kiebot.people import Wishes
from kiebot.texts import LANGUAGES
from tests.bot.doubles import FakeTx
from tests.bot.people import BOT_ID, SETTINGS, Phone

CYRILLIC = re.compile("[а-яА-Я]")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", [name for name, _ in commands("en")])
async def test_a_command_of_the_menu_is_answered_in_the_users_language(anna: Phone, language: str, name: str) -> None:
    anna.code = "ru-RU" if language == "ru" else "de"
    await anna.says(f"/{name}")
    assert len(anna.drafts) == 1
    assert bool(CYRILLIC.search(anna.screen.text)) is (language == "ru")


async def test_the_first_contact_opens_a_wallet_and_gives_the_welcome_credits_once(anna: Phone) -> None:
    await anna.says("/start")
    await anna.says("/start")
    assert (await anna.tx.ledger.balance(anna.user_id)).available == 50_000
    assert "50 credits" in anna.screen.text
    assert "promotions" in {e.account for p in anna.tx.tables.postings.values() for e in p.entries}


async def test_the_menu_leads_to_every_screen_and_back(anna: Phone) -> None:
    await anna.says("/start")
    home = anna.screen
    for kind in kinds():
        await anna.presses_word(f"k1:{kind.id}:0")
        assert anna.screen.id == home.id  # pages replace one another
        await anna.presses_word("n1:home")
    for place in ("n1:balance", "h1:p:0", "n1:help", "n1:language", "n1:settings"):
        await anna.presses_word(place)
        await anna.presses_word("n1:home")
        assert anna.screen.id == home.id


async def test_the_example_is_a_form_that_can_be_bought_at_once(anna: Phone) -> None:
    await anna.says("/start")
    await anna.presses_word("n1:example")
    assert "cat" in anna.screen.text
    await anna.presses_word("f1:g:")
    assert len(anna.generations()) == 1


async def test_a_chosen_language_outlives_telegrams_own(anna: Phone) -> None:
    await anna.says("/language")
    await anna.presses_word("Русский")
    assert "Что сделаем" in anna.screen.text
    await anna.says("/help")
    assert CYRILLIC.search(anna.screen.text)


async def test_how_results_arrive_is_chosen_and_kept(anna: Phone) -> None:
    await anna.says("/settings")
    await anna.presses_word("behind a spoiler")
    await anna.presses_word("Send as file")
    assert anna.tx.tables.wishes[anna.user_id] == Wishes(hides_media=True, wants_files=True)
    assert [anna.button(name).text[0] for name in ("behind a spoiler", "Send as file")] == ["✅", "✅"]
    await anna.presses_word("behind a spoiler")
    await anna.says("/settings")
    assert [anna.button(name).text[0] for name in ("behind a spoiler", "Send as file")] == ["⬜", "✅"]
    assert anna.tx.tables.wishes[anna.user_id] == Wishes(wants_files=True)


async def test_a_link_opens_its_model_and_a_dead_link_says_so(anna: Phone) -> None:
    await anna.says("/models")
    await anna.presses_word("k1:image:0")
    model = anna.button("m1:")
    slug = (model.data or "").split("~")[0].removeprefix("m1:")
    await anna.says(f"/start m_{slug}")
    assert anna.screen.text.startswith(model.text.split(" · ")[0])
    await anna.says("/start m_gone9")
    assert "not on sale" in anna.screen.text
    await anna.says("/start whatever-else")
    assert "What shall we make" in anna.screen.text


async def test_an_unknown_command_and_an_unusable_message_are_answered(anna: Phone) -> None:
    await anna.says("/frobnicate now")
    assert "/frobnicate" in anna.screen.text
    sticker = {"file_id": "s", "file_unique_id": "u", "type": "regular", "width": 1, "height": 1}
    await anna.sends(sticker={**sticker, "is_animated": False, "is_video": False})
    assert "texts, pictures" in anna.screen.text
    await anna.sends(dice={"emoji": "🎲", "value": 3})
    assert "texts, pictures" in anna.screen.text


async def test_the_menu_for_telegram_has_every_language_and_fits_its_limits(handler: BotHandler) -> None:
    assert set(menus()) == {"", "ru"}
    for menu in menus().values():
        assert all(1 <= len(description) <= 256 for _, description in menu)
    assert menus()[""] != menus()["ru"]


async def test_balance_tells_what_is_reserved(anna: Phone) -> None:
    await anna.says("/start")
    await anna.presses_word("n1:example")
    await anna.presses_word("f1:g:")
    await anna.says("/balance")
    (bought,) = anna.generations()
    assert "1 work under way" in anna.screen.text
    assert str(50 - bought.quote.price_millicredits / 1000).rstrip("0").rstrip(".") in anna.screen.text
    assert "@helper" in anna.screen.text


async def test_the_free_credits_of_a_day_are_told_once_and_given_once() -> None:
    ben = Phone(BotHandler(dataclasses.replace(SETTINGS, daily_credits_millicredits=3_000), BOT_ID), FakeTx())
    await ben.says("/start")
    assert len(ben.drafts) == 2
    assert any("Today's free credits: 3 credits." in shown.text for shown in ben.chat.values())
    await ben.says("/balance")
    assert len(ben.drafts) == 1
    assert "You have 53 credits." in ben.screen.text


async def test_a_limit_of_spending_is_refused_in_words(anna: Phone) -> None:
    for limits, words in (
        (Limits(spend_per_user=10), "One user may spend 0.01"),
        (Limits(spend_per_day=10), "Today's"),
    ):
        settings = dataclasses.replace(SETTINGS, limits=limits)
        phone = Phone(BotHandler(settings, BOT_ID), FakeTx())
        await phone.says("/start")
        await phone.presses_word("n1:example")
        await phone.presses_word("f1:g:")
        assert words in phone.screen.text
        assert "Nothing was charged" in phone.screen.text
        assert phone.generations() == []


async def test_a_group_is_sent_no_bill(handler: BotHandler) -> None:
    group = Phone(handler, FakeTx(), chat_id=-100)
    command = [{"type": "bot_command", "offset": 0, "length": len("/topup@kie_test_bot")}]
    await group.sends(text="/topup@kie_test_bot", entities=command)
    assert "private chat" in group.screen.text
    assert not group.has_button("t1:")


async def test_an_old_button_for_a_package_that_is_gone_shows_those_on_sale(anna: Phone) -> None:
    await anna.says("/topup")
    stale = anna.button("t1:100")
    await anna.presses(dataclasses.replace(stale, data=(stale.data or "").replace("t1:100", "t1:77")))
    assert "not on sale" in anna.screen.text
    assert anna.has_button("t1:100")
