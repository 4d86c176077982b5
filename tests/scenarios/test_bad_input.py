"""Bad input of people and services (design's table of answers): what comes, and what the user gets."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio

from kiebot.engines import Engines
from kiebot.intake import drain
from kiebot.simulators.kie import KieSimulator
from kiebot.simulators.media import MediaSpec, make_media
from kiebot.simulators.users import SimUser
from tests.scenarios.buying import CREATE, PROMPT, can_create, creates, gets, gets_media, model, opens
from tests.scenarios.conftest import MakeDatabase
from tests.scenarios.crew import Crew
from tests.scenarios.world import World, open_world

pytestmark = pytest.mark.asyncio(loop_scope="module")
shared = pytest_asyncio.fixture(loop_scope="module", scope="module")

WELCOME = 100_000  # millicredits
BIG_PHOTO = b"\xff\xd8\xff\xe0" + bytes(30_000_000)
PICTURE_MODEL = "google/nano-banana-edit"
MEASURED_MODEL = "topaz/video-upscale"
_people = itertools.count(501)


@shared
async def crew(make_database: MakeDatabase, engines: Engines) -> AsyncIterator[Crew]:
    """One replica for all these answers; every test has a person of its own."""
    async with open_world(await make_database("bad_input"), engines.redis_url, "bad_input") as world:
        made = Crew(world)
        made.start(KIE_PACE="0.01", KIE_RESULT_PATIENCE_S="60")
        yield made
        await made.stop_all()


@pytest.fixture
def alone(crew: Crew) -> Iterator[World]:
    world = crew.world
    yield world
    world.tg.faults.clear()
    world.kie.reset()
    world.kie.switches.set(failure=None, profile=None, result_mode="normal", duration_s=None)


@pytest.fixture
def anna(alone: World) -> SimUser:
    return alone.tg.user(next(_people), "Anna")


async def assert_nothing_happened(world: World, anna: SimUser) -> None:
    """No purchase, no money moved, nobody left waiting."""
    await world.settles()
    assert await world.scalar("SELECT count(*) FROM generations WHERE user_id = :user", user=anna.user_id) == 0
    assert await world.available(anna.user_id) == WELCOME
    await world.assert_nothing_is_held()


async def last_letter(world: World) -> Any:
    """The newest dead letter, once all is quiet."""
    await world.settles()
    return (await world.rows("SELECT * FROM dead_letters ORDER BY id DESC LIMIT 1"))[0]


# Updates


async def test_a_malformed_update_is_buried_with_its_reason_and_the_lane_goes_on(alone: World, anna: SimUser) -> None:
    broken = {"message_id": "not a number", "chat": {"id": anna.user_id}, "from": "nobody", "date": "yesterday"}
    assert alone.tg.inject("message", {**broken, "date": 4_000_000_000, "entities": 7}) is not None
    await anna.sends("/start")
    await anna.hears("Hello")
    letter = await last_letter(alone)
    assert letter.kind == "update"
    assert letter.reason.startswith("malformed: ")


async def test_an_update_of_an_unknown_kind_is_buried_and_the_lane_goes_on(alone: World, anna: SimUser) -> None:
    chat = {"id": anna.user_id, "type": "private"}
    assert alone.tg.inject("quantum_message", {"chat": chat, "from": anna.user, "text": "hi"}) is not None
    await anna.sends("/start")
    await anna.hears("Hello")
    letter = await last_letter(alone)
    assert "quantum_message" in letter.reason


async def test_a_handler_that_raises_is_tried_again_then_buried_and_the_user_is_told_with_an_id(
    alone: World, anna: SimUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "RETRY_PAUSES_S", (0.05,))
    await anna.sends("/start")
    await anna.hears("Hello")
    await alone.execute("ALTER TABLE drafts ADD CONSTRAINT sabotage CHECK (state::text NOT LIKE '%bogeyman%')")
    await anna.sends("draw the bogeyman")
    told = await anna.hears("Sorry, something of mine broke")
    assert told.says("Nothing was charged", "@shop_help")
    letter = await last_letter(alone)
    assert told.says(f"U{letter.source_id}")
    assert "sabotage" in letter.reason
    tries = await alone.scalar("SELECT attempts FROM inbox WHERE id = :id", id=letter.source_id)
    assert tries == drain.MAX_TRIES
    await anna.sends("draw a cat")
    await anna.hears("What shall I make of it", timeout=10)
    await assert_nothing_happened(alone, anna)


# Answers that do not fit the form


async def test_a_prompt_too_long_is_told_with_the_limit(alone: World, anna: SimUser) -> None:
    await opens(anna, model("z-image"))
    await anna.sends("x" * 1001)
    assert (await anna.hears("too long")).says("1000 characters at most")
    await assert_nothing_happened(alone, anna)


async def test_a_wrong_ratio_is_told_with_the_way_to_a_right_one(alone: World, anna: SimUser) -> None:
    await opens(anna, model("z-image"))
    await anna.presses("Aspect ratio")
    await anna.hears("Choose or type")
    await anna.sends("7:5")
    assert (await anna.hears("choose one of the values")).buttons
    await assert_nothing_happened(alone, anna)


async def test_a_photo_of_30_megabytes_is_told_with_the_limit(alone: World, anna: SimUser) -> None:
    await opens(anna, model(PICTURE_MODEL))
    await anna.sends_document(BIG_PHOTO, "huge.jpg", "image/jpeg")
    told = await anna.hears("too large")
    assert told.says("MB at most")
    await assert_nothing_happened(alone, anna)


async def test_a_file_of_the_wrong_kind_is_told_what_fits(alone: World, anna: SimUser) -> None:
    await opens(anna, model(PICTURE_MODEL))
    await anna.sends_audio(make_media(MediaSpec("mp3", 1, seconds=2.0)))
    assert (await anna.hears("takes pictures only")).says("JPEG")
    await assert_nothing_happened(alone, anna)


async def test_a_length_that_nobody_can_measure_is_told_before_a_price(alone: World, anna: SimUser) -> None:
    await opens(anna, model(MEASURED_MODEL))
    await anna.sends_document(b"\x1aE\xdf\xa3 a recording that was cut off", "clip.webm", "video/webm")
    told = await anna.hears("Telegram does not say its length")
    assert not can_create(told)
    await assert_nothing_happened(alone, anna)


@pytest.mark.parametrize("mime", ["video/mp4", "application/octet-stream"])
async def test_a_clip_sent_as_a_file_is_priced_by_its_own_length_and_made_of(
    alone: World, anna: SimUser, mime: str
) -> None:
    await opens(anna, model(MEASURED_MODEL))
    await anna.sends_document(make_media(MediaSpec("mp4", 1, seconds=3.0)), "clip.mp4", mime)
    assert (await anna.hears(can_create)).says("48 credits at most")
    await anna.presses(CREATE)
    await gets_media(anna)
    await alone.settles()
    assert await alone.rows(ENDS, user=anna.user_id) == [("succeeded", "captured")]
    await alone.assert_books_are_right()


# Money


async def test_too_few_credits_are_told_with_what_is_missing_and_how_to_get_more(alone: World, anna: SimUser) -> None:
    dear = model("bytedance/seedance-2-5")
    await creates(anna, dear)
    told = await anna.hears("Not enough credits")
    assert told.says("You have 100 credits", "more needed")
    assert "⭐ Top up" in told.buttons
    await assert_nothing_happened(alone, anna)
    await alone.assert_books_are_right()


ENDS = (
    "SELECT g.state, s.outcome FROM generations g JOIN settlements s ON s.generation_id = g.id WHERE g.user_id = :user"
)
ATTEMPTS = "SELECT count(*) FROM attempts a JOIN generations g ON g.id = a.generation_id WHERE g.user_id = :user"
Trouble = Callable[[KieSimulator], object]
TROUBLES: dict[str, tuple[Trouble, str]] = {
    "refuses at once": (lambda kie: kie.faults.next_create("code_400"), "did not accept these inputs"),
    "fails by its content rules": (lambda kie: kie.fails_next("moderation_prompt"), "content rules refused"),
    "sells it no more": (lambda kie: kie.faults.next_create("code_422"), "not on sale any more"),
    "fails on its own": (lambda kie: kie.switches.set(failure="server"), "servers had a fault"),
    "times out": (lambda kie: kie.switches.set(failure="timeout"), "took too long"),
    "fails in words nobody knows": (lambda kie: kie.switches.set(failure="the stars are wrong"), "did not say why"),
    "answers a create with garbage": (lambda kie: kie.faults.next_create("not_json"), "connection to the maker broke"),
    "loses the answer": (lambda kie: kie.loses_next_answer(), "connection to the maker broke"),
    "succeeds without a result": (lambda kie: kie.switches.set(profile="H"), "returned nothing"),
    "gives a result that breaks off": (
        lambda kie: kie.switches.set(result_mode="truncated"),
        "could not be fetched",
    ),
    "gives a result that is no media": (lambda kie: kie.switches.set(result_mode="html"), "could not be fetched"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_when_the_maker_does_not_deliver_the_user_hears_why_and_gets_everything_back(
    alone: World, anna: SimUser, trouble: str
) -> None:
    strikes, reason = TROUBLES[trouble]
    strikes(alone.kie)
    await creates(anna)
    told = await gets(anna, reason)
    assert told.says("Back to you:", "You have 100 credits")
    await alone.settles()
    assert await alone.available(anna.user_id) == WELCOME
    assert await alone.rows(ENDS, user=anna.user_id) == [("failed", "voided")]
    attempts = await alone.scalar(ATTEMPTS, user=anna.user_id)
    assert len(alone.kie.journal.creates()) == attempts <= 2, "tried anew at most once, and only after an answer"
    await alone.assert_books_are_right()


async def test_trouble_that_passes_costs_the_user_nothing_but_time(alone: World, anna: SimUser) -> None:
    alone.kie.faults.next_create("code_429")
    alone.kie.faults.next_query("not_json")
    await creates(anna)
    await gets_media(anna)
    await alone.settles()
    assert await alone.scalar(ATTEMPTS, user=anna.user_id) == 2, "refused once, taken once"
    assert await alone.rows(ENDS, user=anna.user_id) == [("succeeded", "captured")]
    await alone.assert_books_are_right()


# Telegram's refusals


async def test_a_result_for_somebody_who_blocked_the_bot_is_buried_and_stays_in_history(
    alone: World, anna: SimUser
) -> None:
    alone.kie.switches.set(duration_s=0.5)
    await creates(anna)
    anna.blocks_bot()
    await alone.settles()
    chat = anna.chat_id
    (row,) = await alone.rows(
        "SELECT reason, buried_at FROM outbox WHERE kind = 'result' AND chat_id = :chat", chat=chat
    )
    assert row.buried_at is not None
    assert "blocked" in row.reason
    anna.unblocks_bot()
    await anna.sends("/history")
    await anna.hears("Your works")
    await anna.presses("No. ")
    await anna.hears(PROMPT)
    await anna.presses("Send it again")
    assert (await gets_media(anna)).says("without a charge")
    await alone.assert_books_are_right()


async def test_a_message_that_telegram_refuses_is_buried_and_the_chat_goes_on(alone: World, anna: SimUser) -> None:
    alone.tg.faults.answers("sendMessage", 400, "Bad Request: can't parse entities", times=1)
    await anna.sends("/start")
    reason = await alone.until_row(
        "SELECT reason FROM outbox WHERE buried_at IS NOT NULL AND chat_id = :chat", chat=anna.chat_id
    )
    assert "Can't parse entities" in reason
    await anna.sends("/help")
    await anna.hears("/cancel")


# Forgeries


FORGED = ("", "f1:g:s6kbe", "f1:g:s6kbe~1.abcd~zzzz", "m1:../../etc~e~dx", "f1:g:s6kbe~1.abcd~dx'--", "x" * 64, "💥")


async def test_forged_presses_are_ignored(alone: World, anna: SimUser) -> None:
    await opens(anna, model("z-image"))
    await anna.sends(PROMPT)
    await anna.hears(can_create)
    buried = await alone.scalar("SELECT count(*) FROM dead_letters")
    for data in FORGED:
        await anna.presses_data(data)
    await assert_nothing_happened(alone, anna)
    assert await alone.scalar("SELECT count(*) FROM dead_letters") == buried
    assert len(anna.messages) == 2


async def test_a_button_of_somebody_else_is_ignored(alone: World, anna: SimUser) -> None:
    await opens(anna, model("z-image"))
    await anna.sends(PROMPT)
    screen = await anna.hears(can_create)
    data = next(b["callback_data"] for row in screen.keyboard for b in row if b["text"].startswith(CREATE))
    eve = alone.tg.user(next(_people), "Eve")
    await eve.sends("/start")
    await eve.hears("Hello")
    await eve.presses_data(data)
    await assert_nothing_happened(alone, anna)
