from __future__ import annotations

import dataclasses
import re
from typing import Any
from uuid import uuid4

import pytest

from kiebot.bot.press import button, press_of
from kiebot.bot.rendering import BotRenderer
from kiebot.delivery.ports import Renderer
from kiebot.delivery.results import CAPTION_MAX
from kiebot.generation.model import Generation, Quoted, State
from tests.bot.people import SETTINGS, Phone
from tests.bot.tables import NOW
from tests.bot.test_history import buys

REASONS = (
    *("moderation", "input_fetch", "input", "provider_refused", "server", "timeout", "capacity", "empty_result"),
    *("answer_lost", "task_lost", "result_lost", "model_gone", "unknown_model", "expired", "cancelled", "unknown"),
    "given_up",
)
CYRILLIC = re.compile("[а-яА-Я]")


@pytest.fixture
def renderer() -> Renderer:
    return BotRenderer(SETTINGS)


def work(language: str = "en", **changes: object) -> Generation:
    made = Generation(
        id=uuid4(),
        number=12,
        user_id=42,
        chat_id=42,
        model_id="z-image",
        inputs={"prompt": "a cat"},
        language=language,
        state=State.SUCCEEDED,
        quote=Quoted(800, 1600),
        accepted_at=NOW,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]  # names of fields, checked by replace


def test_a_result_tells_model_price_and_what_is_left(renderer: Renderer) -> None:
    said = renderer.outcome("result", work(), {"available": 48_400, "urls": ["https://example.com/1.png"]})
    assert "Z-Image" in said.text
    assert "Charged: 1.6 credits." in said.text
    assert "You have 48.4 credits." in said.text
    assert "https" not in said.text
    assert len(said.text) <= CAPTION_MAX
    assert [press_of(b.data).body for row in said.keyboard for b in row] == ["a1:12", "h1:p:0", "n1:home"]  # type: ignore[union-attr]  # ours


def test_a_measured_price_is_told_as_what_was_really_charged(renderer: Renderer) -> None:
    measured = work(quote=Quoted(800, 1600, is_maximum=True))
    assert "1.2 credits." in renderer.outcome("result", measured, {"available": 0, "charged": 1200}).text
    assert "1.6 credits at most." in renderer.outcome("result", measured, {"available": 0}).text


def test_a_result_sent_once_more_names_no_charge(renderer: Renderer) -> None:
    assert "without a charge" in renderer.outcome("result", work(), {"available": 0, "resent": True}).text


def test_a_result_that_is_a_text_is_shown_and_never_too_long(renderer: Renderer) -> None:
    said = renderer.outcome("result", work(), {"available": 0, "text": "word " * 2000})
    assert said.text.startswith("word word")
    assert "Charged" in said.text
    assert len(said.text) < 4096


@pytest.mark.parametrize("language", ["en", "ru"])
@pytest.mark.parametrize("reason", REASONS)
def test_a_failure_is_told_in_words_with_the_credits_that_came_back(
    renderer: Renderer, reason: str, language: str
) -> None:
    failed = work(language, state=State.FAILED, failure=reason)
    said = renderer.outcome("failed", failed, {"reason": reason, "available": 50_000, "urls": [], "text": None})
    assert ("1,6" if language == "ru" else "1.6") in said.text
    assert "50" in said.text
    assert reason not in said.text or reason in ("input", "unknown", "cancelled", "expired", "server", "capacity")
    assert bool(CYRILLIC.search(said.text)) is (language == "ru")


def test_a_reason_nobody_has_heard_of_gets_an_honest_sentence(renderer: Renderer) -> None:
    failed = work(state=State.FAILED)
    said = renderer.outcome("failed", failed, {"reason": "KIE_9999 stack trace", "available": 0})
    assert "did not say why" in said.text
    assert "9999" not in said.text


def test_a_late_result_is_a_gift(renderer: Renderer) -> None:
    said = renderer.outcome("late_result", work(state=State.FAILED), {"available": 5000})
    assert "costs nothing" in said.text
    assert "Charged" not in said.text


@pytest.mark.parametrize(
    ("language", "why", "told", "other"),
    [
        ("en", "refused", "Telegram does not take", "could not fetch"),
        ("en", "out_of_reach", "could not fetch", "Telegram does not take"),
        ("ru", "refused", "Telegram не принимает", "не смог скачать"),
        ("ru", "out_of_reach", "не смог скачать", "Telegram не принимает"),
    ],
)
def test_a_link_says_why_there_is_no_file_and_what_was_charged(
    renderer: Renderer, language: str, why: str, told: str, other: str
) -> None:
    facts: dict[str, object] = {"available": 0, "charged": 1600, "urls": ["https://example.com/1.mp4"], "why": why}
    said = renderer.outcome("result_link", work(language), facts)
    assert told in said.text
    assert other not in said.text
    assert "1.6" in said.text or "1,6" in said.text


def test_a_result_too_large_for_telegram_is_a_link(renderer: Renderer) -> None:
    urls = [f"https://example.com/{n}.mp4" for n in (1, 2)]
    said = renderer.outcome("result_link", work(), {"available": 0, "urls": urls})
    assert [row[0].url for row in said.keyboard[:2]] == urls
    assert "Charged: 1.6 credits." in said.text


@pytest.mark.parametrize(
    ("state", "facts", "told"),
    [
        (State.ACCEPTED, {"ahead": 3, "eta_s": 40}, "3 works before yours. Usually done in about 40 seconds"),
        (State.ACCEPTED, {"ahead": 0, "typical_s": None}, "Next in the queue"),
        (State.SUBMITTING, {}, "Handing it to the maker"),
        (State.RUNNING, {"typical_s": 300.0}, "about 5 minutes"),
        (State.RUNNING, {"typical_s": 10.0, "elapsed_s": 90.0}, "longer than usual"),
        (State.UNKNOWN, {}, "your credits come back"),
    ],
)
def test_a_card_tells_where_the_work_stands(
    renderer: Renderer, state: State, facts: dict[str, object], told: str
) -> None:
    said = renderer.card(work(state=state), facts)
    assert told in said.text
    assert "1.6 credits reserved" in said.text
    assert bool(said.keyboard) is (state is State.ACCEPTED)


@pytest.mark.parametrize("language", ["en", "ru"])
def test_the_card_of_a_work_that_must_wait_says_so_and_can_be_taken_back(renderer: Renderer, language: str) -> None:
    waiting = work(language, state=State.ACCEPTED)
    ahead, off = renderer.card(waiting, {"ahead": 3}), renderer.card(waiting, {"ahead": 3, "is_off": True})
    assert "⏸" in off.text
    assert "⏸" not in ahead.text
    assert off.keyboard == ahead.keyboard
    assert "c1:" in (off.keyboard[0][0].data or "")


@pytest.mark.parametrize(
    "trouble", [{"setbacks": 3, "attempt_no": 3}, {"busies": 1, "attempt_no": 1}], ids=["faults", "no room"]
)
def test_the_card_of_a_work_that_the_maker_does_not_take_promises_no_time(
    renderer: Renderer, trouble: dict[str, Any]
) -> None:
    fine, hiccup = work(state=State.ACCEPTED), work(state=State.ACCEPTED, setbacks=1)
    facts: dict[str, object] = {"ahead": 0, "eta_s": 10.0}
    assert renderer.card(hiccup, facts).text == renderer.card(fine, facts).text
    said = renderer.card(work(state=State.ACCEPTED, **trouble), facts)
    assert "has trouble" in said.text
    assert "nothing is charged" in said.text
    assert "second" not in said.text
    assert said.keyboard == renderer.card(fine, facts).keyboard


async def test_every_button_of_cards_and_outcomes_is_answered(anna: Phone, renderer: Renderer) -> None:
    await buys(anna, 1)
    (bought,) = anna.generations()
    says = [renderer.outcome(kind, bought, {"available": 0}) for kind in ("result", "failed", "late_result")]
    says.append(renderer.card(dataclasses.replace(bought, state=State.ACCEPTED), {}))
    for pressed in [b for said in says for row in said.keyboard for b in row]:
        before = len(anna.tx.tables.outbox)
        await anna.presses(pressed)
        assert anna.drafts or len(anna.tx.tables.outbox) > before, pressed.text
        assert "That screen is old" not in anna.screen.text


def test_a_button_survives_its_way_through_telegram_and_keeps_to_its_64_bytes() -> None:
    pressed = press_of(button("x", "f1:s:abcde:abcd:abcd:12", 2**52 - 1, "1234567.a1b2").data)
    assert pressed is not None
    assert (pressed.body, pressed.stamp, pressed.owner) == ("f1:s:abcde:abcd:abcd:12", "1234567.a1b2", 2**52 - 1)
    with pytest.raises(ValueError, match="not a button"):
        button("x", "f1:" + "a" * 60, 1)
