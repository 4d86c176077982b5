"""Stories of updates and messages: the intake's drain, the courier, results and cards."""

from __future__ import annotations

import time
from functools import partial

from kiebot.jobs.turnstile import ALL
from tests.crashpoints.stage import (
    Act,
    Before,
    Stage,
    Story,
    claim_fails,
    cut_off_in_a_statement,
    fails,
    fills_in,
    is_slow,
    never_answers,
    postgres,
    presses_create,
    telegram,
)
from tests.scenarios.buying import gets_media, model
from tests.scenarios.world import World

_GONE = {"status": 403, "description": "Forbidden: bot was blocked by the user"}
_NO_MEDIA = {"status": 400, "description": "Bad Request: PHOTO_INVALID_DIMENSIONS"}
_NO_ALBUM = {"status": 400, "description": "Bad Request: group send failed"}
_NO_MESSAGE = {"status": 400, "description": "Bad Request: message to edit not found"}
_NO_TEXT = {"status": 400, "description": "Bad Request: can't parse entities"}
_SLOW_DOWN = {"status": 429, "retry_after": 1}
_IN_TROUBLE = {"status": 500}
_TWO_MESSAGES = {"DAILY_CREDITS": "1"}  # the day's gift is told before the answer


def sending(*texts: str) -> Act:
    """Texts, and then the press of Create, all of them before anybody looks."""

    async def moves(stage: Stage) -> None:
        for each in texts:
            await stage.sends(each)
        await presses_create(stage)

    return moves


async def _with_menu(stage: Stage, story: Story, prompt: str) -> None:
    await stage.sends("/topup")
    await stage.anna.hears("How many credits?", timeout=10)
    await stage.sends("/start")
    await stage.anna.hears("What shall we make?", timeout=10)
    await fills_in(stage, story, prompt)


async def _looks_around(stage: Stage) -> None:
    """A press that draws another screen in place, one that asks for a bill, the purchase, and another form."""
    await stage.presses("Help")
    await stage.presses("100 credits")
    await presses_create(stage)
    await stage.sends(f"/start m_{model().slug}")


async def _with_a_work(stage: Stage, story: Story, prompt: str) -> None:
    """A work stands in the chat, its page is open, and the form of the next one is filled in."""
    await fills_in(stage, story, f"{prompt} the first")
    await presses_create(stage)
    await gets_media(stage.anna)
    await stage.world.settles()
    await stage.sends("/history")
    await stage.anna.hears("Your works", timeout=10)
    await stage.presses("No. ")
    await stage.anna.hears(lambda state: any("Send it again" in label for label in state.buttons), timeout=10)
    await fills_in(stage, story, f"{prompt} the second")


async def _wants_it_again(stage: Stage) -> None:
    await stage.presses("Send it again")
    await presses_create(stage)


async def _with_a_result(stage: Stage, story: Story, prompt: str) -> None:
    await fills_in(stage, story, prompt)
    await presses_create(stage)
    await gets_media(stage.anna)
    await stage.world.settles()


async def _floods(stage: Stage) -> None:
    """Others have worked on so much of this person's of late that the gate lets nothing through."""
    lane = f"{stage.world.tg.bot.bot_id}/c{stage.anna.user_id}"
    await stage.beside.adapters.gate.admit(lane, [time.time()] * ALL.burst)
    for each in ("/help", "/balance", "/history", "/topup", "/language", "/paysupport", "/start"):
        await stage.sends(each)


def hanging(method: str, times: int) -> Before:
    async def before(world: World) -> None:
        never_answers(world, method, times=times)

    return before


def cut_off(method: str, times: int) -> Act:
    """Each time the dying replica calls that method its job is cut off."""

    async def act(stage: Stage) -> None:
        journal, known = stage.world.tg.journal, stage.world.tg.journal.last_number

        def has_called(times: int) -> bool:
            return len(journal.calls(method, after=known)) >= times

        for number in range(1, times + 1):
            await stage.world.until(partial(has_called, number), timeout=10)
            stage.cuts_job()

    return act


async def _nonsense(stage: Stage) -> None:
    """What no version of the library can read, in this person's lane."""
    body = {"message_id": 1, "chat": {"id": stage.anna.user_id, "type": "private"}, "from": "nobody"}
    stage.world.tg.inject("message", body)
    await stage.pump()
    await presses_create(stage)


async def _in_a_group(stage: Stage) -> None:
    """It becomes a supergroup before the answer is sent."""
    group = stage.world.tg.group(-stage.anna.user_id, members=[stage.anna], kind="group")
    await stage.anna.sends("/help@kiebot_bot", chat=group)
    await stage.pump()
    group.becomes_supergroup(-1_000_000_000_000 - stage.anna.user_id)
    await presses_create(stage)


async def _card_in_a_group_that_moved(stage: Stage) -> None:
    """The card was to stand in a group, which has become this very chat."""
    group = stage.world.tg.group(-stage.anna.user_id, members=[stage.anna], kind="group")
    group.chat.migrated_to = stage.anna.user_id
    await presses_create(stage)


TELLING = (
    Story("album", "[[sim:urls=3]]"),
    Story("album whose text is late", "[[sim:urls=3]]", before=telegram(("sendMessage", _IN_TROUBLE))),
    Story("result too large", "[[sim:result=oversized]]"),
    Story("file refused, then taken", before=telegram(("sendPhoto", _NO_MEDIA))),
    Story("file refused twice", before=telegram(("sendPhoto", _NO_MEDIA), ("sendDocument", _NO_MEDIA))),
    Story("blocked by the user", before=telegram(("sendPhoto", _GONE)), buries=("outbox",)),
    Story(
        "Telegram in trouble",
        before=telegram(
            ("sendPhoto", _SLOW_DOWN),
            ("sendPhoto", _IN_TROUBLE),
            ("editMessageText", _IN_TROUBLE),
            ("editMessageText", _IN_TROUBLE),
            ("deleteMessage", _SLOW_DOWN),
        ),
    ),
    Story("sent again", earlier=_with_a_work, moves=_wants_it_again),
    Story("album sent again", "[[sim:urls=2]]", earlier=_with_a_work, moves=_wants_it_again),
    Story(
        "album sent again, refused as one",
        "[[sim:urls=2]]",
        earlier=_with_a_work,
        moves=_wants_it_again,
        before=telegram(("sendMediaGroup", _NO_ALBUM)),
    ),
    Story("card gone", before=telegram(("editMessageText", _NO_MESSAGE))),
    Story("card refused", before=telegram(("editMessageText", _NO_TEXT))),
    Story("card without a message", before=postgres("cards", "INSERT", "NEW.message_id := NULL")),
    Story("looking around", earlier=_with_menu, moves=_looks_around),
    Story(
        "looking around at what is gone",
        earlier=_with_menu,
        moves=_looks_around,
        before=telegram(("editMessageText", _NO_MESSAGE)),
    ),
    Story(
        "two messages, and the first must wait",
        environment=_TWO_MESSAGES,
        moves=sending("/help"),
        before=telegram(("sendMessage", _SLOW_DOWN)),
    ),
    Story(
        "two messages, cut off at the first",
        environment=_TWO_MESSAGES,
        moves=sending("/help"),
        before=hanging("sendMessage", 1),
        act=cut_off("sendMessage", 1),
    ),
    Story(
        "a message cut off too often",
        moves=sending("/help"),
        before=hanging("sendMessage", 8),
        act=cut_off("sendMessage", 8),
        buries=("outbox",),
    ),
    Story(
        "a message that never goes out",
        moves=sending("/help"),
        before=telegram(*[("sendMessage", _IN_TROUBLE)] * 8),
        buries=("outbox",),
    ),
    Story(
        "a message that cannot be read",
        moves=sending("/help"),
        before=postgres("outbox", "INSERT", "IF NEW.kind = 'say' THEN NEW.payload := '{}'; END IF"),
        buries=("outbox",),
    ),
    Story("cut off while it claims a lane", before=postgres("lanes", "UPDATE", is_slow(1)), act=cut_off_in_a_statement),
    Story(
        "an answer that is not committed",
        moves=sending("/help"),
        before=postgres("outbox", "INSERT", fails(1, sqlstate="40001"), at_commit=True),
    ),
    Story("a chat whose claim is not committed", before=claim_fails("outbox")),
    Story("a card whose claim is not committed", before=claim_fails("cards")),
    Story("a group that moved", moves=_in_a_group),
    Story("a flood", earlier=_with_a_result, moves=_floods),
    Story(
        "a card in a group that moved",
        moves=_card_in_a_group_that_moved,
        before=postgres("cards", "INSERT", "NEW.chat_id := -NEW.chat_id; NEW.message_id := NULL"),
    ),
    Story("nonsense", moves=_nonsense, buries=("update",)),
    Story("a mistake of the bot's", moves=sending("/help"), before=postgres("outbox", "INSERT", fails(1))),
    Story(
        "a mistake of the bot's that stays",
        moves=sending("/help"),
        before=postgres("outbox", "INSERT", fails(5)),
        buries=("update",),
    ),
)
