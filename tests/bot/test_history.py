from __future__ import annotations

import dataclasses

from kiebot.bot.rendering import BotRenderer
from kiebot.generation.model import State
from tests.bot.people import SETTINGS, Phone
from tests.bot.test_buying import CREATE, PICTURES, opens


async def buys(anna: Phone, count: int) -> None:
    await anna.says("/start")
    await anna.is_given(10_000)
    await opens(anna, PICTURES, "cat 1")
    await anna.presses_word(CREATE)
    for number in range(2, count + 1):
        await anna.says(f"cat {number}")
        await anna.presses_word(CREATE)


def succeeds(anna: Phone, number: int) -> None:
    found = next(g for g in anna.generations() if g.number == number)
    done = dataclasses.replace(found, state=State.SUCCEEDED, result_urls=("https://example.com/1.png",))
    anna.tx.tables.generations[found.id] = done


async def test_history_pages_from_the_newest_and_shows_one_work(anna: Phone) -> None:
    await buys(anna, 10)
    await anna.says("/history")
    assert "No. 10 ·" in anna.screen.text
    assert "No. 2 ·" not in anna.screen.text
    await anna.presses_word("More ›")
    assert "No. 2 ·" in anna.screen.text
    await anna.presses_word("h1:v:2")
    assert "cat 2" in anna.screen.text
    await anna.presses_word("‹ Back")
    assert "No. 10 ·" in anna.screen.text


async def test_a_finished_work_is_sent_again_without_a_charge(anna: Phone) -> None:
    await buys(anna, 1)
    succeeds(anna, 1)
    before = await anna.tx.ledger.balance(anna.user_id)
    await anna.says("/history")
    await anna.presses_word("h1:v:1")
    screen = anna.screen
    await anna.presses_word("h1:r:1")
    (row,) = anna.drafts
    (work,) = anna.generations()
    assert (row.kind, row.generation_id, row.chat_id) == ("result", work.id, anna.chat_id)
    assert row.key
    first = row.key
    await anna.presses(anna.button("h1:r:1"), on=screen)
    assert anna.drafts[0].key != first  # another press, another message
    assert await anna.tx.ledger.balance(anna.user_id) == before


async def test_a_work_is_repeated_from_its_result_in_a_new_form(anna: Phone) -> None:
    await buys(anna, 1)
    succeeds(anna, 1)
    (work,) = anna.generations()
    result = BotRenderer(SETTINGS).outcome("result", work, {"available": 1})
    again = result.keyboard[0][0]
    await anna.presses(again)
    assert "cat 1" in anna.screen.text
    assert anna.drafts[0].payload["edit"] is None  # the result stays
    await anna.presses_word(CREATE)
    first, second = anna.generations()
    assert first.inputs == second.inputs


async def test_a_work_whose_model_is_gone_says_so(anna: Phone) -> None:
    await buys(anna, 1)
    (work,) = anna.generations()
    anna.tx.tables.generations[work.id] = dataclasses.replace(work, model_id="gone/model")
    await anna.says("/history")
    await anna.presses_word("h1:v:1")
    assert not anna.has_button("a1:")
    assert "gone/model" in anna.screen.text


async def test_an_empty_history_says_so(anna: Phone) -> None:
    await anna.says("/history")
    assert "Nothing made yet" in anna.screen.text
